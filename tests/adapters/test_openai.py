"""The OpenAI SDK, wrapped: what it offers keeps working, Azure's too."""

from __future__ import annotations

import base64
import json
import struct

import httpx2
import openai
import pytest
from drivers import REFUSAL, complete, with_sdk
from fakes import Remember
from loopback import (
    ANSWER,
    ASK,
    COMPLETION,
    ERROR,
    KEY,
    against,
    in_turn,
    over_http,
    quick,
    response,
)

from resilient_infe import Kind, presets, wrap
from resilient_infe.testing import Faults, InfeModel
from resilient_infe.testing.model import ModelRequest

pytestmark = pytest.mark.network


def test_the_sdk_is_wrapped_with_its_type():
    """The same SDK client comes back; chat, streaming and models work, and usage settles."""
    stack = presets.service(tokens_per_minute=6_000_000)

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            wrapped = wrap(client, stack)
            assert type(wrapped) is openai.AsyncOpenAI
            answer = await complete(wrapped)
            assert answer.usage.total_tokens > 0
            [allowance] = stack.statistics().allowances.values()
            assert allowance.outstanding == 0
            stream = await complete(wrapped, stream=True)
            assert [chunk async for chunk in stream]
            async with wrapped.chat.completions.stream(**ASK) as events:
                assert (await events.get_final_completion()).choices[0].message.content
            assert [model.id async for model in wrapped.models.list()]
            assert stack.statistics().in_flight == 0
            assert stack.statistics().outcomes == {Kind.OK: 4}

    assert over_http(test).books.answered == 3


def test_embeddings_and_raw_responses():
    """Embeddings, raw responses and a streaming response with its body are as ever."""
    vector = base64.b64encode(struct.pack("<2f", 0.5, 1.5)).decode()
    embedding = {"object": "list", "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1},
                 "data": [{"object": "embedding", "index": 0, "embedding": vector}]}  # fmt: skip
    stack = presets.service(tokens_per_minute=6e6)

    async def test(client):
        answer = await client.embeddings.create(model="e", input="hi")
        assert answer.data[0].embedding == [0.5, 1.5]
        raw = await client.chat.completions.with_raw_response.create(**ASK)
        assert raw.headers["x-request-id"] == "r1"
        assert raw.parse().choices[0].message.content == "hi"
        create = client.chat.completions.with_streaming_response.create
        async with create(**ASK) as opened:
            assert json.loads(await opened.read()) == COMPLETION
        assert stack.statistics().in_flight == 0

    answers = in_turn(response(200, embedding), response(200, COMPLETION, x_request_id="r1"))
    with_sdk(test, answers, stack)
    assert stack.statistics().outcomes == {Kind.OK: 3}


def test_what_a_caller_adds_reaches_the_server():
    """`extra_headers`, `extra_query`, `extra_body` and the client's own headers are sent."""

    async def test(client):
        more = {"extra_headers": {"x-mine": "1"}, "extra_query": {"q": "2"}}
        await complete(client, **more, extra_body={"top_k": 3})
        assert (await client.get("/thing", cast_to=object))["id"] == "c"

    options = {"default_headers": {"x-all": "4"}, "organization": "org"}
    [asked, plain] = with_sdk(test, **options).asked
    assert asked.path == "/v1/chat/completions?q=2"
    assert json.loads(asked.body) == ASK | {"top_k": 3}
    sent = {name: asked.headers[name] for name in ("x-mine", "x-all", "openai-organization")}
    assert sent == {"x-mine": "1", "x-all": "4", "openai-organization": "org"}
    assert (plain.method, plain.path) == ("GET", "/v1/thing")


def test_a_client_derived_with_another_http_client_keeps_the_stack():
    """`with_options(http_client=...)` of a wrapped client sends through the stack, once."""
    stack = quick()

    async def test(client):
        async with httpx2.AsyncClient(headers={"x-mine": "1"}) as http:
            derived = client.with_options(http_client=http)
            assert (await complete(derived)).id == "c"
            again = derived.with_options(http_client=derived._client, timeout=5)
            assert (await complete(again)).id == "c"

    server = with_sdk(test, in_turn(ERROR, ANSWER), stack)
    assert [asked.headers["x-mine"] for asked in server.asked] == ["1"] * 3
    assert stack.statistics().attempts == 3
    assert stack.statistics().outcomes == {Kind.OK: 2}


