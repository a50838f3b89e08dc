"""The rate limits of the stand-in, as real servers apply them; pure functions of `now`."""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

Style = Literal["bucket", "fixed", "sliding"]
"""How a limit is applied: a token bucket, a fixed window, or a sliding window."""


class ServerLimit(Protocol):
    """One limit in one dimension (requests or tokens).

    Attributes:
        limit: units per period.
    """

    limit: float

    def fits(self, cost: float, now: float) -> bool:
        """Whether `cost` may be taken now."""
        ...

    def take(self, cost: float, now: float) -> None:
        """Take `cost`, even if it does not fit."""
        ...

    def remaining(self, now: float) -> float:
        """Return the units that are left."""
        ...

    def reset(self, now: float) -> float:
        """Return the seconds until the whole limit is available again."""
        ...

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` fits."""
        ...

    def resize(self, limit: float, now: float) -> None:
        """Apply another limit from now on; what was spent stays spent."""
        ...


class BucketLimit:
    """A token bucket: it refills evenly, and its size is `burst` seconds of the rate."""

    def __init__(self, limit: float, period: float, burst: float) -> None:
        self._period, self._burst = period, burst
        self._shape(limit)
        self._level = self._size
        self._updated = 0.0

    def fits(self, cost: float, now: float) -> bool:
        """Whether `cost` may be taken now; a cost above the bucket's size fits a full bucket."""
        # The tolerance is for arrivals that are spaced exactly at the rate: rounding must not fail
        # them.
        return self._fill(now) >= min(cost, self._size) - 1e-6

    def take(self, cost: float, now: float) -> None:
        """Take `cost`; the level may become negative."""
        self._level = self._fill(now) - cost

    def remaining(self, now: float) -> float:
        """Return the level, at least 0."""
        return max(0.0, self._fill(now))

    def reset(self, now: float) -> float:
        """Return the seconds until it is full."""
        return (self._size - self._fill(now)) / self._rate

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until `cost` fits."""
        return max(0.0, (min(cost, self._size) - self._fill(now)) / self._rate)

    def resize(self, limit: float, now: float) -> None:
        """Refill at another rate; a smaller bucket loses what it cannot hold."""
        self._fill(now)
        self._shape(limit)

    def _shape(self, limit: float) -> None:
        self.limit = limit
        self._rate = limit / self._period
        self._size = max(1.0, self._rate * self._burst)

    def _fill(self, now: float) -> float:
        self._level = min(self._size, self._level + max(0.0, now - self._updated) * self._rate)
        self._updated = max(self._updated, now)
        return self._level


class FixedWindow:
    """A fixed window: the limit is per period of the clock."""

    def __init__(self, limit: float, period: float) -> None:
        self.limit = limit
        self._period = period
        self._window = 0.0
        self._used = 0.0

    def fits(self, cost: float, now: float) -> bool:
        """Whether the window has room; a cost above the limit fits an empty window."""
        self._turn(now)
        return self._used == 0 or self._used + cost <= self.limit

    def take(self, cost: float, now: float) -> None:
        """Count `cost` in the current window."""
        self._turn(now)
        self._used += cost

    def remaining(self, now: float) -> float:
        """Return the room in the current window."""
        self._turn(now)
        return max(0.0, self.limit - self._used)

    def reset(self, now: float) -> float:
        """Return the seconds until the next window."""
        self._turn(now)
        return (self._window + 1) * self._period - now

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until the next window, or 0 if `cost` fits the current one."""
        return 0.0 if self.fits(cost, now) else self.reset(now)

    def resize(self, limit: float, now: float) -> None:
        """Apply another limit to the current window and to later ones."""
        self._turn(now)
        self.limit = limit

    def _turn(self, now: float) -> None:
        window = now // self._period
        if window != self._window:
            self._window, self._used = window, 0.0


class SlidingWindow:
    """A sliding window: the limit is for the last period, counted back from now."""

    def __init__(self, limit: float, period: float) -> None:
        self.limit = limit
        self._period = period
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def fits(self, cost: float, now: float) -> bool:
        """Whether the window has room; a cost above the limit fits an empty window."""
        self._forget(now)
        return not self._log or self._used + cost <= self.limit

    def take(self, cost: float, now: float) -> None:
        """Add `cost` to the log."""
        self._forget(now)
        self._log.append((now, cost))
        self._used += cost

    def remaining(self, now: float) -> float:
        """Return the room in the window."""
        self._forget(now)
        return max(0.0, self.limit - self._used)

    def reset(self, now: float) -> float:
        """Return the seconds until the newest entry of the log leaves the window."""
        self._forget(now)
        return self._log[-1][0] + self._period - now if self._log else 0.0

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until enough of the log has left the window."""
        self._forget(now)
        room = self.limit - self._used
        for at, spent in self._log:
            if room >= cost:
                break
            room += spent
            if room >= cost:
                return at + self._period - now
        return 0.0

    def resize(self, limit: float, now: float) -> None:
        """Apply another limit from now on."""
        self._forget(now)
        self.limit = limit

    def _forget(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - self._period:
            self._used -= self._log.popleft()[1]


def make_limit(style: Style, limit: float, period: float, burst: float) -> ServerLimit:
    """Return a limit of the given style; `burst` is in seconds, and only a bucket uses it."""
    if style == "bucket":
        return BucketLimit(limit, period, burst)
    return FixedWindow(limit, period) if style == "fixed" else SlidingWindow(limit, period)
