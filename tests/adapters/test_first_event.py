"""The attempt of a stream ends with its first event: what fails before it is tried again."""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import anyio
import pytest
from askers import httpx_and_httpx2
from fakes import Remember
from loopback import ASK, KEY, against, at_rest, head, in_turn, quick, response
from streamers import STREAMERS, WHOLE, asked_for, every_streamer, word

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    ErrorClassifier,
    ExponentialBackoff,
    InfeTransport,
    Kind,
    ResilientTransport,
    Retry,
    Stack,
    errors,
    wrap,
)
from resilient_infe.adapters.http.first_event import LONGEST_PREAMBLE, read_first_event
from resilient_infe.adapters.http.stream_watch import StreamWatch
from resilient_infe.aio import current
from resilient_infe.retry.schedule import KindRule

ALL = [f"w{number}" for number in range(6)]
COMMENT = b": the model is thinking\n\n"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
NO_CREDIT = {"error": {"message": "Insufficient credits", "code": 402}}
OVERLOADED = {"error": {"message": "Overloaded", "type": "overloaded_error", "code": None}}


def event(content):
    """Return one event of a stream."""
    text = content if isinstance(content, str) else json.dumps(content)
    return f"data: {text}\n\n".encode()


def stream(*parts, hangs=False, **headers):
    """Return an answer that streams each part by itself, and then ends or says no more."""

    async def answer(_, writer):
        writer.write(head(200, transfer_encoding="chunked", **headers))
        for part in parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.002)  # noqa: TID251  # each part arrives alone
        if hangs:
            await asyncio.Event().wait()
        writer.write(b"0\r\n\r\n")

    return answer


async def silent(_, writer):
    """Answer nothing, not even a head."""
    await asyncio.Event().wait()


async def reset(_, writer):
    """Begin a stream, and lose the connection before its first event."""
    writer.write(head(200, transfer_encoding="chunked") + b"5\r\n: hi\n\r\n")
    await writer.drain()
    writer.transport.abort()


class PatientAtLast(AttemptTimeout):
    """Gives the third attempt, which succeeds, all the time that a busy machine may need."""

    def enter(self, call):
        """Set the bounds of an attempt."""
        held = super().enter(call)
        if call.attempt == 3:
            call.state.first_chunk = 15.0
        return held


def three(**timeout):
    """Return a stack of one slot and three attempts that do not wait."""
    bounds = PatientAtLast(**({"seconds": 20.0, "first_chunk": 10.0} | timeout))
    at_once = KindRule(ExponentialBackoff(0.001, 1.0, 0.001))
    retry = Retry(3, rules={Kind.RATE_LIMITED: at_once}, uniform=lambda: 0.0)
    return Stack(retry, ConcurrencyLimiter(1), ErrorClassifier(), bounds)


async def words_of(opened):
    """Return the words of a stream."""
    return [each async for each in opened.words]


async def drained(parts):
    """Return what a stream yielded and the error that it ended with, or None."""
    got = []
    try:
        async for each in parts:
            got.append(each)  # noqa: PERF401  # what came before an error counts
    except Exception as error:
        return got, error
    return got, None


FAILED = {
    "no head": (silent, Kind.TIMEOUT),
    "no event": (stream(hangs=True), Kind.TIMEOUT),
    "only comments": (stream(COMMENT, COMMENT, PING, hangs=True), Kind.TIMEOUT),
    "half an event": (stream(word(0)[:9], hangs=True), Kind.TIMEOUT),
    "an error": (stream(event(OVERLOADED)), Kind.OVERLOADED),
    "an error after a comment": (stream(COMMENT, event(OVERLOADED), hangs=True), Kind.OVERLOADED),
    "an event that is called an error": (
        stream(b'event: error\ndata: {"message": "busy"}\n\n'),
        Kind.TRANSIENT,
    ),
    "a limit": (stream(event({"error": {"code": 429, "message": "slow"}})), Kind.RATE_LIMITED),
    "nothing": (stream(), Kind.TRANSIENT),
    "nothing but a comment": (stream(COMMENT), Kind.TRANSIENT),
    "a broken connection": (reset, Kind.TRANSIENT),
}


@every_streamer
@pytest.mark.parametrize(("bad", "kind"), FAILED.values(), ids=FAILED)
@pytest.mark.network
def test_what_fails_before_the_first_event_is_tried_again(streamer, bad, kind):
    """Silence, an error and a break are verdicts; the next attempt's stream arrives whole."""
    seen = Remember()
    stack = Stack(*three(first_chunk=0.1 if kind is Kind.TIMEOUT else 5.0).layers, listeners=[seen])

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("whole")
            assert await words_of(opened) == ALL
            assert at_rest(stack)

    server = against(in_turn(bad, bad, stream(COMMENT, *WHOLE)), test)
    assert len(server.asked) == 3
    assert [each.kind for each in seen.named("attempt.finished")] == [kind, kind, Kind.OK]


