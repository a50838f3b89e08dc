"""A limit on the retries of all calls together, as a share of their first attempts.

``max_attempts`` limits one call. When everything fails at once, every call still multiplies the
load. A budget limits the *sum*: each first attempt adds a fraction, each retry takes out one. See
Finagle's ``RetryBudget``, and Google's SRE book, chapter "Handling Overload".
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import bounds
from ..core.shared import Shared


@dataclass(frozen=True, slots=True)
class RetryBudgetStatistics:
    """A snapshot: the retries that may be made now, those made so far, and those denied so far."""

    balance: float
    withdrawn: int
    denied: int


class RetryBudget(Shared):
    """A token bucket that limits retries to a share of the first attempts.

    Over any T seconds with N first attempts, at most ``capacity + ratio * N + minimum_per_second *
    T`` retries are allowed.

    Args:
        ratio: retries added per first attempt that is sent, from 0; 0.2 adds at most a fifth to the
            load in an outage.
        minimum_per_second: retries added per second, from 0; 1, so that a small program can still
            retry.
        capacity: retries that can be saved up, at least 1; also the starting balance; 10.

    Raises:
        ConfigurationError: a value is out of its range.

    State: shared by every `Retry` that is given the object.
    """

    __slots__ = ("__weakref__", "_balance", "_denied", "_updated", "_withdrawn", "capacity",
                 "minimum_per_second", "ratio")  # fmt: skip

    def __init__(
        self, ratio: float = 0.2, minimum_per_second: float = 1.0, capacity: float = 10.0
    ) -> None:
        bounds.at_least(ratio, 0, "a budget's ratio")
        bounds.at_least(minimum_per_second, 0, "a budget's minimum_per_second")
        bounds.at_least(
            capacity, 1, "a budget's capacity, in retries, without which none is allowed,"
        )
        self.ratio = ratio
        self.minimum_per_second = minimum_per_second
        self.capacity = capacity
        self._balance = float(capacity)
        self._updated: float | None = None
        self._withdrawn = 0
        self._denied = 0

    @property
    def busy(self) -> bool:
        """Always False: a budget holds nothing that only its own loop can give back."""
        return False

    def deposit(self, now: float) -> None:
        """Add the share for a first attempt that was sent."""
        self._refill(now)
        self._balance = min(self.capacity, self._balance + self.ratio)

    def withdraw(self, now: float) -> bool:
        """Take out one retry; return False if the budget is empty."""
        self._refill(now)
        # Ten deposits of 0.1 add up to 0.9999999999999999, which must count as one retry.
        if self._balance < 1.0 - 1e-9:
            self._denied += 1
            return False
        self._balance = max(0.0, self._balance - 1.0)
        self._withdrawn += 1
        return True

    def abandon(self) -> None:
        """Do nothing: a budget holds nothing."""

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instant, because the clock has changed."""
        if self._updated is not None:
            self._updated += seconds

    def statistics(self) -> RetryBudgetStatistics:
        """Return a frozen snapshot, as of the last deposit or withdrawal."""
        return RetryBudgetStatistics(self._balance, self._withdrawn, self._denied)

    def _refill(self, now: float) -> None:
        if self._updated is not None and now > self._updated:
            earned = (now - self._updated) * self.minimum_per_second
            self._balance = min(self.capacity, self._balance + earned)
        self._updated = now

    def __repr__(self) -> str:
        return (
            f"RetryBudget(ratio={self.ratio}, minimum_per_second={self.minimum_per_second}, "
            f"capacity={self.capacity})"
        )
