"""When a second attempt may be sent: after which time, and how often.

The delay is either given, or it is a quantile of the times that first attempts took. Both kinds of
time are known of *every* first attempt: one that lost against its hedge counts with the time at
which it was cut off. Without those, each hedge would remove a long time from the sketch, and the
delay would shrink until everything is hedged.

The budget is a token bucket: each attempt that is sent adds a share, each hedge takes out one. With
0.05 and n attempts, at most ``10 + 0.05 * n`` hedges are sent, whatever the server does: when all
of its answers are late, a second attempt for each of them would double its load. All partitions
share one budget. If each had its own, ten hedges for each of many small partitions, such as one for
each user, would be no bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..core import bounds
from ..core.shared import Shared
from ..errors import ConfigurationError
from .latencies import Latencies

CAPACITY = 10.0
"""Hedges that can be saved up; also the starting balance."""


@dataclass(frozen=True, slots=True)
class HedgeStatistics:
    """A snapshot of the hedges of one partition.

    Attributes:
        delay: seconds after which a second attempt is sent; None while that is being learned.
        sent: the second attempts that were sent.
        won: those of them that answered first.
        skipped: those that were due and not sent: the budget was empty, or there was no room.
        balance: the hedges that may be sent now, of all partitions together.
    """

    delay: float | None
    sent: int
    won: int
    skipped: int
    balance: float


class HedgeBudget(Shared):
    """A token bucket that limits hedges to a share of the attempts.

    Args:
        share: hedges per attempt that is sent, in (0, 1].

    Raises:
        ConfigurationError: the share is out of its range.

    State: shared by all partitions of a `Hedge`. It has no instants, so any loop may use it.
    """

    __slots__ = ("balance", "share")

    def __init__(self, share: float) -> None:
        self.share = bounds.share(share, "budget, in hedges per attempt,")
        self.balance = CAPACITY

    @property
    def has_room(self) -> bool:
        """Whether a hedge may be sent."""
        return self.balance >= 1.0 - 1e-9  # twenty deposits of 0.05 may add up to a little less

    def deposit(self) -> None:
        """Add the share for an attempt that was sent."""
        self.balance = min(CAPACITY, self.balance + self.share)

    def withdraw(self) -> bool:
        """Take out one hedge, which is sent now; return False if the budget is empty."""
        if not self.has_room:
            return False
        self.balance = max(0.0, self.balance - 1.0)
        return True


class Hedging(Shared):
    """Decides when a late attempt gets a second one beside it.

    Args:
        after: seconds, above 0; or a quantile, from ``"p50"`` to ``"p99.9"``.
        budget: how many hedges there may be.

    Raises:
        ConfigurationError: `after` is out of its range.

    Attributes:
        budget: as given.
        latencies: the times of first attempts; None if the delay is given.

    State: per partition, of all calls of the layers that share it.
    """

    __slots__ = ("__weakref__", "_seconds", "budget", "latencies", "sent", "skipped", "won")

    def __init__(self, after: float | str, budget: HedgeBudget) -> None:
        self._seconds, share = seconds_or_share(after)
        self.budget = budget
        self.latencies = None if share is None else Latencies(share)
        self.sent = self.won = self.skipped = 0

    @property
    def delay(self) -> float | None:
        """The seconds after which a second attempt is due; None while they are being learned."""
        return self._seconds if self.latencies is None else self.latencies.quantile

    def withdraw(self) -> bool:
        """Take out one hedge, which is sent now; return False if the budget is empty."""
        taken = self.budget.withdraw()
        self.sent += taken
        return taken

    @property
    def busy(self) -> bool:
        """Always False: nothing is held that only its own loop can give back."""
        return False

    def abandon(self) -> None:
        """Do nothing: nothing is held."""

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        if self.latencies is not None:
            self.latencies.rebase(seconds)

    def in_use(self, _: float) -> bool:
        """Return False: `Keyed` may drop it, and then learns its delay again."""
        return False

    def idle(self, _: float) -> bool:
        """Whether dropping it loses nothing."""
        return self.latencies is None or self.latencies.empty

    def statistics(self) -> HedgeStatistics:
        """Return a frozen snapshot."""
        return HedgeStatistics(self.delay, self.sent, self.won, self.skipped, self.budget.balance)


def seconds_or_share(after: object) -> tuple[float | None, float | None]:
    """Return the seconds, or the share of a quantile; the other one is None.

    Raises:
        ConfigurationError: `after` is neither.
    """
    if not isinstance(after, str):
        what = 'after, a quantile such as "p95" or a time in seconds,'
        return bounds.positive(after, what), None
    named = re.fullmatch(r"p(\d\d(?:\.\d)?)", after, re.ASCII)
    if named is None or float(named[1]) < 50:
        raise ConfigurationError(
            f'after takes seconds, or a quantile from "p50" to "p99.9"; got {bounds.shown(after)}'
        )
    return None, float(named[1]) / 100
