"""A window of the clock that others use too: all senders race from its turn by the same law.

Nobody knows their part of it. But if all begin slowly at the turn and double in the same time, the
window is used up when all have sent the same. It begins slower for those who had more.
"""

from __future__ import annotations

import math
from collections import deque

from .course import Course
from .hypotheses import Fixed
from .record import Record
from .states import HOLD, RACE, Event
from .stop import Stop
from .tuning import Tuning

MOST = 8
"""Windows for which all race at most: a race that does not settle is none."""

ALIKE = 1.08
"""Three windows that differ by less are settled."""


class Race:
    """The windows so far.

    Args:
        record, course: of the `Seeker` that owns it.
        tuning: the numbers.

    Attributes:
        closed_early: whether the window that was used up now was so long before its end.
    """

    def __init__(self, record: Record, course: Course, tuning: Tuning) -> None:
        self._record, self._course, self._tuning = record, course, tuning
        self._before = 0.0
        self._windows = self._unfilled = 0
        self._counts: deque[float] = deque(maxlen=3)
        self.closed_early = False

    def is_early(self, at: float) -> bool:
        """Whether a known window was used up long before its end, by less than it holds."""
        best, sends = self._record.best, self._record.sends
        if not isinstance(best, Fixed) or best.width >= 5.0:
            return False
        if best.penalty > 0.18:
            return False
        start = best.start(at)
        return (
            at - start < best.period - 3.0
            and sends.count(start, at) < 0.9 * self._record.rate * best.period - 1.0
            and (sends.started or 0.0) < start - best.period
        )

    def follow_turn(self, stop: Stop, at: float) -> None:
        """Begin a race, or give one up, by when a window turned."""
        best = self._record.best
        if isinstance(best, Fixed) and best.width < math.inf:
            on_time = abs(at - best.next(stop.since - 0.5)) < 2.0 + best.width
            if self._course.state is RACE and not on_time and at < best.next(stop.since) - 3.0:
                best.penalty += 0.3
                self.give_up()
            elif self.closed_early and on_time and self._course.state is HOLD:
                self._begin(best, stop)
        self.closed_early = False

    def _begin(self, best: Fixed, stop: Stop) -> None:
        """Begin to race, if the window is well known and long enough to race in."""
        if best.period >= 60 and best.matched >= 3 and best.penalty < 0.1:
            self._before, self._windows, self._unfilled = self._record.rate, 0, 0
            self._counts.clear()
            self._course.race_turned_at = best.start(stop.since)
            self._course.become(Event.CLOSED_EARLY)
            self.filled(stop.since)

    def give_up(self) -> None:
        """Go on from what was proven before: a pace in a race measures nothing."""
        self._record.rate = self._before
        self._course.hold(self._tuning.first_look, self._tuning.dip)
        self._course.become(Event.OUT_OF_TURN)

    def filled(self, at: float) -> None:
        """Note what one's part of a window was: all who race from its turn get the same."""
        record, course = self._record, self._course
        count = max(record.sends.count(course.race_turned_at - 0.5, at), 1.0)
        self._counts.append(count)
        self._windows, self._unfilled = self._windows + 1, 0
        record.rate = 0.01 * math.sqrt(count) * max(1.0, math.sqrt(count / 5_000.0))
        counts, best = list(self._counts), record.best
        assert best is not None
        over = self._windows > MOST
        if len(counts) == 3 and (max(counts) < ALIKE * min(counts) + 2.0 or over):
            record.rate = (max(counts) if over else sum(counts) / 3.0) / best.period
            best.penalty += 0.3 if over else 0.0
            apart = max(1.5 * min(best.period, 60.0), course.rarest(record.rate))
            course.hold(apart, self._tuning.noise_least)
            self._course.become(Event.RACED)

    def check(self, now: float) -> None:
        """Go faster if a whole window was not used up; give the race up after too many."""
        course, best, tuning = self._course, self._record.best, self._tuning
        if (
            self._course.state is not RACE
            or best is None
            or now - course.race_turned_at <= best.period
        ):
            return
        held = self._record.sends.count(course.race_turned_at, now)
        self._windows, self._unfilled = self._windows + 1, self._unfilled + 1
        course.race_turned_at = now
        self._record.rate *= 4.0
        if self._windows > MOST or self._unfilled > 1:
            self._record.rate = max(self._before, held / best.period)
            course.hold(tuning.first_look, tuning.dip)
            self._course.become(Event.OUT_OF_TURN)
