"""The only room that touches an event loop: park and wake, timers, cancellation, the clock.

Policies are pure and layers are thin because everything that depends on asyncio or trio is here,
bound once per loop in a `Runtime`. Waiters park on bare futures under asyncio (under half of the
cost of its Semaphore) and natively under trio.
"""

from __future__ import annotations

from ..core.runtime import Alarm, Clock, Runtime, Timer
from .asyncio_loop import AsyncioRuntime
from .current import current, finalizer, task_on, this_thread, wall_time
from .keeper import Keeper, Kept, Queueing, keep, keeper_of, pump, wake
from .runtime import LONGEST_SLEEP, clamp, is_cancellation

__all__ = [
    "LONGEST_SLEEP",
    "Alarm",
    "AsyncioRuntime",
    "Clock",
    "Keeper",
    "Kept",
    "Queueing",
    "Runtime",
    "Timer",
    "clamp",
    "current",
    "finalizer",
    "is_cancellation",
    "keep",
    "keeper_of",
    "pump",
    "task_on",
    "this_thread",
    "wake",
    "wall_time",
]
