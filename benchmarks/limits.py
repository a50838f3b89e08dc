"""What a declared limit costs: waits at half of the load, and use at the full one.

The stacks are the presets as they are shipped. In virtual time, a server keeps the limit that was
declared, in one of four ways; requests and answers take 20 to 50 ms on their way, and an answer
about a second. What waits is told beside the wait of an *oracle*: a sender that knows the server's
sliding window and waits only for that.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from resilient_infe import Stack, presets
from resilient_infe.aio import current
from resilient_infe.errors import RateLimitError
from resilient_infe.testing import run_virtually
from resilient_infe.testing.limits import Style, make_limit

PAGE = Path(__file__).parent / "results" / "limits.md"
MINUTE = 60.0
SERVERS: dict[str, tuple[Style, float]] = {
    "sliding window": ("sliding", 1.0),
    "fixed window": ("fixed", 1.0),
    "bucket of 60 s": ("bucket", 60.0),
    "bucket of 1 s": ("bucket", 1.0),
}


@dataclass(frozen=True, slots=True)
class Load:
    """A declared limit, and the requests that are sent under it.

    Attributes:
        requests: per minute.
        tokens: per minute, or None.
        capacity: the requests a minute that the limit allows.
        size: draws the tokens of a request.
    """

    requests: float
    tokens: float | None
    capacity: float
    size: Callable[[random.Random], float]


def _one(_: random.Random) -> float:
    return 1.0


def _small(rnd: random.Random) -> float:
    return float(rnd.randint(1, 1_000))


def _heavy(rnd: random.Random) -> float:
    return float(round(min(60_000.0, rnd.lognormvariate(6.9, 1.2))))


def _heaviest(rnd: random.Random) -> float:
    return float(round(min(150_000.0, rnd.lognormvariate(7.2, 1.2))))


LOADS = {
    "60 RPM": Load(60, None, 60, _one),
    "600 RPM": Load(600, None, 600, _one),
    "600 RPM + 40,000 TPM, 2,000 each": Load(600, 40_000, 20, lambda _: 2_000.0),
    "600 RPM + 200,000 TPM, heavy-tailed": Load(600, 200_000, 100, _heavy),
}
ESTIMATES: dict[str, Callable[[random.Random], float]] = {
    "right": lambda _: 1.0,
    "1 to 4 times too high": lambda rnd: rnd.uniform(1.0, 4.0),
}


@dataclass
class Server:
    """A server that keeps a limit, and its books.

    Attributes:
        first: how long each request waited until its first attempt was sent.
        let_in: when each request was let in, with its tokens.
        refused: when each 429 was sent.
    """

    load: Load
    style: Style
    burst: float
    seed: int
    answer: float = 1.0
    first: dict[int, float] = field(default_factory=dict)
    let_in: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the limits."""
        self.random = random.Random(self.seed)
        wanted = [self.load.requests] + ([] if self.load.tokens is None else [self.load.tokens])
        self.limits = [make_limit(self.style, each, MINUTE, self.burst) for each in wanted]

    async def __call__(self, request: tuple[int, float, float]) -> dict[str, Any]:
        """Answer a request, which is its number, its tokens and when it came."""
        (number, tokens, came), runtime = request, current()
        self.first.setdefault(number, runtime.now() - came)
        await self._way()
        now, costs = runtime.now(), (1.0, tokens)[: len(self.limits)]
        each = list(zip(self.limits, costs, strict=True))
        if not all(limit.fits(cost, now) for limit, cost in each):
            self.refused.append(now)
            await self._way()
            raise RateLimitError("too many", status=429)
        for limit, cost in each:
            limit.take(cost, now)
        self.let_in.append((now, tokens))
        takes = min(60.0, self.answer * math.exp(self.random.gauss(0.0, 1.0)))
        await runtime.sleep_until(now + takes)
        usage = {"prompt_tokens": 0, "completion_tokens": int(tokens), "total_tokens": int(tokens)}
        return {"choices": [{"message": {"content": "x"}}], "usage": usage}

    async def _way(self) -> None:
        await current().sleep_until(current().now() + self.random.uniform(0.02, 0.05))

    def most(self) -> tuple[int, float]:
        """Return the most requests, and the most tokens, of any minute."""
        inside: deque[tuple[float, float]] = deque()
        requests, tokens, spent = 0, 0.0, 0.0
        for now, cost in self.let_in:
            inside.append((now, cost))
            spent += cost
            while inside[0][0] <= now - MINUTE:
                spent -= inside.popleft()[1]
            requests, tokens = max(requests, len(inside)), max(tokens, spent)
        return requests, tokens


