"""Runs the code of the async adapters in a thread without a loop, where each await blocks.

A synchronous client is wrapped by the adapter of its async twin. What that adapter awaits of the
client is done before it is awaited, so its coroutines never suspend: `drive` runs one to its end
like a function. So no adapter exists twice.

A blocking call cannot be cancelled. So a timer here does not fire: it bounds the client's own
timeouts (`BlockingRuntime.left`), and recognises the error that they raise as its own.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from ..core.queue import Waiter
from ..core.runtime import Alarm, Clock
from .bridge import bridge

T = TypeVar("T")


class OutOfTime(TimeoutError):
    """A timer's time was over between two blocking calls."""


def drive(awaitable: Awaitable[T]) -> T:
    """Run an awaitable that never suspends to its end, and return its result.

    Raises:
        RuntimeError: it suspends, so it needs an event loop.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
    raise RuntimeError("blocking code awaited something that needs an event loop")


class Cut:
    """A timer of a thread without a loop. It swallows a timeout that came when its time was over.

    Args:
        runtime: where it counts.
        when: the instant at which it is over.
    """

    __slots__ = ("_runtime", "when")

    def __init__(self, runtime: BlockingRuntime, when: float) -> None:
        self._runtime, self.when = runtime, when
        runtime.cuts.append(self)

    def stop(self) -> None:
        """End the timer."""
        self.disarm()

    def ring(self) -> None:
        """Be over now: what blocks goes on, and the next look at the time finds it."""
        self.when = -math.inf

    def disarm(self) -> None:
        """Let the timer bound nothing any more."""
        with contextlib.suppress(ValueError):
            self._runtime.cuts.remove(self)

    def made(self, error: BaseException) -> bool:
        """End the timer; return whether `error` is a timeout that came when it was over."""
        counted = self in self._runtime.cuts
        self.disarm()
        is_timeout = any("Timeout" in cls.__name__ for cls in type(error).__mro__)
        return counted and is_timeout and self._runtime.now() >= self.when

    def __enter__(self) -> Self:
        """Return the timer, which is already running."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """End the timer, and swallow the timeout that it made."""
        if error is None:
            self.stop()
            return False
        return self.made(error)


class BlockingRuntime:
    """A thread without an event loop, as the adapters use it for one call.

    Attributes:
        cuts: the running timers.
    """

    loop: object = None
    thread: int | None = None
    now: Clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.cuts: list[Cut] = []

    def left(self) -> float | None:
        """Return the seconds until the first timer is over; None without one.

        Raises:
            OutOfTime: it is over.
        """
        if not self.cuts:
            return None
        left = min(cut.when for cut in self.cuts) - self.now()
        if left <= 0:
            raise OutOfTime("the time was over between two reads")
        return None if left == math.inf else left

    def park(self, waiter: Waiter) -> NoReturn:  # noqa: ARG002  # as the protocol has it
        """Raise: only a loop can wake what waits."""
        raise RuntimeError("a thread without a loop does not park")

    async def checkpoint(self) -> None:
        """Do nothing: the thread has no other tasks."""

    async def sleep_until(self, when: float) -> None:
        """Block until an instant."""
        time.sleep(max(0.0, when - self.now()))  # noqa: ASYNC251  # there is no loop to block

    def cut_off_after(self, seconds: float, now: float | None = None) -> Cut:
        """Start a timer."""
        return Cut(self, (self.now() if now is None else now) + seconds)

    def cut_off_at(self, when: float) -> Cut:
        """Start a timer."""
        return Cut(self, when)

    def cut_off_by_hand(self) -> Cut:
        """Start a timer that is over when it is rung."""
        return Cut(self, math.inf)

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run the clean-up at once: nothing else would."""
        with contextlib.suppress(Exception):
            drive(clean_up())

    def start(self, main: Callable[[], Awaitable[None]]) -> NoReturn:  # noqa: ARG002
        """Raise: a thread without a loop has no tasks."""
        raise RuntimeError("a thread without a loop has no tasks")

    def alarm(self, callback: Callable[[float], None]) -> Alarm:  # noqa: ARG002
        """Raise: nothing rings in a thread without a loop."""
        raise RuntimeError("a thread without a loop has no alarms")

    def is_cancelled(self) -> bool:
        """Return False: a blocking call cannot be cancelled."""
        return False

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """Run the callback in the bridge: a finaliser may run while this thread holds a lock."""
        bridge().post(callback)

    def is_over(self) -> bool:
        """Return False: it lives as long as its call."""
        return False

    def is_closed(self) -> bool:
        """Return False: it lives as long as its call."""
        return False
