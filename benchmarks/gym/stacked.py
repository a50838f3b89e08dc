"""The same through the whole stack: tasks, slots, retries and the layer itself, in virtual time."""

from __future__ import annotations

import math
import random

import anyio

from resilient_infe import (
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    Kind,
    RateLimiter,
    Retry,
    Stack,
    Verdict,
    aio,
)
from resilient_infe.testing import run_virtually

from .scenarios import KINDS, MEAN_LATENCY, Scenario
from .score import Score, judge
from .servers import Answer, Server
from .world import Books, Hour

WAY = "resilient_infe, whole stack"

NAMES = (
    *(f"600, {name}" for name, _, _ in KINDS),
    "600, bucket of 1 s, raised threefold",
    "600, sliding window, cut to a third",
    "600, bucket of 1 s, 2 % random 429s",
    "600, fixed window, Retry-After",
    "60, bucket of 60 s",
    "60, fixed window",
    "600, bucket of 1 s, 60 s of 429s",
    "120 a minute, sliding window, chat",
)
"""The scenarios that are played so."""


class Wire:
    """A transport to a gym server: the network, the latency, and the books."""

    def __init__(self, scenario: Scenario, server: Server) -> None:
        """Start with empty books."""
        self._network, self._server = scenario.network, server
        seconds = scenario.seconds
        self.books = Books([0] * seconds, [0] * seconds, [0.0] * seconds)
        self._random = random.Random(0)

    async def send(self, tokens: float) -> Answer:
        """Send one request of so many tokens, and return what came back."""
        runtime, network = aio.current(), self._network
        there, back = (self._random.uniform(network.least, network.most) for _ in range(2))
        await runtime.sleep_until(runtime.now() + there)
        now = runtime.now()
        answer = self._server.handle(tokens, now)
        column = self.books.accepted if answer.accepted else self.books.rejected
        if now < len(column):
            column[int(now)] += 1
        if answer.accepted:
            drawn = network.median * math.exp(self._random.gauss(0.0, network.spread))
            back += min(drawn, network.longest)
        await runtime.sleep_until(runtime.now() + back)
        return answer


def judged(answer: Answer | None, _: BaseException | None) -> Verdict | None:
    """Return what an answer means."""
    if answer is None or answer.accepted:
        return None
    return Verdict(Kind.RATE_LIMITED, retryable=True, retry_after=answer.retry_after)


def play_stacked(scenario: Scenario) -> Score:
    """Run a scenario with as many tasks as keep twice the limit in flight."""
    factor = max((each for _, each in scenario.changes), default=1.0)
    tasks = math.ceil(2 * scenario.per_minute / 60 * max(1.0, factor) * MEAN_LATENCY)
    wire = Wire(scenario, scenario.server())
    stack = Stack(
        Retry(max_attempts=20),
        ConcurrencyLimiter(tasks),
        RateLimiter(),
        CircuitBreaker(),
        ErrorClassifier(classify=judged),
    )
    send = stack.around(wire.send)
    draw, mean = random.Random(1), scenario.work.tokens

    async def work() -> None:
        while True:
            tokens = mean * draw.uniform(0.5, 1.5)
            await send(tokens, tokens=tokens)

    async def main() -> None:
        with anyio.move_on_after(scenario.seconds):
            async with anyio.create_task_group() as group:
                for _ in range(tasks):
                    group.start_soon(work)

    run_virtually(main)
    return judge(scenario, WAY, Hour(scenario.seconds, [wire.books]))
