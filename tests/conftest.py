"""What all tests share: both backends in virtual time, and a count of each at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from resilient_infe.testing import run_virtually

settings.register_profile(
    "suite", deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)
settings.register_profile("thorough", parent=settings.get_profile("suite"), max_examples=2_000)
settings.load_profile("suite")

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Name the event loop; a test that asks for it runs on both."""
    return str(request.param)


@pytest.fixture
def run(backend: Any) -> Run:
    """Return what runs an async function in virtual time, on each backend in turn."""
    return lambda function: run_virtually(function, backend)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests passed on each backend."""
    passed = terminalreporter.stats.get("passed", ())
    backends: Counter[str] = Counter()
    for report in passed:
        name = report.nodeid
        found = [b for b in ("asyncio", "trio") if f"[{b}" in name or f"-{b}" in name]
        backends[found[0] if found else "no loop"] += 1
    counts = ", ".join(f"{name} {count}" for name, count in sorted(backends.items()))
    terminalreporter.write_line(f"passed by backend: {counts}")
