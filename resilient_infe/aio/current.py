"""Finds the `Runtime` of the running event loop; each loop gets one when it is first used."""

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
"""Returns the id of the current thread."""

task_on: Callable[[Any], object] = current_task
"""Returns the task that an asyncio loop is running at this moment, or None."""


def current() -> Runtime:
    """Return the runtime of the running loop.

    On CPython 3.11 asking for the running loop is a system call, so a caller may keep the result.
    It stays valid while its `thread` equals `this_thread()` and its `loop` is running a task. This
    check misses two cases: a loop that runs a task inside a task of another loop, and a loop that
    went on in another thread without anyone there asking for its runtime.

    Raises:
        RuntimeError: no event loop is running here.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001  # public in asyncio.events.__all__
    if loop is None:
        return _current_trio()
    owned: dict[asyncio.AbstractEventLoop, AsyncioRuntime] | None
    owned = getattr(_thread, "asyncio", None)
    if owned is None:
        owned = _thread.asyncio = {}  # freed with the thread, and with it the loops
    kept = owned.get(loop)
    if kept is None:
        for closed in [each for each in owned if each.is_closed()]:
            del owned[closed]  # a thread may run many loops one after another
        kept = _runtimes.get(loop) or AsyncioRuntime(loop)
        owned[loop] = _runtimes[loop] = kept
    kept.thread = this_thread()  # the loop may have run in another thread before
    return kept


def runs_here(runtime: Runtime) -> bool:
    """Return whether the loop of a runtime runs in this thread."""
    if runtime.thread is not None:
        return runtime.thread == this_thread()
    try:
        return current() is runtime
    except RuntimeError:
        return False


def _forget_parents_loops() -> None:
    # A child process that is forked inside a task runs none of its parent's loops.
    for runtime in list(_runtimes.values()):
        runtime.thread = None
    _runtimes.clear()
    _thread.asyncio = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_loops)


def _current_trio() -> Runtime:
    from .trio_loop import current_runtime  # trio is optional and slow to import

    return current_runtime()


def wall_time() -> float:
    """Return the seconds since 1970. Use it only to read dates in headers."""
    return time.time()


def finalizer(subject: object, callback: Callable[[], None], runtime: Runtime) -> Callable[[], Any]:
    """Run `callback` in the loop when `subject` is freed; call the result to disarm this."""
    return weakref.finalize(subject, runtime.call_soon, callback).detach
