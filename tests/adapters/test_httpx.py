"""httpx and httpx2 clients: settings kept, bodies judged, open ones held, connections reused."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from askers import httpx_and_httpx2
from fakes import Remember
from loopback import (
    ANSWER,
    ASK,
    COMPLETED,
    COMPLETION,
    ERROR,
    KEY,
    against,
    at_rest,
    head,
    in_turn,
    lose,
    over_http,
    quick,
    response,
)

from resilient_infe import Kind, ResilientTransport, presets, wrap
from resilient_infe.testing import Faults

pytestmark = [pytest.mark.network, httpx_and_httpx2]


def test_a_client_keeps_its_settings(library):
    """The caller's headers, cookies, hooks, base URL, auth and parameters work as before."""
    hooked = []

    async def hook(request):
        hooked.append(request.headers["x-mine"])

    async def test(url):
        async with library.AsyncClient(
            headers={"x-mine": "yes"},
            cookies={"flavour": "oat"},
            params={"v": "2"},
            auth=("me", "pw"),
            base_url=url,
            event_hooks={"request": [hook], "response": [hook_response]},
        ) as client:
            answer = await wrap(client, quick()).post("/chat/completions", json=ASK)
            assert client.cookies["set"] == "1"  # shared with the original
            assert answer.json() == COMPLETION

    async def hook_response(answer):
        hooked.append(answer.status_code)

    server = against(in_turn(ERROR, response(200, COMPLETION, set_cookie="set=1")), test)
    assert hooked == ["yes", 200]
    for asked in server.asked:
        assert asked.path == "/v1/chat/completions?v=2"
        assert (asked.headers["cookie"], asked.headers["authorization"][:5]) == (
            "flavour=oat",
            "Basic",
        )
    assert len(server.asked) == 2


def test_mounts_and_proxies_are_kept(library):
    """A mounted transport, and a proxy, are wrapped like the client's own transport."""
    mounted = []

    class Mounted(library.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            mounted.append(str(request.url))
            return await super().handle_async_request(request)

    async def test(url):
        mounts = {"all://127.0.0.1": Mounted(), "all://never": None}
        async with library.AsyncClient(mounts=mounts) as client:
            await wrap(client, quick()).post(f"{url}/x", json=ASK)
        async with library.AsyncClient(proxy=url.removesuffix("/v1"), trust_env=False) as client:
            await wrap(client, quick()).post("http://example.invalid/v1/y", json=ASK)

    server = against(ERROR, test)
    assert len(mounted) == 3
    assert [asked.path for asked in server.asked[3:]] == ["http://example.invalid/v1/y"] * 3


def test_the_real_last_response_comes_back(library):
    """When all attempts fail the last response is returned, readable, with a note beside it."""

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)
            assert (answer.status_code, answer.headers["x-request-id"]) == (502, "third")
            assert answer.json() == {"n": 3}
            assert "3 attempts" in answer.extensions["resilient_infe"]
            assert "first, second, third" in answer.extensions["resilient_infe"]
            with pytest.raises(library.HTTPStatusError):
                answer.raise_for_status()

    names = enumerate(["first", "second", "third"], start=1)
    against(in_turn(*(response(502, {"n": n}, x_request_id=name) for n, name in names)), test)


def test_the_real_last_exception_comes_back(library):
    """When no response comes the client's own exception is raised, with a note of the attempts."""

    async def test(url):
        async with library.AsyncClient() as client:
            with pytest.raises(library.RemoteProtocolError) as caught:
                await wrap(client, quick()).post(f"{url}/x", json=ASK)
            assert "3 attempts" in caught.value.__notes__[0]
            assert caught.value.request.url == f"{url}/x"

    assert len(against(lose, test).asked) == 3


def test_a_body_that_cannot_be_replayed_is_sent_once(library):
    """An iterator as a body is not sent again, empty; the note says why."""

    async def body():
        yield b'{"model": '
        yield b'"infe-pulse", "messages": []}'

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, quick()).post(f"{url}/chat/completions", content=body())
            assert "read only once" in answer.extensions["resilient_infe"]

    [asked] = against(ERROR, test).asked
    assert asked.body == b'{"model": "infe-pulse", "messages": []}'


@pytest.mark.parametrize("broken", ["cut", "reset", "garbage", "html"])
def test_a_broken_body_is_tried_again(library, broken):
    """The body is part of the attempt: one that breaks, or is a gateway's page, is tried again."""

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, quick(max_attempts=40))
            for _ in range(5):
                answer = await wrapped.post(f"{url}/chat/completions", json=ASK)
                assert answer.json()["choices"]

    assert over_http(test, faults=Faults(breaks={broken: 0.6}), seed=2).books.sends > 5


def test_a_redirect_is_followed_with_its_body(library):
    """A redirect is httpx's to follow; the request it leads to is tried again, body and all."""
    stack = quick()

    async def test(url):
        async with library.AsyncClient(follow_redirects=True) as client:
            answer = await wrap(client, stack).post(f"{url}/chat/completions", json=ASK)
            assert (answer.url.path, answer.json()) == ("/v1/next", COMPLETION)

    there = response(307, b"", "text/plain", location="/v1/next")
    server = against(in_turn(there, ERROR, lose, ANSWER), test)
    assert len({asked.body for asked in server.asked}) == 1
    assert [asked.path for asked in server.asked[1:]] == ["/v1/next"] * 3
    assert stack.statistics().outcomes == {Kind.OK: 2}


