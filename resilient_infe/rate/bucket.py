"""The bucket: how the units of a window are spent, evenly or in bursts.

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

from ..core import bounds
from ..core.verdict import MINUTE
from .calibration import Calibration
from .depth import Depth
from .ledger import Ledger, Slice

CATCH_UP = 0.75
"""Seconds of the rate, the burst included, that are sent after a stop whatever was seen to pass:
nearly all servers hold this much."""

LONGEST_DEBT = 5.0
"""Seconds of the rate by which a large cost delays the next one, at most, or the burst if that is
more."""

SHARED_BURST = 0.5
"""Seconds of its share of a limit that may be sent at once, at most, while others use it too.

A machine that stands still makes all of its processes late at once. Servers hold a burst of a
second, so half of it leaves room for what comes anyway."""

SPACING = 0.04
"""Seconds between two requests to a server that bears no burst, besides what the first one costs:
the jitter of two ways. It is at most a tenth of that cost."""

CAUTION, MOST_CAUTION = 1.0, 3.0
"""Standard deviations of its estimate by which a request is kept further apart from the next one,
until it is known what it cost: at first and at most as many as are held back from the window. What
is let in lowers that, and each 429 raises it by `CAUTION`. Begun at 0, it was right after a dozen
429s: 1.3 % of a service's calls, and 0.5 % now."""

ACCEPTED = 0.003
"""The share of 429s at which that caution stays as it is."""

ALIVE = 60.0
"""Seconds in which something was let in, for a 429 of a request that was sent alone to count."""

PACE = 0.985
"""The share of the rate that is used towards a server that bears less than the wanted burst."""

SHORT_PACE = 0.95
"""The same over a period of less than a minute. Proxies count such a period roughly: the last one,
as if it had been spread evenly. At the whole rate 1 to 3 % of the requests were refused."""


class Bucket:
    """The bucket of a `Window`, which has its limit.

    Args:
        burst: the seconds of the rate that may be sent at once, above 0, if the server bears it.

    Attributes:
        limit, period: the limit in use.
        paced: whether the bucket shapes how it is spent.
        leased: the part of the limit that is used, while others use it too.
        full_at: the loop time at which the bucket is full; in the past if it is full now.
        half: units of the window that may be used before it is worth to compute when a cost fits;
            below 0 while requests are kept apart.
        let_in_at: the loop time at which the server last let something in.

    State: inside the `Allowance` that owns the window.
    """

    __slots__ = ("_burst", "_caution", "_depth", "_even", "_interval", "_large", "_owed",
                 "_owed_until", "_spaced", "_wanted", "full_at", "half", "leased", "let_in_at",
                 "limit", "paced", "period")  # fmt: skip

    leased: float
    limit: float
    period: float
    paced: bool
    index: int
    calibration: Calibration
    ledger: Ledger
    _even: float

    def __init__(self, burst: float) -> None:
        self._wanted = burst if self.paced else math.inf
        at_once = bounds.positive(min(self._wanted, self.period), "burst, in seconds of the rate,")
        self._depth = Depth(at_once, self._even, ramped=self.paced)
        self.full_at = self.let_in_at = -math.inf
        self._owed, self._owed_until = 0.0, -math.inf
        self._caution = MOST_CAUTION
        self._spaced = False  # whether requests are kept apart: the server bears little at once
        self._shape()

    @property
    def burst(self) -> float:
        """The units that may be sent at once."""
        return self._burst

    @property
    def rate(self) -> float:
        """The refill, in units per second."""
        return 1.0 / self._interval

    def passed(self, cost: float, ahead: float, now: float) -> None:
        """Note that the server let in a cost.

        Args:
            cost: what was taken.
            ahead: how many seconds it was ahead of an even pace when it was taken.
            now: the loop time, in seconds.
        """
        depth, seconds = self._depth, cost * self._even
        burst = depth.burst
        doubt = self.calibration.doubt if self.index else 0.0
        depth.passed(ahead, seconds, now, doubt=doubt * (ahead + seconds))
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
        # Answers take a while, and refusals do not: what was sent before this one, and would have
        # been refused by now, was let in.
        alive = now <= self.let_in_at + ALIVE or self.ledger.unrefused(now - ALIVE, part)
        explained = self._depth.refused(cost * self._even, part, now, alive=alive)
        self._shape()
        if self._spaced:
            self._caution = min(MOST_CAUTION, self._caution + CAUTION)
        if not explained:
            return False
        self._owed = 0.0
        if not self.index:  # it stays spent here, but the server has not counted it
            self.full_at = min(self.full_at, now + self._burst * self._interval)
        return True

    def relax(self) -> None:
        """Note that something passed, for the caution with which large requests are kept apart."""
        self._caution = max(0.0, self._caution - CAUTION * ACCEPTED)

    def owe(self, units: float, now: float, most: float = math.inf) -> None:
        """Make up for units that could not be sent, but for no more than `most` in all."""
        if self._depth.shallow or not self.paced:
            return
        left = self._owed if now < self._owed_until else 0.0
        owed, most = left + units, most if most < self.limit else self.limit
        if owed > most:
            owed = most
        self._owed = owed if owed > left else left
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

    def level(self, now: float) -> float:
        """Return the units that the bucket holds; negative in debt."""
        return self._burst - max(0.0, self.full_at - now) / self._interval

    def lower_to(self, level: float, now: float) -> None:
        """Lower the level to at most `level`, if the server says that no more than that is left."""
        if level < self.level(now):
            self.full_at = now + min(self._burst - level, self.limit) * self._interval
            self._owed = 0.0

    def _spend(self, units: float, now: float) -> None:
        full_at = self.full_at if self.full_at > now else now
        cost = units * self._interval
        if units >= self._burst:
            if self._spaced:
                cost = units * self._even
                cost += min(SPACING, cost / 10)
            elif self.leased == 1.0:  # else the ledger alone cannot keep the pace of a share
                cost = min(cost, max(self._burst * self._interval, LONGEST_DEBT))
        self.full_at = full_at + cost

    def _share_anew(self, before: float, level: float, now: float) -> None:
        """Follow a share of the limit that has changed: what the bucket holds stays, in units.

        So a share that moves takes no burst with it: what its holder has not sent is lost, and the
        next one begins with what its own bucket held.
        """
        self._wanted = min(self._wanted, SHARED_BURST)
        self._depth.resize(min(self._wanted, self.period), self._even)
        self._shape()
        self.full_at = now + (self._burst - min(level, self._burst)) * self._interval
        self._owed *= min(1.0, self.leased / before)

    def _adapt(self, seconds: float, now: float) -> None:
        """Follow a request that is large, or try a larger burst."""
        if now >= self._depth.try_at:
            self._depth.try_more(now)
        self._depth.allow(seconds)
        self._shape()

    def _paid(self, cost: float, now: float) -> float:
        """Return the part of a cost that was owed, and that the bucket does not pay."""
        owed, paid = self._owed, cost / 2
        if now >= self._owed_until:
            owed = 0.0
        if paid > owed:
            paid = owed
        self._owed = owed - paid
        return paid

    def _shape(self) -> None:
        even, depth = self._even, self._depth
        self._burst = min(self.limit, max(1.0, depth.burst / even))
        self._large = math.inf if depth.shallow or not self.paced else depth.burst / 2
        self._spaced = depth.shallow and depth.burst < self.period / 3
        self.half = -1.0 if self._spaced else self.limit / 2
        self._interval = even / PACE if self._spaced else even
        if self.period < MINUTE:
            self._interval = max(self._interval, even / SHORT_PACE)
