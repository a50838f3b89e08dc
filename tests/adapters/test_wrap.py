"""`wrap`: functions, httpx and httpx2 clients, and the OpenAI SDK, over loopback HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect

import httpx
import httpx2
import openai
import pytest
from fakes import FakeServer, Remember

from resilient_infe import (
    Deadline,
    ErrorClassifier,
    Kind,
    Retry,
    Stack,
    call_options,
    errors,
    presets,
    wrap,
)
from resilient_infe.testing import Faults, InfeModel
from resilient_infe.testing.server import InfeServer

MESSAGES = [{"role": "user", "content": "hi"}]
ASK = {"model": "infe-pulse", "messages": MESSAGES}


def test_a_function_keeps_its_signature(run):
    """An async def comes back with its name, its signature and its result."""
    tries = []

    async def ask(prompt: str, *, loud: bool = False) -> str:
        """Ask."""
        tries.append(prompt)
        if len(tries) < 3:
            raise ConnectionResetError
        return prompt.upper() if loud else prompt

    resilient = wrap(ask, Stack(Retry(uniform=lambda: 0.0), ErrorClassifier()))
    assert run(lambda: resilient("hi", loud=True)) == "HI"
    assert len(tries) >= 3
    assert (resilient.__name__, resilient.__doc__) == ("ask", "Ask.")
    assert inspect.signature(resilient) == inspect.signature(ask)


def test_a_function_around_a_transport_keeps_its_hints(run):
    """A typed error that passes through a user's own function still carries its hint."""
    server, seen = FakeServer([(429, {"retry-after": "7", "x-request-id": "infe-9"})]), Remember()

    async def ask(payload):
        return await server(payload)

    stack = Stack(Retry(uniform=lambda: 0.0), ErrorClassifier(), listeners=[seen])
    assert run(lambda: wrap(ask, stack)(None)) == "ok"
    [attempt, _] = seen.named("attempt.finished")
    assert (attempt.retry_after, attempt.server_request_id) == (7.0, "infe-9")


def test_options_reach_a_wrapped_function(run):
    """call_options says what a wrapped function's signature cannot."""
    seen = Remember()

    async def ask():
        return "ok"

    resilient = wrap(ask, Stack(ErrorClassifier(), listeners=[seen]))

    async def main():
        with call_options(request_id="row-17", partition="p"):
            await resilient()

    run(main)
    assert (seen.events[0].request_id, seen.events[0].partition) == ("row-17", "p")


def test_what_cannot_be_wrapped_is_told():
    """An async generator, or a thing of another kind, gets an error that says what to do."""

    async def generator():
        yield 1

    stack = presets.service()
    with pytest.raises(errors.ConfigurationError, match="deliver items twice"):
        wrap(generator, stack)
    with pytest.raises(errors.ConfigurationError, match=r"use stack\.around"):
        wrap(FakeServer(), stack)
    for thing in (5, object(), len, openai.OpenAI(api_key="x"), httpx.Client()):
        with pytest.raises(errors.ConfigurationError, match="give an AsyncOpenAI or"):
            wrap(thing, stack)


def over_http(test, **model):
    """Run an async test with a stand-in's URL; returns the stand-in's model."""
    infe = InfeModel(**({"latency": 0.0} | model))

    async def main():
        async with InfeServer(infe).running() as url:
            await test(url)

    asyncio.run(main())
    return infe


def quick(**options):
    """Return a stack whose retries do not wait."""
    return Stack(Retry(**({"max_attempts": 3} | options), uniform=lambda: 0.0), ErrorClassifier())


clients = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@pytest.mark.network
@clients
def test_an_httpx_client_keeps_its_type_and_settings(library):
    """The same kind of client comes back, with the caller's headers and hooks, and it retries."""
    hooked = []

    async def hook(request):
        hooked.append(request.headers["x-mine"])

    async def test(url):
        async with library.AsyncClient(
            headers={"x-mine": "yes"}, event_hooks={"request": [hook]}
        ) as client:
            wrapped = wrap(client, quick())
            assert type(wrapped) is type(client)
            response = await wrapped.post(f"{url}/chat/completions", json=ASK)
            assert response.json()["choices"]

    infe = over_http(test, faults=Faults(script=[502, 502]))
    assert infe.books.sends == 3
    assert hooked == ["yes"]


@pytest.mark.network
@clients
def test_the_real_last_response_comes_back(library):
    """When all attempts fail the last response is returned, with its body to read."""

    async def test(url):
        async with library.AsyncClient() as client:
            response = await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)
            assert response.status_code == 502
            assert response.json()["error"]["code"] == "api_error"

    assert over_http(test, faults=Faults(rates={502: 1.0})).books.sends == 3


