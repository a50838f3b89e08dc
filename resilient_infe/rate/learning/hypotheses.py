"""The kinds of limit that a server may keep, and what an exhausted moment says about each.

At an *exhausted moment* the server refuses because its limit is used up. What passed between two of
them bounds the rate of each kind of limit from both sides:

- `low`: at a lower rate, something would have been refused that passed.
- `high`: at a higher rate, the last request would not have been refused.

For example, 100 requests passed in 10 s between two exhausted moments. For a bucket that is about
10 a second from both sides. For a sliding window of 10 s it is too, if they came evenly; if 80 came
in the first second, the window must be larger than what it refused, and `low` exceeds `high`: this
server has no such window. The kind whose bounds do not cross and whose answers repeat is right.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .sends import Sends, Span

CORRECTIONS = 8
"""Steps to a lower bound at most: three reach it, as each goes to what the worst time asks for."""

REFUSED = 1.5
"""Units by which a bucket was short that refused: one, and half for what overtook it."""

PENALTY_KEPT = 0.6
"""The share of the penalty that stays at each moment: four moments make it new."""


LATE = 0.03
"""Seconds after the foretold instant at which a window is asked: requests overtake each other."""

ROUNDED = 0.1
"""The spread of the answers of a window of one unit; less by the square of the units it holds."""

SURE = 0.05
"""The score of a hypothesis whose last three answers differ by 4 %, and whose bounds fit."""


def slack(rate: float) -> float:
    """Return the units by which a limit may seem exceeded: two of rounding, half a second late."""
    return 2.0 + min(0.5 * rate, 3.0)


class Hypothesis:
    """One kind of limit, and what is known about it if the server has this kind.

    Attributes:
        name: in words.
        period: the seconds of the window; 0 for a bucket.
        prior: what counts against it before anything is known.
        answers: the rates that the last exhausted moments gave, in units per second.
        penalty: by how much the bounds crossed of late, as a logarithm; 0 for a kind that fits.
        seen: the last exhausted moment that counted.
    """

    period = 0.0
    prior = 0.05

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: deque[float] = deque(maxlen=4)
        self.penalty = 0.0
        self.seen = -math.inf

    def bounds(self, span: Span) -> tuple[float, float] | None:
        """Return the bounds of the rate from two exhausted moments; None if they say nothing."""
        raise NotImplementedError

    def is_exceeded(
        self, sends: Sends, now: float, since: float, rate: float, saved: float
    ) -> bool:
        """Whether more passed since a look began than this kind allows at `rate`.

        Args:
            sends: what was sent.
            now: the last instant whose refusal would be known by now.
            since: when the look began.
            rate: the rate that is believed.
            saved: the units that were left unused before it.
        """
        raise NotImplementedError

    def opens(self, sends: Sends, since: float, rate: float) -> float | None:
        """Return when it lets something in again that refuses since an instant; None if unknown."""
        return None

    def add(self, low: float, high: float, *, again: bool) -> None:
        """Note the bounds of an exhausted moment; `again`: of the last one, which it replaces."""
        crossed = max(0.0, math.log(max(low, 1e-9) / max(high, 1e-9)))
        self.penalty = PENALTY_KEPT * self.penalty + (1.0 - PENALTY_KEPT) * crossed
        if again and self.answers:
            if self.period and low > 1.05 * self.answers[-1]:
                self.penalty += 0.3 * min(1.0, math.log(low / self.answers[-1]))
            self.answers.pop()
        self.answers.append(0.5 * (low + high) if low <= high else high)

    @property
    def rate(self) -> float:
        """The median of the last three answers; only with an answer."""
        found = sorted(list(self.answers)[-3:])
        return found[len(found) // 2]

    def score(self) -> float:
        """Return what counts against it; the least is read."""
        logs = [math.log(each) for each in list(self.answers)[-3:]]
        if len(logs) < 2:
            return self.prior + self.penalty
        mean = sum(logs) / len(logs)
        spread = math.sqrt(sum((each - mean) ** 2 for each in logs) / len(logs))
        if self.period:  # a window of one or two units gives the same again, whatever the limit
            spread = max(spread, ROUNDED / (self.rate * self.period) ** 2)
        return spread + self.penalty + 0.2 * self.prior

    def is_sure(self) -> bool:
        """Whether it was right so often that what it foretells need not be asked."""
        return len(self.answers) >= 3 and self.score() < SURE

    def keep_last(self) -> None:
        """Forget all but the last answer: the limit has moved."""
        while len(self.answers) > 1:
            self.answers.popleft()

    def forget(self) -> None:
        """Forget how much it is; of what kind the server is stays known."""
        if self.answers:
            self.penalty = max(self.penalty, min(self.score() - self.prior, 1.0))
            self.answers.clear()


class Bucket(Hypothesis):
    """A token bucket that holds the units of some seconds of its rate, and at least one.

    Args:
        seconds: how many.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a bucket of {seconds:g} s" if seconds < 1e5 else "a deep bucket")
        self.seconds = seconds
        if not seconds:
            self.prior = 0.06  # a bucket of a second fits as well, and allows for jitter

    def bounds(self, span: Span) -> tuple[float, float] | None:
        """Follow the level from empty to empty."""
        total = sum(units for _, units in span.steps)
        if total <= 0:
            return None  # all of it was refused
        mean = total / max(span.until - span.since, 1e-3)
        most = 4.0 * mean
        return self._least(span, 0.2 * mean, most), min(most, self._most(span, total))

    def _least(self, span: Span, rate: float, most: float) -> float:
        # Within a step the level is at most what it seems at its end: what this asks for is needed.
        # The level is full at some instant, or empty at the start. Of all times that begin there,
        # the worst one asks for a higher rate than is tried; with that the next is tried.
        for _ in range(CORRECTIONS):
            full, level, at = max(1.0, rate * self.seconds) + 0.5, 0.0, span.since
            begin, sent, lowest = -math.inf, 0.0, -REFUSED - 1e-6
            worst: tuple[float, float, float] | None = None
            for instant, units in span.steps:
                level += (instant - at) * rate - units
                sent += units
                at = instant
                if level >= full:
                    level, begin, sent = full, instant, 0.0
                elif level < lowest:
                    lowest, worst = level, (begin, instant, sent - REFUSED)
            if worst is None:
                break
            begin, end, asked = worst
            if begin == -math.inf:
                rate = asked / max(end - span.since, 1e-3)
            else:
                lasted = max(end - begin, 1e-3)
                rate = min((asked - 1.5) / lasted, (asked - 0.5) / (self.seconds + lasted))
            if rate >= most:
                return most
        return rate

    def _most(self, span: Span, total: float) -> float:
        # The level at the end is the least of: what came in since the start, less what was sent;
        # and the same from each instant at which the bucket was full, with what was sent then: the
        # last request of a step, and those of the steps behind it.
        until, sent = span.until, 0.0
        most = (total + REFUSED) / max(until - span.since, 1e-3)
        for instant, units in reversed(span.steps):
            after = max(until - instant, 1e-3)
            most = max(most, min((sent + 2.0) / (self.seconds + after), (sent + 1.0) / after))
            sent += units
        return most

    def is_exceeded(
        self, sends: Sends, now: float, since: float, rate: float, saved: float
    ) -> bool:
        """More passed than came in, and than it may have held."""
        held = min(max(1.0, rate * self.seconds), saved)
        return sends.units(since, now) > 1.03 * rate * (now - since) + held + slack(rate)

    def opens(self, sends: Sends, since: float, rate: float) -> float | None:
        """Return when a unit has come in."""
        return since + 1.0 / rate


