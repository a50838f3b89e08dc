"""The asyncio side: futures to park on, lines of timers, and cancellations told apart."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Self

from ..policies.queue import Waiter
from .runtime import Alarm, Clock, clamp

LOOK_AGAIN = 0.01
"""Seconds after which a timer that found its task being cancelled by another looks again."""


class AsyncioRuntime:
    """An asyncio event loop."""

    __slots__ = ("_lines", "loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the loop's clock."""
        self.loop = loop
        self.now: Clock = loop.time
        self._lines: dict[float, _Line] = {}

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Park on a future."""
        future: asyncio.Future[None] = self.loop.create_future()

        def resume() -> None:
            if not future.done():
                future.set_result(None)

        waiter.wake = resume
        return future

    async def sleep_until(self, when: float) -> None:
        """Sleep on a future of our own, so that a far or odd instant is clamped in one place."""
        future: asyncio.Future[None] = self.loop.create_future()
        handle = self.loop.call_at(clamp(when, self.now()), _finish, future)
        try:
            await future
        finally:
            handle.cancel()

    def cut_off_after(self, seconds: float) -> AbstractContextManager[object, bool | None]:
        """Join the line of timers of this duration."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = _Line(self.loop, self._lines, seconds)
        return _Expiry(line)

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Make a timer on the loop."""
        return _AsyncioAlarm(self.loop, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Hand the callback to the loop; a loop that is over runs nothing, so it is run here."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            callback()

    def is_over(self) -> bool:
        """Whether the loop does not run any more."""
        return self.loop.is_closed() or not self.loop.is_running()


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
        # A timer that was clamped rings before its instant: it must be set again, not obeyed.
        self._callback(when if when - now < 1.0 else now)


class _Line:
    """All timers of one duration: insertion order is deadline order, so one timer serves them all.

    A dict is the line, since it keeps its order and lets anyone leave in O(1). The loop's timer is
    armed for the oldest entry and simply left to ring when that one leaves; when it rings on an
    empty line, the line ends, so an idle program has no timer at all.
    """

    __slots__ = ("_armed", "_lines", "_loop", "duration", "entries")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lines: dict[float, _Line], duration: float
    ) -> None:
        self._loop = loop
        self._lines = lines
        self._armed = False
        self.duration = duration
        self.entries: dict[_Expiry, None] = {}

    def join(self, expiry: _Expiry) -> None:
        now = self._loop.time()
        expiry.when = clamp(now + self.duration, now)
        self.entries[expiry] = None
        if not self._armed:
            self._arm(expiry.when)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop.call_later(seconds, callback)

    def _arm(self, when: float) -> None:
        self._armed = True
        self._loop.call_at(when, self._ring, when)

    def _ring(self, when: float) -> None:
        self._armed = False
        due: list[_Expiry] = []
        for expiry in self.entries:
            if expiry.when > when:
                self._arm(expiry.when)
                break
            due.append(expiry)
        else:
            self._lines.pop(self.duration, None)
        for expiry in due:
            del self.entries[expiry]
            expiry.expire()


class _Expiry(AbstractContextManager[object, bool | None]):
    """One running timer, as a context manager; it tells its own cancellation from any other.

    Two signs are used together. The cancellation carries this object as its message. And the task
    counts its cancel requests: one that was there before ours, or came after it, wins.
    """

    __slots__ = ("_before", "_fired", "_left", "_line", "_task", "when")

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._fired = False
        self._left = False
        self.when = math.inf

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timer runs only inside an asyncio task")
        self._task = task
        self._before = task.cancelling()
        self._line.join(self)
        return self

    def expire(self) -> None:
        if self._left:
            return
        if self._task.cancelling() > self._before:
            # Somebody else cancels the task already. Leave it to them, but look again: they may
            # be a timer that the code inside survives.
            self._line.call_later(LOOK_AGAIN, self.expire)
            return
        self._fired = True
        self._task.cancel(msg=self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        self._left = True
        if not self._fired:
            self._line.entries.pop(self, None)
            return False
        left = self._task.uncancel()
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            return False
        assert error is not None
        ours = bool(error.args) and error.args[0] is self
        return left <= self._before and (ours or self._before == 0)
