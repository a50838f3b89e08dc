"""The long form of the power cuts: many journals, cut at every frame and at 200 bytes each."""

from __future__ import annotations

import random
import shutil

import pytest
from power import FRAME, HEADER, PAGE, opened, written

from resilient_infe.batch.store import file

ROWS = 60


@pytest.fixture
def fresh(tmp_path):
    """A folder that is new for each journal."""

    def make():
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        return tmp_path / "state"

    return make


@pytest.mark.parametrize("size", [40, 2_000, 30_000])
def test_the_log_is_cut(tmp_path, fresh, size):
    """Whatever is missing of the log, each row that was safe by then is there."""
    dice = random.Random(size)
    run = written(tmp_path, ROWS, size)
    cuts = [*range(HEADER, len(run.log) + 1, FRAME), *(
        dice.randrange(len(run.log)) for _ in range(200)
    )]  # fmt: skip
    for cut in cuts:
        safe = run.safe_at(cut)
        tail = dice.choice((b"", dice.randbytes(dice.randrange(2 * FRAME)), bytes(FRAME)))
        assert opened(fresh(), run.base, run.log[:cut] + tail)[: len(safe)] == safe


@pytest.mark.parametrize("seed", range(20))
def test_pages_that_were_not_synced(tmp_path, fresh, monkeypatch, seed):
    """At any moment of a run that copies its log often: pages of the log may be garbage."""
    dice = random.Random(seed)
    monkeypatch.setattr(file, "CHECKPOINT", dice.choice((8, 20, 50)))
    run = written(tmp_path, ROWS, dice.choice((40, 900, 5_000)))
    salt = run.log[16:24]
    logged = {
        int.from_bytes(run.log[at : at + 4], "big")
        for at in range(HEADER, len(run.log) - FRAME + 1, FRAME)
        if run.log[at + 8 : at + 16] == salt
    }  # fmt: skip
    for _ in range(20):
        base = bytearray(run.base)
        base += bytes(max(0, max(logged) * PAGE - len(base)))
        for page in logged:
            if dice.random() < 0.5:
                base[(page - 1) * PAGE : page * PAGE] = dice.randbytes(PAGE)
        found = opened(fresh(), bytes(base), run.log, dice.randbytes(dice.choice((0, 32_768))))
        assert found == list(range(ROWS))
