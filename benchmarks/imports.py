"""What importing the library costs, over the three packages that it is built on."""

from __future__ import annotations

import random
import subprocess
import sys

from .measure import Cost, Table

PACKAGES = "asyncio, anyio, structlog"
OURS = "resilient_infe"
STACK = "resilient_infe; resilient_infe.presets.batch()"
"""The first stack that logs loads structlog, too."""

_MEASURE = """
import time, sys
cpu, wall = time.process_time(), time.perf_counter()
import {what}
print(time.process_time() - cpu, time.perf_counter() - wall)
print(*sorted(name for name in ("aiohttp", "httpx", "openai", "trio") if name in sys.modules))
"""


def measure(rounds: int) -> Table:
    """Import each in fresh processes that take turns."""
    table = Table("Import", None, f"import {PACKAGES}")
    extra: set[str] = set()
    for number in range(rounds + 1):
        costs = {}
        for what in random.sample([PACKAGES, OURS, STACK], 3):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURE.format(what=what)],
                capture_output=True,
                text=True,
                check=True,
            )
            cpu, wall = map(float, done.stdout.splitlines()[0].split())
            costs[f"import {what}"] = Cost(cpu, wall)
            extra.update(done.stdout.splitlines()[1].split() if what == OURS else ())
        if number:  # the first one wrote the byte code
            table.rounds.append({name: costs[name] for name in sorted(costs)})
    table.notes = (f"imported besides: {', '.join(sorted(extra)) or 'no optional package'}",)
    return table
