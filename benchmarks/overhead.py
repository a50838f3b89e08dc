"""What each layer adds to a call, over a floor written by hand.

The floor is the least that the same five behaviours can cost in Python: nested closures with a
request object, an id, a context variable and two clock reads. CPU time, interleaved rounds,
medians; ratios of one run.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from resilient_infe import (
    AttemptTimeout,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    RateLimiter,
    RequestIdLogger,
    Retry,
    Stack,
)

ROUNDS = 15
CALLS = 2_000

Send = Callable[[Any], Awaitable[Any]]


async def transport(payload: Any) -> Any:
    """Answer at once."""
    return payload


@dataclass(slots=True)
class Request:
    """The floor's request object."""

    payload: Any
    request_id: str
    started: float


def floor() -> Send:
    """Return five behaviours as closures: id, deadline check, retry, slots, circuit."""
    ids, current = itertools.count(), ContextVar[Any]("current", default=None)
    held, failures, clock = 0, 0, time.monotonic

    async def circuit(request: Request) -> Any:
        nonlocal failures
        try:
            return await transport(request.payload)
        except Exception:
            failures += 1
            raise

    async def slots(request: Request) -> Any:
        nonlocal held
        held += 1
        try:
            return await circuit(request)
        finally:
            held -= 1

    async def retry(request: Request) -> Any:
        for _ in range(5):
            try:
                return await slots(request)
            except ConnectionError:
                continue
        return await slots(request)

    async def deadline(request: Request) -> Any:
        result = await retry(request)
        if clock() - request.started > 120:
            raise TimeoutError
        return result

    async def send(payload: Any) -> Any:
        request = Request(payload, f"id-{next(ids)}", clock())
        token = current.set(request)
        try:
            return await deadline(request)
        finally:
            current.reset(token)

    return send


def stacks() -> dict[str, Send]:
    """Return what is measured, by name."""
    inner = (ErrorClassifier(),)
    limits = {"requests_per_minute": 6e8, "tokens_per_minute": 6e10}
    whole = (
        RequestIdLogger(),
        Deadline(120.0),
        Retry(),
        ConcurrencyLimiter(64),
        RateLimiter(**limits),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(60.0),
    )
    made = {
        "the stack itself": Stack(*inner),
        "+ RequestIdLogger": Stack(RequestIdLogger(), *inner),
        "+ Deadline": Stack(Deadline(120.0), *inner),
        "+ Retry": Stack(Retry(), *inner),
        "+ ConcurrencyLimiter": Stack(ConcurrencyLimiter(64), *inner),
        "+ RateLimiter": Stack(RateLimiter(**limits), *inner),
        "+ CircuitBreaker": Stack(CircuitBreaker(), *inner),
        "+ AttemptTimeout": Stack(*inner, AttemptTimeout(60.0)),
        "all 8 layers": Stack(*whole),
    }
    return {name: stack.around(transport) for name, stack in made.items()}


async def cost(send: Send) -> float:
    """Return the CPU seconds of one call."""
    started = time.process_time()
    for _ in range(CALLS):
        await send("x")
    return (time.process_time() - started) / CALLS


async def main() -> None:
    """Measure in rounds of random order and print the medians over a bare await."""
    subjects = {"bare await": transport, "floor by hand": floor(), **stacks()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name in random.sample(list(subjects), len(subjects)):
            times[name].append(await cost(subjects[name]))
    medians = {name: statistics.median(each) for name, each in times.items()}
    bare = medians.pop("bare await")
    base = medians["floor by hand"] - bare
    print(f"{'':22}  us/call  x floor")
    for name, median in medians.items():
        print(f"{name:22}  {1e6 * (median - bare):7.2f}  {(median - bare) / base:7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
