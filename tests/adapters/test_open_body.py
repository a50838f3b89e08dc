"""Open httpx bodies: held to their end on asyncio and on trio, in virtual time where it can be."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import pytest
from askers import httpx_and_httpx2
from loopback import at_rest, quick

from resilient_infe import (
    AttemptTimeout,
    Deadline,
    ErrorClassifier,
    Kind,
    ResilientTransport,
    Retry,
    Stack,
    presets,
)
from resilient_infe.aio import current

EVENT = b'data: {"choices": [{"delta": {}}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE = {"content-type": "text/event-stream"}
PATIENT = {"timeout": None}


def scripted(library, *answers):
    """Return a transport in memory that gives each answer in turn, and how many were asked for.

    An answer is a pair of keywords for the library's response and of parts: bytes to send, seconds
    to wait, or an exception to raise.
    """
    left = list(answers)

    class Body(library.AsyncByteStream):
        def __init__(self, parts):
            self.parts, self.closed = parts, False

        async def __aiter__(self):
            for part in self.parts:
                if isinstance(part, Exception):
                    raise part
                if isinstance(part, bytes):
                    yield part
                else:
                    await anyio.sleep(part)

        async def aclose(self):
            self.closed = True

    class Scripted(library.AsyncBaseTransport):
        asked = 0
        bodies = []  # noqa: RUF012  # one instance each

        async def handle_async_request(self, request):
            self.asked += 1
            options, *parts = left.pop(0) if len(left) > 1 else left[0]
            self.bodies.append(Body(parts))
            return library.Response(**({"status_code": 200} | options), stream=self.bodies[-1])

    return Scripted()


def client_of(library, stack, *answers):
    """Return a client over a scripted transport with the stack around it, and the transport."""
    inner = scripted(library, *answers)
    return library.AsyncClient(transport=ResilientTransport(inner, stack), **PATIENT), inner


JSON = {"headers": {"content-type": "application/json"}}
BUSY = {"status_code": 429, "headers": {"content-type": "application/json", "retry-after": "7"}}


@httpx_and_httpx2
def test_hints_are_waited_for_on_both_loops(run, library):
    """A wrapped client runs on asyncio and on trio, and waits as it is asked to."""
    stack = quick()

    async def main():
        client, inner = client_of(library, stack, (BUSY, b"{}"), (JSON, b'{"choices', b'": []}'))
        start = current().now()
        async with client:
            answer = await client.post("http://x/v1/y", json={"model": "m"})
        assert answer.json() == {"choices": []}
        assert all(body.closed for body in inner.bodies)
        return inner.asked, current().now() - start

    asked, took = run(main)
    assert (asked, took) == (2, pytest.approx(7.0, abs=1e-3))


@httpx_and_httpx2
def test_a_stream_on_both_loops(run, library):
    """A stream is held while it is read and comes home at its end."""
    stack = presets.service(concurrency=1)
    asked = {"model": "m", "stream": True}

    async def main():
        client, _ = client_of(library, stack, ({"headers": SSE}, EVENT, 0.5, EVENT, DONE))
        async with client, client.stream("POST", "http://x/v1/y", json=asked) as answer:
            assert stack.statistics().in_flight == 1
            parts = [part async for part in answer.aiter_raw()]
        assert parts == [EVENT, EVENT, DONE]
        assert at_rest(stack)

    run(main)
    assert stack.statistics().outcomes == {Kind.OK: 1}


@httpx_and_httpx2
def test_a_break_on_both_loops(run, library):
    """A stream that ends too early, breaks, or comes too late raises the library's own error."""
    stack = Stack(Deadline(10.0), Retry(), ErrorClassifier())
    lost = library.ReadError("lost")
    asked = {"model": "m", "stream": True}
    cases = [
        ((EVENT,), library.RemoteProtocolError, Kind.TRANSIENT),
        ((), library.RemoteProtocolError, Kind.TRANSIENT),
        ((b": wait\n\n",), library.RemoteProtocolError, Kind.TRANSIENT),
        ((EVENT, lost), library.ReadError, Kind.TRANSIENT),
        ((EVENT, 60.0, DONE), library.ReadTimeout, Kind.TIMEOUT),
    ]

    async def main():
        for parts, error, _ in cases:
            client, _ = client_of(library, stack, ({"headers": SSE}, *parts))
            async with client:
                with pytest.raises(error):
                    await client.post("http://x/v1/y", json=asked)
        assert at_rest(stack)

    run(main)
    kinds = [kind for _, _, kind in cases]
    assert stack.statistics().outcomes == {kind: kinds.count(kind) for kind in kinds}


