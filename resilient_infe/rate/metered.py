"""A rate whose costs are estimates, corrected once the real ones are known: tokens.

A bucket alone forgets *when* a cost was taken, so one that is given back a minute later would let
that much more into a later window. A `Metered` bucket notes in its `Ledger` what was taken when,
and a cost fits only if both the bucket and the ledger have room for it.
"""

from __future__ import annotations

from .bucket import Bucket
from .ledger import Ledger


class Metered(Bucket):
    """At most `limit` units in any window of `period` seconds, as they really cost.

    Args:
        limit: units per period, above 0.
        period: seconds, above 0.
        burst: units that can come at once, or None for one second's worth; see `Bucket`.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("ledger",)

    def __init__(self, limit: float, period: float, burst: float | None = None) -> None:
        """Start full, with nothing spent."""
        super().__init__(limit, period, burst)
        self.ledger = Ledger(period)

    def ready_at(self, cost: float) -> float:
        """Return the instant from which `cost` fits."""
        # An over-size cost may go into debt here too, so it counts like one of the burst.
        room = self.ledger.room_at(min(cost, self.burst), self.limit)
        return max(super().ready_at(cost), room)

    def take(self, cost: float, now: float) -> None:
        """Take `cost` out, of the credit first, and into debt if need be."""
        Bucket.take(self, cost, now)  # by name: `super()` costs as much as the rest, on each send
        ledger = self.ledger
        if now >= ledger.end:
            ledger.move(now)
        ledger.newest[1] += cost
        ledger.total += cost

    def correct(self, extra: float, taken_at: float, now: float) -> None:
        """Charge `extra` more than was taken at an instant, or put back a negative one.

        What is above a full bucket is kept as credit. Without it, estimates larger than the burst
        would waste most of the rate: such a cost is only taken from a full bucket, to which nothing
        can be put back. How much that may let into one window is the `Ledger`'s to bound.
        """
        ledger = self.ledger
        taken = ledger.newest
        if taken[0] <= taken_at and taken[1] >= -extra:  # as most are
            taken[1] += extra
            ledger.total += extra
        else:
            ledger.correct(extra, taken_at)
        if extra >= 0.0:
            super().take(extra, now)
            return
        credit = self.credit - extra
        # From now at the earliest: what came in beyond full while idle is no over-estimate.
        missing = self.full_at - now
        if missing > 0.0:
            missing *= self._refill
            if missing + extra >= 0.0:
                self.full_at += extra / self._refill
                return
            credit -= missing
        if credit > self.burst and credit > -extra:
            credit = max(self.burst, -extra)
        self.credit = credit
        self.full_at = now

    def untouched(self, now: float) -> bool:
        """Whether nothing is spent."""
        return super().untouched(now) and self.ledger.spent(now) <= 0.0

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`."""
        super().rebase(seconds)
        self.ledger.rebase(seconds)