class Window(Hypothesis):
    """A limit of the units within a period: what an instant's window held is the evidence."""

    def __init__(self, name: str, period: float) -> None:
        super().__init__(f"a {name} window of {period:g} s")
        self.period = period

    def begin(self, at: float) -> float:
        """Return when the window began that ends at, or holds, an instant."""
        raise NotImplementedError

    def earlier(self, span: Span) -> Iterable[float]:
        """Return instants before the last exhausted moment whose windows were let in."""
        raise NotImplementedError

    def bounds(self, span: Span) -> tuple[float, float] | None:
        """Compare the window that refused with those before it that did not."""
        high = self._held(span, span.until)
        if high <= 0:
            return None
        return max((self._held(span, at) for at in self.earlier(span)), default=high), high

    def _held(self, span: Span, at: float) -> float:
        return span.sends.units(self.begin(at), at, span.dimension) / self.period

    def is_exceeded(
        self, sends: Sends, now: float, since: float, rate: float, saved: float
    ) -> bool:
        """It held more."""
        return sends.units(self.begin(now), now) > 1.03 * rate * self.period + slack(rate)


class Sliding(Window):
    """A window that slides: the limit is for the last `period` seconds at every instant."""

    def __init__(self, period: float) -> None:
        super().__init__("sliding", period)

    def begin(self, at: float) -> float:
        """Return the instant one period ago."""
        return at - self.period

    def earlier(self, span: Span) -> Iterable[float]:
        """Return instants of sending."""
        if span.until - (span.sends.started or 0.0) < self.period:
            return ()
        return span.sends.instants(span.since, span.until, 8)

    def opens(self, sends: Sends, since: float, rate: float) -> float | None:
        """Return when enough has left the window."""
        if sends.dimension:
            return None
        held = max(1, int(self.period * rate))
        return sends.when_left(held) + self.period + LATE


