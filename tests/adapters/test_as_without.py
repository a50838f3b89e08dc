"""What a client did before it was wrapped, it does afterwards: answers that are no completions."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx
import httpx2
import openai
import pytest
from loopback import ASK, COMPLETED, KEY, against, at_rest, hang, head, in_turn, quick, response

from resilient_infe import Kind, presets, wrap
from resilient_infe.errors import ConfigurationError
from resilient_infe.testing import run_virtually

clients = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])

ANSWERS = {
    "text": {"text": "hello"},
    "png": {"content": b"\x89PNG", "headers": {"content-type": "image/png"}},
    "list": {"json": [1, 2]},
    "nothing": {"content": b"", "headers": {"content-type": "application/json"}},
    "a word of its own": {"json": {"error": "none"}},
}


@clients
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_another_kind_is_sent_for_once(library, answer):
    """Where no model was asked, anything is an answer, from a transport that fakes it too."""
    asked, stack = [], quick()

    def server(request):
        asked.append(request)
        return library.Response(200, **answer)

    async def main():
        async with library.AsyncClient(transport=library.MockTransport(server)) as client:
            return await wrap(client, stack).post("http://infe.example/v1/files", json={"a": 1})

    assert run_virtually(main).status_code == 200
    assert len(asked) == 1
    assert stack.statistics().outcomes == {Kind.OK: 1}


@clients
def test_a_completion_without_choices_from_a_fake_is_tried_again(library):
    """A transport that gives a whole response is judged as one over a connection."""
    answers = [
        {"text": "<html>"},
        {"json": {"error": {"code": "api_error"}}},
        {"json": {"choices": []}},
    ]

    def server(request):
        return library.Response(200, **answers.pop(0))

    async def main():
        async with library.AsyncClient(transport=library.MockTransport(server)) as client:
            return await wrap(client, quick()).post("http://infe.example/v1/x", json=ASK)

    answers[0]["headers"] = {"content-type": "text/html"}
    assert run_virtually(main).json() == {"choices": []}
    assert answers == []


@clients
def test_a_fake_that_says_nothing_has_answered(library):
    """A status alone, without a header, is what a test's transport gives: its status counts."""
    asked, stack = [], quick()

    def server(request):
        asked.append(request)
        return library.Response(200)

    async def main():
        async with library.AsyncClient(transport=library.MockTransport(server)) as client:
            return await wrap(client, stack).post("http://x.example/v1/chat/completions", json=ASK)

    assert run_virtually(main).status_code == 200
    assert len(asked) == 1
    assert stack.statistics().outcomes == {Kind.OK: 1}


@pytest.mark.network
@clients
def test_a_redirected_request_keeps_what_it_is(library):
    """After a 307 the model is known still, another try is made, and the hop is no failure."""
    stack = presets.service()
    moved = response(307, location="/v2/chat/completions")
    answer = in_turn(moved, response(502, b"{}"), response(200, COMPLETED))

    async def test(url):
        async with library.AsyncClient(follow_redirects=True) as client:
            resilient = wrap(client, stack)
            reply = await resilient.post(f"{url}/chat/completions", json=ASK)
            assert reply.json()["choices"]

    assert len(against(answer, test).asked) == 3
    seen = stack.statistics()
    assert seen.outcomes == {Kind.OK: 2}
    assert list(seen.slots) == ["infe-pulse"]
    assert at_rest(stack)


@pytest.mark.network
@clients
def test_a_form_with_a_file_is_sent_again(library):
    """A file in memory is rewound: an upload that meets an error is tried again, whole."""
    sent = []

    async def answer(asked, writer):
        sent.append(asked.body)
        writer.write(response(502 if len(sent) == 1 else 200, b"{}"))

    async def test(url):
        async with library.AsyncClient() as client:
            files = {"file": ("a.wav", b"RIFF" * 100)}
            reply = await wrap(client, quick()).post(f"{url}/audio", files=files)
            assert reply.status_code == 200

    against(answer, test)
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert b"RIFF" in sent[0]


@pytest.mark.network
def test_a_page_is_no_completion_for_an_sdk():
    """When every attempt ends at a gateway's page, the SDK raises instead of returning a text."""
    stack = quick()
    page = response(200, b"<html>portal</html>", "text/html")

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            with pytest.raises(openai.InternalServerError, match="without a usable body") as caught:
                await wrap(client, stack).chat.completions.create(**ASK)
            assert caught.value.code == "malformed_response"
            assert "3 attempts" in caught.value.__notes__[0]

    assert len(against(page, test).asked) == 3


@pytest.mark.network
def test_a_stream_that_is_left_gives_its_slot_back_at_once():
    """Leaving the loop is enough, with no garbage collector: four slots serve twenty readers."""
    stack = presets.service(concurrency=4, deadline=10.0)
    chunks = b"".join(b"5\r\ndata:\r\n" for _ in range(50))

    async def answer(asked, writer):
        writer.write(head(transfer_encoding="chunked") + chunks)
        await writer.drain()
        await hang(asked, writer)

    async def test(url):
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(limits=limits) as client:
            resilient = wrap(client, stack)

            async def glance():
                request = resilient.build_request("POST", f"{url}/x", json={})
                reply = await resilient.send(request, stream=True)
                async for _ in reply.aiter_raw():
                    break
                return reply.status_code

            glances = (glance() for _ in range(20))
            assert await asyncio.gather(*glances) == [200] * 20

    against(answer, test)


def test_a_class_that_is_only_called_alike_is_told():
    """A user's own AsyncAPIClient is no SDK's: that is a clear error."""

    class AsyncAPIClient:
        pass

    with pytest.raises(ConfigurationError, match=r"cannot wrap .*AsyncAPIClient: pass"):
        wrap(AsyncAPIClient(), quick())


@clients
def test_a_client_with_a_finaliser_keeps_its_methods(library):
    """The copy of a client that closes its pool when collected has its own methods still."""

    class Mine(library.AsyncClient):
        def __del__(self):
            raise AssertionError("the copy must not run it")

        def mine(self):
            return "mine"

    client = Mine()
    wrapped = wrap(client, quick())
    assert (wrapped.mine(), isinstance(wrapped, Mine)) == ("mine", True)
    del wrapped
    Mine.__del__ = lambda self: None


@clients
def test_an_unknown_version_of_the_library_is_told(library):
    """A client whose inner names have changed is an error that says what to do instead."""
    client = library.AsyncClient()
    del client._mounts
    with pytest.raises(ConfigurationError, match="ResilientTransport"):
        wrap(client, quick())


@pytest.mark.network
@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp"])
def test_a_redirect_whose_body_breaks_is_no_success(name):
    """A 302 that is cut off is tried again, and does not count as answered."""
    stack = quick()
    cut = response(302, b"{", length=9, location="/v1/y", connection="close")

    async def answer(asked, writer):
        writer.write(cut)
        writer.close()

    async def test(url):
        if name == "aiohttp":
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await wrap(session, stack).post(url, json=ASK, allow_redirects=False)
            return
        library = {"httpx": httpx, "httpx2": httpx2}[name]
        async with library.AsyncClient() as client:
            with pytest.raises(library.RemoteProtocolError):
                await wrap(client, stack).post(url, json=ASK)

    assert len(against(answer, test).asked) == 3
    assert stack.statistics().outcomes == {Kind.TRANSIENT: 1}