@pytest.mark.network
@clients
def test_a_body_that_cannot_be_replayed_is_sent_once(library):
    """An iterator as a body is not sent again, empty."""

    async def body():
        yield b'{"model": '
        yield b'"infe-pulse", "messages": []}'

    async def test(url):
        async with library.AsyncClient() as client:
            response = await wrap(client, quick()).post(f"{url}/chat/completions", content=body())
            assert response.status_code == 502

    assert over_http(test, faults=Faults(rates={502: 1.0})).books.sends == 1


@pytest.mark.network
@clients
@pytest.mark.parametrize("broken", ["cut", "reset", "garbage"])
def test_a_broken_body_is_tried_again(library, broken):
    """The body is part of the attempt: one that breaks is tried again."""

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, quick(max_attempts=40))
            for _ in range(5):
                response = await wrapped.post(f"{url}/chat/completions", json=ASK)
                assert response.json()["choices"]

    assert over_http(test, faults=Faults(breaks={broken: 0.6}), seed=2).books.sends > 5


async def served(respond, test):
    """Run an async test against a raw server that answers every request with `respond`."""
    handlers = []

    async def answer(reader, writer):
        handlers.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        with contextlib.suppress(ConnectionError):
            await respond(writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        await test(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        await asyncio.gather(*handlers)


def head(kind, length=None):
    """Return the head of a response."""
    size = "" if length is None else f"content-length: {length}\r\n"
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{size}connection: close\r\n\r\n".encode()


@pytest.mark.network
@clients
def test_a_large_answer_is_handed_over_open(library):
    """An answer over the bound is not buffered, and arrives whole all the same."""
    stack = presets.service()
    body = b'{"data": "' + b"x" * 6_000_000 + b'"}'

    async def respond(writer):
        writer.write(head("application/json", len(body)))
        writer.write(body)
        await writer.drain()

    async def test(url):
        async with library.AsyncClient() as client:
            response = await wrap(client, stack).post(f"{url}/embeddings", json=ASK)
            assert len(response.json()["data"]) == 6_000_000
            assert stack.statistics().in_flight == 0

    asyncio.run(served(respond, test))


@pytest.mark.network
@clients
def test_a_stream_of_json_values_is_not_buffered(library):
    """Lines of x-ndjson are delivered as they come, not at the end."""
    more = asyncio.Event()

    async def respond(writer):
        writer.write(head("application/x-ndjson") + b'{"n": 1}\n')
        await more.wait()
        writer.write(b'{"n": 2}\n')
        await writer.drain()

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, presets.service())
            async with wrapped.stream("POST", f"{url}/x", json=ASK) as response:
                lines = []
                async for line in response.aiter_lines():
                    lines.append(line)
                    more.set()
        assert lines == ['{"n": 1}', '{"n": 2}']

    asyncio.run(served(respond, test))


@pytest.mark.network
@clients
def test_an_open_body_ends_at_the_deadline(library):
    """A streamed body is read only as long as the call's deadline allows, and nothing is kept."""
    stack = presets.service(deadline=0.2)

    async def respond(writer):
        writer.write(head("text/event-stream"))
        for _ in range(25):
            writer.write(b"data: {}\n\n")
            await writer.drain()
            await asyncio.sleep(0.02)  # noqa: TID251  # a server of its own, in real time

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, stack)

            async def read():
                async with wrapped.stream("POST", f"{url}/x", json=ASK) as response:
                    async for _ in response.aiter_raw():
                        pass

            with pytest.raises(library.ReadTimeout, match="deadline"):
                await read()
        assert stack.statistics().in_flight == 0
        assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}

    asyncio.run(served(respond, test))


@pytest.mark.network
@clients
def test_a_transport_that_reads_the_response_is_fine(library):
    """Under a transport that logs or caches bodies, the response is passed on as it is."""

    class Reading(library.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            response = await super().handle_async_request(request)
            await response.aread()
            return response

    async def test(url):
        async with library.AsyncClient(transport=Reading()) as client:
            response = await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)
            assert response.json()["choices"]

    assert over_http(test, faults=Faults(script=[502])).books.sends == 2


