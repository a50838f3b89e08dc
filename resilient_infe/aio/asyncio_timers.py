"""Timers under asyncio that cancel the running task, and that recognise their own cancellation.

asyncio has a single `CancelledError` for every reason. When one arrives in a block that a timer
limits, the timer must decide whether it made that cancellation (the block took too long, swallow
it) or something else did (let it pass). `Expiry.made` decides.

A timer runs during every attempt, so this is written for speed. Starting a timer and ending it take
one call each, and all timers of one duration share a single timer of the loop (see `Line`).
"""

from __future__ import annotations

import asyncio
import math
import sys
from types import TracebackType
from typing import Any, Self

from .runtime import LONGEST_SLEEP

RECHECK_AFTER = 0.01
"""Seconds until a timer that found another cancellation of its task under way checks again."""

MOST_RECHECKS = 3
"""Checks after which the timer cancels anyway: the other cancellation was swallowed."""

LONGEST_CONTEXT = 16
"""Links of a chain of exception contexts that are followed, because a chain can be a cycle."""

if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:  # there it is a Python function, which costs three times the table that it looks in
    current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001


class Expiry:
    """One running timer.

    It recognises its own cancellation by two signs. The `CancelledError` carries this object as its
    message. And the task counts its cancel requests (`Task.cancelling`): a request that was there
    before the timer's own, or came after it, takes precedence.

    `AsyncioRuntime` sets the attributes: a constructor would cost more than everything else here.

    Attributes:
        entries: the line that it is in; it leaves the line when it rings or ends.
        task: the task to cancel; None if it ended after it had rung.
        requests_before: the task's cancel requests just before the timer's own; unset until then.
        when: the instant at which it rings.
    """

    __slots__ = ("entries", "requests_before", "task", "when")

    entries: dict[Expiry, None]
    task: asyncio.Task[Any] | None
    requests_before: int
    when: float

    def stop(self) -> None:
        """End the timer; withdraw its cancel request if the block ended in spite of it."""
        try:
            del self.entries[self]
        except KeyError:  # it has left the line because it rang
            if self.task is not None and hasattr(self, "requests_before"):
                self.task.uncancel()
            self.task = None

    def ring(self) -> None:
        """Leave the line and expire now."""
        if self in self.entries:
            del self.entries[self]
            self.expire()

    def disarm(self) -> None:
        """Leave the line, so that it never rings; to end it then does nothing more."""
        self.stop()

    def made(self, error: BaseException) -> bool:
        """End the timer, and return whether `error` is the cancellation that it made."""
        # Whose cancellation is it? There are six cases:
        # 1. The timer has not cancelled the task (yet): not its own.
        requests_before, task = getattr(self, "requests_before", None), self.task
        if requests_before is None or task is None:
            self.stop()
            return False
        # From here on it has. Its request is withdrawn, whatever the answer.
        self.task = None
        left = task.uncancel()
        # 2. The block raised another exception: not its own.
        if not isinstance(error, asyncio.CancelledError):
            return False
        # 3. The error carries the timer, but it interrupted the slow clean-up after another
        #    cancellation: not its own, since that other cancellation must go on.
        ours = bool(error.args) and error.args[0] is self
        if ours and _interrupted_a_cancellation(error):
            return False
        # 4. Another request came after the timer's (left > requests_before): not its own.
        # 5. The error carries the timer: its own. Earlier requests do not matter: `expire` has
        #    found that they were swallowed.
        # 6. The error does not carry the timer. The message is lost if code in between raises a
        #    new CancelledError, so it is its own if there was no other request to explain it.
        return left <= requests_before and (ours or requests_before == 0)

    def expire(self, rechecks: int = 0) -> None:
        """Cancel the task, unless another cancellation of it is already under way.

        Args:
            rechecks: how often it has already found another cancellation under way.
        """
        task = self.task
        if task is None:
            return
        requests = task.cancelling()
        if requests and rechecks < MOST_RECHECKS:
            # The other cancellation should end the block, but check again. The code inside may
            # catch it and go on, or it did so long ago: without `Task.uncancel` the count of
            # requests then stays above 0.
            task.get_loop().call_later(RECHECK_AFTER, self.expire, rechecks + 1)
            return
        self.requests_before = requests
        task.cancel(msg=self)

    def __enter__(self) -> Self:
        """Return the timer, which is already running."""
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """End the timer, and swallow the cancellation that it made."""
        if error is None:
            self.stop()
            return False
        return self.made(error)


class Line:
    """All running timers of one duration, which share one timer of the loop.

    With one duration, the order of starting is the order of ringing. So the line is a dict: it
    keeps that order, and any timer can leave in O(1). The loop's timer is armed for the oldest
    entry and is not cancelled when that entry leaves. When it rings, it is armed for the oldest
    entry that is not due yet. If there is none, the line ends, so an idle program has no timer at
    all.

    Args:
        loop: the event loop.
        lines: every line by its duration; a line is removed from it when it ends.
        duration: seconds, above 0.

    Attributes:
        duration: seconds, at most `LONGEST_SLEEP`.
        entries: the running timers; the first one rings next.
        armed: whether the loop's timer is set.
    """

    __slots__ = ("_key", "_lines", "_loop", "armed", "duration", "entries")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lines: dict[float, Line], duration: float
    ) -> None:
        self._loop = loop
        self._lines = lines
        self.armed = False
        self._key = duration
        self.duration = min(duration, LONGEST_SLEEP)
        self.entries: dict[Expiry, None] = {}

    def arm(self, when: float) -> None:
        """Set the loop's timer to an instant, for the oldest entry."""
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
    """A timer for an instant of its own: a line with one entry, and a loop timer to cancel."""

    __slots__ = ("handle",)

    handle: asyncio.TimerHandle

    def stop(self) -> None:
        """End the timer, and cancel the loop's timer."""
        self.handle.cancel()
        super().stop()

    def ring(self) -> None:
        """Cancel the loop's timer and expire now."""
        self.handle.cancel()
        super().ring()

    def expire(self, rechecks: int = 0) -> None:
        """Leave the line, as any timer does before it rings."""
        self.entries.clear()
        super().expire(rechecks)


def start_single(loop: asyncio.AbstractEventLoop, when: float) -> Expiry:
    """Start a timer with a loop timer of its own, to cancel the running task at an instant."""
    task = current_task(loop)
    if task is None:
        raise RuntimeError("a timer runs only inside an asyncio task")
    expiry = _Single()
    expiry.task = task
    expiry.when = when
    expiry.entries = {expiry: None}
    expiry.handle = loop.call_at(when, expiry.expire)
    return expiry


def start_by_hand(loop: asyncio.AbstractEventLoop) -> Expiry:
    """Start a timer that is in no line: it cancels the running task when it is rung."""
    task = current_task(loop)
    if task is None:
        raise RuntimeError("a timer runs only inside an asyncio task")
    expiry = Expiry()
    expiry.task, expiry.when, expiry.entries = task, math.inf, {}
    expiry.entries[expiry] = None
    return expiry


def _interrupted_a_cancellation(error: BaseException) -> bool:
    """Whether the timer's cancellation arrived while another one was being handled.

    That is so if the chain of contexts has a cancellation that no timer made.
    """
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
