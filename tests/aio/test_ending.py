"""What lives as long as an event loop is closed with it, where nobody else closes it."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from resilient_infe.aio import Ending, current


def test_it_closes_when_the_loop_ends(run):
    """The loop waits for it, also where it awaits something."""
    ends = []

    async def close():
        await anyio.lowlevel.checkpoint()
        ends.append(current())

    async def main():
        ends.append(Ending(close, current()))
        return current()

    assert run(main) is ends[1]


def test_it_closes_once(run):
    """By hand, twice, and at the end of the loop: it is closed by hand."""
    closed = []

    async def close():
        closed.append(1)

    async def main():
        ending = Ending(close, current())
        await ending.close()
        await ending.close()
        return ending

    run(main)
    assert closed == [1]


def test_a_cancelled_close_goes_on(run):
    """Who waits for it may go away; what is half closed would stay open."""
    closed = []

    async def close():
        await anyio.sleep(1.0)
        closed.append(1)

    async def main():
        ending = Ending(close, current())
        with anyio.move_on_after(0.5):
            await ending.close()
        assert closed == []
        await anyio.sleep(1.0)
        return closed

    assert run(main) == [1]


def test_what_hangs_does_not_hold_up_the_end(run):
    """It has five seconds."""
    ends = []

    async def main():
        ends.append(Ending(anyio.sleep_forever, current()))
        return 1

    assert run(main) == 1


def test_at_the_exit_a_loop_that_was_closed_is_left_alone(run):
    """Nothing can be awaited there any more."""
    closed, ends = [], []

    async def close():
        closed.append(1)

    async def main():
        ends.append(Ending(close, current()))

    run(main)
    ends[0].close_at_exit()
    assert closed == [1]
