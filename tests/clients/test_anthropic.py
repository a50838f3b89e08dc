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

from resilient_infe import wrap
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
