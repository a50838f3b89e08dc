"""How a cost is measured on a machine that is never quiet.

All subjects take turns within a round, in a random order, and a ratio is formed within the round;
what is reported is the median of the rounds with its quartiles. So a machine that is twice as slow
for a minute is so for all of them.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Run = Callable[[int], Awaitable[None]]
"""Makes so many calls."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one call: of the processor and of the clock on the wall."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of at least two values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


@dataclass(slots=True)
class Table:
    """What was measured of some subjects, over one that does nothing, against a reference.

    Attributes:
        title: what it shows.
        base: the subject that is taken off every other, where `bases` names none of its own.
        reference: the subject that the ratios are formed against.
        rounds: the costs of every subject, round by round.
        notes: what else there is to say.
        bases: what is taken off a subject that has a base of its own.
        ours: the subjects that are this library's, whose ratios may not grow.
    """

    title: str
    base: str | None
    reference: str
    rounds: list[Mapping[str, Cost]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    bases: Mapping[str, str] = field(default_factory=dict)
    ours: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Return the subjects, without the base."""
        return [name for name in self.rounds[0] if name != self.base]

    def cpu(self, name: str) -> Spread:
        """Return the seconds of the processor per call, over the base."""
        return Spread.of([self._over(each, name) for each in self.rounds])

    def wall(self, name: str) -> Spread:
        """Return the seconds on the wall per call, over the base."""
        base = self.bases.get(name, self.base)
        return Spread.of(
            [each[name].wall - (0.0 if base is None else each[base].wall) for each in self.rounds]
        )

    def ratio(self, name: str, to: str | None = None) -> Spread:
        """Return the ratio of two subjects' costs, formed within each round."""
        other = self.reference if to is None else to
        return Spread.of([self._over(each, name) / self._over(each, other) for each in self.rounds])

    def _over(self, costs: Mapping[str, Cost], name: str) -> float:
        least = 1e-9  # what is cheaper than nothing is noise
        base = self.bases.get(name, self.base)
        return max(least, costs[name].cpu - (0.0 if base is None else costs[base].cpu))


def joined(tables: Sequence[Table]) -> Table:
    """Return the first of some tables of the same subjects, with the rounds of all."""
    first = tables[0]
    return replace(first, rounds=[each for table in tables for each in table.rounds])


async def cost_of(run: Run, calls: int) -> Cost:
    """Return the cost of one call out of so many."""
    cpu, wall = time.process_time(), time.perf_counter()
    await run(calls)
    return Cost((time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls)


async def take_turns(
    table: Table, subjects: Mapping[str, Run], *, rounds: int, calls: int
) -> Table:
    """Measure all subjects in so many rounds, each of so many calls, after one that warms up."""
    for run in subjects.values():
        await run(calls)
    gc.collect()
    gc.freeze()  # what else lies in this process is not to be looked through again and again
    for _ in range(rounds):
        costs = {}
        for name in random.sample(list(subjects), len(subjects)):
            # Nobody pays for what the one before left behind; a full collection would empty the
            # interpreter's free lists too, which are full in a program that runs.
            gc.collect(1)
            costs[name] = await cost_of(subjects[name], calls)
        table.rounds.append({name: costs[name] for name in subjects})
    return table


def one_by_one(send: Callable[[object], Awaitable[object]], payload: object = "x") -> Run:
    """Return what makes the calls one after the other."""

    async def run(calls: int) -> None:
        for _ in range(calls):
            await send(payload)

    return run


def at_once(send: Callable[[], Awaitable[object]], in_flight: int) -> Run:
    """Return what makes the calls with so many under way at any time."""

    async def run(calls: int) -> None:
        left = calls

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await send()

        await asyncio.gather(*(worker() for _ in range(in_flight)))

    return run
