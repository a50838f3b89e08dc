"""Streams through every client: held to their end, whole or an error, never twice."""

from __future__ import annotations

import asyncio
import gc

import pytest
from fakes import Remember
from loopback import KEY, against, at_rest, collected, soon
from streamers import (
    WORDS,
    aiohttp_streams,
    asked_for,
    every_streamer,
    httpx_streams,
    sdk_aiohttp_streams,
    sdk_streams,
    stream_server,
)

from resilient_infe import (
    AttemptTimeout,
    InfeTransport,
    Kind,
    call_options,
    errors,
    presets,
)

pytestmark = pytest.mark.network

ALL = [f"w{number}" for number in range(WORDS)]


def service(**options):
    """Return a stack that limits slots, requests and tokens, far above what a test needs."""
    usual = {"requests_per_minute": 600_000, "tokens_per_minute": 60_000_000, "deadline": 5.0}
    return presets.service(**(usual | options))


async def read(opened):
    """Return the words of a stream and the error that it ended with, or None."""
    words = []
    try:
        async for each in opened.words:
            words.append(each)  # noqa: PERF401  # what came before an error counts
    except Exception as error:
        return words, error
    return words, None


@every_streamer
@pytest.mark.parametrize("plan", ["whole", "whole gzip"])
def test_a_stream_settles_its_usage(streamer, plan):
    """A whole stream arrives in order, and the usage in its last event settles the call."""
    seen = Remember()
    stack = service(tokens_per_minute=60_000, listeners=[seen])

    async def test(url):
        async with streamer(url, stack) as start:
            with call_options(tokens=900):
                opened = await start(plan)
            [allowance] = stack.statistics().allowances.values()
            assert (allowance.outstanding, stack.statistics().in_flight) == (1, 1)
            held = allowance.tokens_left
            assert await read(opened) == (ALL, None)
            assert at_rest(stack)
            [allowance] = stack.statistics().allowances.values()
            assert allowance.tokens_left > held + 800

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.OK: 1}
    [finished] = seen.named("call.finished")
    assert (finished.kind, finished.usage.total_tokens) == (Kind.OK, 7)


@every_streamer
@pytest.mark.parametrize("plan", ["cut", "reset", "cut gzip", "reset gzip", "half", "blank"])
def test_a_break_is_an_error(streamer, plan):
    """A stream that ends before it is whole raises, though HTTP may see a clean end."""
    stack = service()

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start(plan)
            words, error = await read(opened)
            assert words == ALL[:3]
            assert isinstance(error, Exception)
            await opened.close()
            assert at_rest(stack)

    assert len(against(stream_server, test).asked) == 1
    assert stack.statistics().outcomes == {Kind.TRANSIENT: 1}


def test_a_plain_for_over_a_stream_is_explained():
    """It says what to write instead."""

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            stream = await service().around(transport.stream)(asked_for("whole"))
            with pytest.raises(TypeError, match="`async for`"):
                list(stream)
            await stream.aclose()

    against(stream_server, test)


@pytest.mark.parametrize("plan", ["half", "blank"])
def test_a_stream_of_which_a_part_is_missing(plan):
    """Where one of two choices never ended, or none did, the stream is not whole."""

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            stream = await service().around(transport.stream)(asked_for(plan))
            with pytest.raises(errors.StreamBroken, match="before it was complete"):
                assert not [chunk async for chunk in stream if "choices" not in chunk]

    against(stream_server, test)


@every_streamer
@pytest.mark.parametrize("plan", ["error", "error gzip"])
def test_an_error_inside_a_stream_is_the_outcome(streamer, plan):
    """An event that is an error makes the call a failed one, also where nobody raises."""
    stack = service()

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start(plan)
            words, error = await read(opened)
            assert words == ALL[:1]
            assert error is None or "no" in str(error)
            await opened.close()
            assert at_rest(stack)

    assert len(against(stream_server, test).asked) == 1
    assert stack.statistics().outcomes == {Kind.SERVER_ERROR: 1}


@every_streamer
def test_leaving_a_stream_is_no_failure(streamer):
    """A caller who closes a stream early gives everything back, and the circuit sees no failure."""
    stack = service()

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("hang")
            assert await anext(opened.words) == "w0"
            assert stack.statistics().in_flight == 1
            await opened.close()
            assert at_rest(stack)

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.OK: 1}


@every_streamer
@pytest.mark.parametrize("first", [0, 1], ids=["unread", "begun"])
def test_a_stream_that_is_dropped_comes_home(streamer, first):
    """A stream that nobody closes is closed when it is collected, though its body never ends."""
    stack = service(concurrency=1)

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("hang")
            for _ in range(first):
                await anext(opened.words)
            assert stack.statistics().in_flight == 1
            del opened
            assert await collected(lambda: at_rest(stack))
            assert await read(await start("whole")) == (ALL, None)

    against(stream_server, test)


