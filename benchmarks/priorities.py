"""Classes and tenants in one queue: who waits how long, who gets how much, and what it costs.

The first two parts run in virtual time, so they come out the same each time: calls of people behind
2,000 rows of a batch at 600 RPM, and two tenants with 2,000 and 200 calls that always wait. The
third is CPU time: 4,000 calls in a gather through 64 slots and a rate limit that does not bind.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from resilient_infe import (
    ConcurrencyLimiter,
    ErrorClassifier,
    RateLimiter,
    Retry,
    Stack,
    aio,
    presets,
    run_batch,
)
from resilient_infe.testing import InfeModel, InProcessInfe, run_virtually

RPM = 600
"""The limit of requests per minute."""

ROWS = 2_000
"""Rows of the batch that is there first."""

EVERY = 0.5
"""Seconds between two calls of people on average: a fifth of the limit."""

SLOTS = 256
"""Slots of the stack: more than the limit fills even with answers of 10 s."""

SPAN = 300.0
"""Seconds for which two tenants share the limit."""

LEAST_ROUNDS = 7
"""Rounds of the CPU times; the least of each is reported."""

PAYLOAD: dict[str, Any] = {
    "model": "infe-pulse",
    "messages": [{"role": "user", "content": "hello"}],
}


def latency(answer: float, *, priority: Any = "interactive") -> dict[str, Any]:
    """Return how long calls of people waited behind a batch.

    Args:
        answer: the seconds that each answer takes.
        priority: the class of the calls of people; None shows what happens without classes.
    """
    stack = presets.batch(requests_per_minute=RPM, concurrency=SLOTS, log=False)
    send = stack.around(InProcessInfe(InfeModel(requests_per_minute=RPM, latency=answer)))
    waits: list[float] = []
    batch = run_batch([PAYLOAD] * ROWS, send, in_memory=ROWS)
    # Without classes both are in the class of the rows.
    own = "batch" if priority is None else priority
    over = False

    async def person() -> None:
        began = aio.current().now()
        await send(PAYLOAD, priority=own, partition=PAYLOAD["model"])
        waits.append(aio.current().now() - began - answer)

    async def rows() -> None:
        nonlocal over
        async for _ in batch:
            pass
        over = True

    async def main() -> float:
        uniform = random.Random(1)  # the same each time
        async with anyio.create_task_group() as group:
            group.start_soon(rows)
            while not over:
                await anyio.sleep(uniform.expovariate(1 / EVERY))
                group.start_soon(person)
            return aio.current().now()

    took = run_virtually(main)
    waits.sort()
    return {
        "calls": len(waits),
        "p50": round(waits[len(waits) // 2], 2),
        "p99": round(waits[int(0.99 * (len(waits) - 1))], 2),
        "longest": round(waits[-1], 2),
        "rows": batch.tally.ok,
        "took": round(took, 1),
    }


def shares(
    first: Mapping[str, Any], second: Mapping[str, Any], waiting: tuple[int, int]
) -> tuple[int, int]:
    """Return how many calls of two kinds were answered while both always wait.

    Args:
        first: the options of the calls of one kind.
        second: those of the other kind.
        waiting: how many of each wait at any time.
    """
    stack = presets.batch(requests_per_minute=RPM, log=False)
    send = stack.around(InProcessInfe(InfeModel(requests_per_minute=RPM, latency=1.0)))
    done = [0, 0]

    async def again_and_again(which: int, options: Mapping[str, Any]) -> None:
        while True:
            await send(PAYLOAD, **options)
            done[which] += 1

    async def main() -> None:
        with anyio.move_on_after(SPAN):
            async with anyio.create_task_group() as group:
                for which, options in enumerate((first, second)):
                    for _ in range(waiting[which]):
                        group.start_soon(again_and_again, which, options)

    run_virtually(main)
    return done[0], done[1]


def cpu(options: Callable[[int], Mapping[str, Any]], calls: int = 4_000) -> float:
    """Return the CPU time of a call in microseconds, of many that wait for 64 slots.

    Args:
        options: returns the options of a call by its number.
        calls: the number of calls.
    """

    async def transport(payload: Any) -> Any:
        await asyncio.sleep(0)
        return payload

    layers = (
        Retry(3),
        ConcurrencyLimiter(64),
        RateLimiter(requests_per_minute=6e6),
        ErrorClassifier(),
    )
    send = Stack(*layers).around(transport)

    async def main() -> None:
        await asyncio.gather(*(send(number, **options(number)) for number in range(calls)))

    began = time.process_time()
    asyncio.run(main())
    return (time.process_time() - began) / calls * 1e6


CONTENTION: dict[str, Callable[[int], Mapping[str, Any]]] = {
    "nobody asks": lambda _: {},
    "one class": lambda _: {"priority": "batch"},
    "three classes": lambda n: {"priority": ("interactive", "normal", "batch")[n % 3]},
    "ten tenants": lambda n: {"tenant": str(n % 10)},
    "1,000 tenants": lambda n: {"tenant": str(n % 1_000)},
}
"""What the calls of the third part ask for."""


def main() -> None:
    """Measure and print all three parts."""
    print(f"calls of people behind {ROWS:,} rows at {RPM} RPM; seconds of waiting")
    for answer in (0.05, 1.0, 10.0):
        for name, priority in (("with classes", "interactive"), ("in one class", None)):
            print(f"  answers take {answer:g} s, {name}: {latency(answer, priority=priority)}")
    print(f"two kinds of calls that always wait, for {SPAN:g} s")
    tenants = shares({"tenant": "a"}, {"tenant": "b"}, (2_000, 200))
    print(f"  tenants with 2,000 and 200 waiting: {tenants}")
    classes = shares({"priority": "interactive"}, {"priority": "batch"}, (2_000, 2_000))
    print(f"  interactive and batch: {classes}")
    print("CPU time of a call in a gather, us")
    best = dict.fromkeys(CONTENTION, float("inf"))
    for _ in range(LEAST_ROUNDS):
        for name, options in CONTENTION.items():
            best[name] = min(best[name], cpu(options))
    for name, least in best.items():
        print(f"  {name}: {least:.1f} ({least / best['nobody asks']:.2f})")


if __name__ == "__main__":
    main()
