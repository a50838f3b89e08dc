"""Cancel a call at every round of the event loop: what other tasks are doing then differs too.

The long form, with a batch and with every client, is in tests/proof.
"""

from __future__ import annotations

import anyio
import pytest
from ticks import at_tick, ticked

from tests.cancellation.test_every_await import STACKS, scenario


@pytest.mark.parametrize("name", ["concurrency", "rate", "hedge"])
def test_nothing_is_left_behind(name, run):
    """Cancelled in any round of the loop, a call leaves nothing."""
    for at in range(1, 200, 7):
        if not run(lambda at=at: scenario(STACKS[name], at, None, driven=ticked)):
            assert at > 1, "no round was cancelled: the test shows nothing"
            return
    raise AssertionError("the victim never ran to its end")


def test_the_rounds_are_counted(run):
    """The instrument itself: it acts once, after as many rounds as it is told."""

    async def main():
        seen = []
        with at_tick(3, lambda: seen.append(len(seen))):
            for _ in range(9):
                await anyio.sleep(1.0)
        return seen

    assert run(main) == [0]
