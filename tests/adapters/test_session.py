"""`wrap(ClientSession)`: what the caller set up keeps working, and either session may go."""

from __future__ import annotations

import asyncio
import gc
import warnings

import aiohttp
import anyio
import pytest
from drivers import given, with_session, wrapped
from fakes import Remember
from loopback import (
    ANSWER,
    ASK,
    COMPLETION,
    ERROR,
    KEY,
    RawServer,
    against,
    at_rest,
    collected,
    for_two,
    hang,
    in_turn,
    quick,
    response,
    served_by,
    soon,
    spent,
)

from resilient_infe import (
    AttemptTimeout,
    ErrorClassifier,
    Kind,
    Retry,
    Stack,
    presets,
    stack_middleware,
    wrap,
)

pytestmark = pytest.mark.network


def test_cookies_and_headers_are_kept():
    """Cookies, headers, auth and the base URL of the original are used, cookies in both ways."""

    async def test(url):
        async with aiohttp.ClientSession(
            f"{url}/",
            headers={"x-mine": "yes"},
            cookies={"flavour": "oat"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as session:
            wrapped = wrap(session, quick())
            async with wrapped.post("chat/completions", json=ASK) as answer:
                assert answer.status == 200
            assert {cookie.key for cookie in session.cookie_jar} == {"flavour", "set"}
            async with wrapped.get("models"):
                pass

    answers = ERROR, response(200, COMPLETION, set_cookie="set=1; path=/"), ANSWER
    [first, again, second] = against(in_turn(*answers), test).asked
    assert (first.path, second.path) == ("/v1/chat/completions", "/v1/models")
    assert {each.headers["x-mine"] for each in (first, again, second)} == {"yes"}
    assert (first.headers["cookie"], again.headers["cookie"]) == ("flavour=oat", "flavour=oat")
    assert "set=1" in second.headers["cookie"]


def test_credentials_in_a_url_are_shown_to_nobody():
    """A user and a password in the URL are sent, and are in no partition."""
    seen = Remember()

    async def test(session, url):
        secret = url.replace("http://", f"http://me:{KEY}@")
        async with session.get(f"{secret}/x?key={KEY}") as answer:
            assert answer.status == 200

    [asked] = with_session(ANSWER, test, quick(listeners=[seen])).asked
    assert asked.headers["authorization"].startswith("Basic ")
    assert KEY not in repr(seen.events)


def test_traces_are_kept():
    """A trace config sees the request as one, with all its parts."""
    traced = []

    async def note(session, context, params):
        traced.append(type(params).__name__)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    trace.on_request_end.append(note)
    trace.on_response_chunk_received.append(note)

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            await answer.json()

    with_session(in_turn(ERROR, ANSWER), test, trace_configs=[trace])
    assert traced == [
        "TraceRequestStartParams",
        "TraceRequestEndParams",
        "TraceResponseChunkReceivedParams",
    ]


def test_middlewares_of_the_original_are_outside():
    """The session's own middlewares see a call once, however often the stack sends it."""
    seen = []

    async def mine(request, handler):
        request.headers["x-mine"] = "yes"
        answer = await handler(request)
        seen.append(answer.status)
        return answer

    async def test(session, url):
        async with session.post(url, json=ASK):
            pass

    server = with_session(in_turn(ERROR, ERROR, ANSWER), test, middlewares=(mine,))
    assert seen == [200]
    assert {asked.headers["x-mine"] for asked in server.asked} == {"yes"}


@pytest.mark.parametrize("how", ["session", "request", "function"])
def test_raise_for_status_works(how):
    """`raise_for_status` raises aiohttp's own error for the last response, and nothing stays."""
    stack = presets.service(max_attempts=1)

    async def check(answer):
        answer.raise_for_status()

    setting = {"raise_for_status": check if how == "function" else True}

    async def test(session, url):
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await session.post(url, json=ASK, **({} if how == "session" else setting))
        assert caught.value.status == 500
        del caught
        assert await collected(lambda: at_rest(stack))

    big = response(500, b"x" * 100_000, "text/plain")
    for answer in (ERROR, big):
        with_session(answer, test, stack, **(setting if how == "session" else {}))


def test_aiohttps_default_total_timeout_is_lifted():
    """Five minutes for everything, waits included, would cut a batch: only a set one is kept."""

    async def main():
        async with aiohttp.ClientSession() as session:
            assert session.timeout.total == 300
            assert wrap(session, quick()).timeout.total is None
            assert wrap(session, quick()).timeout.sock_connect == 30
            assert session.timeout.total == 300
        mine = aiohttp.ClientTimeout(total=42, sock_read=7)
        async with aiohttp.ClientSession(timeout=mine) as session:
            assert wrap(session, quick()).timeout == mine

    asyncio.run(main())


def test_closing_either_closes_the_pool():
    """The connector is shared: closing the copy closes the original, and the other way round."""

    async def main():
        for first, second in ((0, 1), (1, 0)):
            session = aiohttp.ClientSession()
            pair = session, wrap(session, quick())
            await pair[first].close()
            assert (pair[first].closed, pair[second].closed) == (True, True)
            with pytest.raises(RuntimeError, match="closed"):
                await pair[second].get("http://127.0.0.1:9/")
        async with wrap(aiohttp.ClientSession(), quick()) as wrapped:
            assert not wrapped.closed
        assert wrapped.closed

    asyncio.run(main())


@pytest.mark.parametrize("closer", [0, 1, 2], ids=["original", "copy", "other copy"])
def test_who_closes_a_session_is_no_fault_of_the_server(closer):
    """Calls that a closing cuts short are cancelled: no circuit opens for the stack's others.

    Nor do those that were not sent spend the limits.
    """
    stack = for_two()
    server, raised = RawServer(hang), []

    async def test(url):
        session = aiohttp.ClientSession()
        each = session, wrap(session, stack), wrap(session, stack)

        async def ask():
            with pytest.raises((aiohttp.ClientError, RuntimeError)) as caught:
                await each[1].post(url, json=ASK)
            raised.append(caught.value)

        async with aiohttp.ClientSession() as other, anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask)
            assert await soon(lambda: len(server.asked) == 2)
            await each[closer].close()
            server.answer = ANSWER
            async with wrap(other, stack).get(url) as answer:
                assert answer.status == 200

    served_by(server, test)
    assert (len(raised), len(server.asked)) == (8, 3)
    told = stack.statistics()
    assert told.outcomes == {Kind.CANCELLED: 8, Kind.OK: 1}
    assert spent(stack) == 3


BOUNDS = {
    "the attempt's": (AttemptTimeout(0.1), None),
    "aiohttp's": (AttemptTimeout(5.0), aiohttp.ClientTimeout(total=0.1)),
}


@pytest.mark.parametrize(("timeout", "total"), BOUNDS.values(), ids=BOUNDS)
def test_a_session_closed_while_an_answer_is_read(timeout, total):
    """Its reader is left hanging until a bound ends it, which counts as cancelled."""
    stack, begun = for_two(timeout), []

    async def heads(request, handler):
        response = await handler(request)
        begun.append(response)
        return response

    async def test(url):
        inside = (stack_middleware(stack), heads)
        session = aiohttp.ClientSession(timeout=total, middlewares=inside)

        async def ask():
            with pytest.raises(TimeoutError):
                await session.post(url, json=ASK)

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(ask)
            assert await soon(lambda: len(begun) == 2)
            await session.close()
        async with aiohttp.ClientSession() as other:
            server.answer = ANSWER
            async with wrap(other, stack).get(url) as answer:
                assert answer.status == 200

    server = RawServer(response(200, b"{", length=99))
    served_by(server, test)
    assert stack.statistics().outcomes == {Kind.CANCELLED: 2, Kind.OK: 1}


def test_a_body_that_is_a_view_of_memory_is_sent():
    """It cannot be looked at, and is sent as without the stack."""

    async def test(url):
        async with (
            wrap(aiohttp.ClientSession(), quick()) as session,
            session.post(url, data=memoryview(b"abc")) as answer,
        ):
            assert answer.status == 200

    [asked] = against(ANSWER, test).asked
    assert asked.body == b"abc"


def test_dropping_the_copy_is_silent():
    """A copy that is forgotten complains of nothing and leaves the original alone."""

    async def test(url):
        async with aiohttp.ClientSession() as session:
            async with wrap(session, quick()).get(url) as answer:
                assert await answer.json() == COMPLETION
            del answer
            gc.collect()
            async with session.get(url) as answer:
                assert answer.status == 200

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        against(ANSWER, test)
        gc.collect()


def test_the_original_may_be_forgotten():
    """`wrap(ClientSession(), stack)` works although nobody keeps the original."""

    async def test(url):
        wrapped = wrap(aiohttp.ClientSession(), quick())
        gc.collect()
        async with wrapped.get(url) as answer:
            assert answer.status == 200
        await wrapped.close()

    against(ANSWER, test)
    gc.collect()


def test_a_session_that_nobody_closes_is_still_told_of():
    """The original's own complaint is kept: a pool that is never closed is a leak."""

    def forget():
        wrap(aiohttp.ClientSession(), quick())
        gc.collect()

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with pytest.warns(ResourceWarning, match="Unclosed client session"):
            forget()

    asyncio.run(main())


def test_a_session_of_ones_own_class_is_kept():
    """A subclass of the session stays one, with its methods."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Mine(aiohttp.ClientSession):
            def name(self):
                return "mine"

    async def main():
        async with Mine() as session:
            wrapped = wrap(session, quick())
            assert isinstance(wrapped, Mine)
            assert wrapped.name() == "mine"
            assert type(wrapped).__name__ == "Mine"

    asyncio.run(main())


async def closes_at_the_second(reader, writer):
    """Answer one request with keep-alive, and close the connection at the next."""
    for number in (1, 2):
        while (await reader.readline()) not in (b"\r\n", b""):
            pass
        if number == 1:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("way", [wrapped, given])
@pytest.mark.parametrize(
    "layers", [(), (Retry(1),), (Retry(2, uniform=lambda: 0.0),)], ids=["none", "1", "2"]
)
def test_a_stale_connection_costs_no_request(way, layers):
    """A GET on a kept connection that was closed is sent again by aiohttp, or by the stack."""
    stack = Stack(*layers, ErrorClassifier())

    async def main():
        server = await asyncio.start_server(closes_at_the_second, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server, way(stack) as session:
            for _ in range(4):
                async with session.get(url) as answer:
                    assert await answer.read() == b"{}"

    asyncio.run(main())


@pytest.mark.network
@pytest.mark.parametrize("method", ["get", "head", "post"])
@pytest.mark.parametrize("answer", [b"204 No Content", b"200 OK", b"304 Not Modified"])
def test_an_answer_without_a_body_is_read_as_empty(answer, method):
    """A reader of no body knows less than another, and is read all the same."""
    raw = b"HTTP/1.1 %b\r\n%b\r\n" % (answer, b"content-length: 0\r\n" * (answer[:1] == b"2"))

    async def test(url):
        async with aiohttp.ClientSession() as session:
            response = await getattr(wrap(session, for_two()), method)(url)
            assert await response.read() == b""

    against(raw, test)
