"""Keeps just below a limit that is known, and looks upwards now and then."""

from __future__ import annotations

import math

from .search import ENOUGH, MOST_DOUBLINGS, Climb, Depth, told_stop
from .shared import Shared, Trial
from .stage import Belief, Stage
from .suspicion import Suspicion
from .trail import Measure, Sent, Trail

LOOKS, HINTED_LOOKS = 0.0026, 0.0003
"""Looks upwards per request: each costs a 429 at least. Fewer where the server says how long to
wait: who goes to that trouble states a limit, and it is known more exactly."""

LEAST_PERIOD, MOST_PERIOD = 15.0, 600.0
"""Seconds between two looks."""

FIRST_PERIOD, FIRST_SENDS = 5.0, 20.0
"""Seconds, and requests, before the first look, whichever is longer; one that agrees doubles it."""

AGREE = 0.05
"""Two measures agree that differ by no more."""

LEAST_DIP, MOST_DIP = 0.015, 0.05
"""How far below the limit it goes after a look: more where it is known less exactly."""

CUBIC, SAVED = 0.75, 0.7
"""How much of the dip its cubic leaves unused, on the average, and how full that may make the
server's bucket: what spills is lost."""

LOOK_DOUBLING, LOOK_SENDS, TIGHT_LOOK_SENDS = 8.0, 12.0, 40.0
"""Seconds, and requests, in which the pace doubles during a look, whichever is longer; more where
the pace is all that shows the limit."""

RISE_DOUBLING = 3.0
"""Seconds in which it doubles on top of that once the limit has surely risen."""

RISEN, RISEN_SENDS = 1.02, 3.0
"""More accepted than this factor of the limit and so many requests is proof of a rise."""

RISEN_PACE = 1.3
"""A pace that passed at so many times the limit is one where nothing could be saved up."""

SPILLS = 0.99
"""Where less than this part of a limit was accepted that the pace showed, the bucket spilled."""

SPILLED = 1.1
"""A pace of so many times the limit that was rejected, though less was accepted than it allows."""

TIGHT_RISE, TIGHT_FALL = 1.005, 0.97
"""By how much a look raises the limit where the pace alone shows it, and others lower it."""

DOUBT, QUIET = 0.12, 0.93
"""How far below a limit that was corrected a little it goes, and from where a rejection is noise:
where they go on however slowly one sends, they are no sign of a limit."""

EXACT = 0.002
"""Besides one request, by how much a measure at a look may differ from what was expected."""

HUSH, HUSHED = 3.0, 0.8
"""Seconds for which one keeps how far below the limit, while one wonders whether others use it."""

PROVEN = 2
"""Looks that agree, after which a stop is no window's end: a window would have stopped at them."""

STRONG = (3, 12)
"""So many rejections among so many requests: the limit has fallen."""

MILD = (3, 100)
"""So many among so many: the limit is a little lower than believed."""


