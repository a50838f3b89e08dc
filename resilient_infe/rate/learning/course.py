"""The state that the learner is in, how long already, and the pace that follows from it."""

from __future__ import annotations

import math

from .record import Record
from .states import CLIMB, HOLD, RACE, RISE, SHARE, START, TRANSITIONS, Event
from .tuning import Tuning


class Course:
    """How requests are paced now.

    Args:
        record: what is believed.
        tuning: the numbers.
        ceiling: requests per second that are never exceeded.

    Attributes:
        state: the law of the pace.
        busy: seconds in this state in which the pace was used.
        look_after: the value of `busy` from which more is tried than is believed, in HOLD.
        dip: the part of the belief that is left unused at first, in HOLD.
        risen_at: the value of `busy` at which RISE began.
        is_quick: whether a climb doubles, as it began far below what was used before.
        fresh: the pace that the first 429 of all met; 0 once it was used.
        race_turned_at: when the window began for which all race, in RACE.
        resumed_at, resumed_until: while the pace doubles after a stop.
        hint: seconds that the last 429 asked to wait.
        last_pace: the pace of the last request.
        steady_until: the value of `busy` from which it is to be reckoned anew.
        looking: whether more is tried than is believed to pass.
        quiet: whether the pace is far below the belief, so that only noise refuses.

    State: inside the `Seeker` that owns it.
    """

    def __init__(self, record: Record, tuning: Tuning, ceiling: float) -> None:
        self._record, self._tuning = record, tuning
        self.ceiling = ceiling
        self.state = START
        self.busy = self.risen_at = 0.0
        self.look_after, self.dip = tuning.first_look, tuning.dip
        self.is_quick = False
        self.fresh = self.hint = 0.0
        self.race_turned_at = 0.0
        self.resumed_at = self.resumed_until = -math.inf
        self.change_pace(0.0)

    def begin_holding(self, look_after: float, now: float, *, shared: bool) -> None:
        """Begin in HOLD, or in SHARE, by what is known from elsewhere."""
        self.state = SHARE if shared else HOLD
        self.hold(look_after, self._tuning.sure_dip)
        self.change_pace(now)

    def hold(self, look_after: float, dip: float) -> None:
        """Look after this many seconds, and leave a part of the belief unused at first."""
        self.look_after, self.dip, self.steady_until = look_after, dip, 0.0

    def change_pace(self, now: float) -> None:
        """Reckon the pace anew; below the belief it changes so slowly that few steps do."""
        hold, after = self.state is HOLD, self.look_after
        self.quiet = hold and self.busy < after / 3
        self.looking = not hold or self.busy > 0.8 * after
        self.last_pace = self.pace(now)
        self.steady_until = self.busy + (after / 30 if hold and self.busy < after else 0.0)

    def pace(self, now: float) -> float:
        """Return the requests per second that are aimed at."""
        tuning, state, rate = self._tuning, self.state, self._record.rate
        if state is START:
            return self._starting_pace()
        if state is CLIMB:
            pace = self._climbing_pace()
        elif state is RACE:
            pace = rate * 2.0 ** min((now - self.race_turned_at) / tuning.race, 11.0)
        elif state is SHARE:
            pace = rate
        elif state is HOLD and self.busy < self.look_after:
            dip, past = max(self.dip, min(0.15, 1.5 * self._record.noise.excess)), self.busy
            past /= self.look_after
            pace = rate * (1.0 - dip * (1.0 - past * past * past))
        else:
            pace = self._looking_pace(now)
        return float(min(max(pace, tuning.slowest), self.ceiling))

    def _starting_pace(self) -> float:
        tuning = self._tuning
        until_calm = tuning.start_doubles * math.log2(tuning.calm / tuning.start)
        fast = min(self.busy, until_calm) / tuning.start_doubles
        slow = max(0.0, self.busy - until_calm) / tuning.calm_doubles
        return float(min(tuning.start * 2.0 ** min(fast + slow, 40.0), self.ceiling))

    def _climbing_pace(self) -> float:
        tuning, rate = self._tuning, self._record.rate
        growth, step = (tuning.quick, 1.0) if self.is_quick else (tuning.climb, tuning.climb_step)
        late = max(0.0, self.busy - tuning.impatience) / 10.0
        steps = self.busy / max(step, 4.0 / rate)
        return rate * float(growth ** min(steps, 60.0) * 2.0 ** min(late, 40.0))

    def _looking_pace(self, now: float) -> float:
        """A look grows evenly; a rise doubles. Neither is much faster than what was really sent."""
        tuning, record = self._tuning, self._record
        rate, looked = record.rate, self.busy - self.look_after
        steep = tuning.look_on_its_way / max(rate * record.refusal, 1e-3)
        small = max(tuning.least_look_growth, 0.01 * rate)
        growth = 1.0 + min(tuning.look_growth, max(0.01, steep), small) * looked
        if self.state is RISE:
            doubles = max(tuning.rise, 3.0 * record.refusal)
            pace = rate * growth * 2.0 ** min((self.busy - self.risen_at) / doubles, 30.0)
        else:
            top = 1.12 if record.noise.excess <= 0.0 else 1.5
            if growth >= top:
                growth = top * 1.25 ** min((growth - top) * 3.0, 60.0)
            pace = rate * growth
        if pace <= rate * 1.05:
            return float(pace)  # as most of a look is
        over = max(2.0, 4.0 / max(rate, self.last_pace), 3.0 * record.refusal)
        sent = record.sends.units(now - over, now) / over
        return float(min(pace, max(rate * 1.05, tuning.used * sent)))

    def part(self, now: float) -> float:
        """Return the part of the pace that is used after a stop: half, doubling by round trips."""
        if now >= self.resumed_until:
            return 1.0
        doubles = max(0.5, 3.0 * self._record.refusal)
        return float(self._tuning.resume * 2.0 ** ((now - self.resumed_at) / doubles))

    def become(self, event: Event, *, keep: bool = False) -> None:
        """Follow the table; `keep`: the time in the state goes on."""
        self.state = TRANSITIONS[self.state, event]
        self.is_quick = False
        if not keep:
            self.begin()
        if self.state is not CLIMB:
            self.fresh = 0.0

    def begin(self) -> None:
        """Begin to count the time in a state anew."""
        self.busy = 0.0  # seconds in which the pace was used
        self.steady_until = 0.0
        self.risen_at = 0.0

    def resume(self, now: float) -> None:
        """Begin with a part of the pace, after a stop."""
        self.resumed_at = now
        self.resumed_until = now + max(0.5, 3.0 * self._record.refusal)

    def soon(self) -> float:
        """Return the seconds to the first look after a new belief."""
        soon = max(self._tuning.first_look, 20.0 / self._record.rate)
        return min(soon, self._tuning.rarest_look)

    def rarest(self, rate: float) -> float:
        """Return the seconds between two looks at a confirmed belief."""
        tuning = self._tuning
        price = max(1.0, rate * self._record.refusal / 2.0)  # what is on its way is refused too
        apart = max(price / (tuning.looks * rate), 15.0) * (tuning.hinted if self.hint else 1.0)
        rarest = max(tuning.rarest_look, min(tuning.slow_look / rate, tuning.slowest_look))
        return min(apart, rarest)

    def is_exceeded(self, now: float) -> bool:
        """Whether more passed in this look than any likely hypothesis allows."""
        record = self._record
        since, seen = now - (self.busy - self.look_after), now - record.refusal
        saved = self.dip * self.look_after * record.rate
        return all(
            each.is_exceeded(record.sends, seen, since, record.rate, saved)
            for each in record.near()
        )

    def grow_share(self, step: float, quiet: float) -> None:
        """Grow for a step in SHARE by the root of the pace; `quiet`: seconds since a cut."""
        tuning, record = self._tuning, self._record
        root = math.sqrt(record.rate)
        expected = max(20.0, 3.0 * tuning.share_cut * root / tuning.share_growth)
        record.rate += step * tuning.share_growth * max(1.0, root)
        if quiet > expected:  # for longer than others would leave one alone
            record.rate *= 2.0 ** (step / 10.0)

    def slow_down(self, now: float) -> None:
        """Go on from half the pace, if more was tried than is believed."""
        record, least = self._record, self._tuning.slowest
        if self.state in (START, RISE) or (self.state is HOLD and self.busy > self.look_after):
            record.rate = max(self.last_pace / 2.0, least)
            self.become(Event.FAILED)
        elif self.state is not HOLD:
            record.rate = max(record.rate / 2.0, least)
            self.begin()
        self.change_pace(now)
