"""What was spent of a day's limit, as a value that survives a restart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..errors import ConfigurationError
from .window import Window

LATEST = 253_402_300_799.0
"""Seconds since 1970 of the last instant that can be shown."""

DAYS = "days"
"""The key, in what an allowance believes, of what was spent of the last day."""


def checked_days(belief: Any) -> dict[str, list[tuple[float, float]]] | None:
    """Return what was spent by dimension, instants since 1970 and units; None if it is not there.

    Raises:
        ConfigurationError: it is not what `Allowance.belief` returned.
    """
    if not isinstance(belief, Mapping) or DAYS not in belief:
        return None
    try:
        return {
            str(dimension): [_checked(*each) for each in spent]
            for dimension, spent in belief[DAYS].items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{belief!r} does not say what was spent of a day ({error}): give what an Allowance or "
            f"a RateLimiter returned, or leave it out"
        ) from None


def spent_of(windows: Iterable[Window], now: float, wall: float) -> dict[str, Any]:
    """Return what the last day has cost by dimension: instants since 1970, and units."""
    return {
        each.dimension: [[round(wall - now + end, 1), units] for end, units in spent]
        for each in windows
        if not each.paced and (spent := each.ledger.parts(now))
    }


def restore(windows: Iterable[Window], days: Mapping[str, Any], now: float, wall: float) -> None:
    """Count what `spent_of` returned in an earlier run, unless something is counted already."""
    for each in windows:
        if not each.paced and not each.ledger.spent(now):
            for at, units in sorted(days.get(each.dimension, ())):
                each.ledger.add(units, now - max(0.0, wall - at))


def _checked(at: float, units: float) -> tuple[float, float]:
    at, units = float(at), float(units)
    if not (math.isfinite(at) and 0.0 <= units < math.inf):
        raise ValueError("out of range")
    return at, units


def utc(instant: float) -> str:
    """Return an instant in seconds since 1970 as a text, to the second."""
    shown = datetime.fromtimestamp(math.ceil(min(max(0.0, instant), LATEST)), UTC)
    return f"at {shown:%Y-%m-%d %H:%M:%S} UTC"