def test_credentials_in_a_url_are_shown_to_nobody(library):
    """A user and a password in the URL are sent, and are in no partition."""
    seen = Remember()

    async def test(url):
        secret = url.replace("http://", f"http://me:{KEY}@")
        async with library.AsyncClient() as client:
            await wrap(client, quick(listeners=[seen])).get(f"{secret}/x?key={KEY}")

    [asked] = against(ANSWER, test).asked
    assert asked.headers["authorization"].startswith("Basic ")
    assert KEY not in repr(seen.events)


def test_an_encoded_answer_is_judged_decoded(library):
    """A gzip-encoded error inside a 200 is seen, and the caller decodes it as ever."""
    packed = gzip.compress(b'{"error": {"code": "api_error"}}')
    whole = gzip.compress(COMPLETED)

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)
            assert answer.json() == COMPLETION

    answers = (response(200, each, content_encoding="gzip") for each in (packed, whole))
    assert len(against(in_turn(*answers), test).asked) == 2


def test_a_bomb_is_not_unpacked_to_be_judged(library, monkeypatch):
    """It is refused, and takes no more memory than the bound on what is judged."""
    monkeypatch.setattr("resilient_infe.adapters.httpx.transport.LONGEST_DECODED", 1024 * 1024)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = (packer.compress(bytes(1024 * 1024)) + packer.flush(zlib.Z_FULL_FLUSH)) * 128

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, quick())
            tracemalloc.start()
            try:
                with pytest.raises(library.DecodingError, match="like a decompression bomb"):
                    await wrapped.get(f"{url}/x")
                assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
            finally:
                tracemalloc.stop()

    against(response(200, bomb, content_encoding="deflate"), test)


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-unknown", "gzip, gzip"])
def test_a_lie_about_the_encoding_is_the_callers_to_see(library, encoding):
    """A body that is not what its encoding says is the client's own error, and nothing hangs."""
    stack = quick()

    async def test(url):
        async with library.AsyncClient() as client:
            try:
                answer = await wrap(client, stack).post(f"{url}/x", json=ASK)
                assert answer.content == COMPLETED
            except library.DecodingError:
                pass

    against(response(200, COMPLETED, content_encoding=encoding), test)
    assert stack.statistics().in_flight == 0


def test_a_large_answer_is_handed_over_open(library):
    """An answer over the bound is not buffered, and arrives whole all the same."""
    stack = presets.service()

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, stack).post(f"{url}/embeddings", json=ASK)
            assert len(answer.json()["data"]) == 6_000_000
            assert at_rest(stack)

    against(response(200, {"data": "x" * 6_000_000}), test)


def test_a_stream_of_json_values_is_not_buffered(library):
    """Lines of x-ndjson are delivered as they come, not at the end."""
    more = asyncio.Event()

    async def respond(_, writer):
        writer.write(head(200, "application/x-ndjson") + b'{"n": 1}\n')
        await more.wait()
        writer.write(b'{"n": 2}\n')
        writer.close()

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, presets.service())
            async with wrapped.stream("POST", f"{url}/x", json=ASK) as answer:
                lines = []
                async for line in answer.aiter_lines():
                    lines.append(line)
                    more.set()
        assert lines == ['{"n": 1}', '{"n": 2}']

    against(respond, test)


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_without_a_body_is_an_answer(library, method, status):
    """HEAD has no body whatever its headers say; 204 and its like have none either."""
    stack = quick()
    empty = method == "HEAD" or status in {204, 205, 304}
    size = b"" if empty else b"{}"

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, stack).request(method, f"{url}/x")
            assert answer.status_code == status

    assert len(against(response(status, size, length=2 if method == "HEAD" else None), test).asked)
    wanted = {404: Kind.NOT_FOUND}.get(status, Kind.OK)
    assert stack.statistics().outcomes == {wanted: 1}
    assert stack.statistics().attempts == 1


def test_a_transport_that_reads_the_response_is_fine(library):
    """Under a transport that logs or caches bodies, the response is passed on as it is."""

    class Reading(library.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            answer = await super().handle_async_request(request)
            await answer.aread()
            return answer

    async def test(url):
        async with library.AsyncClient(transport=Reading()) as client:
            answer = await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)
            assert answer.json()["choices"]

    assert over_http(test, faults=Faults(script=[502])).books.sends == 2


def test_a_transport_with_a_response_class_of_its_own_is_fine(library):
    """A transport of the user's may return a subclass of the library's response."""

    class Mine(library.Response):
        pass

    class Own(library.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            answer = await super().handle_async_request(request)
            return Mine(answer.status_code, headers=answer.headers, stream=answer.stream)

    async def test(url):
        async with library.AsyncClient(transport=ResilientTransport(Own(), quick())) as client:
            answer = await client.post(f"{url}/chat/completions", json=ASK)
            assert (type(answer), answer.json()) == (Mine, COMPLETION)

    assert len(against(in_turn(ERROR, ANSWER), test).asked) == 2
