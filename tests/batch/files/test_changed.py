"""An input that changes after its check: it is told, and no result is lost."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from dataclasses import replace as replaced
from pathlib import Path

import pytest

from resilient_infe.batch.files import Job, JobOptions
from resilient_infe.batch.files import input as input_module
from resilient_infe.batch.files.input import Input
from resilient_infe.errors import BatchError
from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer

LINES = b"".join(b'"row %d"\n' % n for n in range(100))


@pytest.fixture(params=["plain", "packed"])
def path(request, tmp_path):
    """A file with some lines, packed or not."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(gzip.compress(LINES) if request.param == "packed" else LINES)
    return path


@pytest.fixture
def given(path):
    """The input, checked once."""
    given = Input(str(path))
    assert read(given) == LINES
    yield given
    given.close()


def read(given):
    """What a reading finds."""
    with given.read() as file:
        return file.read()


def replace(path):
    """Put another file in its place."""
    path.with_name("other").write_bytes(b'"other"\n')
    path.with_name("other").replace(path)


def grow(path):
    """Add a line, the last of it half written."""
    with path.open("ab") as file:
        file.write(b'"more"\n"ha')


def cut(path):
    """Leave a part of it."""
    os.truncate(path, 50)


def rewrite(path):
    """Change a byte in place, and set its time back."""
    before = path.stat()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_same_file_may_be_read_again(given):
    """Nothing is said where nothing has happened."""
    given.begin()
    assert read(given) == LINES
    given.check_same()
    given.report_changes()


@pytest.mark.parametrize(
    ("change", "told"),
    [(replace, "was replaced"), (grow, "grew"), (cut, "became shorter")],
)
def test_a_change_before_the_run(path, given, change, told):
    """Nothing is sent, and the message says what to do."""
    change(path)
    with pytest.raises(BatchError, match=f"{told} after it was checked.*run the same again"):
        given.begin()


@pytest.mark.parametrize(("change", "told"), [(replace, "was replaced"), (grow, "grew")])
def test_more_to_send_is_told_at_the_end(path, given, change, told):
    """What was checked is read to its end, whatever is added or put in its place meanwhile."""
    given.begin()
    change(path)
    assert read(given) == LINES
    given.check_same()
    with pytest.raises(BatchError, match=f"{told} while it was read.*run the same again"):
        given.report_changes()


@pytest.mark.parametrize("change", [cut, rewrite])
def test_bytes_that_changed_are_found(path, given, change):
    """A reading that is not of the same bytes ends with an error, though the time is the same."""
    given.begin()
    change(path)
    with pytest.raises((BatchError, EOFError, OSError)):  # a packed file may break first
        read(given)


def test_a_reading_that_ends_early(path, given):
    """Where not every byte was compared, the file's size and time decide."""
    given.begin()
    reading = given.read()
    reading.__enter__().readline()
    given.check_same()
    cut(path)
    with pytest.raises(BatchError, match="became shorter"):
        given.check_same()
    del reading


def test_a_file_that_is_gone_is_read_to_its_end(path, given):
    """It is open, so that nothing is lost."""
    given.begin()
    path.unlink()
    assert read(given) == LINES
    given.report_changes()


def test_what_is_no_file(tmp_path):
    """A folder is told of in one line; a pipe is not opened before it is read."""
    with pytest.raises(BatchError, match="is a folder: give one file"), Input(str(tmp_path)).read():
        pass
    os.mkfifo(tmp_path / "pipe")
    pipe = Input(str(tmp_path / "pipe"))
    assert pipe.is_stream
    pipe.begin()
    pipe.report_changes()
    pipe.close()
    assert not Input(str(Path(tmp_path, "nowhere"))).is_stream


def requests(names):
    """A line for each name."""
    lines = ({"custom_id": name, "model": "infe-pulse", "prompt": "hi" * 50} for name in names)
    return "".join(json.dumps(line) + "\n" for line in lines)


async def job(url, folder, *, between=None, during=None, **options):
    """Run a job over a file; returns what stopped it, if anything did."""
    fixed = JobOptions(input=f"{folder}/in", output=f"{folder}/out", errors=f"{folder}/errors",
                       journal=f"{folder}/journal", base_url=url,
                       requests_per_minute=1e6)  # fmt: skip
    one = Job(replaced(fixed, **options), [lambda _: during and during()])
    try:
        one.check()
        if between:
            between()
        await one.run()
    except BatchError as error:
        return str(error)
    finally:
        one.close()
    return None


def ids(folder):
    """The ids in an output."""
    return [json.loads(line)["custom_id"] for line in Path(folder, "out").read_text().splitlines()]


OLD, NEW = [f"a{n}" for n in range(9)], [f"b{n}" for n in range(5)]


@pytest.mark.network
@pytest.mark.parametrize("options", [{}, {"limit": 3, "skip_bad": True}])
@pytest.mark.parametrize("change", ["replaced", "rewritten", "cut", "cut in a line", "grown"])
def test_no_earlier_result_leaves_the_output(tmp_path, change, options):
    """A job whose input changed before it ran says so; the next one goes on."""
    place = tmp_path / "in"

    def apply():
        if change == "replaced":
            place.with_name("x").write_text(requests(f"c{n}" for n in range(14)))
            place.with_name("x").replace(place)
        elif change == "rewritten":
            place.write_text(requests(f"c{n}" for n in range(14)))
        elif change == "grown":
            place.write_text(requests(OLD + NEW) + '{"custom_id": "ha')
        else:
            os.truncate(place, 700 if change == "cut in a line" else len(requests(OLD[:3])))

    async def main():
        model = InfeModel(latency=0.0)
        async with InfeServer(model).running() as url:
            place.write_text(requests(OLD))
            assert await job(url, tmp_path) is None
            place.write_text(requests(OLD + NEW))
            told = await job(url, tmp_path, between=apply, **options)
            assert "after it was checked" in told
            assert set(OLD) <= set(ids(tmp_path))
            assert model.books.sends == len(OLD)
            place.write_text(requests(OLD + NEW))
            assert await job(url, tmp_path) is None
            return ids(tmp_path)

    assert sorted(asyncio.run(main())) == OLD + NEW


@pytest.mark.network
@pytest.mark.parametrize("change", ["replaced", "grown", "cut"])
def test_a_change_while_it_runs(tmp_path, change, monkeypatch):
    """What was checked is sent; more, or less, is told at the end, and the next run goes on."""
    place = tmp_path / "in"
    monkeypatch.setattr(input_module, "PIECE", 4_096)
    names = [f"a{n:04}" for n in range(150)]  # fewer are under way at once

    def apply():
        if change == "replaced" and not (tmp_path / "was").exists():
            place.rename(tmp_path / "was")
            place.write_text(requests([*names, "more"]))
        elif change == "grown" and place.stat().st_size == len(requests(names)):
            place.write_text(requests([*names, "more"]) + '{"custom')
        elif change == "cut":
            os.truncate(place, 5_000)

    async def main():
        async with InfeServer(InfeModel(latency=0.0)).running() as url:
            place.write_text(requests(names))
            told = await job(url, tmp_path, during=apply)
            found = ids(tmp_path)
            place.write_text(requests([*names, "more"]))
            assert await job(url, tmp_path) is None
            assert sorted(ids(tmp_path)) == [*names, "more"]
            return told, sorted(found)

    told, found = asyncio.run(main())
    assert {"replaced": "was replaced", "grown": "grew"}.get(change, "changed") in told
    assert found == names if change != "cut" else set(found) < set(names)
