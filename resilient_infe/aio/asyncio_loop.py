"""The asyncio side: futures to park on, lines of timers, and cancellations told apart."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Self

from ..policies.queue import Waiter
from .runtime import LONGEST_CLEAN_UP, LONGEST_SLEEP, Alarm, Clock, clamp

RESOLUTION = 0.1
"""Seconds; no clock that a loop runs on is coarser."""

LOOK_AGAIN = 0.01
"""Seconds after which a timer that found its task being cancelled by another looks again."""

LONGEST_CONTEXT = 16
"""Links of a chain of exceptions that are followed; cycles exist."""

LOOKS = 3
"""Looks after which it cancels all the same: the other cancellation was swallowed."""


class AsyncioRuntime:
    """An asyncio event loop."""

    __slots__ = ("_lines", "_tasks", "loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the loop's clock."""
        self.loop = loop
        self.now: Clock = _clock_of(loop)
        self._lines: dict[float, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

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
            line = self._lines[seconds] = _Line(self, self._lines, seconds)
        return _Expiry(line)

    def cut_off_at(self, when: float) -> AbstractContextManager[object, bool | None]:
        """Set a timer of its own, taken back when the block ends."""
        return _Expiry(_Single(self.loop, when))

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run it in a task that the loop's runtime keeps alive."""

        async def bounded() -> None:
            with self.cut_off_after(LONGEST_CLEAN_UP), contextlib.suppress(Exception):
                await clean_up()

        if not self.is_over():
            task = self.loop.create_task(bounded())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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


def _clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the loop's clock: what its method calls, where that is known, at half the cost."""
    plain = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
    return time.monotonic if plain else loop.time


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


class _Line:
    """All timers of one duration: insertion order is deadline order, so one timer serves them all.

    A dict is the line, since it keeps its order and lets anyone leave in O(1). The loop's timer is
    armed for the oldest entry and simply left to ring when that one leaves; when it rings on an
    empty line, the line ends, so an idle program has no timer at all.
    """

    __slots__ = ("_armed", "_duration", "_key", "_lines", "_now", "entries", "loop")

    def __init__(self, runtime: AsyncioRuntime, lines: dict[float, _Line], duration: float) -> None:
        self.loop = runtime.loop
        self._now = runtime.now
        self._lines = lines
        self._armed = False
        self._key = duration
        self._duration = min(duration, LONGEST_SLEEP)
        self.entries: dict[_Expiry, float] = {}

    def join(self, expiry: _Expiry) -> None:
        self.entries[expiry] = when = self._now() + self._duration
        if not self._armed:
            self._arm(when)

    def leave(self, expiry: _Expiry) -> None:
        self.entries.pop(expiry, None)

    def _arm(self, when: float) -> None:
        self._armed = True
        self.loop.call_at(when, self._ring, when)

    def _ring(self, instant: float) -> None:
        self._armed = False
        due: list[_Expiry] = []
        for expiry, when in self.entries.items():
            if when > instant:
                self._arm(when)
                break
            due.append(expiry)
        else:
            if self._lines.get(self._key) is self:
                del self._lines[self._key]
        for expiry in due:
            del self.entries[expiry]
            expiry.expire()


class _Single:
    """A timer for one entry, for instants that no other entry shares."""

    __slots__ = ("_handle", "_when", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self.loop = loop
        self._when = when

    def join(self, expiry: _Expiry) -> None:
        when = clamp(self._when, self.loop.time())
        self._handle = self.loop.call_at(when, expiry.expire)

    def leave(self, _: _Expiry) -> None:
        self._handle.cancel()


class _Expiry:
    """One running timer, as a context manager; it tells its own cancellation from any other.

    Two signs are used together. The cancellation carries this object as its message. And the task
    counts its cancel requests: one that was there before ours, or came after it, wins.
    """

    __slots__ = ("_at_entry", "_at_fire", "_left", "_looks", "_task", "_timer")

    def __init__(self, timer: _Line | _Single) -> None:
        self._timer = timer

    def __enter__(self) -> Self:
        timer = self._timer
        task = asyncio.current_task(timer.loop)
        if task is None:
            raise RuntimeError("a timer runs only inside an asyncio task")
        self._task = task
        self._at_entry = task.cancelling()
        self._at_fire: int | None = None
        self._left = False
        self._looks = 0
        timer.join(self)
        return self

    def expire(self) -> None:
        if self._left:
            return
        requests = self._task.cancelling()
        if requests > self._at_entry and self._looks < LOOKS:
            # Somebody else cancels the task already. Leave it to them, but look again: the code
            # inside may survive that.
            self._looks += 1
            self._task.get_loop().call_later(LOOK_AGAIN, self.expire)
            return
        self._at_fire = requests
        self._task.cancel(msg=self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> bool:
        self._left = True
        self._timer.leave(self)
        if self._at_fire is None:
            return False
        left = self._task.uncancel()
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            return False
        assert error is not None
        ours = bool(error.args) and error.args[0] is self
        if ours and _interrupted_a_cancellation(error):
            return False
        return left <= self._at_fire and (ours or self._at_fire == 0)


def _interrupted_a_cancellation(error: BaseException) -> bool:
    """Whether ours came while another cancellation was being handled: a slow clean-up of it."""
    context = error.__context__
    for _ in range(LONGEST_CONTEXT):
        if context is None or isinstance(context, asyncio.CancelledError):
            break
        context = context.__context__
    return isinstance(context, asyncio.CancelledError)