class Fixed(Window):
    """A window by the clock.

    Attributes:
        turn: an instant at which it turned, the latest possible; 0 while unknown.
        width: how much earlier that may have been; infinite while it is unknown.
        matched: long stops in a row that ended when it should turn.
    """

    def __init__(self, period: float) -> None:
        super().__init__("fixed", period)
        self.turn, self.width = 0.0, math.inf
        self.matched = 0

    def start(self, at: float) -> float:
        """Return when the window began that holds an instant, at the latest."""
        return self.turn + math.floor((at - self.turn) / self.period) * self.period

    def next(self, at: float) -> float:
        """Return when the next window begins, at the latest."""
        return self.start(at) + self.period

    def begin(self, at: float) -> float:
        """Return when the window began that holds an instant."""
        return self.start(at) - self.width / 2

    def bounds(self, span: Span) -> tuple[float, float] | None:
        """Say nothing before a turn is known."""
        return None if self.width == math.inf else super().bounds(span)

    def earlier(self, span: Span) -> Iterable[float]:
        """Return the ends of the three windows before."""
        least = max(span.since, span.sends.started or 0.0) - 1.0
        ends = (self.start(span.until) - self.width / 2 - back * self.period for back in range(3))
        return [at for at in ends if at - self.period >= least]

    def _held(self, span: Span, at: float) -> float:
        begin = self.begin(at) if at == span.until else at - self.period
        return span.sends.units(begin, at, span.dimension) / self.period

    def is_exceeded(
        self, sends: Sends, now: float, since: float, rate: float, saved: float
    ) -> bool:
        """It held more, and did not turn yet."""
        if self.width > self.period / 3:
            return True
        early = now < self.next(now) - self.width - 0.1
        return early and super().is_exceeded(sends, now, since, rate, saved)

    def opens(self, sends: Sends, since: float, rate: float) -> float | None:
        """Return when it turns."""
        if self.width == math.inf:
            return None
        return self.next(since) - (self.width / 2 if self.width > 1.0 else 0.0) + LATE

    def turned(self, low: float, at: float) -> bool:
        """Note that it turned between two instants; return whether that was foretold."""
        width = max(0.05, at - low)
        off = (at - self.turn + self.period / 2) % self.period - self.period / 2
        first = self.width == math.inf
        if first or off - width > 0.3 or off < -self.width - 0.3:
            self.turn, self.width = at, width
            return first
        begin, end = max(-self.width, off - width), min(0.0, off)
        self.turn += end
        self.width = max(0.05, end - begin)
        return True


DEPTHS = (0.0, 1.0, 10.0, 1e6)
"""Seconds of the rate that a bucket may hold."""

SLIDING = (1.0, 10.0, 60.0)
FIXED = (1.0, 10.0, 60.0)
"""Seconds of the windows that providers document."""


def all_kinds() -> list[Hypothesis]:
    """Return one of each kind."""
    return [
        *(Bucket(seconds) for seconds in DEPTHS),
        *(Sliding(period) for period in SLIDING),
        *(Fixed(period) for period in FIXED),
    ]
