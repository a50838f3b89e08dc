"""What an exhausted moment means for the belief, and which state follows."""

from __future__ import annotations

import math

from .course import Course
from .hypotheses import Bucket, Hypothesis
from .race import Race
from .record import Record
from .sends import Ticket
from .states import HOLD, RACE, RISE, START, Event
from .tuning import Tuning

SOON_SENDS = 60.0
"""Requests within which being exhausted below the belief a second time is a proof."""

PROVEN = 0.3
"""Of what passed between two exhausted moments, the part below which no hypothesis is believed."""

MOVED = 0.1
"""By so much the last answer differs from the belief before the ones before it are void."""

DOUBTED = 0.3
"""By so much a hypothesis must fit better than the one that is read before it interrupts a race."""


class Judge:
    """Reads the record at each exhausted moment.

    Args:
        record, course, race: of the `Seeker` that owns it.
        tuning: the numbers.
        shared: whether other senders use the limit, and follow the same law.

    Attributes:
        few: whether too little passed to measure, so that the next measure has the same beginning.
    """

    def __init__(
        self, record: Record, course: Course, race: Race, tuning: Tuning, *, shared: bool
    ) -> None:
        self._record, self._course, self._race, self._tuning = record, course, race, tuning
        self._shared = shared
        self._fell_at = -math.inf
        self.few = False

    def decide(self, now: float, first: Ticket, anchor: float, passed: float) -> None:
        """Change the belief and the state.

        Args:
            now: the loop time, in seconds.
            first: the request that found the server exhausted.
            anchor: the exhausted moment before.
            passed: how many requests passed between.
        """
        record, at = self._record, first.at
        best, read = record.best, record.read()
        doubted = best is not None and read is not None and read.score() < best.score() - DOUBTED
        if self._course.state is RACE:
            if doubted and best is not None and best.penalty > DOUBTED:
                record.best = read
                self._race.give_up()
            else:
                self._race.filled(at)
        elif self._course.state is HOLD and not doubted and self._race.is_early(at):
            self._race.closed_early = True
        elif self._course.state is START:
            self._found_first(now, first)
        elif passed >= self._tuning.least_passed and read is not None:
            unexpected = not first.looking or first.pace < record.rate
            if best is not None and self._course.state is HOLD and unexpected:
                best.penalty += 0.03
                read = record.read() or read
            self._measured(now, first, read)
        else:
            lasted = max(at - anchor, 1.0)
            proven = 0.6 * passed / lasted if passed > 1 else 0.0
            less = 0.7 * record.rate if passed < 3 else 0.85 * record.rate
            if passed >= 3:
                less = min(less, 1.5 * passed / lasted)
            record.rate = max(less, proven, self._tuning.slowest)
            self._course.become(Event.FAILED)
            soon = lasted < max(120.0, 10.0 / record.rate)
            self.few = soon and passed < self._tuning.least_passed

    def _found_first(self, now: float, first: Ticket) -> None:
        """Begin between what surely came in and half of what failed."""
        record, sends = self._record, self._record.sends
        started = sends.started if sends.started is not None else first.at
        passed = max(sends.count(started - 1.0, first.at), 1.0)
        least = passed / (first.at - started + 60.0)
        record.rate = math.sqrt(least * max(first.pace / 2.0, least))
        if self._shared:
            record.rate = max(record.rate * 0.9, self._tuning.slowest)
            self._course.become(Event.SHARED)
            return
        self._course.become(Event.FAILED)
        self._course.fresh, self._course.is_quick = first.pace, passed < 60

    def _measured(self, now: float, first: Ticket, best: Hypothesis) -> None:
        """Go on by what the best hypothesis says."""
        record, course = self._record, self._course
        record.best, rate = best, record.rate
        new = min(best.rate, first.pace * 1.02)
        hold = course.state in (HOLD, RISE)
        if hold and not first.looking:
            if isinstance(best, Bucket):
                self._fell(now, first)
                return
            new = min(new, rate * 0.99)
        if course.state is RISE and best.period:  # it refuses at what it holds, at any pace
            if abs(best.answers[-1] / rate - 1.0) > MOVED:
                for each in record.kinds:
                    each.keep_last()
            new = best.rate
        elif course.state is RISE and self._has_risen(now, first, new):
            return
        same = hold and abs(new / rate - 1.0) < 0.05
        passed, seconds = record.measured or (0.0, 1.0)
        proven = PROVEN * passed / max(seconds, 1.0)
        new = max(self._chosen(best, new, same=same), proven)
        record.rate = max(new, self._tuning.slowest)
        self._confirm(same=same)
        course.become(Event.MEASURED)

    def _has_risen(self, now: float, first: Ticket, new: float) -> bool:
        """Climb from near the pace that failed, if more passed than the belief explains."""
        record, rate = self._record, self._record.rate
        if first.pace <= 1.3 * rate or not self._course.is_exceeded(now):
            return False
        record.rate = max(new, rate, first.pace * 0.7)
        record.forget_amounts()
        self._course.become(Event.FAILED)
        return True

    def _chosen(self, best: Hypothesis, new: float, *, same: bool) -> float:
        """Return the rate to believe in, of those that likely hypotheses give."""
        likely = self._record.likely(best)
        if len(best.answers) < 3:
            new = min(new, likely[len(likely) // 2])
        if same and isinstance(best, Bucket):
            # What passed is what was sent, which was less than the belief: a deep bucket fits that
            # as well as a shallow one that spilled. So the belief stays if a likely one allows it.
            new = max(new, min(self._record.rate, likely[-1]))
        return new

    def _confirm(self, *, same: bool) -> None:
        """Look later, and closer below, the more often the same was measured."""
        tuning, course = self._tuning, self._course
        if same:
            longest = course.rarest(self._record.rate)
            course.hold(min(course.look_after * 2.0, longest), tuning.sure_dip)
        else:
            course.hold(course.soon(), tuning.dip)

    def _fell(self, now: float, first: Ticket) -> None:
        """Exhausted below the belief: once is no proof, twice within a short time is one."""
        record, tuning = self._record, self._tuning
        between, rate = first.at - self._fell_at, record.rate
        passed = record.sends.units(max(self._fell_at, first.at - 1e6), first.at)
        passing = passed / max(between, 0.05)
        once = between > max(tuning.soon, SOON_SENDS / rate)
        self._fell_at = first.at
        if once or passing > 0.9 * rate:
            record.rate = rate if once else passing
            self._course.hold(self._course.soon(), tuning.dip)
            self._course.resume(now)
            return
        record.rate = max(passing, rate * 0.05, tuning.slowest) * 0.8
        record.forget_amounts()
        self._course.become(Event.DROPPED)
