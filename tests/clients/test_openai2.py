"""docs/howto/openai-2.md, docs/howto/azure-openai.md, and the rest of openai 2.x on httpx."""

from __future__ import annotations

import asyncio
import gc

import httpx
import openai
import pytest
from contract import NOTE, StreamingContract, notes, quick
from fakes import Remember
from stand_ins import RichServer
from test_azure import TestAzure  # noqa: F401  # the same page, with this version

from resilient_infe import (
    ConcurrencyLimiter,
    ErrorClassifier,
    Kind,
    Retry,
    Slots,
    Stack,
    presets,
    wrap,
)
from resilient_infe.testing import Faults, InfeModel

pytestmark = pytest.mark.network

ASK = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


def over_http(test, stack=None, **model):
    """Run `test(client, server)` with a wrapped client of openai 2; returns the server's books."""
    server = RichServer(InfeModel(**({"latency": 0.0} | model)))

    async def main():
        async with server.running() as url:
            sdk = openai.AsyncOpenAI(base_url=url, api_key="sk-test")
            async with wrap(sdk, stack or quick()) as client:
                await test(client, server)

    asyncio.run(main())
    return server.model.books


async def until(condition):
    """Let other tasks run until `condition` holds."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)  # noqa: TID251  # HTTP is in real time
    pytest.fail("it never came to that")


def test_this_is_openai_2_on_httpx():
    """The environment has the version that this module is about."""
    assert openai.VERSION.startswith("2.")
    assert issubclass(openai.DefaultAsyncHttpxClient, httpx.AsyncClient)


class TestOpenai2(StreamingContract):
    """The page, and streams."""

    page = "openai-2"
    failed = refused = openai.InternalServerError
    denied = openai.AuthenticationError
    late = openai.APITimeoutError
    broken = httpx.RemoteProtocolError

    async def stream(self, url, stack):
        """Yield the chunks of a completion."""
        async with wrap(openai.AsyncOpenAI(base_url=url, api_key="sk-test"), stack) as client:
            async for chunk in await client.chat.completions.create(**ASK, stream=True):
                yield chunk


def test_the_type_is_kept_and_retries_are_off():
    """The client is an AsyncOpenAI that tries once."""

    async def test(client, server):
        assert type(client) is openai.AsyncOpenAI
        assert client.max_retries == 0

    over_http(test)


def test_usage_settles_answers_and_streams():
    """What the server says that a call cost is what the limit is charged."""
    seen = Remember()
    stack = presets.service(tokens_per_minute=6_000_000, listeners=[seen])

    async def test(client, server):
        answer = await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        told = [answer.usage.total_tokens, chunks[-1].usage.total_tokens]
        assert [call.usage.total_tokens for call in seen.named("call.finished")] == told
        [allowance] = stack.statistics().allowances.values()
        assert allowance.outstanding == 0

    over_http(test, stack)


def test_a_stream_that_is_left_comes_home():
    """Closed early or dropped unread, a stream gives its slot back."""
    stack = presets.service()

    async def test(client, server):
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            assert await anext(stream)
            assert stack.statistics().in_flight == 1
        assert stack.statistics().in_flight == 0
        stream = await client.chat.completions.create(**ASK, stream=True)
        del stream
        gc.collect()
        await until(lambda: stack.statistics().in_flight == 0)

    over_http(test, stack)


def test_models_and_embeddings_go_through_the_stack():
    """Whatever the client asks for is a call of the stack."""
    stack = quick()

    async def test(client, server):
        assert [model.id async for model in client.models.list()] == server.model.models
        answer = await client.embeddings.create(
            model="infe-embed", input="hello", encoding_format="float"
        )
        assert answer.data[0].embedding == [0.5, -0.5]
        assert stack.statistics().outcomes == {Kind.OK: 2}

    over_http(test, stack)


def test_raw_and_streaming_responses_keep_working():
    """The headers are there, and the body is parsed or read when the caller likes."""

    async def test(client, server):
        completions = client.chat.completions
        raw = await completions.with_raw_response.create(**ASK)
        assert raw.headers["x-request-id"] == "infe-00000002"
        assert raw.parse().choices[0].message.content.startswith("word")
        async with completions.with_streaming_response.create(**ASK) as response:
            assert (await response.json())["choices"]

    assert over_http(test, faults=Faults(script=[502])).sends == 3


@pytest.mark.parametrize(
    ("status", "cls", "code"),
    [
        (400, openai.BadRequestError, "invalid_request_error"),
        (401, openai.AuthenticationError, "invalid_api_key"),
        (402, openai.APIStatusError, "payment_required"),
        (403, openai.PermissionDeniedError, "forbidden"),
        (404, openai.NotFoundError, "model_not_found"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "api_error"),
    ],
)
def test_typed_errors_reach_the_caller(status, cls, code):
    """The SDK's own error, with body, code, type and request id, and one note of ours."""

    async def test(client, server):
        with pytest.raises(cls) as caught:
            await client.chat.completions.create(**ASK)
        error = caught.value
        assert type(error) is cls
        assert (error.status_code, error.code) == (status, code)
        assert error.body["message"] == "scripted"
        assert error.type == error.body["type"]
        assert error.request_id == error.response.headers["x-request-id"] == "infe-00000001"
        [note] = error.__notes__
        assert note.startswith(f"{NOTE}1 attempt in ")
        assert "infe-00000001" in note

    assert over_http(test, quick(max_attempts=1), faults=Faults(script=[status])).sends == 1


