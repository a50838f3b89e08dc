"""The stack as aiohttp's client middleware: timeouts, bodies, slots and what is sent again."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from drivers import both, given, with_either
from loopback import (
    ANSWER,
    ASK,
    COMPLETION,
    ERROR,
    against,
    at_rest,
    collected,
    hang,
    head,
    in_turn,
    quick,
    response,
    soon,
)

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Kind,
    RateLimiter,
    Retry,
    Stack,
    errors,
    presets,
)

pytestmark = pytest.mark.network

BIG = response(500, b"x" * 3_000_000, "text/plain")


def slow_retry(**options):
    """Return a stack that sleeps a second between its tries."""
    return Stack(
        Retry(3, ExponentialBackoff(1.0, jitter="none"), **options),
        ConcurrencyLimiter(1),
        RateLimiter(requests_per_minute=60, tokens_per_minute=60_000),
        ErrorClassifier(),
    )


def told(error):
    """Return the note on the cancellation that a TimeoutError came from, or on itself."""
    notes = [*getattr(error.__cause__, "__notes__", ()), *getattr(error, "__notes__", ())]
    return " ".join(notes)


@both
def test_a_total_timeout_in_a_backoff_gives_back_and_tells(session_of):
    """Aiohttp's total timeout that strikes while the stack sleeps says what to set instead."""
    stack = slow_retry()

    async def test(session, url):
        with pytest.raises(TimeoutError) as caught:
            await session.post(url, json=ASK, timeout=aiohttp.ClientTimeout(total=0.05))
        assert "set total=None and sock_read" in told(caught.value)
        assert "1 attempt in" in told(caught.value)
        assert at_rest(stack)

    assert len(with_either(session_of, ERROR, test, stack).asked) == 1
    assert stack.statistics().outcomes == {Kind.CANCELLED: 1}


@both
@pytest.mark.parametrize("what", ["slot", "rate"])
def test_a_total_timeout_in_a_queue_gives_back_and_tells(session_of, what):
    """The total timeout that strikes while a call waits for a slot or the rate leaves no trace."""
    stack = Stack(
        ConcurrencyLimiter(1 if what == "slot" else 9),
        RateLimiter(requests_per_minute=6_000 if what == "slot" else 1),
        ErrorClassifier(),
    )
    total = aiohttp.ClientTimeout(total=0.05)

    async def test(session, url):
        if what == "rate":
            await session.post(url, json=ASK)
        first = asyncio.ensure_future(session.post(url, json=ASK))
        await soon(lambda: stack.statistics().in_flight == 1)
        with pytest.raises(TimeoutError) as caught:
            await session.post(url, json=ASK, timeout=total)
        assert "0 attempts in" in told(caught.value)
        assert "set total=None" in told(caught.value)
        assert stack.statistics().in_flight == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert at_rest(stack)

    answer = hang if what == "slot" else ANSWER
    assert len(with_either(session_of, answer, test, stack).asked) == 1


@both
@pytest.mark.parametrize("where", ["head", "body"])
def test_a_total_timeout_inside_an_attempt_ends_the_call(session_of, where):
    """The total timeout is over for good: no other attempt can succeed, so none is made."""
    stack = Stack(Retry(3, ExponentialBackoff(5.0, jitter="none")), ErrorClassifier())

    async def stall(asked, writer):
        if where == "body":
            writer.write(head(200, "application/json", content_length="9") + b"{")
        await hang(asked, writer)

    async def test(session, url):
        with pytest.raises(TimeoutError) as caught:
            await session.post(url, json=ASK, timeout=aiohttp.ClientTimeout(total=0.25))
        assert "set total=None" in told(caught.value)

    assert len(with_either(session_of, stall, test, stack).asked) <= 1
    assert stack.statistics().attempts == 1
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}


@both
def test_an_idle_timeout_is_tried_again(session_of):
    """`sock_read`, which bounds one read, is an attempt's timeout and may be tried again."""

    async def test(session, url):
        timeout = aiohttp.ClientTimeout(total=None, sock_read=0.05)
        async with session.post(url, json=ASK, timeout=timeout) as answer:
            assert await answer.json() == COMPLETION

    assert len(with_either(session_of, in_turn(hang, ANSWER), test).asked) == 2


