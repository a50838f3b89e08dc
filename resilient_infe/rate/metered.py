"""A token bucket whose costs are estimates that are corrected later: the bucket for tokens.

A call is charged its estimated tokens when it is sent, and corrected when its real cost is known.
There are two cases:

1. The call cost more. The difference is taken from the bucket, which may go into debt, so later
   calls wait.
2. The call cost less. The difference is put back. What does not fit into the bucket becomes credit,
   and later calls take that first.

Case 2 lets calls go faster than the refill, so the bucket alone no longer bounds a window. Take
60,000 tokens a minute, so a burst of 1,000. A call estimated at 900 is sent at 0 s, and 800 of that
come back at 30 s. The refill has made the bucket full by 1 s, so between 1 s and 61 s it admits
60,000 by its own rule, and 800 more because of the correction.

The `Ledger` is the bound for this case. It adds up what the last window really cost, and a cost
fits only if both the bucket and the ledger have room for it. So a correction changes when calls are
sent, but no window exceeds the limit. There are two exceptions: calls in flight that were
under-estimated, and the debt of one call above the burst.
"""

from __future__ import annotations

from .bucket import Bucket
from .ledger import Ledger


class Metered(Bucket):
    """At most `limit` units in any window of `period` seconds, counted by their real cost.

    Args:
        limit: units per period, above 0.
        period: seconds, above 0.
        burst: units that can be taken at once; None for one second of the rate. See `Bucket`.

    Attributes:
        ledger: the costs of the last period, each where it was taken.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("ledger",)

    def __init__(self, limit: float, period: float, burst: float | None = None) -> None:
        super().__init__(limit, period, burst)
        self.ledger = Ledger(period)

    def ready_at(self, cost: float) -> float:
        """Return the loop time from which `cost` fits in the bucket and in the ledger."""
        # A cost above the burst may exceed the limit here too, so it needs room for a burst only.
        room = self.ledger.room_at(min(cost, self.burst), self.limit)
        return max(super().ready_at(cost), room)

    def empty_at(self) -> float:
        """Return the loop time from which a whole period has cost nothing."""
        return max(self.full_at, self.ledger.room_at(self.limit, self.limit))

    def take(self, cost: float, now: float) -> None:
        """Take `cost`, from the credit first; the level may become negative."""
        Bucket.take(self, cost, now)  # `super()` would double the cost of this method
        ledger = self.ledger
        if now >= ledger.end:
            ledger.move(now)
        ledger.newest[1] += cost
        ledger.total += cost

    def correct(self, extra: float, taken_at: float, now: float) -> None:
        """Correct a cost that was taken at `taken_at`: take `extra`, or put back a negative one.

        Units above a full bucket are kept as credit. Without credit, estimates above the burst
        would waste most of the rate: such a cost is taken from a full bucket, and once that is full
        again nothing can be put back. The ledger bounds what the credit admits.

        Args:
            extra: the real cost minus the cost that was taken.
            taken_at: the loop time at which the cost was taken.
            now: the current loop time.
        """
        ledger = self.ledger
        newest = ledger.newest
        if newest[0] <= taken_at and newest[1] >= -extra:  # the usual case: in the newest slice
            newest[1] += extra
            ledger.total += extra
        else:
            ledger.correct(extra, taken_at)
        if extra >= 0.0:
            super().take(extra, now)
            return
        # Put back -extra units. There are three cases:
        # 1. At least that many are missing from a full bucket: all go into the bucket.
        # 2. Fewer are missing: they fill the bucket, and the rest becomes credit.
        # 3. None is missing: all become credit. The time since `full_at` adds nothing to it.
        credit = self.credit - extra
        until_full = self.full_at - now
        if until_full > 0.0:
            missing = until_full * self._refill
            if missing + extra >= 0.0:
                self.full_at += extra / self._refill
                return
            credit -= missing
        # Credit does not pile up: it is at most a burst, or this one correction if that is larger.
        if credit > self.burst and credit > -extra:
            credit = max(self.burst, -extra)
        self.credit = credit
        self.full_at = now

    def untouched(self, now: float) -> bool:
        """Whether the bucket is full and the last period cost nothing."""
        return super().untouched(now) and self.ledger.spent(now) <= 0.0

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        super().rebase(seconds)
        self.ledger.rebase(seconds)