def test_a_refusal_has_a_code_and_says_when():
    """A full queue is a 503 with the code `refused`; the SDK sends nothing again."""
    stack = Stack(Retry(), ConcurrencyLimiter(Slots(1, max_waiting=0)), ErrorClassifier())

    async def test(client, server):
        first = asyncio.create_task(client.chat.completions.create(**ASK))
        await until(lambda: stack.statistics().in_flight == 1)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**ASK)
        assert (caught.value.status_code, caught.value.code) == (503, "refused")
        assert caught.value.type == "QueueFull"
        assert (await first).choices

    assert over_http(test, stack, latency=0.3).sends == 1


def test_a_timeout_per_call_bounds_each_attempt():
    """`timeout=` is the attempt's: what it cuts is tried again, and ends as the SDK's timeout."""

    async def test(client, server):
        with pytest.raises(openai.APITimeoutError) as caught:
            await client.chat.completions.create(**ASK, timeout=0.1)
        assert notes(caught.value)[0].startswith(f"{NOTE}3 attempts")

    assert over_http(test, latency=0.5).sends == 3


def test_extra_headers_and_a_derived_client_keep_working():
    """What is given per call reaches the server, also through with_options."""

    async def test(client, server):
        derived = client.with_options(default_headers={"x-theirs": "1"})
        await derived.chat.completions.create(**ASK, extra_headers={"x-mine": "2"})
        assert (server.headers["x-theirs"], server.headers["x-mine"]) == ("1", "2")

    assert over_http(test, faults=Faults(script=[502])).sends == 2


def test_an_http_client_of_ones_own_is_kept():
    """Headers, hooks and the pool of the caller's http client stay in use."""
    hooked = []

    async def hook(request):
        hooked.append(request.url.path)

    async def main(server):
        async with server.running() as url:
            http = httpx.AsyncClient(headers={"x-mine": "yes"}, event_hooks={"request": [hook]})
            sdk = openai.AsyncOpenAI(base_url=url, api_key="sk-test", http_client=http)
            client = wrap(sdk, quick())
            await client.chat.completions.create(**ASK)
            pool = http._transport._pool
            assert len(pool.connections) == 1
            await client.close()
            assert pool.connections == []

    server = RichServer(InfeModel(latency=0.0))
    asyncio.run(main(server))
    assert hooked == ["/v1/chat/completions"]
    assert server.headers["x-mine"] == "yes"
