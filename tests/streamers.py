"""Streams of numbered words: a server that sends them in many ways, and every client's reader."""

from __future__ import annotations

import asyncio
import functools
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
from askers import BEARER, sdk
from loopback import ASK, FAILURE, USAGE, Asked, head

from resilient_infe import Stack, wrap
from resilient_infe.adapters.http.sse import SSEDecoder

WORDS = 6


@dataclass
class Opened:
    """A stream that a client opened: the words as they come, and what closes it."""

    words: AsyncIterator[str]
    close: Callable[[], Awaitable[None]]


Open = Callable[[str], Awaitable[Opened]]
Streamer = Callable[[str, Stack], AbstractAsyncContextManager[Open]]
"""``async with streamer(url, stack) as start: opened = await start(plan)``."""


def event(content: Any) -> bytes:
    """Return one event of a stream."""
    text = content if isinstance(content, str) else json.dumps(content)
    return f"data: {text}\n\n".encode()


def word(number: int | None, finish: str | None = None, *, index: int = 0, **more: Any) -> bytes:
    """Return the event of a numbered word."""
    delta = {} if number is None else {"content": f"w{number}"}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "infe-pulse"}
    return event(chunk | {"choices": [choice]} | more)


ENDING = [
    word(None, "stop"),
    event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "infe-pulse",
           "choices": [], "usage": USAGE}),
    event("[DONE]"),
]  # fmt: skip
WHOLE = [*map(word, range(WORDS)), *ENDING]


async def stream_server(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Stream as the prompt says: a plan such as ``whole``, ``reset gzip``, ``hang``."""
    plan = json.loads(asked.body)["messages"][0]["content"].split()
    packer = zlib.compressobj(wbits=31) if "gzip" in plan else None
    coding = {"content_encoding": "gzip"} if packer else {}
    writer.write(head(200, transfer_encoding="chunked", **coding))
    for part in _parts(plan):
        if packer:
            part = packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)  # noqa: PLW2901
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()
        await asyncio.sleep(0)  # noqa: TID251  # so that the streams mix
    for _ in range(plan.count("ping")):
        await asyncio.sleep(0.03)  # noqa: TID251  # the silence between two comments
        writer.write(b"7\r\n: hi\n\n\n\r\n")
        await writer.drain()
    if "hang" in plan:
        await asyncio.Event().wait()
    if "reset" in plan:
        writer.transport.abort()
    writer.write(b"0\r\n\r\n")


def _parts(plan: list[str]) -> list[bytes]:
    if "error" in plan:
        return [word(0), event(FAILURE), event("[DONE]")]
    if "half" in plan:  # one of two choices ends
        return [word(None, index=1), *WHOLE[:3], word(None, "stop")]
    if "blank" in plan:  # a finish reason in each chunk, and none at the end
        return [word(number, "") for number in range(3)]
    return WHOLE if "whole" in plan else WHOLE[:3]


def asked_for(plan: str) -> dict[str, Any]:
    """Return the body of a request for a stream."""
    extra: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    if "half" in plan:
        extra["n"] = 2
    return ASK | {"messages": [{"role": "user", "content": plan}]} | extra


@asynccontextmanager
async def sdk_streams(url: str, stack: Stack, **options: Any) -> AsyncIterator[Open]:
    """Streams of the SDK."""
    async with sdk(url, stack, **options) as ask:

        async def start(plan: str) -> Opened:
            stream = await ask(**asked_for(plan))
            return Opened(_contents(stream), stream.close)

        yield start


@asynccontextmanager
async def sdk_aiohttp_streams(url: str, stack: Stack) -> AsyncIterator[Open]:
    """Streams of the SDK over its aiohttp client."""
    async with sdk_streams(url, stack, http_client=openai.DefaultAioHttpClient()) as start:
        yield start


@asynccontextmanager
async def httpx_streams(url: str, stack: Stack, library: Any = httpx) -> AsyncIterator[Open]:
    """Streams of httpx."""
    async with library.AsyncClient(headers=BEARER, timeout=60.0) as client:  # a busy machine
        wrapped = wrap(client, stack)

        async def start(plan: str) -> Opened:
            body = asked_for(plan)
            request = wrapped.build_request("POST", f"{url}/chat/completions", json=body)
            response = await wrapped.send(request, stream=True)
            return Opened(_decoded(response.aiter_bytes()), response.aclose)

        yield start


@asynccontextmanager
async def aiohttp_streams(url: str, stack: Stack) -> AsyncIterator[Open]:
    """Streams of aiohttp."""
    async with aiohttp.ClientSession(headers=BEARER) as session:
        wrapped = wrap(session, stack)

        async def start(plan: str) -> Opened:
            response = await wrapped.post(f"{url}/chat/completions", json=asked_for(plan))

            async def close() -> None:
                response.close()

            return Opened(_decoded(response.content.iter_any(), response), close)

        yield start


async def _contents(stream: Any) -> AsyncIterator[str]:
    async for chunk in stream:
        for choice in chunk.choices:
            if choice.delta.content:
                yield choice.delta.content


async def _decoded(parts: AsyncIterator[bytes], _kept: Any = None) -> AsyncIterator[str]:
    decoder = SSEDecoder()
    async for part in parts:
        for data in decoder.feed(part):
            choices = [] if data == "[DONE]" else json.loads(data).get("choices", ())
            for choice in choices:
                if "content" in choice["delta"]:
                    yield choice["delta"]["content"]


STREAMERS: dict[str, Streamer] = {
    "sdk": sdk_streams,
    "sdk-on-aiohttp": sdk_aiohttp_streams,
    "httpx": httpx_streams,
    "httpx2": functools.partial(httpx_streams, library=httpx2),
    "aiohttp": aiohttp_streams,
}
every_streamer = pytest.mark.parametrize("streamer", STREAMERS.values(), ids=STREAMERS)
