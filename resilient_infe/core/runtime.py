"""What an event loop is to the layers, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from .queue import Waiter


class Alarm(Protocol):
    """One timer that calls back, moved or switched off with `set`."""

    def set(self, when: float | None) -> None:
        """Call back at an instant instead of whenever it was set to; None for never."""
        ...


class Timer(Protocol):
    """A running timer, which cancels the task that started it when its time has come.

    It swallows the cancellation that it made, and no other. As a ``with`` block it then ends as if
    it had run through: what follows the block is what to do when the time is over. Where a block
    would cost too much, end it by hand with `stop`, or with `made` for an exception.
    """

    @property
    def when(self) -> float:
        """The instant at which it rings."""
        ...

    def stop(self) -> None:
        """End it: what it bounds has come to its end in time."""
        ...

    def made(self, error: BaseException) -> bool:
        """End it, and tell whether `error` is the cancellation that it made."""
        ...

    def __enter__(self) -> Self:
        """Return the timer, which runs already."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
        /,
    ) -> bool:
        """End it, and swallow the cancellation that it made."""
        ...


class Clock(Protocol):
    """Something that reads an event loop's clock."""

    def __call__(self) -> float:
        """Return the instant, in seconds."""
        ...


class Runtime(Protocol):
    """One event loop, as the layers see it."""

    @property
    def loop(self) -> object:
        """What the loop is known by: under asyncio the loop itself."""
        ...

    @property
    def thread(self) -> int | None:
        """The thread that it runs in; None for one that is to be looked for anew each time."""
        ...

    @property
    def now(self) -> Clock:
        """Read the loop's clock, in seconds: the loop's own method, so that it costs no more."""
        ...

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Return what to await until ``waiter.wake()`` is called."""
        ...

    async def checkpoint(self) -> None:
        """Let every other task that is ready run once; the caller may be cancelled here."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Sleep until an instant; an instant in the past still lets others run."""
        ...

    def cut_off_after(self, seconds: float, now: float | None = None) -> Timer:
        """Start a timer for the task that runs.

        Args:
            seconds: until it rings, above 0.
            now: the current time, if it is known already; None to read the clock.
        """
        ...

    def cut_off_at(self, when: float) -> Timer:
        """Start a timer that rings at an instant."""
        ...

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run a clean-up that nobody waits for, for at most 5 s; its errors are dropped."""
        ...

    def start(self, main: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run `main`, which must not raise, in a task of its own; the result cancels it.

        The task has the context variables of the code that starts it.
        """
        ...

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Return a timer that calls `callback` with the instant it was set to."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the running task is being cancelled: a cancellation may be what it awaited."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the loop, from any thread or finaliser; at once if the loop is over."""
        ...

    def is_over(self) -> bool:
        """Whether the loop has ended, so that what it owned may move to another."""
        ...

    def is_closed(self) -> bool:
        """Whether the loop can never run again: nothing in it can give back what it holds."""
        ...
