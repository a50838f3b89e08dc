"""Keeps to a fair part of a limit that others use too, without talking to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .closed import Closed, shut
from .stage import Belief, Stage
from .trail import Sent, Trail

if TYPE_CHECKING:
    from .track import Track

INCREASE, USUAL = 0.05, 5.0
"""Requests per second by which the pace grows each second at so many requests per second or more.
Below it grows by the square root of what it is less: slower, but the same for all that are equal,
and more for the smaller of two, so that they become equal."""

DECREASE = 0.9
"""What a rejection leaves of the pace: it meets the larger of two senders more often."""

TEST_PACE, SURE = 0.7, 6.0
"""Of the limit, while noise is told from others; and how many rejections noise should have brought
by the end: that none at all came is a chance of one in four hundred."""

ALONE = 120.0
"""Seconds without a rejection after which nobody else seems to be there."""


class Shared(Stage):
    """Additive increase and multiplicative decrease: what several senders become equal by.

    To measure between two rejections tells how much of the limit was one's own, which is no limit:
    who got little would keep to it. (Chiu and Jain, 1989: of all linear rules this one is fair.)

    Args:
        base: units per second to begin with.
    """

    def __init__(self, base: float) -> None:
        """Begin at the base."""
        self.limit = base
        self._for = 0.0
        self._pace = base
        self.why = "others use the limit too"

    def pace(self) -> float:
        """Return what it has grown to."""
        return self._pace

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        return self.limit

    @property
    def proven(self) -> bool:
        """Whether the server has shown that it is no window."""
        return True

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Grow."""
        self._for += seconds
        usual = USUAL * trail.unit
        step = INCREASE * trail.unit * math.sqrt(min(1.0, self._pace / usual))
        self._pace += step * min(seconds, 1.0)

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Slow down once for all that was sent before."""
        measure = trail.measure(sent)
        if measure is not None and measure.nothing and shut(measure, self.limit):
            return Closed(self, now, trail)
        if self._for > ALONE:
            return self._alone(sent)
        shared = Shared(self._pace * DECREASE)
        shared.anchor = sent
        return shared

    def resumed(self, seconds: float, trail: Trail) -> Stage:
        """Go on as before."""
        return Shared(self.limit)

    def belief(self) -> Belief:
        """Return the own part."""
        return Belief(self.limit, windowed=False, exact=1.0)

    def _alone(self, sent: Sent) -> Stage:
        from .search import Climb, Depth

        climb = Climb(self.limit, self.limit / 20, Depth.unknown(sent.cost))
        climb.anchor, climb.why = sent, "the others seem to have gone"
        return climb


class Trial(Stage):
    """Goes far below the limit for a while, to tell noise from others who use the limit too.

    Noise falls on requests however slowly they come. What others take is free for a while once one
    takes less; so where the rejections stop, there are others.

    Args:
        before: what to go on with where it is noise.
        noise: the share of rejections in doubt.
        number: of the first request of the test.
    """

    def __init__(self, before: Track, noise: float, number: int) -> None:
        """Send so many that noise would show."""
        self.limit = before.limit
        self._before = before
        self._until = number + SURE / noise
        self.why = "noise, or others?"

    def pace(self) -> float:
        """Keep far below the limit."""
        return self.limit * TEST_PACE

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        return self.limit

    @property
    def quiet(self) -> bool:
        """All of it is."""
        return True

    def sending(self, now: float, trail: Trail) -> Stage:
        """Take the silence for a sign of others, once it lasted."""
        return Shared(self.pace()) if trail.number >= self._until else self

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Go on as before: it is noise."""
        trail.noise_tested(sent.number)
        return self._before.resumed(0.0, trail)

    def belief(self) -> Belief:
        """Return what was believed before."""
        return self._before.belief()
