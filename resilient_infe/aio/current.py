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


def current(known: Runtime | None = None) -> Runtime:
    """Return the runtime of the running loop; `known` is tried first.

    Raises:
        RuntimeError: no event loop runs here.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001  # public in asyncio.events.__all__
    if loop is None:
        return _current_trio()
    if isinstance(known, AsyncioRuntime) and known.loop is loop:
        return known
    kept: AsyncioRuntime | None = getattr(_thread, "asyncio", None)
    if kept is None or kept.loop is not loop:
        kept = _thread.asyncio = AsyncioRuntime(loop)
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
