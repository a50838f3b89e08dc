"""What the layers need of an event loop: the same protocols for asyncio and for trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from .queue import Waiter


class Alarm(Protocol):
    """A timer that runs a callback; `set` moves it or turns it off."""

    def set(self, when: float | None) -> None:
        """Run the callback at loop time `when`, in place of the time set before; None: never."""
        ...


class Timer(Protocol):
    """A running timer that cancels the task that started it when its time is over.

    There are two ways to use it:

    1. As a ``with`` block. When the timer fires, the block ends early and without an exception. The
       timer swallows only its own cancellation; any other one passes through.
    2. By hand, where a block costs too much. Call `stop` if the guarded code returned, or `made` if
       it raised.
    """

    @property
    def when(self) -> float:
        """The loop time at which the timer fires."""
        ...

    def stop(self) -> None:
        """End the timer: the guarded code returned."""
        ...

    def ring(self) -> None:
        """Fire now, unless it has fired or ended. Any task of the loop may call this."""
        ...

    def disarm(self) -> None:
        """Let the timer never fire. It must still be ended, in either way."""
        ...

    def made(self, error: BaseException) -> bool:
        """End the timer; return whether `error` is the timer's own cancellation."""
        ...

    def __enter__(self) -> Self:
        """Return the timer, which is already running."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
        /,
    ) -> bool:
        """End the timer, and swallow its own cancellation."""
        ...


class Clock(Protocol):
    """Reads the clock of an event loop."""

    def __call__(self) -> float:
        """Return the loop time, in seconds."""
        ...


class Runtime(Protocol):
    """One event loop, as the layers use it."""

    @property
    def loop(self) -> object:
        """The object that identifies the loop; under asyncio this is the loop itself."""
        ...

    @property
    def thread(self) -> int | None:
        """The id of the thread that the loop runs in; None to look for the loop on each call."""
        ...

    @property
    def now(self) -> Clock:
        """The function that reads the loop's clock, in seconds, without a wrapper around it."""
        ...

    def park(self, waiter: Waiter) -> Awaitable[None]:
        """Return an awaitable that completes when ``waiter.wake()`` is called."""
        ...

    async def checkpoint(self) -> None:
        """Let every other ready task run once; the calling task may be cancelled here."""
        ...

    async def sleep_until(self, when: float) -> None:
        """Sleep until loop time `when`; if it is in the past, other tasks still get to run."""
        ...

    def cut_off_after(self, seconds: float, now: float | None = None) -> Timer:
        """Start a timer that cancels the running task after `seconds`.

        Args:
            seconds: the time until the timer fires, above 0.
            now: the loop time, if the caller already has it; None to read the clock.
        """
        ...

    def cut_off_at(self, when: float) -> Timer:
        """Start a timer that cancels the running task at loop time `when`."""
        ...

    def cut_off_by_hand(self) -> Timer:
        """Start a timer that cancels the running task when `Timer.ring` is called."""
        ...

    def spawn(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        """Run `clean_up` in the background for at most 5 s; its errors are dropped."""
        ...

    def start(self, main: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run `main` in a new task, and return a function that cancels the task.

        The task has the context variables of the code that starts it. `main` must not raise.
        """
        ...

    def alarm(self, callback: Callable[[float], None]) -> Alarm:
        """Return a timer, not yet set, that calls `callback` with the loop time it was set to."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the running task itself is being cancelled.

        If it is not, a cancellation that it catches came from something that it awaited.
        """
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the loop; immediately, in this thread, if the loop has ended.

        Any thread and any finaliser may call this.
        """
        ...

    def is_over(self) -> bool:
        """Whether the loop has ended, so that its policies may move to another loop."""
        ...

    def is_closed(self) -> bool:
        """Whether the loop can never run again: nothing in it can give back what it holds."""
        ...
