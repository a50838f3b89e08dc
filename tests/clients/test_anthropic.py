"""docs/howto/anthropic.md, against the stand-in in the shape of Anthropic's messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from aiohttp import web
from contract import StreamingContract, notes, quick

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    RateLimiter,
    Retry,
    Stack,
    wrap,
)
from resilient_infe.testing import Faults, InfeModel, ModelReply, ModelRequest
from resilient_infe.testing.server import InfeServer


class AnthropicServer(InfeServer):
    """Serves the model's replies, and its faults, as messages."""

    def __init__(self, model: InfeModel) -> None:
        """Add the route."""
        super().__init__(model)
        self._application.router.add_post("/v1/messages", self._message)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        reply = self.model.handle(ModelRequest(await request.json()), now)
        await asyncio.sleep(reply.delay)  # noqa: TID251  # a server is in real time
        if reply.chunks is not None:
            return await streamed(request, reply)
        body = message(reply) if reply.status == 200 else {"type": "error", **reply.body}
        return web.json_response(body, status=reply.status, headers=reply.headers)


def message(reply: ModelReply) -> dict[str, Any]:
    """Return a completion as a message."""
    usage, choice = reply.body["usage"], reply.body["choices"][0]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.body["model"],
        "content": [{"type": "text", "text": choice["message"]["content"]}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
        },
    }


def events(reply: ModelReply) -> Iterator[dict[str, Any]]:
    """Yield the events of a message; a reply that breaks ends before its end."""
    whole = message(reply)
    [block] = whole["content"]
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": {**block, "text": ""}}
    delta = {"type": "text_delta", "text": block["text"]}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    if reply.broken is None:
        yield {"type": "content_block_stop", "index": 0}
        ending = {"stop_reason": "end_turn", "stop_sequence": None}
        yield {"type": "message_delta", "delta": ending, "usage": whole["usage"]}
        yield {"type": "message_stop"}


async def streamed(request: web.Request, reply: ModelReply) -> web.StreamResponse:
    """Send a message event by event."""
    response = web.StreamResponse(headers=reply.headers)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    for event in events(reply):
        await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    return response


class TestAnthropic(StreamingContract):
    """The SDK is of the same make as OpenAI's, and so are its errors."""

    page = "anthropic"
    versioned = False
    server = AnthropicServer
    failed = refused = anthropic.InternalServerError
    denied = anthropic.AuthenticationError
    late = anthropic.APITimeoutError
    broken = httpx2.RemoteProtocolError

    async def stream(self, url, stack):
        """Yield the text as it comes."""
        async with (
            wrap(anthropic.AsyncAnthropic(base_url=url, api_key="sk-test"), stack) as client,
            client.messages.stream(
                model="infe-pulse",
                max_tokens=100,
                messages=[{"role": "user", "content": "hello"}],
            ) as stream,
        ):
            async for text in stream.text_stream:
                yield text

    @pytest.mark.parametrize(
        ("status", "cls"),
        [
            (400, anthropic.BadRequestError),
            (403, anthropic.PermissionDeniedError),
            (404, anthropic.NotFoundError),
            (429, anthropic.RateLimitError),
        ],
    )
    def test_typed_errors_reach_the_caller(self, status, cls):
        """The SDK's own error, with what the server said and the note."""
        outcome = self.ask(quick(max_attempts=1), faults=Faults(script=[status]))
        assert type(outcome.last) is cls
        assert outcome.last.status_code == status
        assert outcome.last.body["error"]["message"] == "scripted"
        assert len(notes(outcome.last)) == 1


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
           "stop_reason": "end_turn", "stop_sequence": None,
           "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
DOWN = {"type": "error", "error": {"type": "api_error", "message": "down"}}


