"""Servers on loopback: the stand-in over HTTP, and a raw one that answers anything."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    RateLimiter,
    Retry,
    Stack,
)
from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer

KEY = "sk-canary-4242424242"
MESSAGES = [{"role": "user", "content": "hi"}]
ASK = {"model": "infe-pulse", "messages": MESSAGES}

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
COMPLETION = {"id": "c", "object": "chat.completion", "created": 1, "model": "infe-pulse",
              "choices": [{"index": 0, "finish_reason": "stop",
                           "message": {"role": "assistant", "content": "hi"}}]}  # fmt: skip
COMPLETED = json.dumps(COMPLETION).encode()
FAILURE = {"error": {"message": "no", "type": "server_error", "code": "api_error"}}

Answer = bytes | Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]
"""What a raw server does with a request: these bytes, or an async function that writes."""


def quick(**options: Any) -> Stack:
    """Return a stack of three tries that do not wait."""
    listeners = options.pop("listeners", ())
    retry = Retry(**({"max_attempts": 3, "uniform": lambda: 0.0} | options))
    return Stack(retry, ErrorClassifier(), listeners=listeners)


def for_two(*inner: Any) -> Stack:
    """Return a stack of two slots, with a limit of requests, whose circuit opens at once."""
    guards = CircuitBreaker(Circuit(minimum_calls=2)), ErrorClassifier(), *inner
    rate = RateLimiter(requests_per_minute=60, burst="window")
    return Stack(Retry(3), ConcurrencyLimiter(2), rate, *guards)


def spent(stack: Stack) -> float:
    """Return the requests that were sent in the last minute."""
    [limiter] = (each for each in stack.layers if isinstance(each, RateLimiter))
    [(_, allowance)] = limiter.allowances.items()
    return allowance._rates.requests.ledger.total  # nothing tells it


def at_rest(stack: Stack) -> bool:
    """Whether nothing is in flight, and every slot and reservation is home."""
    seen = stack.statistics()
    held = sum(each.held for each in seen.slots.values())
    outstanding = sum(each.outstanding for each in seen.allowances.values())
    return (seen.in_flight, seen.waiting, held, outstanding) == (0, 0, 0, 0)


async def soon(happened: Callable[[], bool]) -> bool:
    """Let the loop run until something has happened, or a second has passed."""
    for _ in range(200):
        if happened():
            return True
        await asyncio.sleep(0.005)  # noqa: TID251  # sockets live in real time
    return False


async def collected(happened: Callable[[], bool], rounds: int = 20) -> bool:
    """Let the loop run and garbage be collected; whether something has happened."""
    for _ in range(rounds):
        gc.collect()
        await asyncio.sleep(0.005)  # noqa: TID251  # finalisers run in the loop
        if happened():
            return True
    return False


def over_http(test: Callable[[str], Awaitable[None]], **model: Any) -> InfeModel:
    """Run an async test with a stand-in's URL; returns the stand-in's model."""
    infe = InfeModel(**({"latency": 0.0} | model))

    async def main() -> None:
        async with InfeServer(infe).running() as url:
            await test(url)

    asyncio.run(main())
    return infe


@dataclass
class Asked:
    """One request as a raw server read it; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RawServer:
    """A server that answers with whatever it is told, byte for byte.

    Attributes:
        answer: what each request gets; a function may close or abort the connection.
        asked: the requests that came, in order.
        connections: how many were opened.
    """

    answer: Answer
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve while the block runs; yields the base URL, up to and with ``/v1``."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while not writer.is_closing() and (asked := await _request(reader)) is not None:
                self.asked.append(asked)
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                else:
                    await self.answer(asked, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


def against(answer: Answer, test: Callable[[str], Awaitable[None]]) -> RawServer:
    """Run an async test with a raw server's URL; returns the server."""
    server = RawServer(answer)
    served_by(server, test)
    return server


def served_by(server: RawServer, test: Callable[[str], Awaitable[None]]) -> None:
    """Run an async test with the URL of a server that it can change meanwhile."""

    async def main() -> None:
        async with server.running() as url:
            await test(url)

    asyncio.run(main())


def response(
    status: int = 200,
    body: bytes | dict[str, Any] | list[Any] = b"",
    kind: str = "application/json",
    length: int | None = None,
    **headers: str,
) -> bytes:
    """Return a whole response; a name like ``retry_after`` is the header ``retry-after``."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(raw) if length is None else length
    return head(status, kind, content_length=str(size), **headers) + raw


def head(status: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    """Return the head of a response; without a length its body ends with the connection."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


ERROR = response(500, FAILURE)
ANSWER = response(200, COMPLETION)


def in_turn(*answers: Answer) -> Answer:
    """Return what gives each answer once, and the last one for ever."""
    left = list(answers)

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            await answer(asked, writer)

    return respond


async def lose(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer nothing and close the connection."""
    writer.close()


async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer nothing, ever."""
    await asyncio.Event().wait()


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Asked(method, path, headers, await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)
