"""Many processes on one limit, in virtual time, with a model of the store between them.

Each process is a stack of its own. How many calls come to it is drawn anew every 20 s. The server
keeps a sliding window or a bucket. Stack, limiter and shares are the real ones.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from resilient_infe import ErrorClassifier, RateLimiter, Retry, Stack
from resilient_infe.aio import current
from resilient_infe.errors import RateLimitError
from resilient_infe.shared import RedisShares
from resilient_infe.testing import run_virtually
from resilient_infe.testing.limits import Style, make_limit
from resilient_infe.testing.store import Connection, StoreModel

MINUTE, EPOCH = 60.0, 20.0


@dataclass
class Server:
    """A server that keeps a limit, and its books.

    Attributes:
        sends: when a request came, and from whom.
        let_in: the same of those that were let in.
        refused: when a 429 was sent.
    """

    limit: float
    style: Style = "sliding"
    burst: float = 1.0
    latency: float = 0.2
    seed: int = 1
    sends: list[tuple[float, int]] = field(default_factory=list)
    let_in: list[tuple[float, int]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the limit."""
        self._limit = make_limit(self.style, self.limit, MINUTE, self.burst)
        self._rnd = random.Random(self.seed)

    async def answer(self, member: int) -> str:
        """Answer a request."""
        runtime = current()
        await runtime.sleep_until(runtime.now() + self._rnd.uniform(0.005, 0.02))
        now = runtime.now()
        self.sends.append((now, member))
        if not self._limit.fits(1.0, now):
            self.refused.append(now)
            raise RateLimitError("too many", status=429)
        self._limit.take(1.0, now)
        self.let_in.append((now, member))
        await runtime.sleep_until(now + self.latency * math.exp(self._rnd.gauss(0.0, 0.5)))
        return "ok"

    def most(self, window: float = MINUTE) -> int:
        """Return the most requests that came in any window."""
        inside: deque[float] = deque()
        most = 0
        for now, _ in self.sends:
            inside.append(now)
            while inside[0] <= now - window:
                inside.popleft()
            most = max(most, len(inside))
        return most


@dataclass
class Fleet:
    """What is simulated.

    Attributes:
        members: the processes.
        limit: requests a minute.
        seconds: how long they send.
        demand: all of it, in multiples of the limit.
        latency: draws the seconds of one way to the store.
        loss: the share of calls to the store that are lost.
        skew: the seconds by which the store's clock is ahead.
        happens: what befalls the fleet: the second, and what to do with it.
        on_loss: as for `RedisShares`.
    """

    members: int = 8
    limit: float = 3_000.0
    seconds: float = 120.0
    demand: float = 1.5
    latency: float = 0.0005
    loss: float = 0.0
    skew: float = 0.0
    style: Style = "sliding"
    seed: int = 1
    happens: list[tuple[float, Callable[[Any], None]]] = field(default_factory=list)
    on_loss: Any = "keep"


@dataclass
class Report:
    """What came of it."""

    used: float
    refused: float
    most: float
    jain: float
    calls: float
    calls_per_send: float
    over: float
    cpu: float
    lost: int


class Run:
    """One simulation under way: the store, the connections and the shares."""

    def __init__(self, fleet: Fleet) -> None:
        """Make the members."""
        self.fleet, self.rnd = fleet, random.Random(fleet.seed)
        self.server = Server(fleet.limit, fleet.style, seed=fleet.seed)
        self.store = StoreModel()
        rnd = random.Random(fleet.seed + 1)
        self.lines = [
            Connection(
                self.store,
                lambda: rnd.expovariate(1.0 / fleet.latency),
                fleet.loss,
                rnd=rnd,
                ahead=fleet.skew,
            )
            for _ in range(fleet.members)
        ]
        self.shares = [RedisShares(line, on_loss=fleet.on_loss) for line in self.lines]
        self.rates = [0.0] * fleet.members
        self.demanded = [0] * fleet.members
        self.over, self.failed = 0.0, 0

    def forget(self) -> None:
        """Let the store lose its memory, as after a restart."""
        self.store.limits.clear()

    async def main(self) -> None:
        """Run it."""
        fleet, runtime = self.fleet, current()
        self.stacks = [
            Stack(
                Retry(10),
                RateLimiter(requests_per_minute=fleet.limit, shared=each),
                ErrorClassifier(),
            )
            for each in self.shares
        ]
        self.ends = runtime.now() + fleet.seconds
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._draw)
            tasks.start_soon(self._befall)
            tasks.start_soon(self._watch)

    async def _draw(self) -> None:
        """Draw the demand anew again and again."""
        fleet, runtime = self.fleet, current()
        async with anyio.create_task_group() as tasks:
            for member, stack in enumerate(self.stacks):
                tasks.start_soon(self._come, tasks, stack.around(self.server.answer), member)
            while runtime.now() < self.ends - 0.01:
                parts = [self.rnd.uniform(0.1, 1.0) for _ in range(fleet.members)]
                each = fleet.demand * fleet.limit / MINUTE / sum(parts)
                self.rates = [part * each for part in parts]
                await runtime.sleep_until(min(self.ends, runtime.now() + EPOCH))
            tasks.cancel_scope.cancel()

    async def _come(self, tasks: Any, send: Any, member: int) -> None:
        runtime = current()
        while True:
            rate = self.rates[member]
            if rate <= 0.0:
                await runtime.sleep_until(runtime.now() + 0.1)
                continue
            await runtime.sleep_until(runtime.now() + self.rnd.expovariate(rate))
            self.demanded[member] += 1
            tasks.start_soon(self._ask, send, member)

    async def _ask(self, send: Any, member: int) -> None:
        try:
            await send(member)
        except Exception:
            self.failed += 1

    async def _befall(self) -> None:
        runtime = current()
        for at, what in self.fleet.happens:
            await runtime.sleep_until(at)
            what(self)

    async def _watch(self) -> None:
        runtime = current()
        while runtime.now() < self.ends - 0.01:
            await runtime.sleep_until(runtime.now() + 0.05)
            now = runtime.now()
            held = [
                member.share
                for each in self.shares
                for _, member in each.seats.values()
                if now < member.until
            ]
            self.over = max(self.over, sum(held) - 1.0)


def simulate(fleet: Fleet) -> Report:
    """Run a fleet in virtual time, and report."""
    run, began = Run(fleet), time.process_time()
    run_virtually(run.main)
    served = len(run.server.let_in)
    let_in = Counter(member for _, member in run.server.let_in)
    ratios = [let_in[member] / max(1, asked) for member, asked in enumerate(run.demanded)]
    jain = sum(ratios) ** 2 / (len(ratios) * sum(each * each for each in ratios))
    return Report(
        used=served / (fleet.limit / MINUTE * fleet.seconds),
        refused=len(run.server.refused) / max(1, len(run.server.sends)),
        most=run.server.most() / fleet.limit,
        jain=jain,
        calls=run.store.calls / fleet.seconds,
        calls_per_send=run.store.calls / max(1, len(run.server.sends)),
        over=run.over,
        cpu=time.process_time() - began,
        lost=run.failed,
    )