def test_strict_validation_is_kept():
    """A client that checks what it is answered still does when it is wrapped."""
    odd = response(200, COMPLETION | {"created": "yesterday"})

    async def test(client):
        with pytest.raises(openai.APIResponseValidationError):
            await complete(client)

    with_sdk(test, odd, _strict_response_validation=True)


def test_the_callers_http_client_is_kept():
    """Hooks, headers and a mounted proxy of the caller's own http client keep working."""
    hooked = []

    async def hook(request):
        hooked.append(request.url.path)

    async def test(url):
        proxy = httpx2.AsyncHTTPTransport(proxy=url.removesuffix("/v1"))
        http = httpx2.AsyncClient(
            headers={"x-mine": "yes"}, event_hooks={"request": [hook]}, mounts={"http://": proxy}
        )
        async with openai.AsyncOpenAI(
            api_key=KEY, base_url="http://example.invalid/v1", http_client=http
        ) as client:
            await complete(wrap(client, quick()))

    server = against(in_turn(response(502, REFUSAL), ANSWER), test)
    assert hooked == ["/v1/chat/completions"] * 2  # for each attempt, as by the SDK alone
    for asked in server.asked:
        assert asked.path == "http://example.invalid/v1/chat/completions"
        assert asked.headers["x-mine"] == "yes"
    assert len(server.asked) == 2


@pytest.mark.parametrize("ad", [False, True], ids=["key", "token"])
def test_azure(ad):
    """AsyncAzureOpenAI end to end: its paths, its version, its key, its errors, its type."""
    seen = Remember()
    stack = quick(listeners=[seen])
    token = "eyJh.bbb.ccc"

    async def provider():
        return token

    async def test(url):
        auth = {"azure_ad_token_provider": provider} if ad else {"api_key": KEY}
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=url.removesuffix("/v1"), api_version="2026-01-01", **auth
        ) as client:
            wrapped = wrap(client, stack)
            assert type(wrapped) is openai.AsyncAzureOpenAI
            assert (await complete(wrapped)).choices[0].message.content == "hi"
            with pytest.raises(openai.NotFoundError) as caught:
                await complete(wrapped.with_options(timeout=5), model="mine")
            assert "1 attempt" in caught.value.__notes__[0]

    answers = response(502, REFUSAL), ANSWER, response(404, REFUSAL)
    server = against(in_turn(*answers), test)
    paths = [asked.path.split("?") for asked in server.asked]
    wanted = ["/openai/deployments/infe-pulse/chat/completions", "api-version=2026-01-01"]
    assert paths[:2] == [wanted, wanted]
    assert "deployments/mine" in paths[2][0]
    sent = server.asked[1].headers
    assert (sent.get("authorization"), sent.get("api-key")) == (
        (f"Bearer {token}", None) if ad else (None, KEY)
    )
    found = [event.partition for event in seen.named("call.finished")]
    assert found == ["infe-pulse", "mine"]


def test_azure_against_the_stand_in():
    """AsyncAzureOpenAI over what the stand-in answers, through its errors."""
    model = InfeModel(latency=0.0, faults=Faults(script=[502, 500, 200]))

    async def respond(asked, writer):
        reply = model.handle(ModelRequest(json.loads(asked.body)), 0.0)
        writer.write(response(reply.status, reply.raw(), **reply.headers))

    async def test(url):
        async with openai.AsyncAzureOpenAI(
            api_key=KEY, base_url=f"{url}/mine", api_version="1"
        ) as client:
            answer = await complete(wrap(client, quick()))
            assert answer.choices[0].message.content.startswith("word")

    paths = {asked.path for asked in against(respond, test).asked}
    assert paths == {"/v1/mine/deployments/infe-pulse/chat/completions?api-version=1"}
    assert model.books.answered == 1


def test_a_gateways_page_is_no_completion():
    """An HTML page with status 200 is tried again, as is an error inside a 200."""

    async def test(client):
        answer = await complete(client)
        assert answer.choices[0].message.content == "hi"

    page = response(200, b"<html>please log in</html>", "text/html; charset=utf-8")
    answers = page, response(200, REFUSAL), ANSWER
    assert len(with_sdk(test, in_turn(*answers)).asked) == 3
