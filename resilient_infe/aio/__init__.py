"""The event loop: waiting and waking, timers, cancellation, the clock.

The layers and policies in the other rooms import neither asyncio nor trio: a `Runtime` from here
binds what they need to one loop, once. So policies can be pure functions of time, and layers thin.
Under asyncio a waiting call awaits a bare future, which costs under half of asyncio's `Semaphore`;
under trio it uses trio's own functions.
"""

from __future__ import annotations

from ..core.runtime import Alarm, Clock, Runtime, Timer
from .asyncio_loop import AsyncioRuntime
from .blocking import BlockingRuntime, drive
from .bridge import bridge
from .current import current, finalizer, task_on, this_thread, wall_time
from .ending import Ending, at_exit, run_on_bridge, run_once_more
from .keeper import Keeper, Kept, Queueing, keep, keeper_of, pump, pump_soon, wake
from .passage import carry, from_home
from .runtime import LONGEST_SLEEP, clamp, is_cancellation

__all__ = [
    "LONGEST_SLEEP",
    "Alarm",
    "AsyncioRuntime",
    "BlockingRuntime",
    "Clock",
    "Ending",
    "Keeper",
    "Kept",
    "Queueing",
    "Runtime",
    "Timer",
    "at_exit",
    "bridge",
    "carry",
    "clamp",
    "current",
    "drive",
    "finalizer",
    "from_home",
    "is_cancellation",
    "keep",
    "keeper_of",
    "pump",
    "pump_soon",
    "run_on_bridge",
    "run_once_more",
    "task_on",
    "this_thread",
    "wake",
    "wall_time",
]
