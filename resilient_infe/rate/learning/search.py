"""The first two stages: double until something is rejected, then close in on the limit."""

from __future__ import annotations

import math
from collections import deque

from .stage import Stage
from .suspicion import Suspicion
from .trail import WINDOW, Measure, Sent, Trail

START, FREE = 4.0, 8.0
"""Requests per second to begin with, and how many may go at once: who makes but a few calls should
not feel that anything is learned."""

DOUBLING = 2.0
"""Seconds in which the pace doubles at first."""

CALM = 50.0
"""Requests per second from which it doubles slower: until the first 429 is back, each of what was
sent in excess becomes another one."""

CALM_DOUBLING = 6.0
"""Seconds in which it doubles from there."""

GROWTH_STEP, GROWTH_POINTS = 0.1, 600
"""Seconds between two points of the growth, and how many of them are kept."""

MOST_DOUBLINGS = 20.0
"""A pace that nothing stops is a million times its first one, and grows no more."""

LONGEST_PAUSE = 0.5
"""Seconds of silence after the first rejection, at most."""

CLIMB = 1.25
"""The pace of `Climb` grows by this factor per round."""

ROUND = 2.0
"""Seconds of a round, at least, so that the answers of one are in before the next is over."""

ROUND_SENDS = 4.0
"""Requests of a round, at least: a pace that was hardly tried proves nothing."""

ENOUGH = 20.0
"""Requests accepted between two rejections from which the limit is known: to a twentieth."""

ENOUGH_TIGHT = 8.0
"""The same where the pace itself shows the limit, since nothing could be saved up."""

TIGHT_STEP = 0.93
"""Of the pace at which a bucket of a few requests rejected: the climb went past the limit."""

CONFIRMED = (2, 12)
"""So many rejections among so many requests are no chance while the pace is still growing."""

TURN_DOUBT = 0.05
"""Seconds by which a window may turn sooner or later than the server said."""

USUAL_BURST, STEP = 1.0, 3.0
"""Seconds of the rate that a bucket is taken to hold, and by which factor that is corrected."""

Growth = deque[tuple[float, float]]
"""When, and what had been sent by then: how the first search went."""


class Search(Stage):
    """Doubles the pace until rejections stand together.

    Args:
        start: units per second to begin with.
        calm: units per second from which it doubles slower.
    """

    def __init__(self, start: float, calm: float) -> None:
        """Begin slowly."""
        self._start, self._calm = start, calm
        self._grown = 0.0
        self._growth: Growth = deque(maxlen=GROWTH_POINTS)
        self._suspicion = Suspicion(*CONFIRMED)
        self.why = "nothing is known yet"

    def pace(self) -> float:
        """Double every two seconds, then every six."""
        quick = DOUBLING * math.log2(max(1.0, self._calm / self._start))
        slow = max(0.0, self._grown - quick)
        doublings = min(self._grown, quick) / DOUBLING + slow / CALM_DOUBLING
        return self._start * math.exp2(min(doublings, MOST_DOUBLINGS))

    def ready_at(self, paced: float, cost: float, trail: Trail) -> float:
        """Let a few go at once."""
        return paced - (FREE - 1.0) * trail.unit / self.pace()

    @property
    def looking(self) -> bool:
        """All of it is a look upwards."""
        return True

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Grow, unless a rejection waits to be confirmed."""
        if not self._suspicion.pending(trail.number):
            self._grown += seconds
        if not self._growth or now - self._growth[-1][0] >= GROWTH_STEP:
            self._growth.append((now, trail.total))

    def told(self, sent: Sent, now: float, trail: Trail) -> Stage | None:
        """Take a long wait for that of a window."""
        assert trail.started is not None
        known = max(sent.before, trail.unit) / (sent.at - trail.started + WINDOW)
        return told_stop(known, sent, trail)

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Begin to climb from between what the server surely takes and half of what it did not."""
        if not self._suspicion.add(sent):
            return self
        first = self._suspicion.first
        assert trail.started is not None
        # Whatever the burst, a minute of it at most was saved up.
        least = max(first.before, trail.unit) / (first.at - trail.started + WINDOW)
        base = math.sqrt(least * max(first.pace / 2, least))
        climb = Climb(base, least, Depth(self._growth, first))
        climb.anchor = first
        climb.pause = min(trail.unit / base, LONGEST_PAUSE)
        return climb


