"""What asyncio and trio share: how far ahead a timer may be set, and what a cancellation is."""

from __future__ import annotations

import asyncio

LONGEST_CLEAN_UP = 5.0
"""Seconds that a clean-up in the background may take."""

LONGEST_SLEEP = 365 * 86_400.0
"""Seconds; no timer is set further ahead, so a server's hint cannot overflow one."""


def clamp(when: float, now: float) -> float:
    """Return an instant that a timer can be set to: not in the past, not NaN, not infinite."""
    if not when > now:  # `when <= now` would be False for NaN
        return now
    return min(when, now + LONGEST_SLEEP)


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation by the event loop, of asyncio or of trio."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return True
    cls = type(error)
    return cls.__name__ == "Cancelled" and cls.__module__.startswith("trio")
