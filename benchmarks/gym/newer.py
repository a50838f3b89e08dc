"""Two newer ways, written anew from what is published of them, with their own constants."""

from __future__ import annotations

import math

from .rivals import Paced
from .servers import Answer


class Nopanic(Paced):
    """The adaptive rate limit of nopanic 0.3: AIMD on a token bucket of a second.

    It begins at the rate that it is given, which is also the most, and keeps a tenth of it at
    least. Each success adds 0.1 a second, each 429 halves the rate, and a hint blocks all senders,
    for 60 s at most.

    Args:
        most: requests per second to begin with.
    """

    INCREASE, DECREASE, LEAST, LONGEST_BLOCK = 0.1, 0.5, 0.1, 60.0

    def __init__(self, most: float) -> None:
        """Begin with a full bucket."""
        super().__init__(most)
        self._most = most
        self._tokens, self._at = max(1.0, most), 0.0
        self._blocked_until = -math.inf

    def _fill(self, now: float) -> None:
        self._tokens = min(max(1.0, self.rate), self._tokens + (now - self._at) * self.rate)
        self._at = now

    def ready_at(self, now: float, cost: float) -> float:
        """Return when a token is there, and no hint blocks."""
        self._fill(max(now, self._at))
        missing = max(0.0, 1.0 - 1e-9 - self._tokens)
        return max(self._at + missing / self.rate, self._blocked_until)

    def sent(self, now: float, cost: float) -> float:
        """Take a token."""
        self._fill(now)
        self._tokens -= 1.0
        return now

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Grow, or halve and block."""
        self._fill(max(now, self._at))
        if answer.accepted:
            self.rate = min(self._most, self.rate + self.INCREASE)
            return
        self.rate = max(self._most * self.LEAST, self.rate * self.DECREASE)
        if answer.retry_after is not None:
            block = min(answer.retry_after, self.LONGEST_BLOCK)
            self._blocked_until = max(self._blocked_until, now + block)


class Polars(Paced):
    """The learned rate of the cloud reader of Polars 0.55: a search, a cut, and a probe.

    From 1,000 a second the rate doubles each second in which 80 % of it were used and nothing was
    refused. A 429 cuts it to 0.7 of what passed of late (smoothed by 0.8 a second; to half, if that
    is not known), once a second at most. After 2 s it doubles up to what passed then, and from
    there a tenth of that, or 5, is added each second. It is never below 10 a second, and hints are
    left to the store's retries.
    """

    START, LEAST, MOST = 1_000.0, 10.0, 50_000.0
    SATURATED, SMOOTHING, QUIET = 0.8, 0.8, 2.0
    CUT, BLIND_CUT, PROBE, LEAST_PROBE = 0.7, 0.5, 0.1, 5.0

    def __init__(self) -> None:
        """Begin to search."""
        super().__init__(self.START)
        self._passing: float | None = None
        self._anchor: float | None = None
        self._cut_at = -math.inf
        self._second: float | None = None
        self._sent = self._passed = self._refused = 0

    def sent(self, now: float, cost: float) -> float:
        """Count it."""
        self._sent += 1
        self._second = now if self._second is None else self._second
        return super().sent(now, cost)

    def answered(self, now: float, ticket: float, answer: Answer) -> None:
        """Settle each second; cut at a 429."""
        self._passed += answer.accepted
        self._refused += not answer.accepted
        elapsed = now - (self._second or 0.0)
        if elapsed >= 1.0:
            self._settle(now, elapsed)
        if not answer.accepted and now - self._cut_at >= 1.0:
            passing = self._passing
            known = self.rate if passing is None else min(self.rate, max(passing, self.LEAST))
            cut = self.BLIND_CUT if passing is None else self.CUT
            self.rate = max(known * cut, self.LEAST)
            self._anchor, self._cut_at = known, now

    def _settle(self, now: float, elapsed: float) -> None:
        if self._passed:
            fresh, old = self._passed / elapsed, self._passing
            self._passing = fresh if old is None else old + self.SMOOTHING * (fresh - old)
        anchor, used = self._anchor, self._sent >= self.SATURATED * self.rate * elapsed
        if used and anchor is None and not self._refused:
            self.rate = min(2.0 * self.rate, self.MOST)
        elif used and anchor is not None and now - self._cut_at > self.QUIET:
            if self.rate < anchor:
                self.rate = min(2.0 * self.rate, anchor)
            else:
                self.rate = min(self.rate + max(self.PROBE * anchor, self.LEAST_PROBE), self.MOST)
        self._second, self._sent, self._passed, self._refused = now, 0, 0, 0
