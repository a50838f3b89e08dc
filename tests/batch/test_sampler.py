"""What a run that is killed leaves of what it had learned and spent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from resilient_infe import presets
from resilient_infe.batch import Journal, run_batch
from resilient_infe.batch.sample import Tally
from resilient_infe.batch.sampler import Sampler
from resilient_infe.batch.store import recorded_at
from resilient_infe.testing import InfeModel, InProcessInfe

DAY = {"requests_per_day": 1_000}


@pytest.mark.parametrize("limits", [DAY, {"account": DAY}])
def test_a_day_is_counted_when_a_run_is_killed(run, tmp_path, limits):
    """At any instant the journal knows of all that was spent but in the last second."""
    model = InfeModel(latency=0.01)
    rows = [{"model": "infe-pulse", "messages": []} for _ in range(60)]
    path = tmp_path / "j"
    missing = []

    async def main():
        journal = Journal(path, threaded=False)
        send = presets.batch(requests_per_minute=600, **limits).around(InProcessInfe(model))
        async for result in run_batch(rows, send, journal=journal):
            if result.index % 10 == 9:
                days = [each.get("days") for each in recorded_at(path).beliefs.values()]
                counted = sum(units for each in days if each for _, units in each["requests"])
                missing.append(model.books.sends - counted)
        journal.close()

    run(main)
    assert len(missing) == 6
    assert max(missing) <= 2 * 600 / 60 + 1  # a burst of a second at the start, and the pace


class Told:
    """Stands for a recorder. State: the samples."""

    records = True

    def __init__(self):
        self.samples = []

    def tell(self, sample, events):
        """Keep a sample."""
        self.samples.append(sample)


@pytest.mark.parametrize(
    ("belief", "times"),
    [({"dimension": "requests"}, 4), ({"days": {}}, 100), ({}, 4)],
)
def test_how_often_it_is_recorded(belief, times):
    """What was learned can be large, and is recorded each half a minute; a day with each sample."""
    told = Told()
    stack = SimpleNamespace(listeners=(), statistics=lambda: None, beliefs=lambda: {"m": belief})
    sampler = Sampler(told, Tally(), stack)
    for now in range(100):
        sampler.take(float(now))
    assert sum("beliefs" in each for each in told.samples) == times
