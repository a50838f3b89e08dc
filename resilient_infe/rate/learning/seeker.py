"""Paces the requests to a server whose limit is unknown, and learns it from what is refused.

At two *exhausted* moments the server has nothing left. So what it accepted between them is what
came in, whatever it saves up. There is noise, and other senders, and more than one kind of limit:
`Record` keeps what each hypothesis makes of every such moment. This file says when to send.
"""

from __future__ import annotations

import math

from .course import Course
from .hypotheses import LATE, Bucket, Fixed, Sliding
from .judge import Judge
from .noise import Doubt
from .race import Race
from .record import LONG_STOP, Record
from .sends import Ticket
from .states import CLIMB, HOLD, RACE, RISE, SHARE, START, Event
from .stop import Stop
from .tuning import Tuning

ONE_STEP, STEP_SENDS = 1.0, 3.0
"""Seconds, and requests at the pace: a longer gap between two sends does not count in full."""

FAR_ABOVE, MANY = 1.3, 20
"""Times the pace that was refused, and requests since, at over one a second: that was chance."""

LONGEST_WAIT = 30.0
"""Seconds between two requests at most, however large one is."""


class Seeker:
    """The state, and the pace.

    Args:
        tuning: the numbers.
        ceiling: requests per second that are never exceeded.
        shared: whether other senders use the limit, and follow the same law.

    Attributes:
        record: what is believed.
        course: the state, and the pace.
        stop: the time in which nothing is let in, or None.
        last: when the last request was sent; None before the first.
        ready_at: when the next request may go.
        calm: seconds at the ceiling in which nothing was refused.

    State: inside the `Learner` that owns it.
    """

    def __init__(self, tuning: Tuning, ceiling: float = math.inf, *, shared: bool = False) -> None:
        self._tuning, self._shared = tuning, shared
        self.record = Record(tuning)
        self.course = Course(self.record, tuning, ceiling)
        self.stop: Stop | None = None
        self.last: float | None = None
        self.calm = 0.0
        self._next = self.ready_at = -math.inf
        self._number = self._accepted = self._by_clock = 0
        self._anchor: float | None = None  # the exhausted moment from which measures count
        self._since = -math.inf  # a 429 of before says nothing new
        self._last_stop: tuple[float, int] | None = None
        self._gap = 0.1  # seconds to the first question of a stop
        self._race = Race(self.record, self.course, tuning)
        self._judge = Judge(self.record, self.course, self._race, tuning, shared=shared)
        self._cut_at, self._dry = -math.inf, 0
        self._doubt: Doubt | None = None  # a lone 429 that may be chance
        self._met = math.inf, 0, 0  # the pace that was refused last, where, and how many 429s

    def resume_at(self, rate: float, at: float) -> None:
        """Believe in a rate, and ask: the server lets nothing in since the instant `at`."""
        self.record.rate = rate
        self._since = self._anchor = at
        self.stop = Stop(at, at, max(0.1, 1.2 / rate), min(1.0 / rate, 0.5), self._tuning)
        self.course.begin_holding(self.course.soon(), at, shared=self._shared)
        self._wait()

    def believe(self, tokens: bool, rate: float, kind: str | None, *, windowed: bool) -> None:
        """Go on from what an earlier run believed; rates are in units per second."""
        self.record.believe(tokens, rate, kind, windowed=windowed)
        rarest = self.course.rarest(self.record.rate)
        self.course.begin_holding(rarest, 0.0, shared=self._shared)

    def _wait(self) -> None:
        """Find when the next request may go: only what happens changes it, not the time."""
        record, course = self.record, self.course
        self.ready_at = self._next
        if self.stop is not None:
            spacing = 1.0 / max(record.rate, self._tuning.slowest)
            self.ready_at = self.stop.ready_at(record.refusal, spacing)
        elif course.state is START:
            if self._may_go_at_once():
                self.ready_at = -math.inf
        elif course.state is HOLD and record.sends.dimension == 0:
            best = record.best
            if isinstance(best, Sliding):  # what went unevenly leaves the window unevenly
                look = course.busy > course.look_after
                pace = max(course.last_pace, 1.12 * record.rate) if look else 0.997 * record.rate
                most = max(1, int(best.period * pace + 0.1)) + (2 if look else 0)  # 4.985 are 5
                left = record.sends.when_left(most) + best.period + LATE
                self.ready_at = max(self._next, left)

    def _may_go_at_once(self) -> bool:
        tuning = self._tuning
        free = tuning.at_once + tuning.per_answer * self._accepted
        return self._number - self._by_clock < free and not self.record.noise.is_pending(
            self._number
        )

    def sent(self, now: float, cost: float, held_until: float) -> Ticket:
        """Note a request that is sent now; `held_until`: when the gate last let one go."""
        record, course = self.record, self.course
        late = now - max(self.ready_at, held_until)
        if self.stop is not None and self.stop.question is not None:
            self._reopened(self.stop, self.stop.question.at, now)  # silence is an answer too
        elif self._doubt is not None and self._doubt.silent(now, 3.0 * record.refusal):
            self._passed_at_once()
        self._pass_time(now, late, held_until)
        if course.busy >= course.steady_until:
            self._change_pace(now)
        pace, sends = course.last_pace, record.sends
        quiet = course.quiet and self.stop is None
        if quiet:
            record.noise.quiet += 1
        free = course.state is START and self._may_go_at_once()
        tried = self._tried(now) if course.state is START else pace
        ticket = Ticket(now, cost, self._number, tried, course.looking, quiet, sends)
        self._number += 1
        sends.add(now, cost)
        units = cost / sends.scale if sends.dimension else 1.0
        if now < course.resumed_until:
            pace *= course.part(now)
        spacing = min(units / pace, LONGEST_WAIT)
        if free:
            self._next = max(self._next, now + spacing)
        else:
            self._by_clock += 1
            behind = now - (2.0 if course.ceiling < math.inf else self._tuning.busy)
            self._next = max(self._next, behind) + spacing
        if self.stop is not None:
            self.stop.ask(ticket)
        elif self._doubt is not None and self._doubt.ask(ticket):
            self._next = now
        self._wait()
        return ticket

    def _change_pace(self, now: float) -> None:
        course = self.course
        if course.state is RACE:
            self._race.check(now)
        elif course.state is HOLD and course.busy > course.look_after and self._is_time_to_check():
            self._check_rise(now)
        course.change_pace(now)

    def _tried(self, now: float) -> float:
        return max(self.record.sends.count(now - 0.5, now) / 0.5, 1.0)

    def _pass_time(self, now: float, late: float, held_until: float) -> None:
        course = self.course
        last, self.last = self.last, now
        doubtful = course.state is not HOLD and self.record.noise.is_pending(self._number)
        if last is None or late > self._tuning.busy or doubtful:
            return
        step = max(0.0, now - max(last, held_until))
        if step > ONE_STEP:
            step = min(step, max(ONE_STEP, STEP_SENDS / self.record.rate))
        course.busy += step
        if course.ceiling < math.inf:
            self.calm = self.calm + step if course.last_pace >= course.ceiling else 0.0
        if course.state is SHARE:
            course.grow_share(step, now - self._since)

    def _is_time_to_check(self) -> bool:
        """Whether this request is one of those before which a rise is looked for."""
        return self._number % 8 == 0 or self.record.rate < 4.0

    def _check_rise(self, now: float) -> None:
        looked = self.course.busy - self.course.look_after
        if looked > self._tuning.longest_look or self.course.is_exceeded(now):
            self.course.risen_at = self.course.busy
            self.course.become(Event.UNEXPLAINED, keep=True)

    def unsent(self, ticket: Ticket) -> None:
        """Note that a request never went."""
        self.record.sends.take_off(ticket.at, ticket.cost)
        self._next -= min(1.0 / ticket.pace, LONGEST_WAIT)
        if self.stop is not None and ticket is self.stop.question:
            self.stop.question = None
            self.stop.next_at = ticket.at
        self._wait()

    def slow_down(self, now: float) -> None:
        """Go on from half the pace: the server says that it grew too fast."""
        if now - self._since > self.record.refusal and self.stop is None:
            self._since = now
            self.course.slow_down(now)
            self._wait()

    def accepted(self, now: float, sent: Ticket) -> None:
        """Note that a request was let in."""
        if self.stop is not None and sent is self.stop.question:
            self._reopened(self.stop, sent.at, now)
        elif self._doubt is not None and self._doubt.passed(sent):
            self._passed_at_once()
        self._accepted += 1
        if self.course.state is START:
            self._wait()

    def refused(self, now: float, sent: Ticket, hint: float) -> None:
        """Note a 429."""
        self._refused(now, sent, hint)
        self._wait()

    def _refused(self, now: float, sent: Ticket, hint: float) -> None:
        record = self.record
        record.refused(now, sent, started=self.course.state is not START)
        self.calm = 0.0
        if self.stop is not None:
            if sent is self.stop.question:
                turn = self._foretold(self.stop.since)
                sure, known = self._is_sure(), self._accepted > 0
                self.stop.refused(now, turn, sure=sure, known=known)
            return
        self.course.hint = hint
        if sent.at < self._since or self._goes_on(now, sent):
            return
        if self.course.state is SHARE:
            self._cut(now, sent)
        elif record.noise.doubt(sent) < self._enough(sent, hint):
            self._question_at_once(now, sent)
        else:
            group = record.noise.group
            first = group[0]
            if self.course.state is not START and record.sends.count(first.at, sent.at) > 8:
                first = sent
            self._exhausted(now, first)

    def _enough(self, sent: Ticket, hint: float) -> float:
        """Return the likelihood at which 429s are a limit; less where one is expected, or dear."""
        tuning, share = self._tuning, self.record.noise.share
        dear = hint > tuning.dear and share < tuning.calm_noise
        calm = share < tuning.calm_noise or (
            share < 2.0 * tuning.noise_least
            and (self.record.rate < tuning.few or self._is_as_believed(sent))
        )
        slow = self.course.state in (CLIMB, RISE) and self.record.rate < 2.0
        if sent.looking and ((calm and (self.course.state is HOLD or slow)) or dear):
            return tuning.sure_alone
        if dear:
            return tuning.sure_alone + 1.0
        return tuning.sure_looking if sent.looking else tuning.sure

    def _is_as_believed(self, sent: Ticket) -> bool:
        """Whether about as much passed since the last exhausted moment as is believed."""
        if self.course.state is not HOLD or self._anchor is None:
            return False
        passed = self.record.sends.units(self._anchor, sent.at)
        return passed + 1.0 > 0.95 * self.record.rate * (sent.at - self._anchor)

    def _question_at_once(self, now: float, sent: Ticket) -> None:
        """Send two at once after a lone 429: a limit refuses one of them, chance hardly does."""
        lone = len(self.record.noise.group) == 1
        if lone and sent.looking and self._doubt is None and self.course.state is not START:
            self._doubt = Doubt()
            self._next = min(self._next, now)

    def _passed_at_once(self) -> None:
        """Take a lone 429 for noise: what was sent right after it was let in."""
        self._doubt = None
        if len(self.record.noise.group) == 1:
            self.record.noise.clear()

    def _goes_on(self, now: float, sent: Ticket) -> bool:
        """Whether a stop that seemed over goes on: hardly anything passed since."""
        if self._last_stop is None or self.course.state is START:
            return False
        since, number = self._last_stop
        lasts = sent.at - since
        if not (lasts < 60.0 and sent.number - number <= 3 and lasts * self.record.rate > 3.0):
            return False
        if self.record.sends.count(since, sent.at) > 1:
            return False
        gap = self._gap
        self.stop = Stop(since, now, gap, gap, self._tuning)
        self.stop.refused_at, self.stop.asked = sent.at, 2
        self._since = now
        return True

    def _exhausted(self, now: float, first: Ticket) -> None:
        """Measure, and decide how to go on; the server lets nothing in just now."""
        record, sends = self.record, self.record.sends
        pace, number, hits = self._met
        far = first.pace > max(FAR_ABOVE * pace, 1.0)
        if first.looking and far and first.number - number > MANY:
            record.noise.was_chance(hits)
        record.noise.was_none()
        self._met = first.pace, self._number, len(record.noise.group)
        record.noise.clear()
        self._doubt = None
        self._since = now
        at = first.at
        anchor = self._anchor if self._anchor is not None else sends.started or at
        passed = sends.count(anchor, at)
        few = passed < self._tuning.least_passed
        record.measured, record.measured_by = (passed, at - anchor), max(passed, 1.0)
        if at > anchor:
            record.add_moment(anchor, at, few=few, first=self.course.state is START)
        if self.course.state not in (START, RACE) and record.choose_dimension(now):
            self.course.begin()
            self.course.hold(self.course.soon(), self._tuning.dip)
        self._judge.decide(now, first, anchor, passed)
        if self.course.state is not CLIMB:
            self._judge.few = False
        self.course.begin()
        self._close(now, at)

    def _close(self, now: float, at: float) -> None:
        """Begin a stop, unless only others are the reason."""
        if self.course.state is SHARE:
            self._next = now + 1.0 / self.record.rate
            return
        rate = self.record.rate
        fresh = self.course.state is CLIMB and self.course.fresh > 0.0
        self._gap = 0.1 if fresh else max(0.1, 1.2 / rate)
        first = 0.05 if fresh else min(1.0 / rate, 0.5)
        self.stop = Stop(at, now, self._gap, first, self._tuning)
        if self._is_sure() and (turn := self._foretold(at)) is not None:
            self.stop.next_at = max(self.stop.next_at, turn)
        self._last_stop = at, self._number

    def _is_sure(self) -> bool:
        """Whether nothing needs to be asked before the foretold end of a stop."""
        best, state = self.record.best, self.course.state
        sure = best is not None and best.is_sure() and not self._race.closed_early
        return sure or state in (RACE, SHARE)

    def _foretold(self, since: float) -> float | None:
        """Return when the window that refuses since an instant lets something in, if known."""
        record, state = self.record, self.course.state
        best = record.window() if state is SHARE else record.best
        if best is None or state not in (HOLD, RACE, SHARE):
            return None
        return best.opens(record.sends, since, record.rate)

    def _reopened(self, stop: Stop, at: float, now: float) -> None:
        """Go on: the request that was sent at `at` was let in."""
        record = self.record
        lasted, shut = at - stop.since, stop.refused_at - stop.since
        best = record.best
        record.ended(stop, at)
        doubtful = self.course.state is CLIMB or (isinstance(best, Bucket) and best.penalty > 0.4)
        if shut > LONG_STOP and doubtful:
            self._try_window(stop, lasted)
        elif self.course.fresh and lasted < 4.0:
            record.rate = max(record.rate, min(0.6 / max(lasted, 0.02), self.course.fresh / 1.5))
        self.course.fresh = 0.0
        self._race.follow_turn(stop, at)
        best = record.best
        self.stop = None
        self.course.race_turned_at = at
        if not self._judge.few or self._anchor is None:  # a few measures of little are one together
            self._anchor = at
        self._since = max(self._since, at - 1e-9)
        expected = isinstance(best, Fixed) and best.width < math.inf
        if lasted > 3.0 and not expected:
            self.course.resume(now)
        self.course.begin()
        self.course.change_pace(now)
        self._next = max(now, at + 1.0 / self.course.last_pace)
        self.last = now
        self._wait()

    def _try_window(self, stop: Stop, lasted: float) -> None:
        """Take the limit for a window's, if one explains the stop."""
        if self.course.state not in (CLIMB, HOLD, RISE):
            return
        best = self.record.as_window(stop, lasted)
        if best is not None:
            self.record.best, self.record.rate = best, best.rate
            self.course.hold(20.0, 0.03)
            self.course.become(Event.IS_WINDOW)

    def _cut(self, now: float, sent: Ticket) -> None:
        """Give way once a moment. Who sends more is hit more often, so that parts grow equal."""
        record, tuning = self.record, self._tuning
        passed = record.sends.count(self._cut_at, sent.at)
        self._dry = self._dry + 1 if record.sends.count(self._since, sent.at) == 0 else 0
        if self._dry >= (1 if record.window() else 3):
            self._dry, self._since = 0, now
            rate = record.rate
            self._gap = max(0.1, 1.2 / rate)
            self.stop = Stop(sent.at, now, self._gap, min(1.0 / rate, 0.5), tuning)
            self._last_stop = sent.at, self._number
        elif now - self._since >= 1.0:
            self._since = now
            record.rate = max(record.rate * (1.0 - tuning.share_cut), tuning.slowest)
            self._next = max(self._next, now + 1.0 / record.rate)
            if passed >= 10:
                self._cut_at = sent.at
