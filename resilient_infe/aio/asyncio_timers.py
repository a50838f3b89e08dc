"""Timers under asyncio: one of the loop's for all of a duration, and cancellations told apart.

A timer runs during every attempt, so this is written for speed: a timer is started and ended by
one call each, and nothing is asked of the loop until one of them rings.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Self

from .runtime import LONGEST_SLEEP

LOOK_AGAIN = 0.01
"""Seconds after which a timer that found its task being cancelled by another looks again."""

LONGEST_CONTEXT = 16
"""Links of a chain of exceptions that are followed; cycles exist."""

LOOKS = 3
"""Looks after which it cancels all the same: the other cancellation was swallowed."""

if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:  # there the function is Python, at thrice the cost of the table that it asks
    current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001


class Expiry:
    """One running timer; it tells its own cancellation from any other.

    Two signs are used together. The cancellation carries this object as its message. And the task
    counts its cancel requests: one that was there before ours, or came after it, wins.

    Filled in by `AsyncioRuntime`: a constructor would cost more than all the rest.

    Attributes:
        entries: the line that it leaves when it ends.
        task: what it cancels; None once it has ended after it left the line.
        at_fire: the task's cancel requests when it rang; not there until then.
        when: the instant at which it rings.
    """

    __slots__ = ("at_fire", "entries", "task", "when")

    entries: dict[Expiry, None]
    task: asyncio.Task[Any] | None
    at_fire: int
    when: float

    def stop(self) -> None:
        """End it; a ring that came too late is taken back."""
        try:
            del self.entries[self]
        except KeyError:  # it has left the line, to ring
            if self.task is not None and hasattr(self, "at_fire"):
                self.task.uncancel()
            self.task = None

    def made(self, error: BaseException) -> bool:
        """End it, and tell whether `error` is the cancellation that it made."""
        at_fire, task = getattr(self, "at_fire", None), self.task
        if at_fire is None or task is None:
            self.stop()
            return False
        self.task = None
        left = task.uncancel()
        if not isinstance(error, asyncio.CancelledError):
            return False
        ours = bool(error.args) and error.args[0] is self
        if ours and _interrupted_a_cancellation(error):
            return False
        return left <= at_fire and (ours or at_fire == 0)

    def expire(self, looks: int = 0) -> None:
        """Cancel the task, unless somebody else does already."""
        task = self.task
        if task is None:
            return
        requests = task.cancelling()
        if requests and looks < LOOKS:
            # Leave it to them, but look again: the code inside may survive that, or has long ago.
            task.get_loop().call_later(LOOK_AGAIN, self.expire, looks + 1)
            return
        self.at_fire = requests
        task.cancel(msg=self)

    def __enter__(self) -> Self:
        """Return itself, running already."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """End it, and swallow the cancellation that it made."""
        if error is None:
            self.stop()
            return False
        return self.made(error)


class Line:
    """All timers of one duration: insertion order is deadline order, so one timer serves them all.

    A dict is the line, since it keeps its order and lets anyone leave in O(1). The loop's timer is
    armed for the oldest entry and simply left to ring when that one leaves; when it rings on an
    empty line, the line ends, so an idle program has no timer at all.

    Args:
        loop: the event loop.
        lines: where the line stands, by its duration, until it ends.
        duration: seconds, above 0.

    Attributes:
        entries: the timers that run, the one that rings first in front.
        armed: whether the loop's timer is set.
    """

    __slots__ = ("_key", "_lines", "_loop", "armed", "duration", "entries")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lines: dict[float, Line], duration: float
    ) -> None:
        """Start empty."""
        self._loop = loop
        self._lines = lines
        self.armed = False
        self._key = duration
        self.duration = min(duration, LONGEST_SLEEP)
        self.entries: dict[Expiry, None] = {}

    def arm(self, when: float) -> None:
        """Let the loop ring at an instant, for the oldest entry."""
        self.armed = True
        self._loop.call_at(when, self._ring, when)

    def _ring(self, instant: float) -> None:
        self.armed = False
        due: list[Expiry] = []
        for expiry in self.entries:
            if expiry.when > instant:
                self.arm(expiry.when)
                break
            due.append(expiry)
        else:
            if self._lines.get(self._key) is self:
                del self._lines[self._key]
        for expiry in due:
            del self.entries[expiry]
            expiry.expire()


class _Single(Expiry):
    """A timer for an instant that no other shares: a line of its own."""

    __slots__ = ("handle",)

    handle: asyncio.TimerHandle

    def stop(self) -> None:
        """End it, and take the loop's timer back."""
        self.handle.cancel()
        super().stop()

    def expire(self, looks: int = 0) -> None:
        """Leave the line, as the others do before they ring."""
        self.entries.clear()
        super().expire(looks)


def start_single(loop: asyncio.AbstractEventLoop, when: float) -> Expiry:
    """Start a timer of its own for the task that runs, to ring at an instant."""
    task = current_task(loop)
    if task is None:
        raise RuntimeError("a timer runs only inside an asyncio task")
    expiry = _Single()
    expiry.task = task
    expiry.when = when
    expiry.entries = {expiry: None}
    expiry.handle = loop.call_at(when, expiry.expire)
    return expiry


def _interrupted_a_cancellation(error: BaseException) -> bool:
    """Whether ours came while somebody else's was being handled: a slow clean-up of it."""
    context = error.__context__
    for _ in range(LONGEST_CONTEXT):
        if context is None or (
            isinstance(context, asyncio.CancelledError) and not _is_ours(context)
        ):
            break
        context = context.__context__
    return isinstance(context, asyncio.CancelledError)


def _is_ours(error: asyncio.CancelledError) -> bool:
    return bool(error.args) and isinstance(error.args[0], Expiry)