class Depth:
    """How many units the server's bucket holds, by how far the first search overdrew it.

    Args:
        growth: how that went.
        first: its first rejection.
    """

    def __init__(self, growth: Growth, first: Sent) -> None:
        """Keep both: what it says depends on the rate that is asked about."""
        self._growth, self._first = growth, first
        self._seconds = USUAL_BURST

    @classmethod
    def unknown(cls, unit: float) -> Depth:
        """Return the depth of a bucket of which nothing is known."""
        return cls(deque(), Sent(0.0, unit, 0.0, 0, 0.0, looking=False, quiet=False))

    def at(self, rate: float) -> float:
        """Return the units of a bucket that refills at a rate; at least one request's."""
        end, sent = self._first.at, self._first.before
        drawn = (sent - before - rate * (end - at) for at, before in self._growth)
        return max(self._first.cost, rate * self._seconds, max(drawn, default=0.0))

    def correct(self, *, deeper: bool) -> None:
        """Take note that it holds more, or less, than was thought."""
        self._seconds *= STEP if deeper else 1.0 / STEP


def told_stop(known: float, sent: Sent, trail: Trail) -> Stage | None:
    """Return the stage for a server that asks to wait so long that it must be a window's end."""
    from .closed import Turn, is_a_window
    from .windowed import Windowed

    if sent.at - trail.idle_at < WINDOW:  # what was sent in the last minute was all there was
        return None
    if not is_a_window(trail.hint, known, trail.unit):
        return None
    units = trail.accepted_within(sent.at - WINDOW, sent.at)
    turn = sent.at + trail.hint
    return Windowed.found(units, Turn(turn - TURN_DOUBT, turn + TURN_DOUBT), trail)


class Climb(Stage):
    """Raises the pace by a quarter per round, and measures between rejections.

    Args:
        base: units per second to begin with.
        least: units per second below which it never goes.
        depth: of the server's bucket.
    """

    def __init__(self, base: float, least: float, depth: Depth) -> None:
        """Begin at the base."""
        self.limit = base
        self.why = "closing in on it from below"
        self._base, self._least, self._depth = base, least, depth
        self._rounds = 0.0
        self._suspicion = Suspicion(*CONFIRMED)

    def pace(self) -> float:
        """Grow by a quarter per round."""
        return self._base * math.exp2(min(self._rounds * math.log2(CLIMB), MOST_DOUBLINGS))

    @property
    def looking(self) -> bool:
        """All of it is a look upwards."""
        return True

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Grow, unless a rejection waits to be confirmed."""
        if not self._suspicion.pending(trail.number):
            self._rounds += seconds / max(ROUND, ROUND_SENDS * trail.unit / self.pace())

    def told(self, sent: Sent, now: float, trail: Trail) -> Stage | None:
        """Take a long wait for that of a window."""
        return told_stop(max(self._least, self.pace() / 2), sent, trail)

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Measure from the anchor: go on from there, or keep to it once it is exact enough."""
        from .closed import Closed, shut

        measure = trail.measure(sent)
        if measure is None:
            return self._again(sent.pace * 0.8, trail, anchor=sent)
        if measure.nothing:
            if shut(measure, max(sent.pace, self._least)):
                return Closed(self, now, trail)
            return self._again(sent.pace / 2, trail)
        if not self._suspicion.add(sent):
            return self
        first = self._suspicion.first
        measure = trail.measure(first)
        if measure is None or measure.nothing:
            return self._again(sent.pace / 2, trail)
        return self._measured(first, measure, trail)

    def _measured(self, first: Sent, measure: Measure, trail: Trail) -> Stage:
        from .track import Track

        rate = measure.rate
        # Where a full bucket may have spilled, less was accepted than came in.
        tight = (first.pace - rate) * measure.seconds / 2 > self._depth.at(rate)
        if tight:
            rate = max(rate, first.pace * TIGHT_STEP)
        if measure.sends >= (ENOUGH_TIGHT if tight else ENOUGH):
            return Track.found(rate, measure, self._depth, first, trail, by_pace=tight)
        return self._again(rate * (1.0 - 0.5 / (measure.sends + 0.5)), trail)

    def resumed(self, seconds: float, trail: Trail) -> Stage:
        """Return the stage for a server that let something through again after so long."""
        return self._again(max(self._least, 0.7 * trail.unit / seconds), trail)

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        return self._least

    @property
    def proven(self) -> bool:
        """Whether the server has shown that it is no window."""
        return False

    def _again(self, base: float, trail: Trail, anchor: Sent | None = None) -> Climb:
        climb = Climb(max(base, self._least), self._least, self._depth)
        climb.anchor = anchor
        climb.pause = min(trail.unit / climb._base, LONGEST_PAUSE * 4)
        return climb
