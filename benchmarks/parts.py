"""The parts of the benchmark that are run in a loop of this process."""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiolimiter import AsyncLimiter

from resilient_infe import ConcurrencyLimiter, ErrorClassifier, RateLimiter, Stack

from . import floor, ours, rivals
from .measure import Run, Table, cost_of, one_by_one, take_turns

Send = Callable[[object], Awaitable[object]]

BARE = "bare await"
FLOOR = "floor by hand"
FULL = "all 8 layers, logging off"
SEMAPHORE = "asyncio.Semaphore"
LIMITER = "aiolimiter"

BLOCK = 500
"""Calls of the long run that go through one stack before the other takes its turn."""


async def calls(rounds: int) -> Table:
    """Measure one call that succeeds at once, for us and for all rivals."""
    subjects = {
        BARE: floor.transport,
        "floor by hand, no request object": floor.bare_floor(),
        FLOOR: floor.floor(),
        **ours.alone(),
        **ours.whole(),
        **rivals.combinations(),
    }
    table = Table("One call that succeeds at once", BARE, FLOOR)
    runs = {name: one_by_one(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


async def layers(rounds: int) -> Table:
    """Measure our own stacks only, against the floor."""
    subjects = {BARE: floor.transport, FLOOR: floor.floor(), **ours.alone(), **ours.whole()}
    table = Table("Our own stacks", BARE, FLOOR)
    runs = {name: one_by_one(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


async def failures(rounds: int) -> Table:
    """Measure the calls to a server that refuses one attempt in ten, retried without a delay."""

    def flaky() -> Send:
        attempts = 0

        async def transport(payload: object) -> object:
            nonlocal attempts
            attempts += 1
            if not attempts % 10:
                raise ConnectionError
            return payload

        return transport

    subjects = {
        BARE: floor.transport,
        FLOOR: floor.floor(flaky()),
        "Retry": Stack(ours.at_once(), ErrorClassifier()).around(flaky()),
        FULL: ours.full(retry=ours.at_once()).around(flaky()),
        "tenacity alone": rivals.tenacity_alone(flaky()),
        rivals.HAND_MADE: rivals.hand_made(flaky(), wait=rivals.tenacity.wait_none()),
    }
    notes = ("one attempt in ten fails and is repeated without a delay",)
    table = Table("One attempt in ten fails", BARE, FLOOR, notes=notes)
    runs = {name: one_by_one(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


def _together(send: Send) -> Run:
    """Return what makes all calls at once, each in a task of its own."""

    async def run(calls: int) -> None:
        await asyncio.gather(*(send("x") for _ in range(calls)))

    return run


async def _turn(payload: object) -> object:
    """Let the others run once."""
    await asyncio.sleep(0)
    return payload


async def slots(rounds: int) -> Table:
    """Measure 2,000 tasks that go through 64 slots, each holding one for a turn of the loop."""
    semaphore = asyncio.Semaphore(64)

    async def guarded(payload: object) -> object:
        async with semaphore:
            return await _turn(payload)

    subjects = {
        "no limit": _turn,
        SEMAPHORE: guarded,
        "no layers": Stack(strict=False).around(_turn),
        "ConcurrencyLimiter": Stack(ConcurrencyLimiter(64), strict=False).around(_turn),
    }
    table = Table(
        "2,000 tasks through 64 slots",
        "no limit",
        SEMAPHORE,
        notes=(
            "2,000 tasks, each holds its slot for one turn of the loop",
            "the layer is measured over a stack with no layers, the semaphore over no stack",
        ),
        bases={"ConcurrencyLimiter": "no layers"},
    )
    runs = {name: _together(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=4 * rounds, calls=2_000)


async def waiting(rounds: int) -> Table:
    """Measure 2,000 tasks that wait for a rate of 20,000 a second."""
    limiter = AsyncLimiter(200, 0.01)

    async def paced(payload: object) -> object:
        async with limiter:
            return payload

    stack = Stack(RateLimiter(requests_per_minute=1_200_000, burst=0.01), strict=False)
    subjects = {
        "no limit": floor.transport,
        LIMITER: paced,
        "RateLimiter": stack.around(floor.transport),
    }
    notes = ("2,000 tasks at 20,000 a second, bursts of 200",)
    table = Table("2,000 tasks waiting on a rate", "no limit", LIMITER, notes=notes)
    runs = {name: _together(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=rounds, calls=2_000)


async def memory() -> dict[str, float]:
    """Return the bytes that a suspended call takes, by what it is suspended in."""
    subjects: dict[str, Callable[[Send], Send]] = {
        "a bare task": lambda transport: transport,
        FLOOR: floor.floor,
        FULL: lambda transport: ours.full(slots=100_000).around(transport),
        rivals.HAND_MADE: rivals.hand_made,
    }
    return {name: await _bytes_suspended(wrap) for name, wrap in subjects.items()}


async def _bytes_suspended(wrap: Callable[[Send], Send]) -> float:
    released = asyncio.Event()

    async def hang(payload: object) -> object:
        await released.wait()
        return payload

    send, count = wrap(hang), 64  # as many as the rivals' semaphores let in
    warm = asyncio.ensure_future(send("x"))
    await asyncio.sleep(0)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.ensure_future(send("x")) for _ in range(count - 1)]
    for _ in range(3):
        await asyncio.sleep(0)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    released.set()
    await asyncio.gather(warm, *tasks)
    return taken / (count - 1)


@dataclass(frozen=True, slots=True)
class Million:
    """What became of a long run: bytes resident and the median cost over a new stack, by tenths."""

    resident: list[int]
    cost: list[float]

    def drift(self) -> int:
        """Return the bytes that the process grew by after the first tenth."""
        return self.resident[-1] - self.resident[0]

    def slowdown(self) -> float:
        """Return the median cost of a call in the last tenth over that in the first."""
        return self.cost[-1] / self.cost[0]


async def million(total: int = 1_000_000) -> Million:
    """Make a million calls through one full stack, one after the other.

    In between, as many go through stacks that are new in each tenth, so that a slower machine is no
    slower stack.
    """
    old = ours.full().around(floor.transport)
    resident, cost = [], []
    await one_by_one(old)(2_000)
    for _ in range(10):
        new = ours.full().around(floor.transport)
        await one_by_one(new)(2_000)
        times = []
        for _ in range(total // 10 // BLOCK):
            old_now = await cost_of(one_by_one(old), BLOCK)
            new_now = await cost_of(one_by_one(new), BLOCK)
            times.append(old_now.cpu / new_now.cpu)
        gc.collect()
        resident.append(_resident())
        cost.append(statistics.median(times))
    return Million(resident, cost)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not on Linux: the most that it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()
