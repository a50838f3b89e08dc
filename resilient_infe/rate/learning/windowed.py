"""Keeps to a limit per minute that is counted in windows, fixed or sliding."""

from __future__ import annotations

import math
from enum import Enum

from .closed import Closed, Turn, is_a_window
from .search import MOST_DOUBLINGS, TURN_DOUBT
from .stage import Belief, Stage
from .suspicion import Suspicion
from .track import HINTED_LOOKS, LOOKS, RISEN, RISEN_SENDS, STRONG, longest
from .trail import WINDOW, Sent, Trail


class Kind(Enum):
    """What sort of window it is."""

    UNKNOWN = "a window"
    FIXED = "a fixed window"
    SLIDING = "a sliding window"


FIXED_SHARE = 0.998
"""Of a fixed window's limit that is used between looks."""

LOOK_PACE = 1.25
"""Times the limit at which a look goes on."""

OVER_DOUBLING = 8.0
"""Seconds in which a look doubles what may be sent within a minute."""

RISE_DOUBLING = 4.0
"""Seconds in which the pace doubles once the limit has surely risen."""

FULL = 0.985
"""A window that is used to so much of the limit is where a look expects to be rejected."""

WIDE, WIDE_SENDS = 1.0, 2.0
"""Seconds, and requests, of doubt about the turn that are worth a look in each window."""

NEAR = 2.0
"""Seconds by which a window may turn off its time and still be the same."""

STRANGE = 0.6
"""A fixed window that closes below so much of its limit is none."""

UNKNOWN_PERIOD = 75.0
"""Seconds before the first look: to tell the kinds, the last minute's sends must be even."""

CHECK_EVERY = 0.25
"""Seconds between two checks of that, since to count a minute costs more than to send."""


