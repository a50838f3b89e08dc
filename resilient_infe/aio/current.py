"""Finds the loop that runs, and binds it once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from ..core.runtime import Runtime
from .asyncio_loop import AsyncioRuntime
from .asyncio_timers import current_task

_runtimes: WeakValueDictionary[asyncio.AbstractEventLoop, AsyncioRuntime] = WeakValueDictionary()
_thread = threading.local()

this_thread = threading.get_ident
"""Returns what the thread is known by that runs here."""

task_on: Callable[[Any], object] = current_task
"""Returns the task that an asyncio loop runs just now, or None."""


def current() -> Runtime:
    """Return the runtime of the running loop.

    Who has kept one may go on with it as long as its `thread` is `this_thread` and its `loop` runs
    a task: to ask for the running loop is a system call on CPython 3.11. What that does not tell
    apart: two loops that run tasks inside of each other, and a loop that went on in another
    thread, where nobody asked for its runtime.

    Raises:
        RuntimeError: no event loop runs here.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001  # public in asyncio.events.__all__
    if loop is None:
        return _current_trio()
    owned: dict[asyncio.AbstractEventLoop, AsyncioRuntime] | None
    owned = getattr(_thread, "asyncio", None)
    if owned is None:
        owned = _thread.asyncio = {}  # ends with the thread, and its loops with it
    kept = owned.get(loop)
    if kept is None:
        for closed in [each for each in owned if each.is_closed()]:
            del owned[closed]  # a thread may run many loops, one after another
        kept = _runtimes.get(loop) or AsyncioRuntime(loop)
        owned[loop] = _runtimes[loop] = kept
    kept.thread = this_thread()  # the loop may have run in another before
    return kept


def _leave_to_the_parent() -> None:
    # A child that is forked inside of a task runs none of its parent's loops.
    for runtime in list(_runtimes.values()):
        runtime.thread = None
    _runtimes.clear()
    _thread.asyncio = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def _current_trio() -> Runtime:
    from .trio_loop import current_runtime  # trio is optional and slow to import

    return current_runtime()


def wall_time() -> float:
    """Return the seconds since 1970, for dates in headers and nothing else."""
    return time.time()


def finalizer(subject: object, callback: Callable[[], None], runtime: Runtime) -> Callable[[], Any]:
    """Run `callback` in the loop if `subject` is dropped; the result, when called, disarms it."""
    return weakref.finalize(subject, runtime.call_soon, callback).detach
