"""What is believed of a server's limit: one record that outlives every change of state.

For each dimension there is a list of hypotheses about the kind of limit. Every exhausted moment
adds bounds to all of them; the one that fits best is read. Beside it stands what does not depend on
the kind: how much noise there is, how long a 429 takes, and how much calls cost.
"""

from __future__ import annotations

import math
from statistics import fmean, pstdev

from .hypotheses import Bucket, Fixed, Hypothesis, Sliding, all_kinds
from .noise import Noise
from .sends import RECENT, Sends, Span, Ticket
from .stop import Stop
from .tuning import Tuning

SMOOTHING = 0.1
"""The weight of the latest value in the mean time of a 429."""

LONGEST_REFUSAL = 5.0
"""Seconds: no longer one counts in this mean."""

UNEVEN = 0.05
"""Calls whose costs spread by less than this share of their mean are all alike: requests count."""

NEAR = 0.03
"""Hypotheses that are worse than the best by less are as likely."""

LARGE_REFUSED, LEAST_REFUSED = 4.0, 6
"""Standard errors by which refused calls are larger than usual, before tokens are the limit; and
the least number of them."""

ALIKE = 0.06
"""Periods that differ by less are the same."""

LEAST_HELD = 6.0
"""Units in such a period at least: a bucket of one unit opens at regular times, too."""

UNLIKE = 0.15
"""What counts against a window that opened before its turn. After two of these it is measured as
any other limit: others would have used it up until its turn."""

CONFIRMED = 3
"""Answers after which a stop that is too long is an outage, and says nothing about a window."""

LONG_STOP = 4.0
"""Seconds of a stop from which a bucket that refills is unlikely."""