class Windowed(Stage):
    """Sends what a window holds, evenly.

    Args:
        kind: of window.
        units: what it holds.
        turn: when it turns, if it is fixed.
        period: seconds until the next look.
    """

    def __init__(self, kind: Kind, units: float, turn: Turn, period: float) -> None:
        """Begin at once."""
        self.limit = units / WINDOW
        self.kind, self.turn = kind, turn
        self._units, self._period = units, period
        self._for = 0.0
        self._risen_at: float | None = None
        self._checked = -math.inf
        self._strong = Suspicion(*STRONG)
        self._alone: Sent | None = None
        self.why = f"{kind.value} that holds {units:.0f}"

    @classmethod
    def found(cls, units: float, turn: Turn, trail: Trail, kind: Kind = Kind.UNKNOWN) -> Windowed:
        """Return the stage for a window that holds so many units."""
        units = max(units, trail.unit)
        limit = units / WINDOW
        period = longest(limit, trail)
        if kind is Kind.UNKNOWN:
            period = max(period, UNKNOWN_PERIOD)
        elif kind is Kind.FIXED:
            # What is sent until the rejection is back is rejected too, if the window is still full.
            cost = 1.0 + LOOK_PACE * limit / trail.unit * trail.answer_time / 2
            looks = HINTED_LOOKS if trail.hint else LOOKS
            windows = math.ceil(cost * trail.unit / (looks * limit) / WINDOW)
            if turn.high - turn.low > max(WIDE, WIDE_SENDS / limit * trail.unit):
                windows = 1
            period = WINDOW * windows - WINDOW / 2
        return cls(kind, units, turn, period)

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        return self.limit

    def pace(self) -> float:
        """Return what fills the window evenly, or more in a look."""
        if not self.looking:
            return self.limit * (FIXED_SHARE if self.kind is Kind.FIXED else 1.0)
        if self._risen_at is None:
            return self.limit * LOOK_PACE
        doublings = (self._for - self._risen_at) / RISE_DOUBLING
        return self.limit * LOOK_PACE * math.exp2(min(doublings, MOST_DOUBLINGS))

    @property
    def looking(self) -> bool:
        """Whether the period is over."""
        return self._for >= self._period

    def ready_at(self, paced: float, cost: float, trail: Trail) -> float:
        """Return when a sliding window has room; the pace is enough for a fixed one."""
        if self.kind is Kind.FIXED:
            return paced
        doublings = max(0.0, self._for - self._period) / OVER_DOUBLING
        over = math.exp2(min(doublings, MOST_DOUBLINGS))
        return max(paced, trail.ledger.room_at(cost, self._units * over))

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Go on, and see whether the limit has risen."""
        # The period runs by the window's own clock. A look begins where it ends, and not beyond.
        grown = self._for + seconds
        self._for = grown if self.looking else min(self._for + gap, max(grown, self._period))
        if self.looking and self._risen_at is None and now - self._checked > CHECK_EVERY:
            self._checked = now
            most = self._units * RISEN + RISEN_SENDS * trail.unit
            if self._used(now, trail) > most:
                self._risen_at = self._for

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Take a rejection for a full window where that is expected, or where nothing passes."""
        used = self._used(sent.at, trail)
        if sent.looking and used >= self._units * FULL:
            if self.kind is Kind.SLIDING:
                return self._again(trail.accepted_within(sent.at - WINDOW, sent.at), trail)
            return self._close(sent, now, trail)
        if self._alone is not None:
            between = trail.measure(sent, self._alone)
            if between is not None and between.nothing:
                return self._close(self._alone, now, trail)
        self._alone = sent
        if self._strong.add(sent, trail.noise):
            return self._close(self._strong.first, now, trail)
        return self

    @property
    def proven(self) -> bool:
        """Whether the server has shown that it is no window: it is one."""
        return False

    def told(self, sent: Sent, now: float, trail: Trail) -> Stage | None:
        """Tell the kinds apart by the wait asked for: to the turn, or until one has left."""
        if sent.at - trail.idle_at < WINDOW:  # what was sent in the last minute was all there was
            return None
        turn = sent.at + trail.hint
        expected = self.kind is Kind.FIXED and abs(self.turn.after(now).high - turn) <= NEAR
        if not expected and not is_a_window(trail.hint, self.limit, trail.unit):
            units = trail.accepted_within(sent.at - WINDOW, sent.at)
            return Windowed.found(units, self.turn, trail, Kind.SLIDING)
        units = trail.accepted_within(turn - WINDOW, sent.at)
        exact = Turn(turn - TURN_DOUBT, turn + TURN_DOUBT)
        return Windowed.found(units, exact, trail, Kind.FIXED)

    def resumed(self, seconds: float, trail: Trail) -> Stage:
        """Return the same stage anew."""
        return self._again(self._units, trail)

    def reopened(self, closed: Closed, asked: Sent, trail: Trail) -> Windowed:
        """Return the stage after a stop, by how long it lasted and when it ended."""
        seconds = asked.at - closed.closed_at
        short = not is_a_window(seconds, self.limit, trail.unit)
        if self.kind is Kind.SLIDING or (self.kind is Kind.UNKNOWN and short):
            return Windowed.found(closed.full, self.turn, trail, Kind.SLIDING)
        turn = self.turn.after(closed.closed_at)
        if turn.low - NEAR < asked.at <= turn.high + NEAR:
            low = max(turn.low, min(closed.last_rejected, asked.at))
            start = (low + asked.at) / 2 - WINDOW
            units = trail.accepted_within(start, asked.at) - asked.cost
            if units >= STRANGE * self._units or self.kind is Kind.UNKNOWN:
                return Windowed.found(units, Turn(low, asked.at), trail, Kind.FIXED)
        return Windowed.found(closed.full, Turn(closed.last_rejected, asked.at), trail)

    def belief(self) -> Belief:
        """Return what a window holds, per second; when it turns is another run's to find."""
        return Belief(self.limit, windowed=True, exact=self._units)

    def _used(self, now: float, trail: Trail) -> float:
        """Return the units that count in the window under way."""
        start = now - WINDOW
        if self.kind is Kind.FIXED:
            start = max(start, self.turn.after(now).high - WINDOW)
        return trail.accepted_within(start, now)

    def _close(self, sent: Sent, now: float, trail: Trail) -> Closed:
        known = self.turn.after(now) if self.kind is Kind.FIXED else None
        return Closed(self, now, trail, since=sent, turn=known)

    def _again(self, units: float, trail: Trail) -> Windowed:
        return Windowed.found(units, self.turn, trail, self.kind)
