"""What the benchmark must show, and what it aims at."""

from __future__ import annotations

from dataclasses import dataclass

from . import as_used, fresh, parts, rivals
from . import imports as importing
from .imports import Imports
from .measure import Table
from .parts import Million
from .rivals import Tries

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: turns of each subject of a table.
        calls: of the long run.
        processes: new ones that share a table's rounds; 0 if one measures all tables.
    """

    rounds: int = 15
    calls: int = 1_000_000
    processes: int = fresh.PROCESSES


@dataclass(slots=True)
class Results:
    """All that one run measured."""

    effort: Effort
    tries: dict[str, Tries]
    calls: Table
    failures: Table
    slots: Table
    waiting: Table
    as_used: as_used.Tables
    loopback: dict[int, Table]
    imports: Imports
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
        if self.reached > self.must:
            return "MISSED"
        if self.aim is None:
            return "met"
        return "met, aim met" if self.reached <= self.aim else "met, aim missed"

    def shown(self, value: float | None) -> str:
        """Return a value with its unit."""
        return "" if value is None else f"{value:.2f}{self.unit}"


def targets(results: Results) -> list[Target]:
    """Return every target with what was reached."""
    full, calls = parts.FULL, results.calls
    semaphore = results.slots.ratio(parts.SLOTS).median
    long, used = results.million, results.as_used
    return [
        Target(
            f"{as_used.TOKENS}, over the floor", used.calls.ratio(as_used.TOKENS).median, 6.0, 4.5
        ),
        Target(
            f"{as_used.LIMITS}, over the floor", used.calls.ratio(as_used.LIMITS).median, 12.0, 9.0
        ),
        Target(
            f"{as_used.LISTENER}, over the floor",
            used.calls.ratio(as_used.LISTENER).median,
            10.0,
            None,
        ),
        Target(
            "one attempt in ten fails, over the floor",
            used.failures.ratio(as_used.TOKENS).median,
            6.0,
            None,
        ),
        Target(
            f"{as_used.PLAIN}, {as_used.MANY:,} workers, over asyncio.Semaphore",
            used.many.ratio(as_used.PLAIN).median,
            3.0,
            None,
        ),
        Target(
            f"{as_used.TOKENS}, {as_used.MANY:,} workers, over asyncio.Semaphore",
            used.many.ratio(as_used.TOKENS).median,
            3.6,
            None,
        ),
        Target(as_used.METRICS, 1e6 * used.seen.cpu(as_used.METRICS).median, 12.0, None, " us"),
        Target(as_used.SPANS, 1e6 * used.seen.cpu(as_used.SPANS).median, 35.0, None, " us"),
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
        Target("ConcurrencyLimiter over asyncio.Semaphore, 64 slots", semaphore, 1.0, 1 / 2),
        Target(
            "full stack and aiohttp over loopback, 64 in flight, over bare aiohttp",
            results.loopback[64].ratio("all 8 layers").median,
            1.2,
            1.05,
        ),
        Target(f"growth over {long.calls:,} calls", long.drift() / MIB, 1.0, None, " MiB"),
        Target(
            f"cost of the last {long.calls // 10:,} calls over the first",
            long.slowdown(),
            1.1,
            None,
        ),
        Target(
            f"import over {importing.PACKAGES}",
            results.imports.table.ratio(f"import {importing.OURS}").median,
            1.9,
            1.1,
        ),
        Target(
            "import beside them, structlog included, over the same",
            results.imports.table.ratio(f"import {importing.ALL}").median,
            1.9,
            1.1,
        ),
        Target("packages that it imports besides", len(results.imports.besides), 0, None, ""),
    ]
