"""The asyncio side: futures to park on, and the loop's own timers for what is rare."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from types import MethodType

from ..core.queue import Waiter
from ..core.runtime import Alarm, Clock
from .asyncio_timers import Expiry, Line, current_task, start_single
from .runtime import LONGEST_CLEAN_UP, clamp

RESOLUTION = 0.1
"""Seconds; no clock that a loop runs on is coarser."""


class AsyncioRuntime:
    """An asyncio event loop."""

    __slots__ = ("__weakref__", "_lines", "_tasks", "loop", "now", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the loop's clock."""
        self.loop = loop
        self.thread: int | None = None
        self.now: Clock = _clock_of(loop)
        self._lines: dict[float, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Park on a future."""
        future: asyncio.Future[None] = self.loop.create_future()
        waiter.wake = MethodType(_finish, future)  # a partial makes a tuple and a dict besides
        return future

    async def checkpoint(self) -> None:
        """Yield to the loop."""
        await asyncio.sleep(0)

    async def sleep_until(self, when: float) -> None:
        """Sleep on a future of our own, so that a far or odd instant is clamped in one place."""
        future: asyncio.Future[None] = self.loop.create_future()
        handle = self.loop.call_at(clamp(when, self.now()), _finish, future)
        try:
            await future
        finally:
            handle.cancel()

    def cut_off_after(self, seconds: float, now: float | None = None) -> Expiry:
        """Join the line of timers of this duration."""
        # All of it in one call: a timer is started for every attempt.
        try:
            line = self._lines[seconds]
        except KeyError:
            line = self._lines[seconds] = Line(self.loop, self._lines, seconds)
        task = current_task(self.loop)
        if task is None:
            raise RuntimeError("a timer runs only inside an asyncio task")
        expiry = Expiry()
        expiry.task = task
        if now is None:
            clock = self.now
            now = clock()
        expiry.when = when = now + line.duration
        expiry.entries = entries = line.entries
        entries[expiry] = None
        if not line.armed:
            line.arm(when)
        return expiry

    def cut_off_at(self, when: float) -> Expiry:
        """Set a timer of its own, taken back when the block ends."""
        return start_single(self.loop, clamp(when, self.now()))

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run it in a task that the loop's runtime keeps alive."""

        async def bounded() -> None:
            with self.cut_off_after(LONGEST_CLEAN_UP), contextlib.suppress(Exception):
                await clean_up()

        if not self.is_over():
            task = self.loop.create_task(bounded())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def start(self, main: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run it in a task that the loop's runtime keeps alive."""

        async def running() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await main()

        task = self.loop.create_task(running())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            task.cancel()

        return cancel

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Make a timer on the loop."""
        return _AsyncioAlarm(self.loop, callback)

    def is_cancelled(self) -> bool:
        """Ask the task."""
        task = current_task(self.loop)
        return task is not None and task.cancelling() > 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Hand the callback to the loop; a loop that is over runs nothing, so it is run here."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            callback()

    def is_over(self) -> bool:
        """Whether the loop does not run any more."""
        return self.loop.is_closed() or not self.loop.is_running()


def _clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the loop's clock: what its method calls, where that is known, at half the cost."""
    # Not by `vars`: an instance that was once asked for its dict is slower ever after (3.11).
    method = getattr(loop.time, "__func__", None)
    return time.monotonic if method is asyncio.BaseEventLoop.time else loop.time


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _AsyncioAlarm:
    __slots__ = ("_callback", "_handle", "_loop", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[float], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when: float | None = None

    def set(self, when: float | None) -> None:
        if when == self._when:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._when = when
        if when is not None:
            self._handle = self._loop.call_at(clamp(when, self._loop.time()), self._ring, when)

    def _ring(self, when: float) -> None:
        self._handle = self._when = None
        now = self._loop.time()
        # The loop may ring within its clock's resolution before the instant, which then counts as
        # come. A timer that was clamped rings far too early: the callback sees that by the instant.
        self._callback(when if when - now < RESOLUTION else now)
