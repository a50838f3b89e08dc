"""The writer: groups without a timer, on both loops, and where no log can be kept."""

from __future__ import annotations

import sqlite3

import anyio
import pytest

from resilient_infe import errors
from resilient_infe.batch import run_batch
from resilient_infe.batch.plain import to_json
from resilient_infe.batch.result import Result
from resilient_infe.batch.store import Journal, file, recorded_at
from resilient_infe.batch.store import writer as writer_module
from resilient_infe.batch.store.rows import Ended
from resilient_infe.batch.store.schema import TABLES
from resilient_infe.batch.store.writer import MOST, Note, ThreadWriter, write


def rows(first, number):
    """Some rows that have come to their end."""
    results = (
        Result(n, f"r{n}", None, n, encoded=to_json(n)) for n in range(first, first + number)
    )
    return [Ended(result, None, 0.0) for result in results]


@pytest.fixture
def db():
    """An empty journal in memory."""
    found = sqlite3.connect(":memory:", isolation_level=None)
    for statement in TABLES:
        found.execute(statement)
    yield found
    found.close()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, MOST - 1, MOST, MOST + 1, 3 * MOST + 7])
def test_groups_of_any_size(db, number):
    """All of a group is written, once, whatever statements it takes."""
    write(db, rows(0, number))
    assert db.execute("SELECT count(*), min(id IS NULL) FROM rows").fetchone()[0] == number
    assert db.execute("SELECT coalesce(sum(rows), 0) FROM counts").fetchone()[0] == number
    assert db.execute("SELECT count(*) FROM replies").fetchone()[0] == number


def test_all_of_a_group_or_nothing(db):
    """A statement that fails takes the whole group with it, and says what to do."""
    with pytest.raises(errors.JournalWriteFailed, match="make room"):
        write(db, [*rows(0, 5), Note("INSERT INTO nowhere VALUES (1)", ())])
    assert not db.in_transaction
    assert db.execute("SELECT count(*) FROM rows").fetchone() == (0,)


def test_what_sqlite_cannot_take_ends_the_run(db):
    """A number of over 64 bits is reported like a full disk: nothing waits for ever."""
    with pytest.raises(errors.JournalWriteFailed):
        write(db, [Ended(Result(0, "r0", None, status=1 << 70), None, 0.0)])


def test_what_has_no_columns_ends_the_run(db):
    """A status that is not a number, of a transport of the user's, is reported as well."""
    with pytest.raises(errors.JournalWriteFailed, match="NaN"):
        write(db, [Ended(Result(0, "r0", None, status=float("nan")), None, 0.0)])


class Loop:
    """An event loop that runs what it is given when it is told to."""

    def __init__(self):
        self.waiting = []

    def call_soon(self, callback):
        """Take a callback."""
        self.waiting.append(callback)

    def turn(self):
        """Run what waits; return how much that was."""
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()
        return len(waiting)


def test_what_comes_in_meanwhile_is_one_group(tmp_path, monkeypatch):
    """All of one turn of the loop is a group, and all that comes while it is written the next."""
    journal = Journal(tmp_path / "j")
    loop, done, groups = Loop(), [], []

    def noted(db, items):
        groups.append(len(items))
        write(db, items)

    monkeypatch.setattr(writer_module, "write", noted)
    writer = ThreadWriter(journal._db, loop, pytest.fail, lambda: None)
    for n, row in enumerate(rows(0, 3)):
        writer.put(row, lambda n=n: done.append(n))
    assert loop.turn() == 1  # nothing is handed over before the turn ends
    for n, row in enumerate(rows(3, 4), 3):
        writer.put(row, lambda n=n: done.append(n))
    while len(done) < 7:
        loop.turn()
    writer.close()
    assert done == list(range(7))
    assert groups == [3, 4]
    journal.close()


@pytest.mark.parametrize("why", ["shared", "no memory"])
def test_without_a_log(tmp_path, backend, monkeypatch, why):
    """Where machines share the file, or memory cannot be mapped, it works all the same."""
    path = tmp_path / "j"
    if why == "shared":
        monkeypatch.setattr(file, "is_shared", lambda _: True)
    else:
        monkeypatch.setattr(file, "LOGGED", "PRAGMA journal_mode = MEMORY")

    async def send(payload):
        return {"n": payload}

    async def main(rows):
        async with run_batch(range(rows), send, row_id=str, journal=path) as run:
            found = [(result.value["n"], result.replayed) async for result in run]
            assert not path.with_name("j-wal").exists()
            return found

    first = anyio.run(main, 20, backend=backend)
    assert sorted(first) == [(n, False) for n in range(20)]
    second = anyio.run(main, 30, backend=backend)
    assert sorted(second) == [(n, n < 20) for n in range(30)]
    assert recorded_at(path).done == 30


def test_a_log_is_given_up(tmp_path, monkeypatch):
    """A journal that was begun elsewhere goes on where no log can be kept."""
    path = tmp_path / "j"
    journal = Journal(path, threaded=False)
    journal.about = {"input": "x"}
    write(journal._db, rows(0, 3))
    journal._used = True
    journal.close()
    monkeypatch.setattr(file, "is_shared", lambda _: True)
    journal = Journal(path, threaded=False)
    assert journal.recorded.done == 3
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    journal.close()
