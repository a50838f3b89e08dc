"""Whatever a server sends, no call hangs, nothing stays taken, and errors are typed."""

from __future__ import annotations

import asyncio
import gc
import os
import random

import aiohttp
import httpx
import httpx2
import openai
import pytest
from askers import HTTP_CLIENTS
from loopback import MESSAGES, against, at_rest, collected
from nonsense import nonsense_server

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Keyed,
    Kind,
    KindRule,
    RateLimiter,
    Retry,
    Slots,
    Stack,
    call_options,
    errors,
)

pytestmark = pytest.mark.network

SEED = os.environ.get("FUZZ_SEED") or str(random.randrange(10**9))
CALLS = int(os.environ.get("FUZZ_CALLS", "250"))

OURS = (errors.ResilienceError,)
UNREADABLE = (ValueError, RecursionError)
"""What the SDK raises for an event that is no JSON."""

TYPED = {
    "httpx": (httpx.HTTPError, httpx.StreamError),
    "httpx2": (httpx2.HTTPError, httpx2.StreamError),
    "aiohttp": (aiohttp.ClientError, TimeoutError),
    "sdk": (openai.OpenAIError, httpx2.HTTPError, *UNREADABLE),
    "sdk-on-aiohttp": (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, *UNREADABLE),
}
"""What each client raises; the bare SDK lets some of its http client's errors through."""


def hasty():
    """Return a stack of every layer that may hold something, with waits of milliseconds."""
    soon = ExponentialBackoff(0.001, 1.0, 0.001)
    return Stack(
        Deadline(1.0),
        Retry(3, soon, rules={Kind.RATE_LIMITED: KindRule(soon)}, max_hint=0.01),
        ConcurrencyLimiter(Keyed(lambda: Slots(40), max_keys=CALLS)),
        RateLimiter(Keyed(lambda: Allowance(6e5, 6e7), max_keys=CALLS), max_hint=0.01),
        ErrorClassifier(),
        AttemptTimeout(0.1),
    )


async def read_all(answer):
    """Read whatever a client gave, to its end."""
    if isinstance(answer, openai.AsyncStream):
        async for _ in answer:
            pass


@pytest.mark.parametrize("client", TYPED)
def test_no_response_hangs_or_leaks(client):
    """Hundreds of responses of nonsense: each ends in time, in an answer or a typed error."""
    stack = hasty()
    told = []

    async def one(ask, number):
        with call_options(partition=f"p{number}"):  # what one server states concerns no other
            more = {"stream": True} if number % 2 else {}
            try:
                await read_all(await ask(messages=[MESSAGES[0] | {"content": str(number)}], **more))
            except (*OURS, *TYPED[client]):
                pass
            except Exception as error:
                told.append((number, repr(error)))

    async def test(url):
        async with HTTP_CLIENTS[client](url, stack) as ask:
            tasks = [asyncio.ensure_future(one(ask, number)) for number in range(CALLS)]
            _, late = await asyncio.wait(tasks, timeout=60)
            assert not late, f"seed {SEED}: {len(late)} calls hang"
            tasks.clear()
            gc.collect()
            assert await collected(lambda: at_rest(stack)), f"seed {SEED}: something stays taken"

    against(nonsense_server(SEED), test)
    assert not told, f"seed {SEED}: {told}"
    assert stack.statistics().calls == CALLS
