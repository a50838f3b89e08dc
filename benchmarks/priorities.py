"""Classes and tenants in one queue: who waits how long, who gets how much, and what it costs.

The first two parts run in virtual time, so they come out the same each time: calls of people behind
2,000 rows of a batch at 600 RPM, and two tenants with 2,000 and 200 calls that always wait. The
third is CPU time: 4,000 calls in a gather through 64 slots and a rate limit that does not bind.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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

PAGE = Path(__file__).parent / "results" / "priorities.md"

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


def latencies() -> Iterator[str]:
    """Yield the lines of the table of calls of people behind a batch."""
    yield "| answers take, s | calls of people | p50, s | p99, s | longest, s | the batch took, s |"
    yield "|---:|---|---:|---:|---:|---:|"
    for answer in (0.05, 1.0, 10.0):
        for name, priority in (("with classes", "interactive"), ("in the class of the rows", None)):
            found = latency(answer, priority=priority)
            waits = " | ".join(f"{found[each]:.2f}" for each in ("p50", "p99", "longest"))
            yield f"| {answer:g} | {name} | {waits} | {found['took']:.0f} |"


def both() -> Iterator[str]:
    """Yield the lines of the table of two kinds of calls that always wait."""
    yield "| first | second | waiting | first got | second got |"
    yield "|---|---|---|---:|---:|"
    for options, waiting in (
        (({"tenant": "a"}, {"tenant": "b"}), (2_000, 200)),
        (({"priority": "interactive"}, {"priority": "batch"}), (2_000, 2_000)),
    ):
        got = shares(*options, waiting)
        names = " | ".join(str(*each.values()) for each in options)
        parts = " | ".join(f"{each / sum(got):.1%}" for each in got)
        yield f"| {names} | {waiting[0]:,} and {waiting[1]:,} | {parts} |"


def contention() -> Iterator[str]:
    """Yield the lines of the table of CPU times."""
    best = dict.fromkeys(CONTENTION, float("inf"))
    for _ in range(LEAST_ROUNDS):
        for name, options in CONTENTION.items():
            best[name] = min(best[name], cpu(options))
    yield "| what the calls ask for | us | times as much |"
    yield "|---|---:|---:|"
    for name, least in best.items():
        yield f"| {name} | {least:.1f} | {least / best['nobody asks']:.2f} |"


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.priorities", description=__doc__)
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    lines = ["# What classes and tenants get, and cost", "", "From `make bench-priorities`.", ""]
    for title, table in {
        f"Calls of people behind {ROWS:,} rows at {RPM} RPM, in virtual time": latencies,
        f"Two kinds of calls that always wait, for {SPAN:g} s of virtual time": both,
        "CPU time of a call that waits, of 4,000 in a gather": contention,
    }.items():
        lines += [f"## {title}", ""]
        for line in table():
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    if not options.no_write:
        PAGE.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