def _half_load(load: Load, estimate: str, server: Server, minutes: float) -> list[float]:
    """Send at half of the capacity as the requests come; return how long each waited."""
    rnd = random.Random(server.seed)
    stack = presets.service(
        requests_per_minute=load.requests,
        tokens_per_minute=load.tokens,
        deadline=3_600.0,
        concurrency=500,
        max_waiting=None,
        log=False,
    )
    send = stack.around(server)

    async def ask(request: tuple[int, float, float], tokens: float) -> None:
        with contextlib.suppress(RateLimitError):  # a service gives up after four attempts
            await send(request, tokens=tokens)

    async def main() -> None:
        async with anyio.create_task_group() as calls:
            for number in range(int(load.capacity / 2 * minutes)):
                gap = rnd.expovariate(load.capacity / 2 / MINUTE)
                await current().sleep_until(current().now() + gap)
                tokens = load.size(rnd)
                estimated = tokens * ESTIMATES[estimate](rnd)
                calls.start_soon(ask, (number, tokens, current().now()), estimated)

    run_virtually(main)
    return sorted(server.first.values())


def oracle(load: Load, seed: int, minutes: float, estimate: str) -> list[float]:
    """Return the waits of a sender that knows the window, over the requests of `_half_load`."""
    rnd, now, came = random.Random(seed), 0.0, 0.0
    sent: deque[tuple[float, float]] = deque()
    spent, waits = 0.0, []
    for _ in range(int(load.capacity / 2 * minutes)):
        came += rnd.expovariate(load.capacity / 2 / MINUTE)
        tokens = load.size(rnd)
        ESTIMATES[estimate](rnd)
        now = max(now, came)
        while True:
            while sent and sent[0][0] + MINUTE <= now:
                spent -= sent.popleft()[1]
            room = load.tokens is None or spent + tokens <= load.tokens
            if not sent or (len(sent) < load.requests and room):
                break
            now = sent[0][0] + MINUTE
        sent.append((now, tokens))
        spent += tokens
        waits.append(now - came)
    return sorted(waits)


def _stack(load: Load) -> Stack:
    return presets.batch(
        requests_per_minute=load.requests,
        tokens_per_minute=load.tokens,
        concurrency=4_000,
        log=False,
    )


def _full_load(load: Load, estimate: str, server: Server, seconds: float) -> float:
    """Send as much as the stack lets; return the share of the limit that was used."""
    rnd, send = random.Random(server.seed), _stack(load).around(server)

    async def main() -> None:
        async def work(first: int) -> None:
            while True:
                tokens = load.size(rnd)
                await send((first, tokens, 0.0), tokens=tokens * ESTIMATES[estimate](rnd))

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as workers:
                for first in range(min(4_000, int(load.capacity / 10) + 64)):
                    workers.start_soon(work, first)

    run_virtually(main)
    minutes = seconds / MINUTE
    used = [len(server.let_in) / load.requests]
    if load.tokens is not None:
        used.append(sum(tokens for _, tokens in server.let_in) / load.tokens)
    return max(used) / minutes


def _rows(load: Load, rows: list[float], server: Server) -> float:
    """Send these rows, 256 at a time; return how long it took."""
    send, rest = _stack(load).around(server), iter(enumerate(rows))

    async def main() -> float:
        async def work() -> None:
            for number, tokens in rest:
                await send((number, tokens, 0.0), tokens=tokens)

        async with anyio.create_task_group() as workers:
            for _ in range(256):
                workers.start_soon(work)
        return current().now()

    return run_virtually(main)


