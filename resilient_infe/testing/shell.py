"""The stand-in in process: a transport that asks the model, on any event loop and any clock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from .. import aio
from ..adapters.infe.replies import error_of, malformed
from ..core.call import Call, Reply
from ..errors import ConfigurationError, TransportError
from .model import InfeModel, ModelReply, ModelRequest


class InProcessInfe:
    """A transport that asks an `InfeModel` directly; replies and errors are the same as over HTTP.

    Args:
        model: the state of the stand-in.
        api_key: the key to send; ``"sk-test"``.

    State: that of the model; `cancelled` counts the attempts that were cancelled before their
    reply.
    """

    def __init__(self, model: InfeModel, api_key: str = "sk-test") -> None:
        self.model = model
        self.posts_bodies_to = "/chat/completions"
        self.cancelled = 0
        self._authorization = f"Bearer {api_key}"

    async def __call__(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one payload."""
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> dict[str, Any]:
        """Send a call's payload, and put the reply on the call."""
        if call.payload.get("stream"):
            raise ConfigurationError("InProcessInfe cannot stream: use testing.server")
        runtime = aio.current()
        request = ModelRequest(dict(call.payload), self._authorization, call.request_id)
        now = runtime.now()
        reply = self.model.handle(request, now)
        try:
            await runtime.sleep_until(now + reply.delay)
        except BaseException:
            self.cancelled += 1
            raise
        return _result(call, reply)


def _result(call: Call[Any], reply: ModelReply) -> dict[str, Any]:
    if reply.broken in ("reset", "cut"):
        raise TransportError(f"the connection broke ({reply.broken})")
    try:
        content = json.loads(reply.raw())
    except ValueError:
        content = None
    seen = call.reply = Reply(reply.status, reply.headers, content)
    if reply.status != 200:
        raise error_of(seen)
    if not isinstance(content, dict):
        raise malformed(seen, "the response is not a JSON object")
    return content


async def events_of(reply: ModelReply, runtime: aio.Runtime) -> AsyncIterator[str]:
    """Yield the events of a streamed reply with its gaps; a broken reply ends half-way."""
    chunks = reply.chunks or []
    last = len(chunks) // 2 if reply.broken in ("cut", "reset") else len(chunks)
    for chunk in chunks[:last]:
        await runtime.sleep_until(runtime.now() + reply.chunk_gap)
        yield chunk
