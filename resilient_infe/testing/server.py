"""The stand-in over HTTP: an aiohttp server on loopback that sends the replies of the model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from .. import aio
from .model import HUNG, InfeModel, ModelReply, ModelRequest
from .shell import events_of

LARGEST_REQUEST = 16 * 1024 * 1024


class InfeServer:
    """Serves an `InfeModel` on 127.0.0.1.

    Args:
        model: the state of the stand-in.

    State: that of the model; its outages and hangs are counted from the first request.
    """

    def __init__(self, model: InfeModel) -> None:
        self.model = model
        self._application = web.Application(client_max_size=LARGEST_REQUEST)
        self._application.add_routes(
            [
                web.post("/v1/chat/completions", self._complete),
                web.get("/v1/models", self._models),
                web.get("/books", self._books),
            ]
        )

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serve while the block runs; yields the base URL, which ends in ``/v1``.

        Args:
            port: the port, or 0 for any free one; 0.
        """
        runner = web.AppRunner(self._application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        runtime = aio.current()
        now = runtime.now()
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            body = None
        headers = request.headers
        asked = ModelRequest(body, headers.get("authorization"), headers.get("x-client-request-id"))
        reply = self.model.handle(asked, now)
        await asyncio.sleep(max(0.0, now + reply.delay - runtime.now()))
        if reply.chunks is not None:
            return await _streamed(request, reply)
        if reply.broken == "reset":
            return _reset(request)
        return await _plain(request, reply)

    async def _models(self, _: web.Request) -> web.Response:
        reply = self.model.list_models()
        return web.json_response(reply.body, headers=reply.headers)

    async def _books(self, _: web.Request) -> web.Response:
        return web.json_response(self.model.books.summary())


def _reset(request: web.Request) -> web.StreamResponse:
    transport: Any = request.transport
    if transport is not None:
        transport.abort()
    return web.Response(status=500)


async def _plain(request: web.Request, reply: ModelReply) -> web.StreamResponse:
    raw = reply.raw()
    kind = "text/html" if reply.broken == "html" else "application/json"
    if reply.broken not in ("cut", "slow"):
        return web.Response(body=raw, status=reply.status, headers=reply.headers, content_type=kind)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = kind
    response.content_length = len(raw)
    await response.prepare(request)
    if reply.broken == "cut":
        await response.write(raw[: len(raw) // 2])
        return _reset(request)
    step = max(1, len(raw) // 10)
    for start in range(0, len(raw), step):
        await response.write(raw[start : start + step])
        await asyncio.sleep(0.005)
    return response


async def _streamed(request: web.Request, reply: ModelReply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # the client may close its stream early
        for event in events_of(reply):
            await asyncio.sleep(reply.chunk_gap)
            await response.write(f"data: {event}\n\n".encode())
        if reply.broken == "silent":
            await asyncio.sleep(HUNG)
    if reply.broken == "reset":
        return _reset(request)
    return response
