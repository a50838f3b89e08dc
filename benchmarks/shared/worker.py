"""One of many processes on one limit: calls come to it, and it says at the end what it served.

It prints a line when it is ready, and reads the monotonic time at which all begin.

    python -m benchmarks.shared.worker '{"way": "RedisShares", ...}'
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    ErrorClassifier,
    InfeTransport,
    Retry,
    Stack,
)

from .ways import WAYS

EPOCH = 20.0
BODY = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is told.

    Attributes:
        way: how the limit is kept.
        url, redis: where the server and the store are.
        member, members: which of how many it is.
        limit: requests a minute of all.
        demand: all calls that come, in multiples of the limit.
        waiting: the calls that wait all the time, in place of those that come; 0 for the latter.
        slots: attempts in flight at most.
        seconds: for which calls come.
        patience: seconds after that in which what waits is served.
        ahead: seconds by which the clock of the wall is ahead.
        seed: of the demand, the same for all.
    """

    way: str
    url: str
    redis: str
    member: int = 0
    members: int = 8
    limit: float = 3_000.0
    demand: float = 1.5
    waiting: int = 0
    slots: int = 64
    seconds: float = 60.0
    patience: float = 0.0
    ahead: float = 0.0
    seed: int = 1

    def text(self) -> str:
        """Return it as an argument."""
        return json.dumps(asdict(self))

    def rate(self, second: float) -> float:
        """Return the calls a second that come to this member, drawn anew every 20 s."""
        rnd = random.Random(self.seed * 1_000 + int(second / EPOCH))
        parts = [rnd.uniform(0.1, 1.0) for _ in range(self.members)]
        return self.demand * self.limit / 60.0 * parts[self.member] / sum(parts)


class Worker:
    """What came to a worker, and what became of it."""

    def __init__(self, job: Job) -> None:
        """Have served nothing."""
        self.job, self.demanded, self.served, self.failed = job, 0, 0, 0
        self.errors: list[str] = []
        self._begins = 0.0

    async def run(self) -> dict[str, Any]:
        """Serve what comes."""
        job = self.job
        async with (
            InfeTransport(f"p{job.member}", base_url=job.url) as transport,
            WAYS[job.way](job.limit, job.members, job.redis) as limiter,
        ):
            stack = Stack(
                Retry(10),
                ConcurrencyLimiter(job.slots),
                limiter,
                ErrorClassifier(),
                AttemptTimeout(60.0),
            )
            send = stack.around(transport)
            print("ready", flush=True)
            self._begins = float(await asyncio.to_thread(sys.stdin.readline))
            await asyncio.sleep(self._begins - time.monotonic())
            began = resource.getrusage(resource.RUSAGE_SELF)
            await (self._all_wait(send) if job.waiting else self._come(send))
            ended = resource.getrusage(resource.RUSAGE_SELF)
            shared = getattr(limiter, "shared", None)
            calls = shared.statistics().calls if shared is not None else None
        cpu = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        return {
            "demanded": self.demanded, "served": self.served, "failed": self.failed, "cpu": cpu,
            "calls": calls, "errors": self.errors[:3],
        }  # fmt: skip

    async def _come(self, send: Any) -> None:
        job, rnd = self.job, random.Random(self.job.member)
        tasks: set[asyncio.Task[None]] = set()
        next_at = begins = self._begins
        ends = begins + job.seconds
        while True:
            next_at += rnd.expovariate(job.rate(next_at - begins))
            if next_at >= ends:
                break
            if next_at > time.monotonic():
                await asyncio.sleep(next_at - time.monotonic())
            self.demanded += 1
            tasks.add(task := asyncio.create_task(self._ask(send)))
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        if tasks and job.patience:
            await asyncio.wait(tasks, timeout=job.patience)
        await self._cancel(tasks)

    async def _all_wait(self, send: Any) -> None:
        async def again() -> None:
            while True:
                await self._ask(send)

        tasks = {asyncio.create_task(again()) for _ in range(self.job.waiting)}
        await asyncio.sleep(self.job.seconds)
        await self._cancel(tasks)

    async def _cancel(self, tasks: set[asyncio.Task[None]]) -> None:
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _ask(self, send: Any) -> None:
        try:
            await send(BODY)
            self.served += 1
        except Exception as error:
            self.failed += 1
            self.errors.append(repr(error)[:200])


def main() -> None:
    """Run, and print what came of it."""
    job = Job(**json.loads(sys.argv[1]))
    wall = time.time
    time.time = lambda: wall() + job.ahead
    print(json.dumps(asyncio.run(Worker(job).run())), flush=True)


if __name__ == "__main__":
    main()
