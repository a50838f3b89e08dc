"""Inside of a trial: ends a test that runs for ever. Loaded by pytest as a plugin."""

from __future__ import annotations

import os
import resource
import signal

LONGEST = 60.0
"""Seconds of CPU time that a test may take. No test of the suite takes a third of it."""

MEMORY = 8 << 30
"""Bytes of address space: a mutant that collects for ever ends in a MemoryError."""


def pytest_configure() -> None:
    """Bound the memory, and leave the processor to others."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(5)


def pytest_runtest_setup() -> None:
    """Let the process be ended by a signal when this test has taken too long."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
