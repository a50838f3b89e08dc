"""A bound on retries that no single call can see: a share of all calls.

``max_attempts`` bounds one call; when everything fails at once, it still multiplies the load by
itself. A budget bounds the *sum*: each first attempt pays in a fraction, each retry takes out one.
See the Finagle ``RetryBudget`` and Google's SRE book, chapter "Handling Overload".
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import bounds


@dataclass(frozen=True, slots=True)
class RetryBudgetStatistics:
    """A snapshot: the retries that may be made now, those made and those denied so far."""

    balance: float
    withdrawn: int
    denied: int


class RetryBudget:
    """A token bucket that bounds retries to a share of first attempts.

    Over any span of T seconds with N first attempts, at most
    ``capacity + ratio * N + minimum_per_second * T`` retries are allowed.

    Args:
        ratio: retries earned per first attempt that is sent, from 0; 0.2 adds at most a fifth to
            the load in an outage.
        minimum_per_second: retries earned by time alone, from 0, so that a small program can
            still retry; 1.
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
        """Start full."""
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
        """Whether something is held that only its own loop can give back: never."""
        return False

    def deposit(self, now: float) -> None:
        """Note that a first attempt was sent."""
        self._refill(now)
        self._balance = min(self.capacity, self._balance + self.ratio)

    def withdraw(self, now: float) -> bool:
        """Take out one retry; False when the budget is empty."""
        self._refill(now)
        # Ten deposits of 0.1 make 0.9999999999999999: that is one retry.
        if self._balance < 1.0 - 1e-9:
            self._denied += 1
            return False
        self._balance = max(0.0, self._balance - 1.0)
        self._withdrawn += 1
        return True

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`, to follow another clock."""
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
        """Show how it was made."""
        return (
            f"RetryBudget(ratio={self.ratio}, minimum_per_second={self.minimum_per_second}, "
            f"capacity={self.capacity})"
        )
