"""The phases of a run: the table, and that each is reached and left as it says."""

from __future__ import annotations

import pytest

from resilient_infe import presets, run_batch
from resilient_infe.batch.phases import TRANSITIONS, Phase, Trigger
from resilient_infe.testing import InfeModel, InProcessInfe


def test_every_phase_ends():
    """Each phase leads on, to the end, and nothing leads from there."""
    left = {old for old, _ in TRANSITIONS}
    assert left == {*Phase} - {Phase.OVER}
    reached = {Phase.OVER}
    while more := {old for (old, _), new in TRANSITIONS.items() if new in reached} - reached:
        reached |= more
    assert reached == {*Phase}
    assert {why for _, why in TRANSITIONS} == {*Trigger}


@pytest.mark.parametrize("trigger", Trigger)
def test_what_is_over_stays_over(trigger):
    """A trigger that a phase does not have changes nothing."""
    assert (Phase.OVER, trigger) not in TRANSITIONS


@pytest.mark.parametrize(
    ("how", "phases"),
    [
        (None, [Phase.NEW, Phase.RUNNING, Phase.ENDING, Phase.OVER]),
        ("stop", [Phase.NEW, Phase.RUNNING, Phase.STOPPING, Phase.OVER]),
        ("cancel", [Phase.NEW, Phase.RUNNING, Phase.CANCELLED, Phase.OVER]),
    ],
)
def test_a_run_goes_through_its_phases(run, how, phases):
    """To the end of its input, stopped with rows under way, or cancelled."""

    async def main():
        send = presets.batch(requests_per_minute=1e6).around(InProcessInfe(InfeModel()))
        rows = [{"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}] * 50
        results = run_batch(rows, send, in_memory=4)
        engine, seen = results._begin(), [Phase.NEW]
        turn = engine._turn

        def noted(trigger):
            changed = turn(trigger)
            if engine.phase is not seen[-1]:
                seen.append(engine.phase)
            return changed

        engine._turn = noted
        async for _ in results:
            if how is not None and engine.phase is Phase.RUNNING:
                getattr(engine, how)()
        await engine.ended()
        return seen

    assert run(main) == phases


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_run_that_ends_before_its_task_begins(run, how):
    """Nothing is taken from the input, and the iteration ends."""
    taken = []

    async def main():
        async def send(_):
            raise AssertionError

        results = run_batch((taken.append(n) or n for n in range(5)), send)
        engine = results._begin()
        getattr(engine, how)()
        assert engine.phase is Phase.OVER
        return [result async for result in results]

    assert run(main) == []
    assert taken == []
