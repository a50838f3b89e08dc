"""A share of the limits of an allowance that other processes use too.

It ends at an instant, so that a process that was frozen sends nothing with a share that others may
have by now. `fits` of the allowance asks whether it is over, and `ready_at` when to ask again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from .window import Window

AGAIN = 0.5
"""Seconds after which to look again for a new share, at least."""

LEAST = 1e-6
"""The smallest share at which sends are paced; with less, there are none."""


class Lease:
    """A share, and until when it may be used.

    Args:
        share: the part of the limits at which sends are paced, from 0 to 1.
        part: returns the part of its limit that a window which ends now may have.
        until: the loop time at which it ends.
        asks_at: the loop time by which a new one may be there.

    State: inside the `Rates` that it is given to.
    """

    __slots__ = ("asks_at", "part", "share", "until")

    def __init__(
        self, share: float, part: Callable[[Window], float], until: float, asks_at: float
    ) -> None:
        self.share, self.part = share, part
        self.until = until if share > LEAST else -math.inf
        self.asks_at = asks_at

    def divide(self, windows: Iterable[Window], now: float) -> None:
        """Let windows use the share from now on."""
        for each in windows:
            each.lease(max(LEAST, self.share), self.part(each), now)

    def is_over(self, now: float) -> bool:
        """Whether nothing may be sent with it."""
        if now < self.until:
            return False
        self.until, self.asks_at = -math.inf, max(self.asks_at, now + AGAIN)
        return True

    def ready_at(self) -> float:
        """Return the loop time from which something may be sent, as far as is known."""
        return self.asks_at if self.until == -math.inf else -math.inf

    def rebase(self, seconds: float) -> None:
        """Move the stored instants by `seconds`, to follow another clock."""
        self.until += seconds
        self.asks_at += seconds
