"""One limit over a period: the window, kept exactly, and how it is spent.

Two things decide when a cost may be taken:

1. *The ledger* adds up what the last period really cost. A cost waits until there is room for all
   of it, or for the whole limit if it is larger. So no window of the period exceeds the limit, as
   long as the estimates are right or too high.
2. *The bucket* shapes how the window is spent. Without it, the whole limit would be sent at once,
   then nothing for a minute. It refills at ``limit / period`` and holds `burst` seconds of that,
   which follows what the server was seen to bear (see `Depth`). A large burst takes nothing off the
   steady rate, because the bucket need not keep the limit: the ledger does.

*Estimates.* A window of tokens is handed estimates. It takes them times the ratio that its
`Calibration` has found, and corrects each when the real cost is known.

*A day* is counted and not paced: all of it may be sent at once, as far as the minute allows. It is
any 24 hours, so it is kept whatever midnight a server's day begins at, or if it has none.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from ..core import bounds
from ..core.verdict import DAY, MINUTE, Dimension, Limit
from .bucket import SPACING, Bucket
from .calibration import Calibration
from .costs import DIMENSIONS, LARGEST_COST
from .depth import PROOF
from .ledger import Ledger, Slice

JITTER = 0.15
"""Seconds by which sends may be squeezed together on their way: a window is longer by this."""

MOST_JITTER = 0.02
"""That is at most this share of the period, because short periods belong to near servers."""

ROUNDING = 1.0 + 1e-9
"""The last unit of a burst fits too, although a sum of many floats is not exact."""

LONGEST_KEPT = 1e9
"""Seconds for which a cost counts at most, 31 years: the instants of a longer window are not exact,
and a limit that was almost none may be raised again."""

SLICES, SLICES_OF_A_DAY = 480, 96
"""Slices of a period: for a minute, an eighth of a second each; for a day, a quarter of an hour."""

SLACK = 0.1
"""Seconds of the rate that a call which may not spend the burst takes off it, at most: timers are
late, and what the bucket cannot hold meanwhile would be lost."""


class Window(Bucket):
    """At most `limit` units in any window of `period` seconds, counted by their real cost.

    Args:
        limit: units per period that all processes share, above 0.
        period: seconds, above 0. One of a day or more is not paced.
        burst: the seconds of the rate that may be sent at once, above 0, if the server bears it;
            at least one unit; from the period on, the whole limit.
        dimension: what is counted.
        share: the part of the limit that this process may use, in (0, 1].

    Attributes:
        limit, period: the limit in use; one below 1 is kept as 1 in a longer period.
        window: the period that was passed in.
        dimension: the argument of this name.
        index: its place in `DIMENSIONS`; 0 for requests, which are not estimated.
        calibration: corrects estimates of tokens.
        paced: whether the bucket shapes how it is spent.
        ratio: what estimates are multiplied by; 1 for requests.
        largest: the largest cost that the server let in.
        full_at: the loop time at which the bucket is full; in the past if it is full now.
        uncounted: seconds of the rate that the server did not count, since it refused or never got
            a request. What was sent after such a one was not as far ahead as it seemed.
        ledger: the costs of the last period, each where it was taken.
        allotted: what the ledger may hold: the limit, or less while others use the limit too.
        held_back: units of the limit that are kept free, because what is in flight may cost more
            than was taken; below the limit.
        let_in_at: the loop time at which the server last let something in.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_even_at", "_part", "_share", "allotted", "calibration", "dimension", "held_back",
                 "index", "largest", "ledger", "ratio", "uncounted", "window")  # fmt: skip

    dimension: Dimension

    def __init__(
        self,
        limit: float,
        period: float,
        burst: float,
        dimension: Dimension = "requests",
        share: float = 1.0,
    ) -> None:
        self.window = bounds.positive(period, "a rate's period")
        self._share = share
        self.leased = self._part = 1.0
        self._set_limit(limit)
        self.paced = self.window < DAY
        self.dimension, self.index = dimension, DIMENSIONS.index(dimension)
        self.calibration = Calibration()
        self.ratio, self.largest = 1.0, 0.0
        self.ledger = Ledger(_kept(self.period), SLICES if self.paced else SLICES_OF_A_DAY)
        self.uncounted = 0.0
        self._even_at = -math.inf  # when an even pace would have sent all that was sent
        self.held_back = 0.0
        super().__init__(burst)

    def ready_for(self, estimate: float) -> float:
        """Return the loop time from which a request of `estimate` units fits."""
        if self.index:
            self.held_back = self.calibration.held_back(self.ledger, self.limit)
        cost = estimate * self.ratio
        return self.empty_at() if self.oversized(estimate) else self.ready_at(cost)

    def oversized(self, estimate: float) -> bool:
        """Whether a request is larger than the whole limit, which all processes share.

        It is sent when nothing was spent for a whole window. Once the server has let one in, the
        estimate or the limit is wrong, and others of at most its size are treated as usual.
        """
        return (
            self.index > 0
            and self.paced
            and estimate * self.ratio > max(self.limit / self._share, self.largest)
        )

    def ready_at(self, cost: float) -> float:
        """Return the loop time from which `cost` fits: in the bucket, and in the window."""
        # There are two cases: a cost of at most the burst fits when the level has reached it; a
        # larger one fits when the bucket is full, and goes into debt.
        needed = cost if cost < self._burst else self._burst
        if self._owed:
            needed -= min(self._owed, needed / 2)
        ready = self.full_at - (ROUNDING * self._burst - needed) * self._interval
        if not self.paced:
            ready = -math.inf
        if self._spaced and self.index and cost * self._even > self._depth.proven:
            ready += SPACING  # a server's bucket lets in what is larger only if it is full
        room = self.allotted - self.held_back
        if self.ledger.total + cost <= room:
            return ready
        return max(ready, self.ledger.room_at(min(cost, room), room))

    def even_at(self, cost: float) -> float:
        """Return the loop time from which `cost` takes no more than `SLACK` off the burst."""
        slack = SLACK - cost * self._interval
        return self.full_at - slack if slack > 0.0 else self.full_at

    def ready_behind(self, queued: float, cost: float, now: float) -> float:
        """Return the loop time from which `cost` fits if `queued` units are taken before it."""
        missing = queued + min(cost, self._burst) - self._burst
        missing -= max(0.0, min(self._owed, missing / 2))
        ready = max(self.full_at, now) + missing * self._interval if self.paced else now
        return max(ready, self.ledger.room_at(min(queued + cost, self.allotted), self.allotted))

    def empty_at(self) -> float:
        """Return the loop time from which a whole period has cost nothing."""
        return max(self.full_at, self.ledger.room_at(self.limit, self.limit))

    def take(self, estimate: float, now: float) -> Taken:
        """Take a request of `estimate` units; return what was taken, to end it with."""
        cost, ledger = estimate * self.ratio, self.ledger
        units = cost - self._paid(cost, now) if self._owed else cost
        if units >= self._burst:
            cost, units = min(cost, LARGEST_COST), min(units, LARGEST_COST)
            self._spend(units, now)
        else:  # the usual case of `_spend`
            full_at = self.full_at
            self.full_at = (full_at if full_at > now else now) + units * self._interval
        if now >= ledger.end:
            ledger.move(now)
        part = ledger.newest
        part.spent += cost
        part.sent += 1
        ledger.total += cost
        even_at, seconds = self._even_at, cost * self._even
        ahead = even_at - now + seconds
        self._even_at = (even_at if even_at > now else now) + seconds
        if ahead > part.ahead:
            part.ahead = ahead
        if seconds > self._large or now >= self._depth.try_at:
            self._adapt(seconds, now)
        waits = 0.0
        if self.index:
            part.reserved += cost
            part.open += estimate
            part.squares += estimate * estimate
            if self._spaced and estimate > cost:
                waits = min(estimate - cost, self._caution * self.calibration.deviation(estimate))
                self.full_at += waits * self._even
        return self, part, ahead + self.uncounted, cost, estimate, waits, self.full_at

    def settle(self, taken: Taken, real: float | None, now: float) -> None:
        """Correct the estimate of a request that the server let in, and those to come.

        Args:
            taken: what `take` returned.
            real: its real cost; None to charge the estimate, or what was taken if that is more.
            now: the loop time, in seconds.
        """
        _, part, ahead, cost, estimate, waits, full_at = taken
        if self._spaced:
            self.relax()
        if real is None:
            real = estimate if estimate > cost else cost
        elif cost > self.largest:
            self.largest = cost
        extra = real - cost
        self.ledger.ended(part, estimate, cost, extra)
        self.adjust(extra, now, waits, full_at)
        self.ratio = self.calibration.settled(estimate, real)
        ahead += extra * self._even - self.uncounted
        if ahead > PROOF:  # else it proves nothing
            self.passed(real, ahead, now)

    def give_back(self, taken: Taken, now: float, *, sent: bool) -> None:
        """End a request that was refused or never sent. A refused one stays spent as a request."""
        _, part, _, cost, estimate, waits, full_at = taken
        if self.index:
            self.ledger.ended(part, estimate, cost, -cost)
            self.uncounted += cost * self._even
        elif sent:
            return
        else:
            self.ledger.correct(part, -cost)
        if not sent:
            part.sent -= 1
            part.ahead = min(part.ahead, max(0.0, part.ahead - cost * self._even))
        self.adjust(-cost, now, waits, full_at)

    def uncount(self, cost: float) -> None:
        """Note that the server has not counted a cost, although it stays spent here."""
        self._even_at -= cost * self._even
        self.uncounted += cost * self._even

    def adjust(
        self, extra: float, now: float, waits: float = 0.0, full_at: float | None = None
    ) -> None:
        """Correct the bucket: take `extra`, or put back a negative one.

        What is put back fills the bucket; what does not fit there is owed.

        Args:
            extra: the real cost minus the cost that was taken.
            now: the current loop time.
            waits: units that were added in the bucket alone, to keep requests apart.
            full_at: that of the bucket when it was taken; None if it was taken last.
        """
        self._even_at += extra * self._even
        if self._spaced:
            extra -= waits
            if extra < 0.0 and full_at is not None and full_at != self.full_at:
                return  # others have waited for it, and a full bucket of the server's forgets it
        if extra >= 0.0:
            self._spend(extra, now)
            return
        interval = self._even if self._spaced else self._interval
        after = self.full_at + extra * interval
        if after >= now:
            self.full_at = after
            return
        if self.full_at > now:
            self.full_at = now
            extra = (after - now) / interval
        if extra <= -1.0:
            self.owe(-extra, now)

    def untouched(self, now: float) -> bool:
        """Whether the bucket is full and the last period cost nothing."""
        return (self.full_at <= now or not self.paced) and self.ledger.spent(now) <= 0.0

    def resize(self, limit: float, now: float, period: float | None = None) -> None:
        """Change the limit, and its period if one is given; units that were taken stay taken."""
        spent, level = max(0.0, self.full_at - now) / self._interval, math.inf
        early = (self._even_at - now) / self._even
        if period is not None and period != self.window:
            self.window = bounds.positive(period, "a rate's period")
            spent, level = 0.0, self.level(now)
        self._set_limit(limit)
        self._depth.resize(min(self._wanted, self.period), self._even)
        self.ledger.resize(_kept(self.period), now)
        self._shape()
        # Another limit's shortage may be longer than this period, after which any bucket is full.
        self.full_at = now + min(spent * self._interval, self.period)
        self._even_at = now + early * self._even
        self.lower_to(level, now)

    def lease(self, share: float, part: float, now: float) -> None:
        """Use a share of the limit that others use too, from now on.

        Args:
            share: the part of the limit at which sends are paced, above 0.
            part: the part of it that the window that ends now may have; of a day's limit, what
                others have left.
            now: the loop time, in seconds.
        """
        self._part = part
        if not self.paced:
            self._allot()
            return
        early, level = (self._even_at - now) / self._even, self.level(now)
        before, self.leased = self.leased, share
        self._allot()
        self._share_anew(before, level, now)
        self._even_at = now + early * self._even

    def restate(self, left: float, leaves_at: float, now: float) -> None:
        """Follow a server that says what is left of the period; what is spent leaves it at once."""
        self.ledger.clear()
        self.ledger.add(max(0.0, self.limit - left), leaves_at - self.ledger.window)
        self.full_at = now

    def abandon(self) -> None:
        """Forget what is in flight, because its loop was closed."""
        self.ledger.abandon()

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.full_at += seconds
        self._even_at += seconds
        self.let_in_at += seconds
        self._owed_until += seconds
        self._depth.rebase(seconds)
        self.ledger.rebase(seconds)

    def __str__(self) -> str:
        """Return the limit in words."""
        per, name = (MINUTE, "minute") if self.paced else (DAY, "day")
        rate = self.limit / self.period * per
        return f"{rate:,.6g} {self.dimension.replace('_', ' ')} per {name}"

    def _set_limit(self, limit: float) -> None:
        limit = bounds.positive(limit, "a rate") * self._share
        self.limit, self.period = limit, self.window
        if limit < 1:  # 0.5 a minute is kept as 1 in two minutes
            self.limit, self.period = 1.0, self.window / limit
        self._allot()

    def _allot(self) -> None:
        """Divide the limit, if others use it too."""
        self._even = self.period / (self.limit * self.leased)
        self.allotted = self.limit
        if self._part < 1.0:  # one more, since a part of a limit is seldom a whole number
            self.allotted = min(self.limit, self.limit * self._part + self.paced)


Taken: TypeAlias = tuple[Window, Slice, float, float, float, float, float]
"""What one request took: the window that has it, the slice of its ledger, how many seconds it was
sent ahead of an even pace, the cost that was taken, the estimate that this was made of, the units
that the bucket alone was charged, and `full_at` afterwards."""


def window_of(stated: Limit) -> float:
    """Return the window of a stated limit in seconds; a minute if none usable is stated."""
    window = stated.window
    return window if window is not None and 0 < window < math.inf else MINUTE


def per_minute(bucket: Window | None) -> float | None:
    """Return a bucket's limit as a rate per minute."""
    return None if bucket is None else bucket.limit / bucket.period * MINUTE


def _kept(period: float) -> float:
    """Return how long a cost counts: the period, and what sends may be squeezed together."""
    return min(period + min(JITTER, MOST_JITTER * period), LONGEST_KEPT)