@pytest.mark.parametrize(("bad", "kind"), FAILED.values(), ids=FAILED)
@pytest.mark.network
def test_our_own_transport_tries_again_too(bad, kind):
    """`InfeTransport` returns the stream at its first event, and raises what came before it."""
    seen = Remember()
    stack = Stack(*three(first_chunk=0.1 if kind is Kind.TIMEOUT else 5.0).layers, listeners=[seen])

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            opened = await stack.around(transport.stream)(ASK)
            assert len([chunk async for chunk in opened]) == 8
            assert at_rest(stack)

    server = against(in_turn(bad, bad, stream(COMMENT, *WHOLE)), test)
    assert len(server.asked) == 3
    assert [each.kind for each in seen.named("attempt.finished")] == [kind, kind, Kind.OK]


@every_streamer
@pytest.mark.network
def test_an_error_after_the_first_event_is_not_tried_again(streamer):
    """Even if both came at once: the caller gets the first event, then the error."""
    stack = quick()

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("whole")
            words, error = await drained(opened.words)
            assert words == ["w0"]
            assert error is None or "Overloaded" in str(error)
            await opened.close()

    server = against(stream(word(0) + event(OVERLOADED)), test)
    assert len(server.asked) == 1
    assert stack.statistics().outcomes == {Kind.OVERLOADED: 1}


@every_streamer
@pytest.mark.network
def test_a_long_error_that_is_labelled_a_stream_keeps_its_status(streamer):
    """An error with over 64 KiB of body is that error, though no event is in it."""
    long = response(503, b"<p>busy</p>" * 10_000, "text/event-stream")
    seen = Remember()
    stack = Stack(*three().layers, listeners=[seen])

    async def test(url):
        async with streamer(url, stack) as start:
            assert await words_of(await start("whole")) == ALL

    against(in_turn(long, stream(*WHOLE)), test)
    first, second = seen.named("attempt.finished")
    assert (first.status, second.kind) == (503, Kind.OK)


@every_streamer
@pytest.mark.network
def test_a_final_error_event_passes_through(streamer):
    """A 402 inside a stream is QUOTA: it is not tried again, and arrives as the server sent it."""
    stack = three()

    async def test(url):
        async with streamer(url, stack) as start:
            opened = await start("whole")
            words, error = await drained(opened.words)
            assert words == []
            assert error is None or "Insufficient credits" in str(error)
            await opened.close()
            assert at_rest(stack)

    server = against(stream(event(NO_CREDIT)), test)
    assert len(server.asked) == 1
    assert stack.statistics().outcomes == {Kind.QUOTA: 1}


@every_streamer
@pytest.mark.network
def test_an_error_in_place_of_a_stream_keeps_its_kind(streamer):
    """A server that announces events and sends a plain error: it is that error, and final."""
    stack = three()

    async def test(url):
        async with streamer(url, stack) as start:
            with pytest.raises(Exception, match=r"(?i)connection|in place of a stream"):
                await start("whole")
            assert at_rest(stack)

    server = against(stream(json.dumps(NO_CREDIT).encode()), test)
    assert len(server.asked) == 1
    assert stack.statistics().outcomes == {Kind.QUOTA: 1}


@pytest.mark.network
def test_an_error_in_place_of_our_own_stream_is_typed():
    """`InfeTransport` raises the error that it is, with the server's words."""
    stack = three()

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            with pytest.raises(errors.PaymentRequiredError, match="Insufficient credits"):
                await stack.around(transport.stream)(ASK)
            assert at_rest(stack)

    assert len(against(stream(json.dumps(NO_CREDIT).encode()), test).asked) == 1


