"""What importing the library costs, over the three packages that it is built on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass

from .measure import Cost, Table

PACKAGES = "asyncio, anyio, structlog"
OURS = "resilient_infe"
ALL = f"{PACKAGES}, {OURS}"
"""Like for like: alone, the package leaves structlog for the first stack that logs."""

STACK = "resilient_infe; resilient_infe.presets.batch()"

_MEASURE = """
import time, sys
sys.modules["rich"] = None
cpu, wall = time.process_time(), time.perf_counter()
import {what}
print(time.process_time() - cpu, time.perf_counter() - wall)
print(*{{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names)
"""
"""structlog loads rich where it is installed, which the core of this library does not ask for."""


@dataclass(frozen=True, slots=True)
class Imports:
    """What an import costs, and which packages it loads that the three do not."""

    table: Table
    besides: tuple[str, ...]


def measure(rounds: int) -> Imports:
    """Import each in fresh processes that take turns, byte code at hand."""
    # Where that is not to be kept, an import would be measured that compiles anew each time.
    keeping = {name: it for name, it in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    table = Table("Import", None, f"import {PACKAGES}")
    loaded: dict[str, set[str]] = {}
    for number in range(rounds + 1):
        costs = {}
        for what in random.sample([PACKAGES, OURS, ALL, STACK], 4):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURE.format(what=what)],
                capture_output=True,
                text=True,
                check=True,
                env=keeping,
            )
            figures, names = done.stdout.splitlines()
            cpu, wall = map(float, figures.split())
            costs[f"import {what}"] = Cost(cpu, wall)
            loaded[what] = set(names.split())
        if number:  # the first one wrote the byte code
            table.rounds.append({name: costs[name] for name in sorted(costs)})
    besides = sorted(loaded[OURS] - loaded[PACKAGES] - {OURS})
    alone = (
        f"`import {OURS}` leaves structlog for the first stack that logs: the row with all four is "
        f"like for like, and the last row adds what a default stack loads"
    )
    table.notes = (
        "byte code is there, and rich is not (structlog loads it where it is installed)",
        alone,
        f"packages that are imported besides: {', '.join(besides) or 'none'}",
    )
    return Imports(table, tuple(besides))
