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
SLOTS = "ConcurrencyLimiter"
FULL_SLOTS = "all 8 layers, 64 slots"

BLOCK = 500
"""Calls of the long run that go through the stack before the floor takes its turn."""


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
    notes = ("calls one after the other; what is measured of each is its way of success",)
    table = Table("One call that succeeds at once", BARE, FLOOR, notes=notes)
    runs = {name: one_by_one(send) for name, send in subjects.items()}
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


async def layers(rounds: int) -> Table:
    """Measure our own stacks only, against the floor."""
    own = {**ours.alone(), **ours.whole()}
    subjects = {BARE: floor.transport, FLOOR: floor.floor(), **own}
    table = Table("One call", BARE, FLOOR, ours=tuple(own))
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

    def again(inner: Send) -> Send:
        """Return the least that can be called trying again."""

        async def send(payload: object) -> object:
            while True:
                try:
                    return await inner(payload)
                except ConnectionError:
                    continue

        return send

    subjects = {
        BARE: again(flaky()),
        FLOOR: floor.floor(flaky()),
        "Retry": Stack(ours.at_once(), ErrorClassifier()).around(flaky()),
        FULL: ours.full(retry=ours.at_once()).around(flaky()),
        "tenacity alone": rivals.tenacity_alone(flaky()),
        rivals.HAND_MADE: rivals.hand_made(flaky(), wait=rivals.tenacity.wait_none()),
    }
    notes = (
        "one attempt in ten fails and is repeated without a delay",
        "the bare await is of the same transport, in a loop that tries again",
    )
    table = Table("One attempt in ten fails", BARE, FLOOR, notes=notes, ours=("Retry", FULL))
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

    roomy = "all 8 layers, 4,000 slots"
    subjects = {
        "no limit": _turn,
        SEMAPHORE: guarded,
        "no layers": Stack(strict=False).around(_turn),
        SLOTS: Stack(ConcurrencyLimiter(64), strict=False).around(_turn),
        roomy: ours.full(slots=4_000).around(_turn),
        FULL_SLOTS: ours.full(slots=64).around(_turn),
    }
    table = Table(
        "2,000 tasks through 64 slots",
        "no limit",
        SEMAPHORE,
        notes=(
            "2,000 tasks, each holds its slot for one turn of the loop",
            "the semaphore is measured over no stack, the layer over a stack with no layers",
            "the full stack is measured over the same with slots for all",
        ),
        bases={SLOTS: "no layers", FULL_SLOTS: roomy},
        ours=(SLOTS, FULL_SLOTS),
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
    table = Table(
        "2,000 tasks waiting on a rate", "no limit", LIMITER, notes=notes, ours=("RateLimiter",)
    )
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
    """What became of a long run: bytes resident and the median cost over the floor's, by tenths."""

    calls: int
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

    In between, as many go through the floor by hand, so that a slower machine is no slower stack,
    and a library that slows down as a whole still is.
    """
    send, by_hand = ours.full().around(floor.transport), floor.floor()
    resident, cost = [], []
    for each in (send, by_hand):
        await one_by_one(each)(2_000)
    for _ in range(10):
        times = []
        for _ in range(total // 10 // BLOCK):
            ours_now = await cost_of(one_by_one(send), BLOCK)
            floor_now = await cost_of(one_by_one(by_hand), BLOCK)
            times.append(ours_now.cpu / floor_now.cpu)
        gc.collect()
        resident.append(_resident())
        cost.append(statistics.median(times))
    return Million(total, resident, cost)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not on Linux: the most that it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()
