"""Power cuts: no row that was said to be safe is lost, whatever of the rest reached the disk.

The long form is in tests/proof.
"""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from power import FRAME, HEADER, PAGE, opened, written

from resilient_infe import errors
from resilient_infe.batch.store import Journal

ROWS = 8


@pytest.fixture
def run(tmp_path):
    """A journal of some rows."""
    folder = tmp_path / "run"
    folder.mkdir()
    return written(folder, ROWS)


def test_the_log_is_cut(run, tmp_path):
    """At every frame and at some bytes: what was safe by then is there."""
    dice = random.Random(3)
    frames = range(HEADER, len(run.log) + 1, FRAME)
    cuts = [*frames, *(dice.randrange(len(run.log)) for _ in range(10))]
    for number, cut in enumerate(cuts):
        found = opened(tmp_path / str(number), run.base, run.log[:cut])
        assert found[: len(run.safe_at(cut))] == run.safe_at(cut)
    assert found is not None
    assert opened(tmp_path / "whole", run.base, run.log) == list(range(ROWS))


def test_the_end_of_the_log_is_garbage(run, tmp_path):
    """What was written after the last row that is safe may hold anything."""
    dice = random.Random(4)
    for number in range(0, ROWS, 3):
        end = run.acked[number]
        log = run.log[:end] + dice.randbytes(len(run.log) - end)
        found = opened(tmp_path / str(number), run.base, log)
        assert found[: number + 1] == list(range(number + 1))


def test_the_shared_memory_is_lost(run, tmp_path):
    """It is made anew, whatever it holds."""
    for number, shm in enumerate((b"", bytes(32_768), random.Random(5).randbytes(32_768))):
        assert opened(tmp_path / str(number), run.base, run.log, shm) == list(range(ROWS))


def test_pages_that_were_not_synced_are_garbage(run, tmp_path):
    """A cut while the log is copied into the database: the log still has those pages."""
    dice = random.Random(6)
    pages = len(run.base) // PAGE
    for number in range(4):
        base = bytearray(run.base + bytes(PAGE * 4))
        logged = {
            int.from_bytes(run.log[at : at + 4], "big")
            for at in range(HEADER, len(run.log), FRAME)
        }  # fmt: skip
        for page in sorted(logged):
            if dice.random() < 0.5 and page <= pages + 4:
                base[(page - 1) * PAGE : page * PAGE] = dice.randbytes(PAGE)
        assert opened(tmp_path / str(number), bytes(base), run.log) == list(range(ROWS))


def test_before_the_first_commit(tmp_path):
    """A file without anything in it is an empty journal."""
    assert opened(tmp_path / "empty", b"", b"") == []


def test_a_log_that_changed_is_not_taken_for_a_cut_one(run, tmp_path):
    """Rows that were safe are not sent again without a word, but for the last transaction."""
    for row in range(ROWS - 2):
        changed = bytearray(run.log)
        changed[run.acked[row] - PAGE // 2] ^= 1
        with pytest.raises(errors.JournalDamaged, match="log has changed"):
            opened(tmp_path / str(row), run.base, bytes(changed))
        with closing(Journal(tmp_path / str(row) / "j", repair=True)) as journal:
            assert journal.recorded.done == row  # a salvage goes on without the others
