"""The stand-in in process: a transport that asks the model, on any event loop and any clock."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import aiohttp

from .. import aio
from ..adapters.infe.replies import error_of, malformed
from ..adapters.infe.stream import InfeStream, StreamTransport
from ..core.call import Call, Reply
from ..errors import ConfigurationError, TransportError
from .model import HUNG, InfeModel, ModelReply, ModelRequest


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
        self.stream = StreamTransport(self.open_stream)
        self.cancelled = 0
        self._authorization = f"Bearer {api_key}"

    async def __call__(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one payload."""
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> dict[str, Any]:
        """Send a call's payload, and put the reply on the call."""
        if call.payload.get("stream"):
            raise ConfigurationError("this asks for a stream: use stack.around(transport.stream)")
        return _result(call, await self._reply(call, call.payload))

    async def open_stream(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Send a call's payload with ``"stream": true``; return the stream at its first event.

        Raises:
            InfeError: the model answered with an error.
            StreamBroken: the stream ended before its first event.
        """
        reply = await self._reply(call, {**call.payload, "stream": True})
        if reply.chunks is None:
            _result(call, reply)
            raise malformed(Reply(reply.status, reply.headers), "the response is not a stream")
        call.reply = Reply(reply.status, reply.headers)
        opened: Any = _OpenReply(reply, aio.current())
        stream = InfeStream(opened, call, lambda content: error_of(Reply(200, {}, content)))
        await stream.begin()
        return stream

    async def _reply(self, call: Call[Any], payload: Mapping[str, Any]) -> ModelReply:
        """Ask the model, and return its reply when it has come."""
        runtime = aio.current()
        request = ModelRequest(dict(payload), self._authorization, call.request_id)
        now = runtime.now()
        reply = self.model.handle(request, now)
        try:
            await runtime.sleep_until(now + reply.delay)
        except BaseException:
            self.cancelled += 1
            raise
        return reply


class _OpenReply:
    """What `InfeStream` reads of an open response: the events of a reply, each in its time."""

    total_bytes = total_raw_bytes = 0  # nothing is compressed

    def __init__(self, reply: ModelReply, runtime: aio.Runtime) -> None:
        self.content = self
        self._reply, self._runtime = reply, runtime
        self._events = deque(events_of(reply))

    async def readany(self) -> bytes:
        """Return the next event in its time; nothing at the end."""
        reply, runtime = self._reply, self._runtime
        if self._events:
            await runtime.sleep_until(runtime.now() + reply.chunk_gap)
            return f"data: {self._events.popleft()}\n\n".encode()
        if reply.broken == "silent":
            await runtime.sleep_until(runtime.now() + HUNG)
        if reply.broken == "reset":
            raise aiohttp.ClientConnectionResetError("the connection was reset")
        return b""

    def at_eof(self) -> bool:
        """Whether all was read."""
        return not self._events

    def close(self) -> None:
        """Do nothing: there is no connection."""

    release = close


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


def events_of(reply: ModelReply) -> list[str]:
    """Return the events of a streamed reply that are sent; a broken reply ends half-way."""
    chunks = reply.chunks or []
    return chunks[: len(chunks) // 2] if reply.broken in ("cut", "reset", "silent") else chunks
