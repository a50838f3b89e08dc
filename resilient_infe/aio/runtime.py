"""What both loops have in common: how far a timer may be set, and what a cancellation is."""

from __future__ import annotations

import asyncio

LONGEST_CLEAN_UP = 5.0
"""Seconds that a clean-up in the background may take."""

LONGEST_SLEEP = 365 * 86_400.0
"""Seconds; no timer is set further off, so that no hint can overflow one."""


def clamp(when: float, now: float) -> float:
    """Return an instant that a timer can be set to: not in the past, not NaN, not infinite."""
    if not when > now:  # NaN too
        return now
    return min(when, now + LONGEST_SLEEP)


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a loop's cancellation, under asyncio or trio."""
    if isinstance(error, asyncio.CancelledError):
        return True
    cls = type(error)
    return cls.__name__ == "Cancelled" and cls.__module__.startswith("trio")