class Track(Stage):
    """Sends a little below the limit, rises to it slowly, and past it until something is rejected.

    What is left unused below the limit is saved up in the server's bucket, and used by the look. So
    each period uses all of the limit and costs one rejection, which measures the limit anew.

    Args:
        limit: units per second.
        exact: requests that it was measured by.
        depth: of the server's bucket.
        period: seconds until the next look.
    """

    def __init__(
        self, limit: float, exact: float, depth: Depth, period: float, *, by_pace: bool = False
    ) -> None:
        """Begin below the limit."""
        self._by_pace = by_pace
        self._hush = 0.0
        self.limit = limit
        self._exact, self._depth, self._period = exact, depth, period
        self._dip = self._harmless_dip()
        self._for = 0.0
        self.looks = 0
        self._risen_at: float | None = None
        self._unit = 1.0
        self._strong, self._mild = Suspicion(*STRONG), Suspicion(*MILD)
        self._soon = Suspicion(2, STRONG[1])

    @classmethod
    def found(
        cls,
        limit: float,
        measure: Measure,
        depth: Depth,
        anchor: Sent,
        trail: Trail,
        *,
        by_pace: bool = False,
    ) -> Track:
        """Return the stage for a limit that was just measured."""
        period = max(FIRST_PERIOD, FIRST_SENDS * measure.unit / limit)
        period = min(period, longest(limit, trail))
        track = cls(limit, measure.sends, depth, period, by_pace=by_pace)
        track.anchor = anchor
        track.pause = measure.unit / limit
        track.why = f"{measure.sends:.0f} accepted in {measure.seconds:.3g} s between two 429s"
        return track

    @property
    def known(self) -> float:
        """Units per second that surely come in."""
        return self.limit

    def pace(self) -> float:
        """Return a cubic up to the limit, and then grow until something is rejected."""
        if self._for < self._hush:
            return self.limit * HUSHED
        if self._for < self._period:
            return self.limit * (1.0 - self._dip * (1.0 - (self._for / self._period) ** 3))
        beyond = self._for - self._period
        sends = TIGHT_LOOK_SENDS if self._by_pace else LOOK_SENDS
        doublings = beyond / max(LOOK_DOUBLING, sends * self._unit / self.limit)
        if self._risen_at is not None:
            doublings += (self._for - self._risen_at) / RISE_DOUBLING
        return self.limit * math.exp2(min(doublings, MOST_DOUBLINGS))

    @property
    def proven(self) -> bool:
        """Whether the server has shown that it is no window: looks agreed, and no stop followed."""
        return self.looks >= PROVEN

    @property
    def looking(self) -> bool:
        """Whether the pace is about the limit or above it."""
        return self.pace() >= self.limit * (1.0 - self._dip / 2)

    @property
    def quiet(self) -> bool:
        """Whether the pace is far below the limit, as it is after a doubt."""
        return self.pace() < self.limit * QUIET

    def advance(self, seconds: float, gap: float, now: float, trail: Trail) -> None:
        """Go on, and see whether the limit has risen."""
        self._for += seconds
        self._unit = trail.unit
        if self._for <= self._period or self._risen_at is not None:
            return
        beyond = trail.beyond_anchor(now)
        risen = beyond is not None and beyond.units > (
            self.limit * beyond.seconds * RISEN + RISEN_SENDS * trail.unit
        )
        if risen or (self._by_pace and self.pace() > RISEN_PACE * 1.15 * self.limit):
            self._risen_at = self._for

    def rejected(self, sent: Sent, now: float, trail: Trail) -> Stage:
        """Measure, if it came where one is expected; else see whether others stand close to it."""
        from .closed import Closed, shut

        measure = trail.measure(sent)
        if measure is not None and measure.nothing:
            if shut(measure, self.limit):
                return Closed(self, now, trail)
            return self._repeated(max(0.25, trail.unit / self.limit))
        if measure is None and sent.looking:
            return self._repeated(trail.unit / self.limit, anchor=sent)
        if measure is None:
            trail.anchor = sent
        if self._filled_by(trail.hint):
            self._by_pace = True
        if sent.looking and measure is not None and self._expected(sent, measure, trail):
            return self._measured(sent, measure, trail).hush(trail)
        return self._unexpected(sent, measure, trail)

    def told(self, sent: Sent, now: float, trail: Trail) -> Stage | None:
        """Take a long wait for that of a window."""
        return told_stop(self.limit, sent, trail)

    def resumed(self, seconds: float, trail: Trail) -> Stage:
        """Return the stage for a server that let something through again after so long."""
        return self._repeated(0.0)

    def belief(self) -> Belief:
        """Return the limit, and how well it is known."""
        return Belief(self.limit, windowed=False, exact=self._exact)

    def look_after(self, period: float) -> None:
        """Wait for so many seconds before the next look."""
        self._period = period
        self._dip = self._harmless_dip()

    def hush(self, trail: Trail) -> Track:
        """Keep far below the limit for a short while, if one wonders whether others are there."""
        if trail.wonders:
            self._hush = min(HUSH, self._period / 3)
        return self

    def doubtful(self) -> Track:
        """Keep far below the limit at first, to see whether the rejections stop."""
        self._dip = DOUBT
        return self

    def _harmless_dip(self) -> float:
        """Return how far to go below the limit: enough to be safe, and no more than is saved up."""
        error = 1.0 / max(self._exact, 1.0)
        holds = SAVED * self._depth.at(self.limit) / (CUBIC * self._period * self.limit)
        wanted = min(max(1.5 * error, LEAST_DIP), MOST_DIP)
        return min(wanted, max(holds, error + EXACT))

    def _tight(self) -> bool:
        saved = self._dip * self._period * CUBIC * self.limit
        return self._by_pace or saved > self._depth.at(self.limit)

    def _filled_by(self, hint: float) -> bool:
        """Whether a bucket fills while one waits as asked, so that what comes in then is lost."""
        return hint * self.limit > SAVED * self._depth.at(self.limit)

    def _expected(self, sent: Sent, measure: Measure, trail: Trail) -> bool:
        if trail.hint:  # such a rejection is no noise
            return True
        if self._tight():
            return sent.pace < RISEN_PACE * self.limit
        error = EXACT + 1.0 / max(measure.sends, 1.0)
        return abs(measure.rate / self.limit - 1.0) <= error

    def _measured(self, sent: Sent, measure: Measure, trail: Trail) -> Track:
        limit, tight = measure.rate, self._tight()
        if tight:  # what was saved up may have spilled: the pace tells more
            limit = max(limit, min(sent.pace, self.limit * TIGHT_RISE))
        spilled = tight and measure.rate < SPILLS * limit
        track = Track.found(limit, measure, self._depth, sent, trail, by_pace=spilled)
        if abs(limit / self.limit - 1.0) < AGREE:
            track.looks = self.looks + 1
            track.look_after(min(self._period * 2, longest(limit, trail)))
        return track

    def _unexpected(self, sent: Sent, measure: Measure | None, trail: Trail) -> Stage:
        if not sent.looking:
            if trail.is_shared or trail.hush_tells():
                return self._share_with_others(sent)
            if trail.doubtful:
                return Trial(self, trail.noise, trail.number)
        noise = trail.noise
        strong, mild = self._strong.add(sent, noise), self._mild.add(sent, noise)
        soon = self._soon.add(sent, noise)
        if strong and self._by_pace:
            self._depth.correct(deeper=True)
        elif soon and measure is not None and (stage := self._by_the_pace(sent, measure, trail)):
            return stage
        risen = self._risen_at is not None or (
            measure is not None and measure.rate > self.limit * RISEN
        )
        if sent.looking and risen and soon:
            first = self._soon.first
            return self._climb(first.pace * 0.7, self.limit, first, "more passes than before")
        return self._fallen(sent, trail) if strong else self._a_little_lower(sent, trail, mild=mild)

    def _by_the_pace(self, sent: Sent, measure: Measure, trail: Trail) -> Track | None:
        """Judge by the pace that was rejected, where what was accepted tells too little."""
        limit = self._soon.first.pace * TIGHT_FALL
        low = measure.rate < self.limit * (1.0 - EXACT)
        if low and not self._by_pace and self._soon.first.pace > SPILLED * self.limit:
            self._depth.correct(deeper=False)
            return Track.found(limit, measure, self._depth, sent, trail, by_pace=True)
        if not self._tight() or sent.looking:
            return None
        if measure.sends >= ENOUGH:  # all at a pace that was too high, so that nothing spilled
            limit = min(limit, measure.rate)
        spilled = measure.rate < SPILLS * limit
        return Track.found(limit, measure, self._depth, sent, trail, by_pace=spilled)

    def _fallen(self, sent: Sent, trail: Trail) -> Climb:
        first = self._strong.first
        between = trail.measure(sent, first)
        rate = self.limit / 2 if between is None else between.rate * 0.8
        return self._climb(rate, self.limit / 20, first, "several 429s in a row")

    def _a_little_lower(self, sent: Sent, trail: Trail, *, mild: bool) -> Track:
        between = trail.measure(sent, self._mild.first) if mild else None
        if between is None or between.nothing or between.sends < 1:
            return self
        limit = min(between.rate, self.limit)
        return Track.found(limit, between, self._depth, self._mild.first, trail).doubtful()

    def _share_with_others(self, sent: Sent) -> Stage:
        shared = Shared(min(sent.pace, self.limit) * 0.8)
        shared.anchor = sent
        return shared

    def _climb(self, base: float, least: float, first: Sent, why: str) -> Climb:
        climb = Climb(max(base, least), least, self._depth)
        climb.anchor, climb.why = first, why
        climb.pause = min(first.cost / climb.limit, 2.0)
        return climb

    def _repeated(self, pause: float, anchor: Sent | None = None) -> Track:
        track = Track(self.limit, self._exact, self._depth, self._period, by_pace=self._by_pace)
        track.anchor, track.pause, track.why = anchor, pause, self.why
        track.looks = self.looks
        # What was suspected before is suspected still.
        track._strong, track._mild, track._soon = self._strong, self._mild, self._soon
        return track


def longest(limit: float, trail: Trail) -> float:
    """Return the seconds between two looks once all agree."""
    looks = HINTED_LOOKS if trail.hint else LOOKS
    return min(max(trail.unit / (looks * limit), LEAST_PERIOD), MOST_PERIOD)
