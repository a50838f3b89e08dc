"""Closes what lives as long as an event loop, where nobody else closes it.

A loop ends in one of four ways:

1. ``asyncio.run``, a ``Runner`` or ``trio.run`` ends it. They close the async generators of the
   loop, so one of ours is suspended there until then.
2. The process ends while the loop runs in a daemon thread, as those of many engines do. At the
   exit the loop is asked to close what it has.
3. The process ends after the loop was stopped. At the exit it runs once more.
4. It was closed by ``loop.close()`` alone. Then nothing can be awaited there any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from ..core.queue import Waiter
from ..core.runtime import Runtime
from .blocking import drive
from .bridge import bridge
from .current import current
from .keeper import wake
from .runtime import LONGEST_CLEAN_UP

LONGEST_EXIT = 2.0
"""Seconds that the exit of a process waits for a loop in another thread."""


class Ending:
    """Calls `close` once: when the running loop ends, or when it is asked to.

    Args:
        close: closes something on that loop, in at most 5 s. What it raises is dropped.
        runtime: of that loop.

    State: one per loop and thing; it must be referred to until the loop ends.
    """

    def __init__(self, close: Callable[[], Awaitable[None]], runtime: Runtime) -> None:
        self._runtime = runtime
        self._generator = _until_closed(close)
        drive(anext(self._generator))  # it does not suspend, but from now on the loop knows it

    async def close(self) -> None:
        """Close it now, on its loop; a second call does nothing. If cancelled, it still closes."""
        waiter = Waiter(0)

        async def closing() -> None:
            try:
                with contextlib.suppress(RuntimeError):  # the loop closes it at this moment
                    await self._generator.aclose()
            finally:
                wake(waiter)

        self._runtime.spawn(closing)
        await self._runtime.park(waiter)

    def close_at_exit(self) -> None:
        """Close it when the process ends, in a thread in which no loop runs."""
        runtime, ended = self._runtime, threading.Event()
        if runtime.is_closed():
            return
        if runtime.is_over():
            assert isinstance(runtime.loop, asyncio.AbstractEventLoop)  # a trio run is closed then
            run_once_more(runtime.loop, self.close)
            return

        async def close() -> None:
            try:
                await self.close()
            finally:
                ended.set()

        runtime.call_soon(lambda: runtime.spawn(close))
        ended.wait(LONGEST_EXIT)


async def _until_closed(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    import anyio  # it takes long, and few programs need it

    try:
        yield
    finally:
        # trio cancels what it ends, but a transport need not bear that while it closes
        with anyio.move_on_after(LONGEST_CLEAN_UP, shield=True), contextlib.suppress(Exception):
            await close()


async def run_on_bridge(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on the bridge's loop, and wait for it here; what it raises is dropped."""
    here, there, waiter = current(), bridge(), Waiter(0)

    async def counted() -> None:
        try:
            with contextlib.suppress(Exception):
                await main()
        finally:
            there.calls -= 1
            here.call_soon(partial(wake, waiter))

    def start() -> None:
        there.calls += 1  # or its thread could end meanwhile
        current().start(counted)

    there.post(start)
    await here.park(waiter)


def run_once_more(loop: asyncio.AbstractEventLoop, main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on a loop that was stopped, for at most 5 s; what it raises is dropped."""

    async def bounded() -> None:
        with contextlib.suppress(Exception):
            await main()

    with contextlib.suppress(Exception):
        task = loop.create_task(bounded())
        loop.run_until_complete(asyncio.wait([task], timeout=LONGEST_CLEAN_UP))


def at_exit(callback: Callable[[], None]) -> None:
    """Call `callback` when this process ends, unless it is killed.

    `multiprocessing` does so in each kind of its processes; `atexit` alone does not up to Python
    3.12, if the process was forked.
    """
    from multiprocessing.util import Finalize  # few programs need it

    Finalize(None, callback, exitpriority=0)
