"""The journal: whatever stopped the run that wrote it, and whatever was done to it since."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import stat
import sys
from contextlib import closing
from functools import partial
from itertools import product

import anyio
import pytest

from resilient_infe import errors
from resilient_infe.batch.plain import to_json
from resilient_infe.batch.result import Failure, Result
from resilient_infe.batch.store import Journal, is_in_use, recorded_at
from resilient_infe.core.verdict import Kind
from resilient_infe.testing import run_virtually


def of(number, failure=None):
    """A result of row `number`."""
    value = None if failure else {"n": number}
    return Result(number, f"r{number}", None, value, failure, encoded=to_json(value))


def failed(*, permanent=False):
    """A failure."""
    return Failure(Kind.INVALID if permanent else Kind.TIMEOUT, "no", permanent=permanent)


def written(path, results, *, end=True, **options):
    """Write results into a journal, as a run does."""

    async def main():
        journal = Journal(path, threaded=False, **options)
        journal.start(pytest.fail)
        for result in results:
            journal.put(result, f"d{result.index}", lambda: None)
        if end:
            journal.stop(why="finished", beliefs={"m": {"limit": 5.0}})
        journal.close()

    run_virtually(main)
    return path


def known(journal):
    """The ids of the first hundred rows that have a value."""
    entries = {n: journal.find(f"r{n}") for n in range(100)}
    return [n for n, entry in entries.items() if entry is not None and entry.kind == "ok"]


def test_what_was_written_is_known(tmp_path):
    """A journal that is opened again knows its rows, its settings and what was learned."""
    path = written(tmp_path / "j", [of(n) for n in range(20)], settings={"model": "m"})
    journal = Journal(path, {"model": "m"})
    assert known(journal) == list(range(20))
    assert journal.resumed
    assert journal.recorded.beliefs == {"m": {"limit": 5.0}}
    assert (journal.recorded.done, journal.recorded.failed) == (20, 0)
    result, same = journal.result("r7", 99, "row", "d7")
    assert same
    assert (result.value, result.index, result.row, result.replayed) == ({"n": 7}, 99, "row", True)
    journal.close()


def test_a_success_stands_and_a_failure_is_replaced(tmp_path):
    """Of several records of a row the first success counts, else the last failure."""
    twice = of(1)
    twice.value, twice.encoded = {"n": "again"}, b'{"n":"again"}'
    history = [of(0, failed()), of(0), of(1), twice, of(1, failed()), of(2, failed()),
               of(2, failed(permanent=True))]  # fmt: skip
    journal = Journal(written(tmp_path / "j", history))
    assert known(journal) == [0, 1]
    assert journal.result("r1", 1, None, None)[0].value == {"n": 1}
    assert journal.find("r2").permanent
    assert dict(+journal.recorded.kinds) == {"ok": 2, "invalid": 1}
    assert journal.recorded.permanent == 1
    journal.close()


def test_changed_bytes_are_refused(tmp_path):
    """Whatever byte is changed, each row is as it was, or the journal is refused."""
    path = written(tmp_path / "j", [of(n) for n in range(3)])
    raw = path.read_bytes()
    bad = tmp_path / "bad"
    outcomes = set()
    used = [n for n, byte in enumerate(raw) if byte]
    for place in used[:: 1 + len(used) // 300]:
        bad.write_bytes(bytes([*raw[:place], raw[place] ^ 4, *raw[place + 1 :]]))
        try:
            with closing(Journal(bad)) as journal:
                for n in range(3):
                    assert journal.find(f"r{n}") is not None
                    assert journal.result(f"r{n}", n, None, None)[0].value == {"n": n}
        except errors.JournalError:
            outcomes.add("refused")
            assert len(bad.read_bytes()) == len(raw)
        else:
            outcomes.add("as it was")
    assert outcomes == {"refused", "as it was"}


def test_salvage_leaves_out_what_is_damaged(tmp_path):
    """With repair the other rows are kept, and the damaged file stands beside."""
    path = written(tmp_path / "j", [of(n) for n in range(9)])
    raw = path.read_bytes().replace(b"r4", b"x4", 1)
    path.write_bytes(raw)
    with pytest.raises(errors.JournalDamaged, match="--salvage"):
        Journal(path)
    journal = Journal(path, repair=True)
    assert known(journal) == [0, 1, 2, 3, 5, 6, 7, 8]
    journal.close()
    assert (tmp_path / "j.damaged").read_bytes() == raw
    written(path, [of(4)])
    assert known_after(path, repair=True) == list(range(9))


@pytest.mark.parametrize("page", range(20))
def test_a_page_is_lost(tmp_path, page):
    """Whichever page is, the first as well, a salvage keeps the rows that are on others."""
    rows = [of(n) for n in range(60)]
    for row in rows:
        row.encoded = to_json({"n": row.index, "text": "x" * 500})
    path = written(tmp_path / "j", rows)
    raw = path.read_bytes()
    path.write_bytes(raw[: page * 4096] + b"\xa5" * 4096 + raw[page * 4096 + 4096 :])
    try:
        with closing(Journal(path)) as journal:
            found = [journal.result(f"r{n}", n, None, None)[0].value["n"] for n in range(60)]
            assert found == list(range(60))
    except errors.JournalDamaged:
        pass
    journal = Journal(path, repair=True)
    found = known(journal)
    # Two pages say where the others of `rows` and of `replies` are; `.recover` does without them.
    assert page in (6, 8) or len(found) >= 30
    for n in found:
        assert journal.result(f"r{n}", n, None, None)[0].value["n"] == n
    journal.close()


def test_a_value_that_changed_is_not_replayed(tmp_path):
    """It is refused when its row is asked for, and a salvage then sends the row again."""
    path = written(tmp_path / "j", [of(n) for n in range(3)])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'{"n":1}', b'{"n":7}'))
    journal = Journal(path)
    with pytest.raises(errors.JournalDamaged, match=r"'r1' has changed.*--salvage"):
        journal.result("r1", 1, None, None)
    journal.close()
    journal = Journal(path, repair=True)
    assert known(journal) == [0, 2]
    journal.close()


SAVED = [0, 1, 2, 3, 5]


def damaged(path, place=b"r4"):
    """Write six rows, and change a byte of one; returns what is in the file then."""
    rows = [of(n) for n in range(6)]
    for row in rows:
        row.encoded = to_json({"n": row.index, "text": "x" * 2_000})  # more than a buffer holds
    raw = written(path, rows).read_bytes().replace(place, b"X" + place[1:], 1)
    path.write_bytes(raw)
    return raw


def known_after(path, **options):
    """The rows that a run finds in a journal, or None if it refuses the journal."""
    try:
        journal = Journal(path, **options)
    except errors.JournalDamaged:
        return None
    rows = known(journal)
    journal.close()
    return rows


def inside(folder):
    """A folder's names, each with its file's number, and the contents by that number."""
    names = {path.name: path.stat().st_ino for path in folder.iterdir()}
    return names, {number: (folder / name).read_bytes() for name, number in names.items()}


def left_by(action, folder, monkeypatch):
    """What a kill or a power cut may leave in a folder, after each call of C that an action makes.

    A kill leaves what was written. A power cut leaves each file as it was last synced, and each
    name as it was when the folder was last synced or as it has become since.
    """
    synced_names, synced = inside(folder)
    states = []
    sync = os.fsync

    def fsync(fd):
        nonlocal synced_names
        sync(fd)
        names, contents = inside(folder)
        number = os.fstat(fd).st_ino
        if number in contents:
            synced[number] = contents[number]
        else:
            synced_names = names

    def look(frame, event, argument):
        if event != "c_return":
            return
        names, contents = inside(folder)
        killed = frozenset((name, number, contents[number]) for name, number in names.items())
        both = sorted({*names, *synced_names})
        choices = product(*({names.get(name), synced_names.get(name)} for name in both))
        cut = (zip(both, choice, strict=True) for choice in choices)
        states.append({killed, *(
            frozenset((name, n, synced.get(n, b"")) for name, n in each if n) for each in cut
        )})  # fmt: skip

    monkeypatch.setattr(os, "fsync", fsync)
    sys.setprofile(look)
    try:
        action()
    finally:
        sys.setprofile(None)
        monkeypatch.setattr(os, "fsync", sync)
    return states


def laid_out(folder, state, link=os.link):
    """Make a folder with such files; returns the path of its journal."""
    folder.mkdir()
    first = {}
    for name, number, content in state:
        if number in first:
            link(first[number], folder / name)
        else:
            first[number] = folder / name
            first[number].write_bytes(content)
    return folder / "j"


def no_links(*_):
    """Refuse, as a file system does that has no hard links."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


