"""Ten thousand streams that fall silent, through every client: each ends at its bound."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import httpx
import openai
import pytest
from loopback import KEY, RawServer, at_rest, head
from streamers import asked_for, word

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    ErrorClassifier,
    InfeTransport,
    Stack,
    errors,
    wrap,
)
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually

EACH = 2_500
SLOTS = 250
FIRST, IDLE = 30.0, 20.0
TOLERANCE = 0.1


async def stalls(asked, writer):
    """Send the head, a chunk if the prompt says so, and nothing more."""
    writer.write(head(200, transfer_encoding="chunked"))
    if b"begun" in asked.body:
        part = word(0)
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
    await writer.drain()
    await asyncio.Event().wait()


async def through_infe(url, stack, exits):
    """Return what opens a stream of `InfeTransport`, and iterates over it."""
    transport = await exits.enter_async_context(InfeTransport(KEY, base_url=url))
    send = stack.around(transport.stream)

    async def read(plan):
        async for _ in await send(asked_for(plan)):
            pass

    return read


async def through_sdk(url, stack, exits):
    """Return what opens a stream of the SDK, and iterates over it."""
    client = openai.AsyncOpenAI(api_key=KEY, base_url=url, timeout=None)
    wrapped = wrap(await exits.enter_async_context(client), stack)
    wrapped._platform = "Linux"  # else the SDK asks in a thread

    async def read(plan):
        async for _ in await wrapped.chat.completions.create(**asked_for(plan)):
            pass

    return read


async def through_httpx(url, stack, exits):
    """Return what opens a stream of httpx, and iterates over it."""
    client = httpx.AsyncClient(timeout=None, limits=httpx.Limits())  # no limit
    wrapped = wrap(await exits.enter_async_context(client), stack)

    async def read(plan):
        body = asked_for(plan)
        async with wrapped.stream("POST", f"{url}/chat/completions", json=body) as answer:
            async for _ in answer.aiter_lines():
                pass

    return read


async def through_aiohttp(url, stack, exits):
    """Return what opens a stream of aiohttp, and iterates over it."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    wrapped = wrap(await exits.enter_async_context(session), stack)

    async def read(plan):
        async with wrapped.post(f"{url}/chat/completions", json=asked_for(plan)) as answer:
            async for _ in answer.content:
                pass

    return read


CLIENTS = [through_infe, through_sdk, through_httpx, through_aiohttp]


@pytest.mark.parametrize("client", CLIENTS)
def test_every_silent_stream_ends_at_its_bound(client):
    """Before the first event after `first_chunk`, after it after `idle`; no slot is lost."""
    stack = Stack(
        ConcurrencyLimiter(SLOTS),
        ErrorClassifier(),
        AttemptTimeout(60.0, first_chunk=FIRST, idle=IDLE),
    )
    slots = asyncio.Semaphore(SLOTS)  # so that a stream's own time can be taken
    ends = Counter()

    async def one(read, plan, bound):
        async with slots:
            start = current().now()
            with pytest.raises((errors.ResilienceError, openai.APITimeoutError)) as raised:
                await read(plan)
            took = current().now() - start
            assert took == pytest.approx(bound, abs=TOLERANCE)
            ends[type(raised.value).__name__] += 1

    async def main():
        async with AsyncExitStack() as exits:
            url = await exits.enter_async_context(RawServer(stalls).running())
            read = await client(url, stack, exits)
            plans = [("begun", IDLE), ("never", FIRST)] * (EACH // 2)
            await asyncio.gather(*(one(read, plan, bound) for plan, bound in plans))
            assert at_rest(stack)

    run_virtually(main)
    assert sum(ends.values()) == EACH
    assert ends["StreamStalled"] == EACH // 2
