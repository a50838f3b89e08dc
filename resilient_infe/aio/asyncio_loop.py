"""The `Runtime` for asyncio: waiting on futures, timers, and background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from types import MethodType

from ..core.queue import Waiter
from ..core.runtime import Alarm, Clock
from .asyncio_timers import Expiry, Line, current_task, start_by_hand, start_single
from .runtime import LONGEST_CLEAN_UP, clamp

RESOLUTION = 0.1
"""Seconds; the clock of every loop is finer than this."""


class AsyncioRuntime:
    """An asyncio event loop."""

    __slots__ = ("__weakref__", "_lines", "_tasks", "loop", "now", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread: int | None = None
        self.now: Clock = _clock_of(loop)
        self._lines: dict[float, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Return a future to await; `waiter.wake` finishes it."""
        future: asyncio.Future[None] = self.loop.create_future()
        waiter.wake = MethodType(_finish, future)  # a partial would also make a tuple and a dict
        return future

    async def checkpoint(self) -> None:
        """Let the loop run its other tasks once."""
        await asyncio.sleep(0)

    async def sleep_until(self, when: float) -> None:
        """Sleep until an instant, on a future of our own so that `clamp` makes any instant safe."""
        if when <= self.now():
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = self.loop.create_future()
        handle = self.loop.call_at(clamp(when, self.now()), _finish, future)
        try:
            await future
        finally:
            handle.cancel()

    def cut_off_after(self, seconds: float, now: float | None = None) -> Expiry:
        """Start a timer in the line of timers with this duration."""
        # Written out in one function for speed: a timer is started for every attempt.
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
        """Start a timer with a loop timer of its own, which is cancelled when the block ends."""
        return start_single(self.loop, clamp(when, self.now()))

    def cut_off_by_hand(self) -> Expiry:
        """Start a timer without a timer of the loop."""
        return start_by_hand(self.loop)

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run the clean-up in a task, which the runtime refers to so that it is not freed."""

        async def bounded() -> None:
            with self.cut_off_after(LONGEST_CLEAN_UP), contextlib.suppress(Exception):
                await clean_up()

        if not self.is_over():
            task = self.loop.create_task(bounded())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def start(self, main: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run `main` in a task, which the runtime refers to so that it is not freed."""

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
        """Return an alarm that uses a timer of the loop."""
        return _AsyncioAlarm(self.loop, callback)

    def is_cancelled(self) -> bool:
        """Whether a cancellation of the current task was requested."""
        task = current_task(self.loop)
        return task is not None and task.cancelling() > 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run the callback in the loop; run it here if the loop has ended and runs nothing."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            callback()

    def is_over(self) -> bool:
        """Whether the loop has stopped running."""
        return self.loop.is_closed() or not self.loop.is_running()

    def is_closed(self) -> bool:
        """Whether the loop was closed; one that was only stopped may run again."""
        return self.loop.is_closed()


def _clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the loop's clock.

    A loop that inherits `time` from asyncio's base class gets `time.monotonic`, which that method
    calls: this halves the cost.
    """
    # Do not use `vars(loop)`: on 3.11 it makes every later attribute access on the loop slower.
    method = getattr(loop.time, "__func__", None)
    return time.monotonic if method is asyncio.BaseEventLoop.time else loop.time


def _finish(future: asyncio.Future[None]) -> None:
    # In a loop that was closed nothing wakes up any more: its tasks are garbage, and give back
    # what they hold when they are collected.
    if not future.done() and not future.get_loop().is_closed():
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
        # There are two cases in which the clock does not show `when` yet:
        # 1. The loop rings up to one clock resolution early. The instant counts as reached, so the
        #    callback gets `when`.
        # 2. `when` was over a year ahead and `clamp` shortened the timer. The callback gets the
        #    real time, sees that nothing is due, and sets the alarm again.
        self._callback(when if when - now < RESOLUTION else now)