class Record:
    """The record. State: inside the `Seeker` that owns it.

    Attributes:
        sends: what was sent and not refused.
        noise: the share of random 429s.
        both: the hypotheses of requests, and of tokens.
        best: the one that is read, of the dimension that is followed; None before the first.
        rate: units per second that are believed, or that are tried while nothing is.
        refusal: seconds that a 429 takes.
        mean, spread: of the tokens of a call.
        measured: what passed between the last two exhausted moments, and the seconds between; None
            before the first.
        measured_by: how many requests passed between them, or in an earlier run.
        is_restored: whether the belief is that of an earlier run.
    """

    __slots__ = ("_apart_before", "_costs_after", "_deviations", "_little_since", "_opened_at",
                 "_refused", "_turn_after", "_turn_gap", "best", "both", "is_restored", "mean",
                 "measured", "measured_by", "noise", "rate", "refusal", "sends",
                 "spread")  # fmt: skip

    def __init__(self, tuning: Tuning) -> None:
        self.sends = Sends()
        self.noise = Noise(tuning)
        self.both = all_kinds(), all_kinds()
        self.best: Hypothesis | None = None
        self.rate = tuning.start
        self.refusal = 0.1
        self.mean = self.spread = 0.0
        self.measured: tuple[float, float] | None = None
        self.measured_by = 1.0
        self.is_restored = False
        self._costs_after = 0
        self._deviations, self._refused = 0.0, 0
        self._turn_after, self._turn_gap = -math.inf, 60.0
        self._opened_at, self._apart_before = -math.inf, math.inf
        self._little_since = -math.inf  # from when the last measure counted, if it was of little

    def believe(self, tokens: bool, rate: float, kind: str | None, *, windowed: bool) -> None:
        """Take over what an earlier run believed: ``tokens`` or requests, and of what kind."""
        self.sends.dimension = int(tokens)
        self.sends.scale = rate if tokens else 1.0  # until the cost of a call is known
        self.rate = 1.0 if tokens else rate
        fits = [each for each in self.kinds if each.name == kind]
        fits += [each for each in self.kinds if windowed and each.period >= 60]
        self.best = [*fits, self.kinds[1]][0]  # else a bucket of a second, the usual one
        self.is_restored = True
        self.best.answers.append(self.rate)

    @property
    def kinds(self) -> list[Hypothesis]:
        """The hypotheses of the dimension that is followed."""
        return self.both[self.sends.dimension]

    @property
    def is_uneven(self) -> bool:
        """Whether calls cost so differently that the two dimensions can be told apart."""
        return self.spread > UNEVEN * self.mean > 0.0

    def refused(self, now: float, sent: Ticket, *, started: bool) -> None:
        """Note a 429; `started`: after the first limit was met."""
        self.refusal += SMOOTHING * (min(now - sent.at, LONGEST_REFUSAL) - self.refusal)
        self.sends.take_off(sent.at, sent.cost)
        self._note_costs(sent.number)
        if started and self.spread > 0:
            self._deviations += (sent.cost - self.mean) / self.spread
            self._refused += 1
        if sent.quiet:
            self.noise.hit()

    def _note_costs(self, number: int) -> None:
        """Take the mean and the spread of the costs anew, once in a while."""
        if number >= self._costs_after:
            self._costs_after = number + RECENT // 4
            costs = self.sends.costs()
            self.mean, self.spread = fmean(costs), pstdev(costs)

    def add_moment(self, since: float, until: float, *, few: bool, first: bool) -> None:
        """Add the bounds of an exhausted moment to every hypothesis.

        Args:
            since: the exhausted moment before.
            until: this one.
            few: whether little passed between: it is the same moment for a bucket. What was
                measured from the same beginning then is a part of what comes next.
            first: whether there was none before, so that only sliding windows are bounded.
        """
        sends = self.sends
        if sends.scale == 1.0 and self.mean > 0.0:
            sends.scale = self.mean  # from here on so many tokens are a unit, as a request is
        little, self._little_since = since == self._little_since, since if few else -math.inf
        few = few or little
        for dimension, kinds in enumerate(self.both):
            if dimension != sends.dimension and not self.is_uneven:
                continue
            span = Span(sends, since, until, dimension)
            for kind in kinds:
                if first and not isinstance(kind, Sliding):
                    continue
                found = kind.bounds(span)
                if found is None:
                    continue
                again = until - kind.seen < kind.period / 3 if kind.period else few
                kind.add(*found, again=again)
                if not again:
                    kind.seen = until

    def read(self) -> Hypothesis | None:
        """Return the hypothesis that fits best; None while there is none."""
        known = [each for each in self.kinds if len(each.answers) > isinstance(each, Fixed)]
        if not known:
            return None
        return min(known, key=lambda each: each.score() - (0.01 if each is self.best else 0.0))

    def likely(self, best: Hypothesis) -> list[float]:
        """Return the rates of the hypotheses that are about as likely as `best`, sorted."""
        most = best.score() + NEAR
        return sorted(each.rate for each in self.kinds if each.answers and each.score() < most)

    def near(self) -> list[Hypothesis]:
        """Return the hypotheses that give about the rate that is believed."""
        return [
            each
            for each in self.kinds
            if each is self.best
            or (each.answers and 0.93 < each.rate / self.rate < 1.07 and each.penalty < 0.2)
        ]

    def choose_dimension(self, now: float) -> bool:
        """Follow the dimension whose measures repeat; return whether that is another one now.

        The other sign are the calls that are refused: at a limit of tokens, the large ones.
        """
        sends = self.sends
        mine, other = sends.dimension, 1 - sends.dimension
        scores = [
            min(
                (each.score() for each in self.both[dimension] if len(each.answers) >= 3),
                default=None,
            )
            for dimension in (mine, other)
        ]
        steadier = (
            scores[0] is not None
            and scores[1] is not None
            and scores[1] < 0.5 * scores[0]
            and scores[0] > 0.04
        )
        enough = self._refused >= LEAST_REFUSED
        large = self._deviations / math.sqrt(self._refused) if enough else 0.0
        towards = large if mine == 0 else -large
        if now < self._turn_after or not (
            (steadier and (large > 1.0 if mine == 0 else large < 1.0)) or towards > LARGE_REFUSED
        ):
            return False
        self._turn_gap *= 2.0  # a change of the dimension is not soon undone
        self._turn_after = now + self._turn_gap
        self._deviations, self._refused = 0.0, 0
        sends.dimension = other
        self.best = self.read()
        if self.best is not None:
            self.rate = self.best.rate
        return True

    def forget_amounts(self) -> None:
        """Forget how much the limit is: it has moved. Of what kind it is stays known."""
        for kind in (*self.both[0], *self.both[1]):
            kind.forget()

    def window(self) -> Fixed | None:
        """Return the window by the clock whose turns came true, if any."""
        for kind in self.kinds:
            if isinstance(kind, Fixed) and kind.period >= 60 and kind.matched >= 3:
                return kind if kind.width < 10 else None
        return None

    def ended(self, stop: Stop, at: float) -> None:
        """Note what the length of a stop says of each kind; `at`: when it let a request in."""
        lasted, shut = at - stop.since, stop.refused_at - stop.since
        if shut > LONG_STOP:
            self._find_period(lasted, at)
        long = max(2.5, 4.0 / self.rate)
        for kind in self.kinds:
            if isinstance(kind, Bucket) and kind.answers:
                missed = kind.answers[-1] * (shut - 4.0 * self.refusal)
                if missed > 4.0:  # a bucket would have let that much in
                    kind.penalty += min(1.0, 0.3 * math.log(kind.answers[-1] * shut / 2.0))
            elif kind.period and shut > 1.2 * kind.period + 1.0:
                kind.penalty += 0.3
            elif isinstance(kind, Fixed) and at < kind.next(stop.since) - 3.0 - kind.width:
                kind.penalty += UNLIKE
            if isinstance(kind, Sliding) and 0 < len(kind.answers) < CONFIRMED and shut > long:
                self._narrow(kind, stop.refused_at, at, lasted)
        for kind in (*self.both[0], *self.both[1]):
            if isinstance(kind, Fixed) and (lasted > long or self._turned_on_time(kind, stop, at)):
                width = kind.width
                foretold = kind.turned(stop.refused_at, at) and width < 10
                kind.matched = kind.matched + 1 if foretold or kind.matched == 0 else 0

    def _find_period(self, lasted: float, at: float) -> None:
        """Add windows of the time between two long stops' ends, if it comes twice.

        What fills a window begins to go when the last stop ended: so it opens a period later.
        """
        apart, before = at - self._opened_at, self._apart_before
        self._opened_at, self._apart_before = at, apart
        known = any(abs(apart / each.period - 1.0) < ALIKE for each in self.kinds if each.period)
        if known or lasted < 0.1 * apart or abs(apart / before - 1.0) > ALIKE:
            return
        if self.sends.units(at - apart, at) < LEAST_HELD:
            return
        period = min(apart, before)
        for kinds in self.both:
            kinds[len(all_kinds()) :] = [Sliding(period), Fixed(period)]
        if self.best not in self.kinds:
            self.best = self.read()

    def _turned_on_time(self, kind: Fixed, stop: Stop, at: float) -> bool:
        """Whether a short stop ended at the turn of the window that is read, which it corrects."""
        if kind is not self.best or not kind.is_sure():
            return False
        return at + 0.3 >= kind.next(stop.since) - kind.width

    def _narrow(self, kind: Sliding, low: float, at: float, lasted: float) -> None:
        """Bound a sliding window by what had left it when it let something in again."""
        if lasted < 0.97 * kind.period:
            most = self.sends.units(low - kind.period, low) / kind.period
            least = max(self.sends.units(at - kind.period, at) / kind.period, 1e-6)
            bound = max(0.5 * (least + most), 1.0 / kind.period)
            kind.answers[-1] = min(kind.answers[-1], bound)

    def as_window(self, stop: Stop, lasted: float) -> Hypothesis | None:
        """Return the window that explains a stop of this length best; None if none does."""
        shut = stop.refused_at - stop.since
        for kind in self.kinds:
            if kind.period and not kind.answers:
                dimension = self.sends.dimension
                found = kind.bounds(Span(self.sends, -math.inf, stop.since, dimension))
                if found is not None:
                    kind.add(*found, again=False)
        likely = [
            each
            for each in self.kinds
            if each.period > 0.2 * shut and each.answers and each.rate * shut > 4
        ]

        def unlikely(each: Hypothesis) -> float:
            return 0.02 * abs(math.log((lasted + 0.5) / each.period)) + each.score()

        return min(likely, key=unlikely, default=None)
