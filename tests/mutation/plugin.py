"""Inside of a trial: ends a test that runs for ever, and notes which tests reach a place.

Loaded by pytest as a plugin. Where `MUTATION_REACHED` names a file, `reached` appends to it; the
programs that a test starts do so too, since `sitecustomize` gives it to each.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

LONGEST = 60.0
"""Seconds of CPU time that a test may take. No test of the suite takes a third of it."""

MEMORY = 8 << 30
"""Bytes of address space: a mutant that collects for ever ends in a MemoryError."""

_seen: set[tuple[int, str]] = set()


def pytest_configure() -> None:
    """Bound the memory, and leave the processor to others."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(5)


def pytest_runtest_setup() -> None:
    """Let the process be ended by a signal when this test has taken too long."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)


def reached(number: int) -> None:
    """Note that the test under way, or an import, reaches the place of a mutant."""
    found = number, os.environ.get("PYTEST_CURRENT_TEST", "").split("[")[0].split(" (")[0]
    if found not in _seen:
        _seen.add(found)
        with Path(os.environ["MUTATION_REACHED"]).open("a", encoding="utf-8") as notes:
            notes.write(f"{number} {found[1]}\n")
