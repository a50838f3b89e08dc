"""The shared gate: when the server asks one sender to wait, all senders of its partition wait.

Closing the gate starts a new *epoch*. A rejection is new evidence only if its request was sent in
the current epoch. A request that was sent earlier could not take the closed gate into account, so
its rejection is ignored.

For example, 64 requests are sent at 0 s and are rejected from 1 s on, each with a hint of 10 s. The
first rejection closes the gate until 11 s, and the new epoch starts at 1 s. The other 63 requests
were sent before that, so their rejections change nothing. A request that is sent at 11 s and
rejected may close the gate again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateClosed:
    """A record that the gate closed for `delay` seconds, because of `reason`."""

    delay: float
    reason: str


class Gate:
    """Holds all senders back until a certain time.

    Attributes:
        until: the loop time at which the gate opens; in the past if it is open.
        corrected_at: the loop time at which the current epoch started: the gate closed then.
        reason: a short text on why the gate closed last; None if it never closed.

    State: inside the `Allowance` that owns it.
    """

    __slots__ = ("corrected_at", "reason", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self.corrected_at = -math.inf
        self.reason: str | None = None

    def is_news(self, sent_at: float) -> bool:
        """Whether a request sent at `sent_at` belongs to the current epoch."""
        return sent_at >= self.corrected_at

    def close(self, until: float, sent_at: float, now: float, reason: str) -> bool:
        """Close the gate until loop time `until`.

        Args:
            until: the loop time at which the gate opens again.
            sent_at: the loop time at which the rejected request was sent.
            now: the current loop time.
            reason: a short text for statistics and events.

        Returns:
            True if the gate now opens later than before. False changes nothing: the request is of
            an earlier epoch, or the gate is closed until `until` already.
        """
        # One response can close the gate twice, by a hint and by a limit that it states. The first
        # of them starts an epoch at `now`, and the second must not be ignored because of that.
        news = self.is_news(sent_at) or now == self.corrected_at
        if not news or until <= max(self.until, now):
            return False
        self.until = until
        self.reason = reason
        self.corrected_at = now
        return True

    def left(self, now: float) -> float:
        """Return the seconds until the gate opens; 0 if it is open."""
        return max(0.0, self.until - now)

    def rebase(self, seconds: float) -> None:
        """Move every stored time by `seconds`, to follow another clock."""
        self.until += seconds
        self.corrected_at += seconds