@pytest.mark.network
def test_a_wrapper_that_is_dropped_leaves_the_original_alone():
    """Forgetting a wrapped SDK client does not close the pool that the original uses."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            wrapped = wrap(client, quick())
            del wrapped
            gc.collect()
            await asyncio.sleep(0.01)  # noqa: TID251  # a finaliser that closed the pool runs here
            await client.chat.completions.create(model="infe-pulse", messages=MESSAGES)

    assert over_http(test).books.answered == 1


@pytest.mark.network
@clients
def test_a_response_dropped_unread_comes_home(library):
    """Slot and reservation come back when a streamed response is dropped, or closed, unread."""
    stack = presets.service()

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, stack)
            asked = ASK | {"stream": True}
            request = wrapped.build_request("POST", f"{url}/chat/completions", json=asked)
            response = await wrapped.send(request, stream=True)
            assert stack.statistics().in_flight == 1
            await response.aclose()
            assert stack.statistics().in_flight == 0
            response = await wrapped.send(request, stream=True)
            del response
            gc.collect()
            await asyncio.sleep(0.01)  # noqa: TID251  # the finaliser runs in the loop
            assert stack.statistics().in_flight == 0

    over_http(test)


@pytest.mark.network
def test_the_sdk_is_wrapped_with_its_type():
    """The same SDK client comes back; chat, streaming and models work, and usage settles."""
    stack = presets.service(tokens_per_minute=6_000_000)

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            wrapped = wrap(client, stack)
            assert type(wrapped) is openai.AsyncOpenAI
            answer = await wrapped.chat.completions.create(model="infe-pulse", messages=MESSAGES)
            assert answer.usage.total_tokens > 0
            [allowance] = stack.statistics().allowances.values()
            assert allowance.outstanding == 0
            stream = await wrapped.chat.completions.create(
                model="infe-pulse", messages=MESSAGES, stream=True
            )
            assert [chunk async for chunk in stream]
            assert [model.id async for model in wrapped.models.list()]
            assert stack.statistics().in_flight == 0
            assert stack.statistics().outcomes == {Kind.OK: 3}

    assert over_http(test).books.answered == 2


@pytest.mark.network
def test_the_sdks_own_retries_are_off():
    """With three tries of ours over a server that always fails, exactly three requests arrive."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await wrap(client, quick()).chat.completions.create(
                    model="infe-pulse", messages=MESSAGES
                )
            assert caught.value.request_id.startswith("infe-")

    assert over_http(test, faults=Faults(rates={500: 1.0})).books.sends == 3


@pytest.mark.network
@pytest.mark.parametrize(
    ("status", "cls"),
    [(401, openai.AuthenticationError), (403, openai.PermissionDeniedError),
     (404, openai.NotFoundError), (400, openai.BadRequestError), (402, openai.APIStatusError)],
)  # fmt: skip
def test_the_sdks_typed_errors_reach_the_caller(status, cls):
    """What another attempt cannot help is the SDK's own error, after one request."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            with pytest.raises(cls) as caught:
                await wrap(client, quick()).chat.completions.create(
                    model="infe-pulse", messages=MESSAGES
                )
            assert caught.value.status_code == status

    assert over_http(test, faults=Faults(script=[status])).books.sends == 1


@pytest.mark.network
def test_refusals_reach_the_sdk_typed():
    """An open circuit is a 503 that the SDK types and nobody retries."""
    stack = presets.service(max_attempts=1)

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            wrapped = wrap(client, stack)

            async def ask():
                await wrapped.chat.completions.create(model="infe-pulse", messages=MESSAGES)

            for _ in range(20):
                with pytest.raises(openai.InternalServerError):
                    await ask()
            with pytest.raises(openai.InternalServerError, match="circuit"):
                await ask()

    assert over_http(test, faults=Faults(script=[500] * 20)).books.sends == 20
    assert stack.statistics().outcomes[Kind.REFUSED] == 1


@pytest.mark.network
def test_a_deadline_reaches_the_sdk_as_its_timeout():
    """A call cut by the deadline is the SDK's own timeout, sent once."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as client:
            hasty = wrap(client, Stack(Deadline(0.05), ErrorClassifier()))
            with pytest.raises(openai.APITimeoutError):
                await hasty.chat.completions.create(model="infe-pulse", messages=MESSAGES)

    assert over_http(test, latency=5.0).books.sends == 1


@pytest.mark.network
def test_the_original_may_be_forgotten():
    """`wrap(AsyncOpenAI(...), stack)` works although nobody keeps the original."""

    async def test(url):
        client = wrap(openai.AsyncOpenAI(api_key="sk-test", base_url=url), quick())
        gc.collect()
        for _ in range(2):
            await asyncio.sleep(0)  # noqa: TID251  # a finaliser that closed the pool would run here
            await client.chat.completions.create(model="infe-pulse", messages=MESSAGES)
        await client.close()

    assert over_http(test).books.answered == 2