@httpx_and_httpx2
def test_the_deadline_holds_between_parts(run, library):
    """Parts that keep coming, each in time, still end at the call's deadline."""
    stack = Stack(Deadline(10.0), ErrorClassifier())
    parts = [EVENT, 1.0] * 60

    async def main():
        client, _ = client_of(library, stack, ({"headers": SSE}, *parts))
        start = current().now()
        async with client:
            with pytest.raises(library.ReadTimeout, match="deadline passed while its body"):
                await client.post("http://x/v1/y", json={"stream": True})
        return current().now() - start

    assert run(main) == pytest.approx(10.0, abs=1e-3)


@httpx_and_httpx2
def test_an_attempts_timeout_covers_a_body_that_is_judged(run, library):
    """A JSON body that stalls is part of its attempt, which is cut off and tried again."""
    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(), AttemptTimeout(5.0))

    async def main():
        answers = (JSON, b'{"choi', 60.0, b'ces": []}'), (JSON, b'{"choices": []}')
        client, inner = client_of(library, stack, *answers)
        start = current().now()
        async with client:
            await client.post("http://x/v1/y", json={"model": "m"})
            took = current().now() - start
            await anyio.sleep(1)
        assert all(body.closed for body in inner.bodies)
        return inner.asked, took

    assert run(main) == (2, pytest.approx(5.0, abs=1e-3))


@httpx_and_httpx2
def test_a_body_that_breaks_inside_the_attempt_is_tried_again(run, library):
    """An error while a judged body is read is the attempt's: nothing of it reaches the caller."""
    stack = quick()

    async def main():
        answers = (JSON, b'{"choi', library.ReadError("lost")), (JSON, b'{"choices": []}')
        client, inner = client_of(library, stack, *answers)
        async with client:
            answer = await client.post("http://x/v1/y", json={"model": "m"})
            await anyio.sleep(1)
        assert answer.json() == {"choices": []}
        assert all(body.closed for body in inner.bodies)
        return inner.asked

    assert run(main) == 2


@httpx_and_httpx2
def test_closing_unread_on_both_loops(run, library):
    """A response closed unread gives everything back, and its body is closed too."""
    stack = presets.service(max_attempts=1)
    big = {"status_code": 500, "headers": {"content-type": "text/plain"}}

    async def main():
        for answer in (({"headers": SSE}, EVENT, DONE), (big, *[b"x" * 50_000] * 5)):
            client, inner = client_of(library, stack, answer)
            async with client, client.stream("GET", "http://x/v1/y"):
                assert stack.statistics().in_flight == 1
            assert at_rest(stack)
            assert inner.bodies[0].closed
            gc.collect()

    run(main)


@httpx_and_httpx2
def test_a_large_error_is_closed_before_a_retry(run, library):
    """An error too large to read gives its connection back before the next attempt."""
    stack = presets.service()
    big = {"status_code": 502, "headers": {"content-type": "text/plain"}}

    async def main():
        answers = (big, *[b"x" * 50_000] * 5), (JSON, b"{}")
        client, inner = client_of(library, stack, *answers)
        async with client:
            await client.get("http://x/v1/y")
        assert [body.closed for body in inner.bodies] == [True, True]
        assert at_rest(stack)

    run(main)


@httpx_and_httpx2
def test_a_stream_that_is_dropped_at_the_very_end(run, library):
    """A stream left open when the program ends does no harm to the loop."""
    stack = presets.service(requests_per_minute=60)

    async def main():
        client, _ = client_of(library, stack, ({"headers": SSE}, EVENT, DONE))
        request = client.build_request("POST", "http://x/v1/y", json={"stream": True})
        answer = await client.send(request, stream=True)
        del request
        return answer.status_code

    assert run(main) == 200
    gc.collect()
    assert at_rest(stack)


@httpx_and_httpx2
def test_a_stream_that_is_dropped_on_both_loops(run, library):
    """A stream dropped unread is closed by a finaliser, its body with it."""
    stack = presets.service(requests_per_minute=60)

    async def main():
        client, inner = client_of(library, stack, ({"headers": SSE}, EVENT, DONE))
        request = client.build_request("POST", "http://x/v1/y", json={"stream": True})
        await client.send(request, stream=True)
        gc.collect()
        await anyio.sleep(1)
        assert at_rest(stack)
        assert inner.bodies[0].closed

    run(main)


@httpx_and_httpx2
def test_a_user_who_is_cancelled_on_both_loops(run, library):
    """A caller who leaves while the body comes gives everything back."""
    stack = presets.service()

    async def main():
        client, _ = client_of(library, stack, ({"headers": SSE}, EVENT, 60.0, DONE))
        async with client:
            with anyio.move_on_after(1.0):
                await client.post("http://x/v1/y", json={"stream": True})
            await anyio.sleep(1)
        assert at_rest(stack)

    run(main)
    assert stack.statistics().outcomes == {Kind.CANCELLED: 1}
