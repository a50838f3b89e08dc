"""Open streams that hold every slot while a call waits: one warning, and only then."""

from __future__ import annotations

import warnings

import anyio
import anyio.lowlevel
import pytest

from resilient_infe import (
    ConcurrencyLimiter,
    ErrorClassifier,
    Hold,
    Keyed,
    RequestIdLogger,
    Slots,
    Stack,
)
from resilient_infe.errors import OpenStreamsWarning


class Streams:
    """A transport: a payload that is a number of seconds is awaited, any other opens a stream."""

    async def handle(self, call):
        """Return the hold of an open stream, or an answer after a while."""
        if isinstance(call.payload, float):
            await anyio.sleep(call.payload)
            return "answer"
        call.hold = Hold()
        return call.hold


def stack_of(slots):
    """Return a stack whose calls have ids."""
    return Stack(RequestIdLogger(log=False), ConcurrencyLimiter(slots), ErrorClassifier())


async def warned_in(stack, seconds, *payloads, calls=1):
    """Open a stream per payload, let calls wait for a time, and return the warnings' messages."""
    send = stack.around(Streams())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with anyio.create_task_group() as group:
            holds = []
            for payload in payloads:
                if isinstance(payload, float):
                    group.start_soon(send, payload)
                    await anyio.lowlevel.checkpoint()
                else:
                    holds.append(await send(payload, request_id=payload))
            for _ in range(calls):
                group.start_soon(send, 0.1)
            await anyio.sleep(seconds)
            for hold in holds:
                hold.close()
    assert stack.statistics().in_flight == 0
    return [str(each.message) for each in told if each.category is OpenStreamsWarning]


def test_streams_that_hold_every_slot_are_named(run):
    """After 5 s one warning says how many, whose, and what to do."""
    [message] = run(lambda: warned_in(stack_of(2), 60.0, "row-1", "row-2", calls=3))
    assert "all 2 slots are held by open streams (row-1, row-2)" in message
    assert "over 5 s" in message
    assert "read the stream to its end or close it" in message


def test_many_streams_are_counted(run):
    """Ten are named, the rest are counted."""
    names = [f"row-{number:02}" for number in range(13)]
    [message] = run(lambda: warned_in(stack_of(13), 6.0, *names))
    assert "row-09 and 3 more)" in message


def test_a_call_that_is_served_in_time_is_no_reason(run):
    """Up to 5 s nothing is said, and nothing later."""
    assert run(lambda: warned_in(stack_of(2), 4.9, "row-1", "row-2")) == []


def test_a_slot_that_no_stream_holds_is_no_reason(run):
    """Where an attempt is in flight, a slot will come back by itself."""
    assert run(lambda: warned_in(stack_of(2), 60.0, "row-1", 55.0)) == []


def test_a_stream_that_opens_while_a_call_waits_counts(run):
    """It does not matter which came first, the last stream or the call."""
    stack = stack_of(1)

    async def main():
        send = stack.around(Streams())
        held = []

        async def hold():
            held.append(await send("row-1"))

        async with anyio.create_task_group() as group:
            group.start_soon(send, 3.0)
            await anyio.sleep(1.0)
            group.start_soon(hold)
            await anyio.sleep(1.0)
            group.start_soon(send, 1.0)
            await anyio.sleep(20.0)
            held.pop().close()

    with pytest.warns(OpenStreamsWarning, match="all 1 slots"):
        run(main)


def test_there_is_one_warning_per_stack(run):
    """A second time, of another partition too, nothing is said."""
    stack = stack_of(Keyed(lambda: Slots(1)))

    async def main():
        return [len(await warned_in(stack, 20.0, "row-1")) for _ in range(2)]

    assert run(main) == [1, 0]


def test_waits_that_end_are_watched_on(run):
    """The first in the queue leaves in time; the next one waits over 5 s, and is the reason."""
    stack = stack_of(1)

    async def main():
        send = stack.around(Streams())
        hold = await send("row-1")

        async def leaves():
            with anyio.move_on_after(4.0):
                await send(0.1)

        async with anyio.create_task_group() as group:
            group.start_soon(leaves)
            await anyio.sleep(1.0)
            group.start_soon(send, 0.1)
            await anyio.sleep(20.0)
            hold.close()

    with pytest.warns(OpenStreamsWarning):
        run(main)


def test_a_stream_that_ended_holds_nothing(run):
    """What was counted comes off, whichever way the stream ends."""
    slots = Slots(2)
    stack = stack_of(slots)

    async def main():
        hold = await stack.around(Streams())("row-1", request_id="row-1")
        assert list(slots.streams.values()) == ["row-1"]
        hold.close()
        hold.close()
        assert len(slots.streams) == slots.held == 0
        await stack.around(Streams())("row-2")

    run(main)
    slots.abandon()
    assert len(slots.streams) == slots.held == 0


def test_a_warning_that_is_an_error_does_no_harm(run):
    """Where a filter turns warnings into errors, the loop goes on, and so does the call."""
    stack = stack_of(1)

    async def main():
        send = stack.around(Streams())
        hold = await send("row-1")
        async with anyio.create_task_group() as group:
            group.start_soon(send, 0.1)
            await anyio.sleep(20.0)
            hold.close()

    run(main)
    assert stack.statistics().in_flight == 0