@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
@pytest.mark.parametrize("headers", [{}, {"content_encoding": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.network
def test_every_byte_is_handed_on_once(name, headers):
    """What was read to find the first event is put back: comments, half a line, all of it."""
    raw = COMMENT * 3 + b"".join(WHOLE)
    sent = gzip.compress(raw) if headers else raw
    stack = three(first_chunk=10.0)

    async def test(url):
        body = asked_for("whole")
        if name == "aiohttp":
            async with (
                aiohttp.ClientSession() as session,
                wrap(session, stack).post(f"{url}/chat/completions", json=body) as answer,
            ):
                got = await answer.read()
        else:
            library = __import__(name)
            async with library.AsyncClient() as client:
                answer = await wrap(client, stack).post(f"{url}/chat/completions", json=body)
                got = answer.content
        assert got == raw
        assert at_rest(stack)

    against(stream(*(sent[i : i + 7] for i in range(0, len(sent), 7)), **headers), test)
    against(response(200, sent, "text/event-stream", **headers), test)


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
@pytest.mark.network
def test_an_encoding_that_is_not_watched_is_handed_on(name):
    """The first part of such a stream counts as its first event."""
    stack = three()

    async def test(url):
        async with STREAMERS[name](url, stack) as start:
            opened = await start("whole")
            assert stack.statistics().in_flight == 1
            await opened.close()

    against(stream(b"whatever", hangs=True, content_encoding="x-own"), test)


@every_streamer
@pytest.mark.parametrize("answer", [stream(event("[DONE]")), stream(COMMENT, event("[DONE]"))])
@pytest.mark.network
def test_a_stream_without_a_chunk_is_complete(streamer, answer):
    """Its ``[DONE]`` is an event, so it is neither waited for nor tried again."""
    stack = three()

    async def test(url):
        async with streamer(url, stack) as start:
            assert await words_of(await start("whole")) == []
            assert at_rest(stack)

    assert len(against(answer, test).asked) == 1
    assert stack.statistics().outcomes == {Kind.OK: 1}


@pytest.mark.network
def test_our_own_stream_without_a_chunk_is_complete():
    """`InfeStream` ends at once; an empty body is an error."""
    stack = quick(max_attempts=1)

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            send = stack.around(transport.stream)
            assert [chunk async for chunk in await send(ASK)] == []
            with pytest.raises(errors.StreamBroken, match="ended before its first event"):
                await send(ASK)
        assert at_rest(stack)

    against(in_turn(stream(event("[DONE]")), stream()), test)


@pytest.mark.network
def test_a_stream_through_our_transport_alone_is_bounded():
    """Without a stack the first event is bounded by a minute, and an error is raised as it is."""

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            with pytest.raises(errors.OverloadedError, match="Overloaded"):
                await transport.stream(ASK)

    against(stream(event(OVERLOADED)), test)


@pytest.mark.parametrize(
    ("content", "cls", "code"),
    [
        (NO_CREDIT, errors.PaymentRequiredError, "402"),
        (OVERLOADED, errors.OverloadedError, None),
        ({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, errors.RateLimitError,
         "rate_limit_exceeded"),
        ({"object": "error", "message": "bad", "code": 400}, errors.InvalidRequestError, "400"),
        ({"choices": [{"error": {"code": 502, "message": "x"}, "finish_reason": "error"}]},
         errors.UpstreamError, "502"),
        ({"error": f"out of luck, {KEY}"}, errors.UpstreamError, None),
    ],
)  # fmt: skip
@pytest.mark.network
def test_an_error_in_our_own_stream_is_typed(content, cls, code):
    """It keeps message, code and kind, with the key masked; what came before it stays valid."""
    stack = three()
    detail = content.get("error", content)

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            opened = await stack.around(transport.stream)(ASK)
            chunks, error = await drained(opened)
            assert (len(chunks), type(error), error.code) == (1, cls, code)
            assert isinstance(detail, str) or detail.get("message", "x") in str(error)
            assert "chunks before it are valid" in error.__notes__[0]
            assert KEY not in str(error)
            assert at_rest(stack)
            assert [chunk async for chunk in opened] == []

    assert len(against(stream(word(0), event(content)), test).asked) == 1
    assert Kind.OK not in stack.statistics().outcomes


@pytest.mark.network
def test_a_stream_that_is_no_answer_keeps_its_status():
    """A request for a stream that is answered with a plain error is tried again as before."""
    stack = three()

    async def test(url):
        async with STREAMERS["httpx"](url, stack) as start:
            assert await words_of(await start("whole")) == ALL

    assert len(against(in_turn(response(502, {}), stream(*WHOLE)), test).asked) == 2


# -- in virtual time, on both loops ----------------------------------------------------------------

SSE = {"content-type": "text/event-stream"}


def client_over(library, stack, *parts, turns=None):
    """Return a client whose server answers with a stream of parts and waits; each turn its own."""

    class Body(library.AsyncByteStream):
        def __init__(self, parts):
            self.parts = parts

        async def __aiter__(self):
            for part in self.parts:
                if isinstance(part, bytes):
                    yield part
                else:
                    await anyio.sleep(part)

    async def answer(_):
        own = parts if turns is None else next(turns)
        return library.Response(200, headers=SSE, stream=Body(own))

    inner = library.MockTransport(answer)
    return library.AsyncClient(transport=ResilientTransport(inner, stack), timeout=None)


@httpx_and_httpx2
@pytest.mark.parametrize(
    ("bounds", "ends"),
    [
        ({"seconds": 60.0, "first_chunk": 7.0}, 7.0),
        ({"seconds": 5.0, "first_chunk": 60.0}, 5.0),
        ({"seconds": 70.0, "first_chunk": None}, 70.0),
        ({"seconds": 600.0}, 60.0),
        ({"seconds": 60.0, "first_chunk": 30.0, "idle": 2.0}, 30.0),
    ],
)
def test_the_first_event_is_bounded(run, library, bounds, ends):
    """By `first_chunk` or by the attempt, whichever is less; silence counts only after it."""
    stack = Stack(ErrorClassifier(), AttemptTimeout(**bounds))

    async def main():
        async with client_over(library, stack, *[COMMENT, 1.0] * 1_000) as client:
            start = current().now()
            with pytest.raises(errors.AttemptTimedOut):
                await client.post("http://x/v1/y", json={"stream": True})
            return current().now() - start

    assert run(main) == pytest.approx(ends, abs=1e-3)
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}


@httpx_and_httpx2
def test_without_a_bound_of_its_own_it_is_a_minute(run, library):
    """A stack without `AttemptTimeout` does not wait for ever either."""
    stack = Stack(ErrorClassifier())

    async def main():
        async with client_over(library, stack, 1e6) as client:
            start = current().now()
            with pytest.raises(errors.AttemptTimedOut, match="first_chunk"):
                await client.post("http://x/v1/y", json={"stream": True})
            return current().now() - start

    assert run(main) == pytest.approx(60.0, abs=1e-3)


@httpx_and_httpx2
def test_events_that_were_not_asked_for_come_at_any_time(run, library):
    """A response whose request asks for no stream is handed over at its head, as it was."""
    stack = Stack(ErrorClassifier(), AttemptTimeout(5.0, idle=None))
    news = event({"price": 1})

    async def main():
        async with (
            client_over(library, stack, 90.0, news) as client,
            client.stream("GET", "http://x/v1/events") as answer,
        ):
            assert current().now() < 1.0
            return b"".join([part async for part in answer.aiter_raw()])

    assert run(main) == news


@httpx_and_httpx2
def test_a_caller_who_leaves_before_the_first_event(run, library):
    """It is CANCELLED, not timed out, and everything comes home."""
    stack = three()

    async def main():
        async with client_over(library, stack, 1e6) as client:
            with anyio.move_on_after(0.05):
                await client.post("http://x/v1/y", json={"stream": True})
            await anyio.sleep(1)
        assert at_rest(stack)

    run(main)
    assert stack.statistics().outcomes == {Kind.CANCELLED: 1}


@httpx_and_httpx2
def test_a_caller_may_leave_at_any_moment(run, library):
    """While the head, a comment, a retry or the rest is waited for: nothing stays taken."""
    retry = Retry(3, uniform=lambda: 0.5)
    bounds = AttemptTimeout(60.0, first_chunk=2.5)
    stack = Stack(retry, ConcurrencyLimiter(1), ErrorClassifier(), bounds)
    parts = (
        [1.0, COMMENT, 1.0, COMMENT, 1.0, word(0)],
        [1.0, event(OVERLOADED)],
        [1.0, *WHOLE[:4], 1.0, *WHOLE[4:]],
    )

    async def leave(client, after):
        with anyio.move_on_after(after):
            await client.post("http://x/v1/y", json={"stream": True})

    async def main():
        for step in range(1, 40):
            turns = iter(parts)
            async with client_over(library, stack, turns=turns) as client:
                await leave(client, step * 0.25)
                await anyio.sleep(1.0)
                assert at_rest(stack)

    run(main)
    assert set(stack.statistics().outcomes) == {Kind.CANCELLED, Kind.OK}


@pytest.mark.parametrize("first_chunk", [0, -1.0, float("nan")])
def test_a_bound_that_cannot_be_is_refused(first_chunk):
    """It is a number of seconds above 0."""
    with pytest.raises(errors.ConfigurationError, match="first_chunk"):
        AttemptTimeout(first_chunk=first_chunk)


def test_comments_without_end_do_not_fill_the_memory(run):
    """After a while the stream is handed over without an event."""
    watch, parts = StreamWatch("text/event-stream", expected=True), []

    async def read():
        return COMMENT * 100

    assert not run(lambda: read_first_event(read, watch, parts))
    assert LONGEST_PREAMBLE < sum(map(len, parts)) < 2 * LONGEST_PREAMBLE
    assert watch.awaits_event