def waits(seeds: list[int]) -> Iterator[str]:
    """Yield the lines of the table of waits at half of the load."""
    yield "| load | estimates | server | p99, s | mean, s | oracle p99, mean | 429s |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for name, load in LOADS.items():
        for estimate in ESTIMATES if load.tokens is not None else ["right"]:
            for kind, (style, burst) in SERVERS.items():
                found, best, refused = list[float](), list[float](), 0
                for seed in seeds:
                    server = Server(load, style, burst, seed)
                    found += _half_load(load, estimate, server, 30.0)
                    best += oracle(load, seed, 30.0, estimate)
                    refused += len(server.refused)
                share = refused / (refused + len(found))
                yield (
                    f"| {name} | {estimate} | {kind} | {_p99(found):.2f} | {_mean(found):.2f} | "
                    f"{_p99(best):.2f}, {_mean(best):.2f} | {share:.2%} |"
                )


def use(seeds: list[int]) -> Iterator[str]:
    """Yield the lines of the table of use at the full load."""
    yield "| limit | estimates | server | used | 429s | most in a minute |"
    yield "|---|---|---|---:|---:|---:|"
    plain = {f"{n:,} RPM": (Load(n, None, n, _one), "right") for n in (60, 600, 6_000, 60_000)}
    mixed = Load(600, 200_000, 400, _small)
    both = {f"600 RPM + 200,000 TPM, {each}": (mixed, each) for each in ESTIMATES}
    for name, (load, estimate) in (plain | both).items():
        for kind, (style, burst) in SERVERS.items():
            if load.tokens is not None and style == "bucket":
                continue  # one of the rows of waits: no estimate is right there
            seconds = min(1_800.0, max(120.0, 600_000.0 / load.requests))
            used, sent, refused, most = list[float](), 0, 0, 0.0
            for seed in seeds:
                server = Server(load, style, burst, seed, answer=8.0 if load.tokens else 1.0)
                used.append(_full_load(load, estimate, server, seconds))
                refused += len(server.refused)
                sent += len(server.let_in) + len(server.refused)
                requests, tokens = server.most()
                most = max(most, requests if load.tokens is None else tokens)
            yield (
                f"| {name.partition(', ')[0]} | {estimate} | {kind} | {_mean(used):.1%} | "
                f"{refused / sent:.2%} | {most:,.0f} |"
            )


def large(seeds: list[int]) -> Iterator[str]:
    """Yield the lines of the table of rows up to three quarters of the limit."""
    yield "| rows | server | over the ideal time | 429s |"
    yield "|---|---|---:|---:|"
    load = Load(6_000, 200_000, 100, _heaviest)
    for kind in ("sliding window", "fixed window"):
        over, sent, refused = list[float](), 0, 0
        for seed in seeds:
            rnd = random.Random(seed)
            rows = [load.size(rnd) for _ in range(2_000)]
            server = Server(load, *SERVERS[kind], seed, answer=0.5)
            assert load.tokens is not None
            over.append(_rows(load, rows, server) / (sum(rows) / load.tokens * MINUTE))
            sent += len(server.let_in)
            refused += len(server.refused)
        yield f"| 2,000 | {kind} | {_mean(over):.2f} | {refused / (sent + refused):.2%} |"


def _p99(found: list[float]) -> float:
    return sorted(found)[int(0.99 * (len(found) - 1))]


def _mean(found: list[float]) -> float:
    return sum(found) / len(found)


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12], help="11 12")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    lines = ["# What a declared limit costs", "", "From `make bench-limits`, in virtual time.", ""]
    for title, table in {
        "Added wait at half of the load, `presets.service`": waits,
        "Use at the full load, `presets.batch`": use,
        "Rows of up to three quarters of the limit, 200,000 TPM declared right": large,
    }.items():
        lines += [f"## {title}", ""]
        for line in table(options.seeds):
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    if not options.no_write and options.seeds == parser.get_default("seeds"):
        PAGE.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
