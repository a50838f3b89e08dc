"""The only file that touches an event loop: park and wake, timers, cancellation, the clock.

Policies are pure and layers are thin because everything that depends on asyncio or trio is here,
bound once per loop in a `Runtime`. Waiters park on bare futures under asyncio (under half of the
cost of its Semaphore) and natively under trio.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from .errors import WrongLoopError
from .policies.queue import Waiter

LONGEST_SLEEP = 365 * 86_400.0
"""Seconds; no timer is set further off, so that no hint can overflow one."""


LOOK_AGAIN = 0.01
"""Seconds after which a timer that found its task being cancelled by another looks again."""


class Alarm(Protocol):
    """One timer that calls back, moved or switched off with `set`."""

    def set(self, when: float | None) -> None:
        """Call back at an instant instead of whenever it was set to; None for never."""
        ...


class Clock(Protocol):
    """Something that reads an event loop's clock."""

    def __call__(self) -> float:
        """Return the instant, in seconds."""
        ...


class Runtime(Protocol):
    """One event loop, as the layers see it."""

    @property
    def now(self) -> Clock:
        """Read the loop's clock, in seconds: the loop's own method, so that it costs no more."""
        ...

    def places(self) -> int:
        """Hand out the next age of a call, from 1."""
        ...

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Return what to await until ``waiter.wake()`` is called."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Sleep until an instant; an instant in the past still lets others run."""
        ...

    def cut_off_after(self, seconds: float) -> AbstractContextManager[object, bool | None]:
        """Return a block that is cancelled after so many seconds, above 0.

        It swallows the cancellation that it made, and no other, and then ends as if it had run
        through: what follows the block is what to do when the time is over.
        """
        ...

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Return a timer that calls `callback` with the instant it was set to."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the loop, from any thread or finaliser; at once if the loop is over."""
        ...

    def is_over(self) -> bool:
        """Whether the loop has ended, so that what it owned may move to another."""
        ...


class Kept(Protocol):
    """A policy that belongs to one loop at a time."""

    keeper: object | None

    @property
    def busy(self) -> bool:
        """Whether something is held that only its own loop can give back."""
        ...

    def rebase(self, seconds: float) -> None:
        """Move every stored instant, to follow another clock."""
        ...


@runtime_checkable
class Queueing(Kept, Protocol):
    """A kept policy whose waiters are granted by time."""

    @property
    def due(self) -> float | None:
        """The instant at which `poll` will grant the next waiter."""
        ...

    def poll(self, now: float) -> Iterable[Waiter]:
        """Grant all whose turn has come."""
        ...


K = TypeVar("K", bound=Kept)

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
    from ._trio import current_runtime  # trio is optional and slow to import

    return current_runtime()


def wall_time() -> float:
    """Return the seconds since 1970, for dates in headers and nothing else."""
    return time.time()


def clamp(when: float, now: float) -> float:
    """Return an instant that a timer can be set to: not in the past, not NaN, not infinite."""
    if not when > now:  # NaN too
        return now
    return min(when, now + LONGEST_SLEEP)


class Keeper(Generic[K]):
    """Binds a policy to the loop that uses it, and wakes those it grants.

    Args:
        policy: what is kept.
        runtime: the loop.

    State: one per policy and loop, on the policy itself.
    """

    __slots__ = ("_alarm", "policy", "runtime")

    def __init__(self, policy: K, runtime: Runtime) -> None:
        """Bind both; the alarm is only made for a policy that grants by time."""
        self.policy = policy
        self.runtime = runtime
        self._alarm = runtime.alarm(self.pump) if isinstance(policy, Queueing) else None

    def pump(self, now: float | None = None) -> None:
        """Wake all whose turn has come and set the alarm for the next.

        Args:
            now: the instant that an alarm was set to, so that rounding cannot make it too early.
        """
        policy = self.policy
        if self._alarm is None or not isinstance(policy, Queueing):
            return
        instant = self.runtime.now()
        for waiter in policy.poll(instant if now is None else max(now, instant)):
            wake(waiter)
        self._alarm.set(policy.due)


def keep(policy: K, runtime: Runtime) -> Keeper[K]:
    """Return the keeper of a policy on this loop, moving an idle policy over from another.

    Raises:
        WrongLoopError: the policy is in use on another loop.
    """
    keeper = policy.keeper
    if isinstance(keeper, Keeper):
        if keeper.runtime is runtime:
            return keeper
        _check_movable(policy, keeper.runtime)
        policy.rebase(_offset(keeper.runtime, runtime))
    fresh = Keeper(policy, runtime)
    policy.keeper = fresh
    return fresh


def wake(waiter: Waiter | None) -> None:
    """Resume a waiter that was granted; one that never parked has nothing to resume."""
    if waiter is not None and waiter.wake is not None:
        waiter.wake()


def _check_movable(policy: Kept, owner: Runtime) -> None:
    name = type(policy).__name__
    if policy.busy:
        raise WrongLoopError(
            f"this {name} is in use on another event loop: share it only within one loop, or make "
            f"one per loop (for several processes or threads, give each a share=)"
        )
    if not owner.is_over():
        raise WrongLoopError(
            f"this {name} belongs to an event loop that still runs, perhaps in another thread: "
            f"make one per loop"
        )


def _offset(old: Runtime, new: Runtime) -> float:
    """Return how far the new clock is ahead; read in this order, instants only move later."""
    before = old.now()
    return new.now() - before


class AsyncioRuntime:
    """An asyncio event loop."""

    __slots__ = ("_lines", "_place", "loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind the loop's clock."""
        self.loop = loop
        self.now: Clock = loop.time
        self._place = 0
        self._lines: dict[float, _Line] = {}

    def places(self) -> int:
        """Hand out the next age."""
        self._place += 1
        return self._place

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


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a loop's cancellation, under asyncio or trio."""
    if isinstance(error, asyncio.CancelledError):
        return True
    cls = type(error)
    return cls.__name__ == "Cancelled" and cls.__module__.startswith("trio")


def finalizer(subject: object, callback: Callable[[], None], runtime: Runtime) -> Callable[[], Any]:
    """Run `callback` in the loop if `subject` is dropped; the result, when called, disarms it."""
    return weakref.finalize(subject, runtime.call_soon, callback).detach
