"""When a process calls the store: the beat.

A beat costs a round trip and some 60 us of the one thread that Redis has. So it is as fast as the
process sends, within bounds: at 100 attempts a second a call each 0.5 s is nothing, at one a minute
it is a waste. There are five cases:

1. *Usually* a process calls once for three attempts, each 0.5 to 5 s.
2. *A share became smaller, or there was none.* Others wait for it, or its own calls do: the next
   beat comes as soon as it may, if some calls were saved.
3. *More than twice as many calls wait as at the last beat*: the same.
4. *Nothing is sent or waits.* There is one more beat, to say so; then none until a call comes.
5. *The store does not answer.* It is asked again, at first soon and then less often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .member import DEFAULT, Member, SharesTuning


class Pulse:
    """Decides when the next beat is due.

    Args:
        tuning: the numbers of shared limits.

    Attributes:
        due: the loop time of the next beat; None if there is nothing to say.
        last: the loop time of the last one.
        saved: the calls that it may make before their time.
        interval: the seconds between two beats at present.
        failures: how many beats in a row were not answered.
        lost_at: when the first of these was sent; None while the store answers.

    State: one per process.
    """

    __slots__ = ("_elapsed", "_tuning", "due", "failures", "interval", "last", "lost_at", "saved")

    def __init__(self, tuning: SharesTuning = DEFAULT) -> None:
        self._tuning = tuning
        self.due: float | None = None
        self.last, self.interval, self.failures = -math.inf, tuning.fastest, 0
        self.lost_at: float | None = None
        self.saved, self._elapsed = tuning.most_saved, 0.0

    @property
    def lease(self) -> float:
        """Seconds for which a share is asked: at least three beats."""
        return max(self._tuning.lease, 3 * self.interval)

    def hasten(self, now: float) -> None:
        """Beat as soon as the last beat allows."""
        soon = max(now, self.last + self._tuning.fastest)
        if self.due is None or (soon < self.due and not self.failures and self.saved >= 1.0):
            self.due = soon

    def sent(self, now: float) -> None:
        """Note that a beat was sent."""
        self._elapsed = min(now - self.last, self._tuning.slowest)
        self.last, self.due = now, None
        self.saved = max(0.0, self.saved - 1.0)

    def answered(self, members: Sequence[Member], now: float) -> None:
        """Plan the next beat, after one that was answered."""
        tuning = self._tuning
        self.failures, self.lost_at = 0, None
        calls = tuning.calls_per_send * sum(each.demand.sends for each in members)
        slow = 1.0 / calls if calls > 0.0 else tuning.slowest
        self.saved = min(tuning.most_saved, self.saved + calls * self._elapsed)
        if self.saved >= 1.0 and any(each.changes for each in members):
            slow = tuning.fastest
        crowd = max((each.members for each in members), default=0) / tuning.calls_of_all
        self.interval = min(tuning.slowest, max(tuning.fastest, slow, crowd))
        busy = any(each.share > 0.0 or each.demand.is_busy for each in members)
        if busy or self.due is not None:  # it may have been hastened meanwhile
            due = max(now, self.last + self.interval)
            self.due = due if self.due is None else min(due, self.due)

    def failed(self, now: float, u: float) -> None:
        """Plan the next beat, after one that was not answered; `u` is a random number in [0, 1)."""
        if self.lost_at is None:
            self.lost_at = self.last
        self.failures += 1
        least, most = self._tuning.fastest, self._tuning.slowest / 2
        wait = min(most, least * 2 ** min(self.failures - 1, 30))
        self.due = max(now, self.last + least) + wait * u

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self.last += seconds
        if self.due is not None:
            self.due += seconds
        if self.lost_at is not None:
            self.lost_at += seconds
