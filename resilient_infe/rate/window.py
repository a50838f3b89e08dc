"""One limit over a period: the window, kept exactly, and how it is spent.

Two things decide when a cost may be taken:

1. *The ledger* adds up what the last period really cost. A cost waits until there is room for all
   of it, or for the whole limit if it is larger. So no window of the period exceeds the limit, as
   long as the estimates are right or too high.
2. *The bucket* shapes how the window is spent. Without it, the whole limit would be sent at once,
   then nothing for a minute. It refills at ``limit / period`` and holds `burst` seconds of that,
   which follows what the server was seen to bear (see `Depth`). A large burst takes nothing off the
   steady rate, because the bucket need not keep the limit: the ledger does.

The bucket is stored as an instant: `full_at`, the loop time at which it will be full if nothing
more is taken. This is the generic cell rate algorithm (ITU-T I.371). For example, 600 a minute with
a burst of half a second refills 10 a second and holds 5. If all 5 are taken at 0 s, it is full
again at 0.5 s, and the next unit fits at 0.1 s. Why an instant? `ready_at` computes the time at
which a cost fits, and the same number is compared with the clock later. So a task that wakes at
that time is always granted. A limiter that computes the remaining wait from a level, at each
wake-up, can loop for ever on the last bit of a float.

*What is owed.* The sender may have been kept from its pace: an estimate was too high and part of it
comes back, a gate was shut, or the event loop stood still. These units are owed. While some are
owed, a unit costs half of itself, so they are made up for at no more than twice the rate. What is
not made up for within a period is forgotten.

*Debt.* A cost above the burst fits when the bucket is full, and makes the level negative. The next
cost does not have to wait until all of that has refilled: after `LONGEST_DEBT` at most, the ledger
alone decides.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from ..core import bounds
from .depth import Depth
from .ledger import Ledger, Slice

LARGEST_COST = 1e12
"""The largest cost that is charged: sums of larger ones can become NaN, which never limits."""

JITTER = 0.15
"""Seconds by which sends may be squeezed together on their way: a window is longer by this."""

MOST_JITTER = 0.02
"""That is at most this share of the period, because short periods belong to near servers."""

ROUNDING = 1.0 + 1e-9
"""The last unit of a burst fits too, although a sum of many floats is not exact."""

CATCH_UP = 0.75
"""Seconds of the rate, the burst included, that are sent after a stop whatever was seen to pass:
nearly all servers hold this much."""

SLICES = 480
"""Slices of a period: for a minute, an eighth of a second each."""

LONGEST_DEBT = 5.0
"""Seconds of the rate by which a large cost delays the next one, at most."""

SPACING = 0.04
"""Seconds between two requests to a server that bears no burst, besides what the first one costs:
the jitter of two ways. It is at most a tenth of that cost."""

SLACK = 0.1
"""Seconds of the rate that a call which may not spend the burst takes off it, at most: timers are
late, and what the bucket cannot hold meanwhile would be lost."""

ALIVE = 60.0
"""Seconds in which something was let in, for a 429 of a request that was sent alone to count."""

PACE = 0.985
"""The share of the rate that is used towards a server that bears less than the wanted burst."""


class Window:
    """At most `limit` units in any window of `period` seconds, counted by their real cost.

    Args:
        limit: units per period, above 0. One below 1 is stored as 1 in a longer period.
        period: seconds, above 0.
        burst: the seconds of the rate that may be sent at once, above 0, if the server bears it;
            at least one unit; from the period on, the whole limit.

    Attributes:
        limit, period: the limit in use.
        window: the period that was passed in.
        full_at: the loop time at which the bucket is full; in the past if it is full now.
        ledger: the costs of the last period, each where it was taken.
        held_back: units of the limit that are kept free, because what is in flight may cost more
            than was taken; below the limit.
        let_in_at: the loop time at which the server last let something in.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("_burst", "_depth", "_even", "_even_at", "_interval", "_large", "_owed",
                 "_owed_until", "_paced", "_wanted", "full_at", "held_back", "ledger", "let_in_at",
                 "limit", "period", "window")  # fmt: skip

    def __init__(self, limit: float, period: float, burst: float) -> None:
        self.window = bounds.positive(period, "a rate's period")
        self._set_limit(limit)
        self._wanted = burst
        at_once = bounds.positive(min(burst, self.period), "burst, in seconds of the rate,")
        self._depth = Depth(at_once, self._even)
        self.ledger = Ledger(_kept(self.period), slices=SLICES)
        self.full_at = self.let_in_at = -math.inf
        self._even_at = -math.inf  # when an even pace would have sent all that was sent
        self._owed, self._owed_until = 0.0, -math.inf
        self.held_back = 0.0
        self._paced = False  # whether requests are kept apart: the server bears little at once
        self._shape()

    @property
    def burst(self) -> float:
        """The units that may be sent at once."""
        return self._burst

    @property
    def rate(self) -> float:
        """The refill, in units per second."""
        return 1.0 / self._interval

    def ready_at(self, cost: float) -> float:
        """Return the loop time from which `cost` fits: in the bucket, and in the window."""
        # There are two cases: a cost of at most the burst fits when the level has reached it; a
        # larger one fits when the bucket is full, and goes into debt.
        needed = cost if cost < self._burst else self._burst
        if self._owed:
            needed -= min(self._owed, needed / 2)
        ready = self.full_at - (ROUNDING * self._burst - needed) * self._interval
        room = self.limit - self.held_back
        if self.ledger.total + cost <= room:
            return ready
        return max(ready, self.ledger.room_at(min(cost, room), room))

    def even_at(self, cost: float) -> float:
        """Return the loop time from which `cost` takes no more than `SLACK` off the burst."""
        slack = SLACK - cost * self._interval
        return self.full_at - slack if slack > 0.0 else self.full_at

    def reaches(self, cost: float) -> bool:
        """Whether a cost may be more than is left, at the most that is ever held back."""
        ledger = self.ledger
        return ledger.total + ledger.open + cost > self.limit / 2

    def ready_behind(self, queued: float, cost: float, now: float) -> float:
        """Return the loop time from which `cost` fits if `queued` units are taken before it."""
        missing = queued + min(cost, self._burst) - self._burst
        missing -= max(0.0, min(self._owed, missing / 2))
        ready = max(self.full_at, now) + missing * self._interval
        return max(ready, self.ledger.room_at(min(queued + cost, self.limit), self.limit))

    def empty_at(self) -> float:
        """Return the loop time from which a whole period has cost nothing."""
        return max(self.full_at, self.ledger.room_at(self.limit, self.limit))

    def take(self, cost: float, now: float) -> Taken:
        """Take `cost`; return where it was taken, for `correct`, `passed` and `refused`."""
        if cost > LARGEST_COST:
            cost = LARGEST_COST
        if self._owed or cost >= self._burst:
            self._spend(cost - self._paid(cost, now), now)
        else:  # the usual case of `_spend`
            full_at = self.full_at
            self.full_at = (full_at if full_at > now else now) + cost * self._interval
        ledger = self.ledger
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
        return self, part, ahead

    def passed(self, cost: float, ahead: float, now: float) -> None:
        """Note that the server let in a cost.

        Args:
            cost: what was taken.
            ahead: how many seconds it was ahead of an even pace when it was taken.
            now: the loop time, in seconds.
        """
        depth = self._depth
        burst = depth.burst
        depth.passed(ahead, cost * self._even, now)
        if depth.burst != burst:
            self._shape()

    def refused(self, cost: float, part: Slice, now: float) -> bool:
        """Note a 429 that concerns this limit; return whether the burst explains it.

        If it does, the burst becomes smaller.

        Args:
            cost: what was taken.
            part: the slice of the ledger in which it was taken.
            now: the loop time, in seconds.
        """
        alive = now <= self.let_in_at + ALIVE
        explained = self._depth.refused(cost * self._even, part, now, alive=alive)
        self._shape()
        if not explained:
            return False
        self._owed = 0.0
        self.full_at = min(self.full_at, now + self._burst * self._interval)
        return True

    def uncount(self, cost: float) -> None:
        """Note that the server has not counted a cost, although it stays spent here."""
        self._even_at -= cost * self._even

    def correct(self, extra: float, part: Slice, now: float) -> None:
        """Correct a cost: take `extra`, or put back a negative one.

        What is put back fills the bucket; what does not fit there is owed.

        Args:
            extra: the real cost minus the cost that was taken.
            part: the slice of the ledger in which the cost was taken.
            now: the current loop time.
        """
        ledger = self.ledger
        if part is ledger.newest and part.spent >= -extra:
            part.spent += extra
            ledger.total += extra
        else:
            ledger.correct_in(part, extra)
        self._even_at += extra * self._even
        if extra >= 0.0:
            self._spend(extra, now)
            return
        missing = (self.full_at - now) / self._interval
        if missing + extra >= 0.0:
            self.full_at += extra * self._interval
            return
        if missing > 0.0:
            self.full_at = now
            extra += missing
        if extra <= -1.0:
            self.owe(-extra, now)

    def owe(self, units: float, now: float, most: float = math.inf) -> None:
        """Make up for units that could not be sent, but for no more than `most` in all."""
        if self._depth.shallow:
            return
        left = self._owed if now < self._owed_until else 0.0
        self._owed = max(left, min(left + units, most, self.limit))
        self._owed_until = now + self.period

    def kept_since(self, since: float, now: float) -> None:
        """Make up for time in which the sender stood still although the bucket was full.

        A server that counts in a token bucket forgets what it could not hold. So it is made up for
        as far as the server was seen to let requests come early.
        """
        still = now - max(since, self.full_at)
        if still > 0.0:
            most = max(CATCH_UP, self._depth.proven) - self._depth.burst
            self.owe(still / self._interval, now, max(0.0, most) / self._interval)

    def untouched(self, now: float) -> bool:
        """Whether the bucket is full and the last period cost nothing."""
        return self.full_at <= now and self.ledger.spent(now) <= 0.0

    def level(self, now: float) -> float:
        """Return the units that the bucket holds; negative in debt."""
        return self._burst - max(0.0, self.full_at - now) / self._interval

    def lower_to(self, level: float, now: float) -> None:
        """Lower the level to at most `level`, if the server says that no more than that is left."""
        if level < self.level(now):
            self.full_at = now + (self._burst - level) * self._interval
            self._owed = 0.0

    def resize(self, limit: float, now: float, period: float | None = None) -> None:
        """Change the limit, and its period if one is given; units that were taken stay taken."""
        spent, level = max(0.0, self.full_at - now) / self._interval, math.inf
        if period is not None and period != self.window:
            self.window = bounds.positive(period, "a rate's period")
            spent, level = 0.0, self.level(now)
        self._set_limit(limit)
        self._depth.resize(min(self._wanted, self.period), self._even)
        self.ledger.resize(_kept(self.period), now)
        self._shape()
        self.full_at = now + spent * self._interval
        self.lower_to(level, now)

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.full_at += seconds
        self._even_at += seconds
        self.let_in_at += seconds
        self._owed_until += seconds
        self._depth.rebase(seconds)
        self.ledger.rebase(seconds)

    def _spend(self, units: float, now: float) -> None:
        full_at = self.full_at if self.full_at > now else now
        cost = units * self._interval
        if units >= self._burst:
            if self._paced:
                cost = units * self._even
                cost += min(SPACING, cost / 10)
            else:
                cost = min(cost, self._burst * self._interval + LONGEST_DEBT)
        self.full_at = full_at + cost

    def _adapt(self, seconds: float, now: float) -> None:
        """Follow a request that is large, or try a larger burst."""
        if now >= self._depth.try_at:
            self._depth.try_more(now)
        self._depth.allow(seconds)
        self._shape()

    def _paid(self, cost: float, now: float) -> float:
        """Return the part of a cost that was owed, and that the bucket does not pay."""
        if now >= self._owed_until:
            self._owed = 0.0
        paid = min(self._owed, cost / 2)
        self._owed -= paid
        return paid

    def _set_limit(self, limit: float) -> None:
        bounds.positive(limit, "a rate")
        self.limit, self.period = limit, self.window
        if limit < 1:  # 0.5 a minute is kept as 1 in two minutes
            self.limit, self.period = 1.0, self.window / limit
        self._even = self.period / self.limit

    def _shape(self) -> None:
        even, depth = self._even, self._depth
        self._burst = min(self.limit, max(1.0, depth.burst / even))
        self._large = math.inf if depth.shallow else depth.burst / 2
        self._paced = depth.shallow and depth.burst < self.period / 3
        self._interval = even / PACE if self._paced else even


Taken: TypeAlias = tuple[Window, Slice, float]
"""What one request took: the window that has it, the slice of its ledger, and how many seconds it
was sent ahead of an even pace."""


def _kept(period: float) -> float:
    """Return how long a cost counts: the period, and what sends may be squeezed together."""
    return period + min(JITTER, MOST_JITTER * period)


def sane_cost(cost: float) -> float:
    """Return the cost to charge: at most `LARGEST_COST`, and 0 if NaN, negative or infinite."""
    return min(cost, LARGEST_COST) if 0.0 < cost < math.inf else 0.0
