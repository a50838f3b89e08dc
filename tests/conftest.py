"""What all tests share: both backends in virtual time, and a count of each at the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings

pytest_plugins = ["resilient_infe.testing.plugin"]

settings.register_profile(
    "suite", deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)
settings.register_profile("thorough", parent=settings.get_profile("suite"), max_examples=2_000)
settings.load_profile("suite")


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
