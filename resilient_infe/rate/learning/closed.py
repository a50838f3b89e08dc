"""Waits where nothing at all gets through, asks again now and then, and tells a window by it."""

from __future__ import annotations

from typing import Protocol

from .stage import Belief, Stage
from .trail import WINDOW, Measure, Sent, Trail

FIRST_GAP, FIRST_SENDS = 0.5, 1.5
"""Seconds, and requests, before the server is asked again, whichever is longer."""

GAP_GROWTH, LONGEST_GAP = 1.7, 15.0
"""Each gap is so many times the last one, up to so many seconds."""

SHUT, SHUT_SENDS = 0.75, 3.0
"""Nothing accepted for so many seconds, and for as long as so many requests need, is a stop."""

WINDOW_FROM, WINDOW_SENDS = 4.0, 3.0
"""A stop of so many seconds, and as long as so many requests need, is that of a window."""

PATIENCE, ANSWER_TIMES = 0.3, 4.0
"""Seconds, and times what a rejection needs, after which a request counts as accepted: the answer
itself may take a whole completion's time."""


class Resumable(Protocol):
    """A stage that knows how to go on after a stop."""

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        ...

    @property
    def proven(self) -> bool:
        """Whether the server has shown that it is no window."""
        ...

    def resumed(self, seconds: float, trail: Trail) -> Stage:
        """Return the stage for a server that let something through again after so long."""
        ...

    def belief(self) -> Belief | None:
        """Return what is worth keeping for another run, or None."""
        ...


def shut(measure: Measure, pace: float) -> bool:
    """Whether a server that accepted nothing has stopped, and not just run out for an instant."""
    return measure.seconds > max(SHUT, SHUT_SENDS * measure.unit / pace)


def is_a_window(seconds: float, known: float, unit: float) -> bool:
    """Whether a stop of so many seconds is that of a window, and not of a bucket that refills."""
    return seconds > max(WINDOW_FROM, WINDOW_SENDS * unit / known)


class Closed(Stage):
    """Sends one request at a time, less and less often, until one is accepted.

    Args:
        before: the stage that it stopped.
        now: the instant.
        trail: the sends so far.
        since: the rejection that began the stop; the anchor, if None.
        turn: when the server is expected to go on, if that is known.
    """

    def __init__(
        self,
        before: Resumable,
        now: float,
        trail: Trail,
        *,
        since: Sent | None = None,
        turn: Turn | None = None,
    ) -> None:
        """Wait for the first gap, or for the turn."""
        self.limit = before.known
        self.before = before
        since = trail.anchor if since is None else since
        self.closed_at = now if since is None else since.at
        self.full = trail.accepted_within(self.closed_at - WINDOW, self.closed_at)
        self.last_rejected = self.closed_at
        self.turn = turn
        self._gap = max(FIRST_GAP, FIRST_SENDS * trail.unit / before.known)
        self._next = (
            now + self._gap if turn is None else turn.next_ask(now, trail.unit / self.limit)
        )
        self._asked: Sent | None = None
        self.why = "nothing gets through"

    def pace(self) -> float:
        """Return the old pace; asking goes by the gaps."""
        return self.limit

    def ready_at(self, paced: float, cost: float, trail: Trail) -> float:
        """Return when to ask next, or when the last question will count as accepted."""
        if self._asked is None:
            return self._next
        return self._asked.at + max(PATIENCE, ANSWER_TIMES * trail.answer_time)

    def sent(self, sent: Sent) -> None:
        """Remember what was asked."""
        self._asked = sent

    def unsent(self, sent: Sent) -> None:
        """Ask again."""
        if sent is self._asked:
            self._asked = None

    def belief(self) -> Belief | None:
        """Return what was believed before."""
        return self.before.belief()

    def sending(self, now: float, trail: Trail) -> Stage:
        """Go on, if the last question was not rejected in time."""
        return self if self._asked is None else self._reopen(self._asked, trail)

    def accepted(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Go on."""
        return self._reopen(sent, trail) if sent is self._asked else self

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Ask later."""
        if sent is not self._asked:
            return self
        self._asked = None
        self.last_rejected = sent.at
        self.full = trail.accepted_within(sent.at - WINDOW, sent.at)
        self._gap = min(self._gap * GAP_GROWTH, LONGEST_GAP)
        self._next = now + self._gap
        if self.turn is not None and sent.at < self.turn.high:
            self.turn.low = max(self.turn.low, sent.at)
            self._next = self.turn.next_ask(now, trail.unit / self.limit)
        return self

    def _reopen(self, asked: Sent, trail: Trail) -> Stage:
        from .windowed import Windowed

        seconds = asked.at - self.closed_at
        if isinstance(self.before, Windowed):
            return self.before.reopened(self, asked, trail)
        if not self.before.proven and is_a_window(seconds, self.before.known, trail.unit):
            return Windowed.found(self.full, Turn(self.last_rejected, asked.at), trail)
        return self.before.resumed(seconds, trail)


class Turn:
    """When a fixed window ends and the next begins: somewhere between two instants, each minute."""

    __slots__ = ("high", "low")

    def __init__(self, low: float, high: float) -> None:
        """Keep both."""
        self.low, self.high = low, high

    def after(self, now: float) -> Turn:
        """Return the first turn that can end after an instant."""
        later = WINDOW * max(0.0, -((self.high - now) // WINDOW))
        return Turn(self.low + later, self.high + later)

    def next_ask(self, now: float, spacing: float) -> float:
        """Return when to ask: in the middle while it is worth knowing better, and at its end."""
        wide = self.high - self.low > max(0.1, spacing / 2)
        return max(now, (self.low + self.high) / 2 if wide else self.high)
