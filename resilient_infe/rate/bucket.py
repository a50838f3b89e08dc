"""One rate, in one dimension: a token bucket kept as an instant.

Storing *when the bucket will be full again* rather than a level is the generic cell rate algorithm
(ITU-T I.371): the instant at which a cost fits is then computed once and compared as it is, so that
waking at the promised instant always grants. A limiter that re-derives a residual wait from a level
can spin for ever on the last bit of a float.
"""

from __future__ import annotations

import math

from ..core import bounds

JITTER_MARGIN = 1.0
"""Seconds by which the network may squeeze a window's sends together on their way."""

LARGEST_COST = 1e12
"""No single cost is larger; sums of absurd ones would end in NaN, which is no limit at all."""

BURST_SECONDS = 1.0
"""The default burst is what the rate brings in this time, not a full minute's worth."""


class Bucket:
    """At most `limit` units in any window of `period` seconds.

    A burst of `b` can come at once, so the refill must be less than ``limit / period``: with
    ``(limit - b) / period`` no window ever holds more than the limit. (At ``limit / period``,
    window servers answered 0.15-0.47 % of the calls with 429; with this, none, at 98.4 % use.) For
    a few units a window that would waste half the rate, so there the margin is a second of jitter.

    A cost above the burst waits for a full bucket and then goes into debt; nothing waits for ever.

    Args:
        limit: units per period, above 0.
        period: seconds, above 0.
        burst: units that can come at once, or None for one second's worth; taken as at least 1
            and at most half the limit, since each unit of burst is taken off the steady rate.

    Attributes:
        full_at: the instant at which it is full again; in the past when it is full.
        burst: units that can come at once.
        limit, period: as they are kept.
        credit: units above a full bucket, from over-estimates.
        window: the period it was made with.

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
        """Start full."""
        self.full_at = -math.inf
        self._last_full = -math.inf
        self.credit = 0.0
        self.window = period
        self._shape(limit, period, burst)

    def ready_at(self, cost: float) -> float:
        """Return the instant from which `cost` fits."""
        burst = self.burst
        needed = (cost if cost < burst else burst) - self.credit
        return self.full_at - (burst - needed if needed > 0.0 else burst) / self._refill

    def ready_behind(self, queued: float, cost: float, now: float) -> float:
        """Return the instant from which `cost` fits, once `queued` has been taken before it."""
        missing = queued + max(0.0, min(cost, self.burst) - self.credit) - self.burst
        return max(self.full_at, now) + missing / self._refill

    def take(self, cost: float, now: float) -> None:
        """Take `cost` out, of the credit first, and into debt if need be."""
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
        """Whether it is full."""
        return self.level(now) >= self.burst

    def give_back(self, cost: float, taken_at: float) -> None:
        """Put back `cost` that was taken at an instant; the bucket never holds more than its burst.

        If the bucket was full at some time since, what was taken had come back by itself, and
        giving it back again would let too much into a later window.
        """
        if taken_at >= self._last_full:
            self.full_at -= min(cost, LARGEST_COST) / self._refill

    def level(self, now: float) -> float:
        """Return the units that fit now; negative while in debt."""
        return self.burst + self.credit - max(0.0, self.full_at - now) * self._refill

    def lower_to(self, level: float, now: float) -> None:
        """Hold at most `level` units from now: the server says that no more are left."""
        if level < self.level(now):
            self.credit = max(0.0, level - self.burst)
            self.full_at = now + (self.burst + self.credit - level) / self._refill

    def resize(self, limit: float, now: float, burst: float | None = None) -> None:
        """Change the limit; what is spent stays spent."""
        spent = max(0.0, self.full_at - now) * self._refill
        self._shape(limit, self.window, burst)
        self.full_at = now + spent / self._refill

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`."""
        self.full_at += seconds
        self._last_full += seconds

    @property
    def rate(self) -> float:
        """Units per second that it refills at."""
        return self._refill

    def _shape(self, limit: float, period: float, burst: float | None) -> None:
        bounds.positive(limit, "a rate")
        bounds.positive(period, "a rate's period")
        if limit < 1:  # half a unit a minute is one unit in two minutes
            limit, period = 1.0, period / limit
        if burst is not None:
            bounds.positive(burst, "a burst")
        wanted = limit / period * BURST_SECONDS if burst is None else burst
        self.limit, self.period = limit, period
        self.burst = min(max(1.0, limit / 2), max(1.0, wanted))
        by_rule = (limit - self.burst) / period
        by_jitter = (math.floor(limit) + 1 - self.burst) / (period + JITTER_MARGIN)
        # Counts are whole: with a burst of 1, a spacing of period / limit and a bit is enough.
        self._refill = max(by_rule, by_jitter) if self.burst <= 1 else by_rule


def sane_cost(cost: float) -> float:
    """Return what is charged for a cost that is none (NaN, negative, infinite) or absurd."""
    return min(cost, LARGEST_COST) if 0.0 < cost < math.inf else 0.0
