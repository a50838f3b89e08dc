"""The shared gate: when the server asks one sender to wait, all senders of its partition wait.

Each correction (the gate closed, or the rate slowed) starts a new *epoch*. A request that was sent
before the last correction cannot know of it, so its rejection tells nothing new: sixty-four
requests in flight that are all rejected are one piece of news, not sixty-four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateClosed:
    """The gate was closed for `delay` seconds, because of `reason`."""

    delay: float
    reason: str


class Gate:
    """When sending may go on, and since when rejections are news.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("corrected_at", "reason", "until")

    def __init__(self) -> None:
        """Start open."""
        self.until = -math.inf
        self.corrected_at = -math.inf
        self.reason: str | None = None

    def is_news(self, sent_at: float) -> bool:
        """Whether a rejection of a request sent at that instant may correct anything."""
        return sent_at >= self.corrected_at

    def close(self, until: float, sent_at: float, now: float, reason: str) -> bool:
        """Close until an instant; True if that is news and later than what held before."""
        # Two limits that one response states are corrected in one instant: the later one holds.
        news = self.is_news(sent_at) or now == self.corrected_at
        if not news or until <= max(self.until, now):
            return False
        self.until = until
        self.reason = reason
        self.corrected_at = now
        return True

    def left(self, now: float) -> float:
        """Return the seconds until it opens, 0 when open."""
        return max(0.0, self.until - now)

    def rebase(self, seconds: float) -> None:
        """Move every stored instant by `seconds`."""
        self.until += seconds
        self.corrected_at += seconds
