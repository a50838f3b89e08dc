"""Finds the loop that runs, and binds it once."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from .asyncio_loop import AsyncioRuntime
from .runtime import Runtime

_thread = threading.local()

running_loop = asyncio._get_running_loop  # noqa: SLF001  # public in asyncio.events.__all__
"""Returns the asyncio loop that runs here, or None; told apart from others by identity alone."""


def current() -> Runtime:
    """Return the runtime of the running loop; one whose `loop` is the `running_loop` is it.

    Raises:
        RuntimeError: no event loop runs here.
    """
    loop = running_loop()
    if loop is None:
        return _current_trio()
    runtimes: dict[asyncio.AbstractEventLoop, AsyncioRuntime] | None
    runtimes = getattr(_thread, "asyncio", None)
    if runtimes is None:
        runtimes = _thread.asyncio = {}
    kept = runtimes.get(loop)
    if kept is None:
        for closed in [each for each in runtimes if each.is_closed()]:
            del runtimes[closed]  # a thread may run many loops, one after another
        kept = runtimes[loop] = AsyncioRuntime(loop)
    return kept


def _current_trio() -> Runtime:
    from .trio_loop import current_runtime  # trio is optional and slow to import

    return current_runtime()


def wall_time() -> float:
    """Return the seconds since 1970, for dates in headers and nothing else."""
    return time.time()


def finalizer(subject: object, callback: Callable[[], None], runtime: Runtime) -> Callable[[], Any]:
    """Run `callback` in the loop if `subject` is dropped; the result, when called, disarms it."""
    return weakref.finalize(subject, runtime.call_soon, callback).detach