@every_streamer
def test_a_reader_that_is_cancelled_gives_back(streamer):
    """A task that is cancelled while it reads leaves nothing taken."""
    stack = service()

    async def test(url):
        async with streamer(url, stack) as start:
            task = asyncio.ensure_future(read(await start("hang")))
            await asyncio.sleep(0.02)  # noqa: TID251  # it waits for the next part now
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            assert await collected(lambda: at_rest(stack))

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.CANCELLED: 1}


@every_streamer
@pytest.mark.parametrize("plan", ["hang", "hang gzip"])
def test_a_stream_that_falls_silent_ends(streamer, plan):
    """It is cut after `idle` seconds, whatever came before stays, and nothing stays taken."""
    stack = service(concurrency=1).replace(AttemptTimeout(5.0, idle=0.25))

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start(plan)
            words, error = await read(opened)
            assert words == ALL[:3]
            assert isinstance(error, errors.StreamStalled)
            assert "imeout" in "".join(cls.__name__ for cls in type(error).__mro__)
            await opened.close()
            assert at_rest(stack)
            assert await read(await start("whole")) == (ALL, None)

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1, Kind.OK: 1}


@pytest.mark.parametrize("streamer", [httpx_streams, aiohttp_streams])
def test_a_comment_ends_the_silence(streamer):
    """A server that is slow and says so is waited for: eight comments, each in time."""
    stack = service().replace(AttemptTimeout(5.0, idle=0.2))

    async def test(url):
        async with streamer(url, stack) as start:
            assert await read(await start("whole ping ping ping ping ping ping ping ping")) == (
                ALL,
                None,
            )

    against(stream_server, test)


@every_streamer
def test_a_stream_ends_at_the_deadline(streamer):
    """A stream that hangs is cut at the call's deadline, with an error that is a timeout."""
    stack = service(deadline=0.15)

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("hang")
            words, error = await read(opened)
            assert words == ALL[:3]
            assert "imeout" in "".join(cls.__name__ for cls in type(error).__mro__)
            await opened.close()
            assert at_rest(stack)

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}


PLANS = ["whole", "cut", "whole gzip", "reset", "leave", "drop", "cut gzip", "cancel"]


@every_streamer
def test_two_hundred_streams_at_once(streamer):
    """Of 200 streams many break or are left: all comes home, nothing twice, each break is told."""
    stack = service(concurrency=40)

    async def one(start, plan):
        opened = await start("hang" if plan in {"leave", "drop", "cancel"} else plan)
        if plan in {"leave", "drop"}:
            words = [await anext(opened.words), await anext(opened.words)]
            await asyncio.sleep(0.001)  # noqa: TID251  # others come in between
            if plan == "leave":
                await opened.close()
            return plan, words, None
        if plan == "cancel":
            task = asyncio.ensure_future(read(opened))
            await asyncio.sleep(0.01)  # noqa: TID251  # it reads
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await opened.close()
            return plan, [], None
        return plan, *await read(opened)

    async def test(url):
        async with streamer(url, stack) as start:
            tasks = [one(start, PLANS[number % len(PLANS)]) for number in range(200)]
            for plan, words, error in await asyncio.gather(*tasks):
                assert words == (ALL if "whole" in plan else ALL[: len(words)])
                assert (error is not None) == (plan in {"cut", "reset", "cut gzip"})
            assert await collected(lambda: at_rest(stack))

    against(stream_server, test)
    outcomes = stack.statistics().outcomes
    assert outcomes[Kind.TRANSIENT] == 75
    assert sum(outcomes.values()) == 200


@pytest.mark.parametrize("streamer", [sdk_streams, sdk_aiohttp_streams])
def test_a_server_that_lingers_after_the_end_is_no_failure(streamer):
    """The SDK stops waiting for the connection's end after ``[DONE]``: the call was a success."""
    stack = service()

    async def test(url):
        async with streamer(url, stack) as start:
            assert await read(await start("whole hang")) == (ALL, None)
            assert at_rest(stack)

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.OK: 1}


@pytest.mark.parametrize("streamer", [sdk_streams, sdk_aiohttp_streams])
def test_a_stream_that_is_left_half_read_comes_home_at_once(streamer):
    """A loop that is left with `break` gives the slot back, without a garbage collection."""
    stack = service(concurrency=1)

    async def peek(start):
        async for each in (await start("hang")).words:
            assert each == "w0"
            break

    async def test(url):
        async with streamer(url, stack) as start:
            gc.collect()
            gc.disable()
            try:
                for _ in range(3):
                    await peek(start)
                    assert await soon(lambda: at_rest(stack))
            finally:
                gc.enable()

    against(stream_server, test)
    assert stack.statistics().outcomes == {Kind.OK: 3}
