"""Finds the limit of one dimension, and paces what is sent by it."""

from __future__ import annotations

import math

from .belief import believed
from .search import CALM, START, Climb, Depth, Search
from .stage import Stage
from .trail import Sent, Trail

CATCH_UP = 0.05
"""Seconds by which a sender that is late may catch up."""

BUSY = 0.04
"""Seconds after the instant at which it could have been sent that a request still counts as work
that was waiting: less than one may catch up, or who sends less than the pace would seem busy."""

LONGEST_WAIT = 30.0
"""Seconds between two requests, at most: however much is rejected, and however large one is, the
next goes through."""

LONGEST_STEP, STEP_SENDS = 1.0, 3.0
"""Seconds, and requests at the pace, whichever is longer: no longer gap between two sends counts
in full. In a wait that the server asked for nothing was tried, so the pace must not grow by it."""

CONTENT = 30.0
"""Seconds at the ceiling that must meet nothing: then there is nothing to learn."""

IDLE = 1.5
"""Seconds without work after which a server's bucket may have spilled, so that no measure holds."""


class Finder:
    """The search for one limit.

    Args:
        unit: the cost of a usual request; only to begin with.
        ceiling: units per second that are never exceeded.
        stage: where to begin; a search, by default.

    Attributes:
        stage: of the search.
        trail: what was sent.

    State: inside the `Learner` that owns it.
    """

    __slots__ = ("_ceiling", "_content", "_last", "_paced", "_since", "stage", "trail")

    def __init__(
        self, unit: float = 1.0, ceiling: float = math.inf, stage: Stage | None = None
    ) -> None:
        """Begin to search."""
        self.trail = Trail()
        self.trail.unit = unit
        self.stage: Stage = Search(START * unit, CALM * unit) if stage is None else stage
        self._ceiling = ceiling
        self._paced = self._since = -math.inf
        self._last: float | None = None
        self._content = 0.0  # seconds at the ceiling, in which nothing was rejected

    def pace(self) -> float:
        """Return the units per second that are aimed at."""
        return min(max(self.stage.pace(), self.trail.unit / LONGEST_WAIT), self._ceiling)

    def ready_at(self, cost: float) -> float:
        """Return the instant from which `cost` may be sent."""
        return self.stage.ready_at(self._paced, cost, self.trail)

    def sent(self, now: float, cost: float) -> Sent:
        """Note a request that is sent now."""
        self._become(self.stage.sending(now, self.trail), now)
        self._pass_time(now, cost)
        pace = self.pace()
        sent = self.trail.add(now, cost, pace, looking=self.stage.looking, quiet=self.stage.quiet)
        self._paced = max(self._paced, now - CATCH_UP) + min(cost / pace, LONGEST_WAIT)
        self.stage.sent(sent)
        return sent

    def accepted(self, now: float, sent: Sent) -> None:
        """Note that it was accepted."""
        self._become(self.stage.accepted(sent, now, self.trail), now)

    def rejected(self, now: float, sent: Sent, hint: float = 0.0) -> None:
        """Note that it was rejected; one of before the last correction tells nothing new."""
        self.trail.take_off(sent, now)
        self.trail.hint = hint
        if sent.at < self._since:
            return
        told = self.stage.told(sent, now, self.trail) if hint > 0 else None
        self._become(told or self.stage.rejected(sent, now, self.trail), now)

    def hold_until(self, instant: float) -> None:
        """Begin the pace anew where a wait ended that the server asked for: nothing was tried."""
        self._paced = max(self._paced, instant)
        if self._last is not None and instant > self._last:
            self._last = instant

    def slow_down(self, now: float) -> None:
        """Go on from half the pace, if it grew too fast; once for all that was sent before."""
        unit = self.trail.unit
        if self.stage.looking and now - self._since > self.trail.answer_time:
            half = self.pace() / 2
            self._become(Climb(half, unit / LONGEST_WAIT, Depth.unknown(unit)), now)

    def unsent(self, sent: Sent) -> None:
        """Note that it never went."""
        self.trail.forget(sent)
        self._paced -= min(sent.cost / sent.pace, LONGEST_WAIT)
        self.stage.unsent(sent)

    def start_over(self) -> None:
        """Go on from what is believed, on another clock: what the old one measured is void."""
        belief = self.stage.belief()
        unit = self.trail.unit
        self.trail = Trail()
        self.trail.unit = unit
        self.stage = Search(START * unit, CALM * unit) if belief is None else believed(belief, unit)
        self._paced = self._since = -math.inf
        self._last = None

    @property
    def at_ceiling(self) -> bool:
        """Whether it goes as fast as it may, and nothing is rejected."""
        return self._content > CONTENT

    @property
    def last_sent(self) -> float:
        """The instant of the last request."""
        return -math.inf if self._last is None else self._last

    def _pass_time(self, now: float, cost: float) -> None:
        if self._last is not None:
            late, gap = now - self.ready_at(cost), now - self._last
            step = min(gap, max(LONGEST_STEP, STEP_SENDS * self.trail.unit / self.pace()))
            # Time in which the pace was not used tells nothing of what it would meet.
            if late <= BUSY and self.stage.pace() > self._ceiling:
                self._content += step
            elif late <= BUSY:
                self.stage.advance(step, gap, now, self.trail)
            elif min(late, gap) > IDLE:
                self.trail.idle(now)
        self._last = now

    def _become(self, stage: Stage, now: float) -> None:
        if stage is self.stage:
            return
        slowest = self.trail.unit / LONGEST_WAIT
        if 0.0 < stage.limit < slowest:  # from there nothing could be learned any more
            anchor, stage = stage.anchor, Climb(slowest, slowest, Depth.unknown(self.trail.unit))
            stage.anchor = anchor
        self.stage = stage
        self._since = now
        self._content = 0.0
        self._paced = now + stage.pause
        if stage.anchor is not None:
            self.trail.anchor = stage.anchor
