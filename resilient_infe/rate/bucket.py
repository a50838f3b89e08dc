"""A token bucket for one rate limit, stored as an instant instead of a level.

The bucket stores `full_at`, the loop time at which it will be full if nothing more is taken. This
is the generic cell rate algorithm (ITU-T I.371). Everything else follows from that instant:

- the level at time `t` is ``burst + credit - max(0, full_at - t) * refill``;
- taking a cost moves `full_at` forward by ``cost / refill``;
- a cost fits from ``full_at - (burst - cost) / refill`` on.

For example, 600 a minute with a burst of 10 refills at (600 - 10) / 60 = 9.83 a second. If all 10
are taken at 0 s, the bucket is full again at 10 / 9.83 = 1.017 s. The next unit fits when one of
them is back, at 1.017 - (10 - 1) / 9.83 = 0.102 s.

Why an instant? `ready_at` computes the time at which a cost fits, and the same number is compared
with the clock later. So a task that wakes at that time is always granted. A limiter that computes
the remaining wait from a level, at each wake-up, can loop for ever on the last bit of a float.
"""

from __future__ import annotations

import math

from ..core import bounds

JITTER_MARGIN = 1.0
"""Seconds by which network delays may bring the first and last request of a window together."""

LARGEST_COST = 1e12
"""The largest cost that is charged: sums of larger ones can become NaN, which never limits."""

BURST_SECONDS = 1.0
"""Seconds of the rate that make the default burst: a small part of the limit of a minute."""


class Bucket:
    """At most `limit` units in any window of `period` seconds.

    *The refill.* The window that admits the most starts with a full bucket. It admits the burst,
    and then the refill of a whole period. So the refill is ``(limit - burst) / period``. For 600 a
    minute and a burst of 10, the window admits 10 + 590 = 600; with a refill of ``limit / period``
    it would admit 610. (At ``limit / period``, servers that count in windows answered 0.15-0.47 %
    of the calls with 429; with this refill, none, at 98.4 % use.)

    *A burst of one unit.* That rule wastes much of a small limit: 2 a minute would become 1 a
    minute. Units are whole, so here it is enough that ``limit + 1`` sends span more than a period.
    They span the period and `JITTER_MARGIN`. For 2 a minute, one is sent every 30.5 s, so three
    span 61 s.

    *Debt.* A cost above the burst waits until the bucket is full, and then makes the level
    negative. For 600 a minute, a cost of 500 leaves 10 - 500 = -490, and the next unit fits
    491 / 9.83 = 49.9 s later. So no cost waits for ever, and none blocks the others for longer than
    its own refill takes.

    *Credit.* Units above a full bucket, which are taken first. Only a `Metered` bucket gets them.

    Args:
        limit: units per period, above 0.
        period: seconds, above 0.
        burst: units that can be taken at once, above 0; None for one second of the rate. The
            bucket uses at least 1, and otherwise at most half the limit, since each unit of burst
            lowers the refill.

    Attributes:
        full_at: the loop time at which the bucket is full; in the past if it is full now.
        burst: the units that can be taken at once.
        limit, period: the limit in use. A limit below 1 is stored as 1 in a longer period.
        credit: the units above a full bucket, from over-estimates.
        window: the period that was passed in.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = (
        "_last_full",
        "_refill",
        "burst",
        "credit",
        "full_at",
        "limit",
        "period",
        "window",
    )

    def __init__(self, limit: float, period: float, burst: float | None = None) -> None:
        self.full_at = -math.inf
        self._last_full = -math.inf
        self.credit = 0.0
        self.window = period
        self._shape(limit, period, burst)

    def ready_at(self, cost: float) -> float:
        """Return the loop time from which `cost` fits."""
        # There are three cases:
        # 1. The cost is at most the burst: it fits when the level has reached it.
        # 2. The cost is above the burst: it fits when the bucket is full, and goes into debt.
        # 3. The credit covers the cost: it fits when the bucket is out of debt.
        burst = self.burst
        needed = (cost if cost < burst else burst) - self.credit
        return self.full_at - (burst - needed if needed > 0.0 else burst) / self._refill

    def ready_behind(self, queued: float, cost: float, now: float) -> float:
        """Return the loop time from which `cost` fits if `queued` units are taken before it."""
        missing = queued + max(0.0, min(cost, self.burst) - self.credit) - self.burst
        return max(self.full_at, now) + missing / self._refill

    def take(self, cost: float, now: float) -> None:
        """Take `cost`, from the credit first; the level may become negative."""
        if self.full_at <= now:
            self.full_at = self._last_full = now
        if cost > LARGEST_COST:
            cost = LARGEST_COST
        credit = self.credit
        if credit > 0.0:
            used = cost if cost < credit else credit
            self.credit = credit - used
            cost -= used
        self.full_at += cost / self._refill

    def untouched(self, now: float) -> bool:
        """Whether the bucket is full."""
        return self.level(now) >= self.burst

    def give_back(self, cost: float, taken_at: float) -> None:
        """Put back `cost`, which was taken at `taken_at`; the bucket is never more than full.

        If a later take found the bucket full, the refill had already replaced `cost`. To put it
        back a second time would admit too much in a later window, so nothing is put back.
        """
        if taken_at >= self._last_full:
            self.full_at -= min(cost, LARGEST_COST) / self._refill

    def level(self, now: float) -> float:
        """Return the units that can be taken now; negative in debt."""
        return self.burst + self.credit - max(0.0, self.full_at - now) * self._refill

    def lower_to(self, level: float, now: float) -> None:
        """Lower the level to at most `level`, if the server says that no more than that is left."""
        if level < self.level(now):
            self.credit = max(0.0, level - self.burst)
            self.full_at = now + (self.burst + self.credit - level) / self._refill

    def resize(self, limit: float, now: float, burst: float | None = None) -> None:
        """Change the limit; units that were taken stay taken."""
        spent = max(0.0, self.full_at - now) * self._refill
        self._shape(limit, self.window, burst)
        self.full_at = now + spent / self._refill

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.full_at += seconds
        self._last_full += seconds

    @property
    def rate(self) -> float:
        """The refill, in units per second."""
        return self._refill

    def _shape(self, limit: float, period: float, burst: float | None) -> None:
        bounds.positive(limit, "a rate")
        bounds.positive(period, "a rate's period")
        if limit < 1:  # 0.5 a minute is kept as 1 in two minutes
            limit, period = 1.0, period / limit
        if burst is not None:
            bounds.positive(burst, "a burst")
        wanted = limit / period * BURST_SECONDS if burst is None else burst
        self.limit, self.period = limit, period
        self.burst = min(max(1.0, limit / 2), max(1.0, wanted))
        by_rule = (limit - self.burst) / period
        by_jitter = (math.floor(limit) + 1 - self.burst) / (period + JITTER_MARGIN)
        # A burst is never below 1, so `<=` means a burst of one unit: see the class.
        self._refill = max(by_rule, by_jitter) if self.burst <= 1 else by_rule


def sane_cost(cost: float) -> float:
    """Return the cost to charge: at most `LARGEST_COST`, and 0 if NaN, negative or infinite."""
    return min(cost, LARGEST_COST) if 0.0 < cost < math.inf else 0.0