def full(_):
    """Refuse, as a disk does that takes no more."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("before", ["first", "second"])
@pytest.mark.parametrize("links", ["links", "no links"])
def test_stopped_inside_a_salvage(tmp_path, monkeypatch, before, links):
    """The next run refuses, or has all the rows; a salvage after it keeps what was kept before."""
    folder = tmp_path / "folder"
    folder.mkdir()
    kept = [damaged(folder / "j")]
    if before == "second":
        kept.append(b"of an earlier salvage")
        (folder / "j.damaged").write_bytes(kept[1])
    if links == "no links":
        monkeypatch.setattr(os, "link", no_links)
    states = left_by(lambda: known_after(folder / "j", repair=True), folder, monkeypatch)
    rows = {}
    for number, state in enumerate(set().union(*states)):
        path = laid_out(tmp_path / str(number), state)
        assert path.exists()
        rows[state] = known_after(path)
        assert known_after(path, repair=True) == SAVED
        assert sorted(inside(path.parent)[1].values()) == sorted([path.read_bytes(), *kept])
    assert [rows[state] for state in states[0]] == [None]
    assert all(found in (None, SAVED) for found in rows.values())
    assert all(rows[state] == SAVED for state in states[-1])  # a safe place


def test_a_salvage_of_what_is_no_journal(tmp_path):
    """Another file, or a journal of a later version, stays alone as it is."""
    path = written(tmp_path / "j", [of(0)])
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    later = path.read_bytes()
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (a)")
    db.commit()
    db.close()
    other = path.read_bytes()
    for raw in (later, other, b"some,data\n1,2\n", b'{"crc":"00000000",}\n', b"x" * 9_000):
        path.write_bytes(raw)
        for repair in (False, True):
            with pytest.raises(errors.JournalDamaged):
                Journal(path, repair=repair)
            assert list(inside(tmp_path)[1].values()) == [raw]


def test_a_salvage_of_a_journal_of_which_nothing_is_left(tmp_path):
    """It stays as it is, and is still called a journal; a short file is not to be salvaged."""
    path = written(tmp_path / "j", [of(n) for n in range(50)])
    raw = path.read_bytes()[:8_192]
    path.write_bytes(raw)
    with pytest.raises(errors.JournalDamaged, match="no row of it can be read"):
        Journal(path, repair=True)
    assert list(inside(tmp_path)[1].values()) == [raw]
    path.write_bytes(b"a note")
    with pytest.raises(errors.JournalDamaged) as refused:
        Journal(path, repair=True)
    assert "--salvage" not in str(refused.value)


def test_a_salvage_on_a_full_disk(tmp_path, monkeypatch):
    """The journal is as it was, no half of a file is left, and the message says what to do."""
    path = tmp_path / "j"
    raw = damaged(path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.JournalError, match=r"j cannot be repaired \(No space.*make room"):
        Journal(path, repair=True)
    monkeypatch.undo()
    assert list(inside(tmp_path)[1].values()) == [raw]
    assert known_after(path, repair=True) == SAVED


@pytest.mark.parametrize(
    "text", [b"some,data\n1,2\n", b"x", b'{"a":1}\n', b'{"crc":"00000000",}\n', b"x" * 9_000]
)
def test_another_file_is_left_alone(tmp_path, text):
    """What is no journal is refused, and not a byte of it is touched."""
    path = tmp_path / "notes.csv"
    path.write_bytes(text)
    with pytest.raises(errors.JournalDamaged, match="journal"):
        Journal(path)
    assert path.read_bytes() == text


def test_one_run_at_a_time(tmp_path):
    """A second run is refused while the first has the journal; whoever reads is not."""
    path = written(tmp_path / "j", [of(0)])
    first = Journal(path)
    with pytest.raises(errors.JournalInUse, match="another run"):
        Journal(path)
    assert is_in_use(path)
    assert recorded_at(path).kinds == {"ok": 1}
    first.close()
    assert not is_in_use(path)
    Journal(path).close()


def test_other_settings_are_refused(tmp_path):
    """A journal of another base URL, say, is not gone on with; the message names both."""
    path = written(tmp_path / "j", [of(0)], settings={"base_url": "https://a/v1"})
    with pytest.raises(errors.JournalMismatch, match=r"a/v1.*b/v1"):
        Journal(path, {"base_url": "https://b/v1"})


def test_the_row_must_be_the_same(tmp_path):
    """A result belongs to the request it was paid for; a row that failed may be mended."""
    journal = Journal(written(tmp_path / "j", [of(0), of(1, failed(permanent=True))]))
    with pytest.raises(errors.JournalMismatch, match="'r0'"):
        journal.result("r0", 0, None, "another")
    result, same = journal.result("r1", 1, None, "another")
    assert result.failure is not None
    assert not same
    journal.close()


def test_nobody_else_reads_it_and_no_link_is_followed(tmp_path):
    """The file is its owner's alone; a link in its place is refused."""
    path = written(tmp_path / "j", [of(0)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(errors.JournalError, match="link"):
        Journal(tmp_path / "link")
    with pytest.raises(errors.JournalError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "j")


def test_an_unused_one_leaves_nothing_behind(tmp_path):
    """A journal that no run wrote to is gone when it is closed; one that is used is kept."""
    path = tmp_path / "j"
    Journal(path).close()
    assert not path.exists()
    written(path, [])
    assert path.exists()


def test_a_run_each(tmp_path):
    """A journal object serves one run; a second must read what the first wrote."""

    async def main():
        journal = Journal(tmp_path / "j", threaded=False)
        journal.start(pytest.fail)
        journal.stop(why="finished")
        with pytest.raises(errors.JournalError, match="opened anew"):
            journal.start(pytest.fail)
        with pytest.raises(errors.JournalError, match="not being written"):
            journal.tell("sample")
        journal.close()

    run_virtually(main)


async def put_all(journal, results, told, failures):
    """Put results into a journal with a thread, and wait until they are safe or it failed."""
    journal.start(failures.append)
    for result in results:
        journal.put(result, None, partial(told.append, result.index))
    await until(lambda: len(told) == len(results) or failures)


async def until(happened):
    """Let the loop run until something has happened."""
    with anyio.fail_after(10):
        while not happened():  # a thread makes it happen
            await anyio.lowlevel.checkpoint()


def test_the_thread_tells_what_is_safe(tmp_path, backend):
    """With the thread, every row is told of, in order, and stands in the file by then."""
    told, failures = [], []

    async def main():
        journal = Journal(tmp_path / "j")
        await put_all(journal, [of(n) for n in range(500)], told, failures)
        assert recorded_at(tmp_path / "j").done == 500
        journal.stop(why="finished")
        journal.close()

    anyio.run(main, backend=backend)
    assert told == list(range(500))
    assert not failures
    journal = Journal(tmp_path / "j")
    assert journal.recorded.done == 500
    journal.close()


@pytest.mark.parametrize("end", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_journal_that_loses_its_name(tmp_path, backend, end, replaced):
    """Removed or replaced while a run writes, it ends the run: nothing more is called safe."""
    told, failures = [], []

    async def main():
        journal = Journal(tmp_path / "j")
        await put_all(journal, [of(n) for n in range(20)], told, failures)
        file = tmp_path / f"j{end}"
        raw = file.read_bytes()
        file.unlink()
        if replaced:
            file.write_bytes(raw)
        journal.put(of(20), None, partial(told.append, 20))
        await until(lambda: failures)
        with pytest.raises(errors.JournalWriteFailed):
            journal.stop(why="finished")
        journal.close()

    anyio.run(main, backend=backend)
    assert told == list(range(20))
    assert f"j{end} was removed or replaced" in str(failures[0])


def test_a_disk_that_takes_no_more(tmp_path):
    """When the disk is full nothing more is called safe, and what was is still there."""
    told, failures = [], []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def main():
        journal = Journal(tmp_path / "j")
        await put_all(journal, [of(n) for n in range(20)], told, failures)
        size = journal.path.with_name("j-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        journal.put(of(20), None, partial(told.append, 20))
        await until(lambda: failures)
        journal.put(of(21), None, partial(told.append, 21))
        with pytest.raises(errors.JournalWriteFailed):
            journal.stop(why="finished")
        journal.close()

    try:
        anyio.run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told == list(range(20))
    assert "make room" in str(failures[0])
    journal = Journal(tmp_path / "j")
    assert known(journal) == list(range(20))
    journal.close()