class Answers:
    """A server in process: answers with a script of statuses, or with a function of the request."""

    def __init__(self, *script: Any) -> None:
        """Answer with these; the last repeats."""
        self.script, self.asked = list(script), list[httpx2.Request]()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.asked.append(request)
        found = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        status = found(request) if callable(found) else found
        return httpx2.Response(status, json=MESSAGE if status == 200 else DOWN)

    def client(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return a client of this server."""
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        key = {} if "credentials" in options else {"api_key": "sk-test"}
        return anthropic.AsyncAnthropic(base_url="http://t", http_client=http, **key, **options)

    def sent(self, name: str) -> list[str | None]:
        """Return a header of each request."""
        return [request.headers.get(name) for request in self.asked]


def ask_of(client: anthropic.AsyncAnthropic) -> Any:
    """Ask for a message."""
    hello = {"role": "user", "content": "hello"}
    return client.messages.create(model="m", max_tokens=9, messages=[hello])


class Tokens:
    """A provider of access tokens that are numbered."""

    def __init__(self) -> None:
        """Begin with the first."""
        self.given = 0

    async def __call__(self, *, force_refresh: bool = False) -> Any:
        """Give the next."""
        self.given += 1
        return anthropic.AccessToken(f"token-{self.given}")


@pytest.mark.parametrize("limits_only", [False, True])
def test_a_token_that_is_refused_is_renewed_once(limits_only):
    """After a 401 the client asks its provider again, and the request is sent once more."""
    stack = Stack(ErrorClassifier()) if limits_only else quick()
    server = Answers(lambda request: 200 if request.headers["authorization"].endswith("2") else 401)

    async def main():
        client = wrap(server.client(credentials=Tokens()), stack)
        for _ in range(2):
            assert (await ask_of(client)).id == "msg_1"

    asyncio.run(main())
    assert server.sent("authorization") == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
    assert server.sent("x-stainless-retry-count") == ["0", "1", "0"]


def test_a_token_that_is_always_refused_is_an_error():
    """A second 401 reaches the caller, with a note."""
    server = Answers(401)

    async def main():
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await ask_of(wrap(server.client(credentials=Tokens()), quick()))
        assert len(notes(caught.value)) == 1

    asyncio.run(main())
    assert len(server.asked) == 2


class Odd(Exception):
    """What a middleware raises of its own."""


def raising(error: Exception, times: int, *, before: bool, cause: Exception | None = None) -> Any:
    """Return a middleware that raises, at first, and the numbers of the attempts that it saw."""
    seen: list[int] = []

    async def middleware(request: Any, call_next: Any) -> Any:
        seen.append(request.retries_taken)
        if before and len(seen) <= times:
            raise error from cause
        response = await call_next(request)
        if not before and len(seen) <= times:
            raise error from cause
        return response

    return middleware, seen


@pytest.mark.parametrize("limits_only", [False, True])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (anthropic.RetryableError("again"), None),
        (Odd("again"), anthropic.RetryableError("inner")),
        (anthropic.APIConnectionError(request=httpx2.Request("GET", "http://t")), None),
    ],
    ids=["retryable", "wrapped", "connection"],
)
def test_a_middleware_asks_for_another_attempt(error, cause, before, limits_only):
    """What the SDK repeats for its middleware, the stack repeats."""
    server = Answers(200)
    middleware, seen = raising(error, 2, before=before, cause=cause)
    stack = Stack(ErrorClassifier()) if limits_only else quick()

    async def main():
        options = {"middleware": [middleware], "max_retries": 2}
        client = wrap(server.client(**options), stack)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(anthropic._base_client, "INITIAL_RETRY_DELAY", 0.0)
            assert (await ask_of(client)).id == "msg_1"

    asyncio.run(main())
    assert seen == [0, 1, 2]
    assert len(server.asked) == (1 if before else 3)
    counts = ["2"] if before else ["0", "1", "2"]
    assert server.sent("x-stainless-retry-count") == counts


def test_what_a_middleware_raises_besides_is_raised_once():
    """An exception that asks for nothing reaches the caller at once, and opens no circuit."""
    server = Answers(200)
    breaker = CircuitBreaker(Circuit(consecutive_failures=1))
    stack = Stack(Retry(3), breaker, ErrorClassifier())

    async def main():
        for before in (True, False):
            middleware, seen = raising(Odd("no"), 9, before=before)
            client = wrap(server.client(middleware=[middleware]), stack)
            with pytest.raises(Odd):
                await ask_of(client)
            assert seen == [0]
        assert (await ask_of(wrap(server.client(), stack))).id == "msg_1"

    asyncio.run(main())


def test_a_middleware_that_has_the_answer_sends_nothing():
    """An answer of a middleware's own is returned, and costs the limit nothing."""
    server = Answers(200)
    stack = Stack(RateLimiter(requests_per_minute=60, burst=1.0), ErrorClassifier())

    async def cached(_: Any, __: Any) -> Any:
        return anthropic.types.Message.construct(**MESSAGE)

    async def main():
        client = wrap(server.client(middleware=[cached]), stack)
        for _ in range(5):
            assert (await ask_of(client)).id == "msg_1"

    asyncio.run(main())
    assert server.asked == []


def test_send_me_once_is_heard():
    """A client that was derived to send once does, and its original still repeats."""
    server = Answers(500, 500, 200)

    async def main():
        client = wrap(server.client(), quick())
        with pytest.raises(anthropic.InternalServerError):
            await ask_of(client.with_options(max_retries=0))
        assert (await ask_of(client)).id == "msg_1"

    asyncio.run(main())
    assert len(server.asked) == 3