@both
def test_a_deadline_and_an_attempts_timeout_are_our_own_errors(session_of):
    """What the stack refuses or cuts off reaches the caller as our own errors, with a note."""
    cases = [
        (Stack(Deadline(0.05), ErrorClassifier()), errors.DeadlineExceeded),
        (Stack(Retry(1), ErrorClassifier(), AttemptTimeout(0.05)), errors.AttemptTimedOut),
    ]
    for stack, error in cases:

        async def test(session, url, error=error):
            with pytest.raises(error) as caught:
                await session.post(url, json=ASK)
            assert "1 attempt in" in caught.value.__notes__[0]

        with_either(session_of, hang, test, stack)
        assert stack.statistics().attempts == 1


@both
def test_a_deadline_in_a_body_has_a_note_too(session_of):
    """A body that is handed over open and stalls ends at the deadline, with the attempts told."""
    stack = Stack(Deadline(0.05), ErrorClassifier())

    async def stall(_, writer):
        writer.write(head(200, content_length="5"))
        await writer.drain()
        await asyncio.Event().wait()

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            with pytest.raises(errors.DeadlineExceeded, match="while its body was read") as caught:
                await answer.read()
            [note] = caught.value.__notes__
            assert "1 attempt in" in note

    with_either(session_of, stall, test, stack)
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}
    assert at_rest(stack)


@both
def test_large_errors_do_not_stop_a_pool_of_one(session_of):
    """Three megabytes of error before each retry, one connection in the pool: no deadlock."""

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            assert len(await answer.read()) == 3_000_000
        async with session.post(url, json=ASK) as answer:
            assert answer.status == 500
        async with session.post(url, json=ASK) as answer:
            assert (await answer.read())[-1:] == b"x"

    connector = {"timeout": aiohttp.ClientTimeout(total=None, sock_read=2.0)}

    async def main(url):
        pool = aiohttp.TCPConnector(limit=1)
        async with session_of(quick(), connector=pool, **connector) as session:
            await test(session, url)

    assert len(against(BIG, main).asked) == 9


@both
def test_connections_are_used_again(session_of):
    """Answers and errors are read, so that retries and later calls open no new connection."""

    async def test(session, url):
        for _ in range(3):
            async with session.post(url, json=ASK):
                pass

    server = with_either(session_of, in_turn(ERROR, ERROR, ANSWER), test)
    assert (len(server.asked), server.connections) == (5, 1)


@both
def test_nobody_listens(session_of):
    """Where nobody listens the client's own error comes back, with a note of what to check."""

    async def main():
        async with session_of(quick()) as session:
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.post("http://127.0.0.1:9/v1", data=b"one")
            assert "check the base URL" in caught.value.__notes__[0]

    asyncio.run(main())


@both
def test_a_websocket_is_a_success(session_of):
    """A websocket opens through the stack, works, and is no failure for the circuit."""
    stack = presets.service(concurrency=1)

    async def echo(request):
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{message.data}!")
        return socket

    async def main():
        application = aiohttp.web.Application()
        application.router.add_get("/", echo)
        runner = aiohttp.web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        async with session_of(stack) as session:
            for _ in range(25):  # more than a circuit allows to fail in a row
                url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
                async with session.ws_connect(url) as socket:
                    assert at_rest(stack)
                    await socket.send_str("hi")
                    assert await socket.receive_str() == "hi!"
        await runner.cleanup()

    asyncio.run(main())
    assert stack.statistics().outcomes == {Kind.OK: 25}


def test_a_request_with_middlewares_of_its_own_leaves_ours_out():
    """As aiohttp says: a request's own middlewares take the place of the session's."""
    stack = quick()

    async def test(session, url):
        async with session.post(url, json=ASK, middlewares=()) as answer:
            assert answer.status == 500

    assert len(with_either(given, ERROR, test, stack).asked) == 1
    assert stack.statistics().calls == 0


@both
def test_a_redirect_is_followed_by_aiohttp(session_of):
    """A redirect is followed as ever, each hop being a call of its own."""
    stack = quick()

    async def test(session, url):
        async with session.get(url) as answer:
            assert (answer.status, answer.url.path) == (200, "/v1/next")

    there = response(302, b"", "text/plain", location="/v1/next")
    with_either(session_of, in_turn(there, ANSWER), test, stack)
    assert stack.statistics().calls == 2


@both
def test_a_large_error_that_is_dropped_unread_comes_home(session_of):
    """An error too large to read, whose response nobody closes, is closed when collected."""
    stack = presets.service(max_attempts=1)

    async def test(session, url):
        answer = await session.post(url, json=ASK)
        assert (answer.status, stack.statistics().in_flight) == (500, 1)
        del answer
        assert await collected(lambda: at_rest(stack))

    with_either(session_of, BIG, test, stack)
