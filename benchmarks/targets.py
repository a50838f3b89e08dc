"""What the benchmark must show, and what it aims at."""

from __future__ import annotations

from dataclasses import dataclass

from . import imports, parts, rivals
from .measure import Table
from .parts import Million

MIB = 1024 * 1024


@dataclass(slots=True)
class Results:
    """All that one run measured."""

    calls: Table
    failures: Table
    slots: Table
    waiting: Table
    loopback: dict[int, Table]
    imports: Table
    memory: dict[str, float]
    million: Million


@dataclass(frozen=True, slots=True)
class Target:
    """One figure and the most that it may be: what it must be, and what it aims at."""

    what: str
    reached: float
    must: float
    aim: float | None
    unit: str = "x"

    def verdict(self) -> str:
        """Say which of the two is met."""
        if self.aim is not None and self.reached <= self.aim:
            return "aim met"
        return "met" if self.reached <= self.must else "MISSED"

    def shown(self, value: float | None) -> str:
        """Return a value with its unit."""
        return "" if value is None else f"{value:.2f}{self.unit}"


def targets(results: Results) -> list[Target]:
    """Return every target with what was reached."""
    full, calls = parts.FULL, results.calls
    semaphore = results.slots.ratio("ConcurrencyLimiter").median
    return [
        Target("full stack over the floor", calls.ratio(full).median, 4.0, 2.5),
        Target(
            "full stack over the usual hand-made one",
            calls.ratio(full, rivals.HAND_MADE).median,
            1 / 6,
            1 / 10,
        ),
        Target(
            "full stack over pyresilience with the same features",
            calls.ratio(full, rivals.PYRESILIENCE).median,
            1 / 2,
            1 / 3,
        ),
        Target("2,000 tasks through 64 slots over asyncio.Semaphore", semaphore, 1.0, 1 / 2),
        Target(
            "aiohttp over loopback, 64 in flight, over bare aiohttp",
            results.loopback[64].ratio("all 8 layers").median,
            1.2,
            1.05,
        ),
        Target("growth over 1,000,000 calls", results.million.drift() / MIB, 1.0, None, " MiB"),
        Target(
            "cost of the last 100,000 calls over the first",
            results.million.slowdown(),
            1.1,
            None,
        ),
        Target(
            f"import over {imports.PACKAGES}",
            results.imports.ratio(f"import {imports.OURS}").median,
            1.5,
            1.1,
        ),
    ]
