"""What was really spent in the last window, corrected when the real cost is known.

A bucket alone forgets *when* a cost was taken: a large estimate that is given back a minute later
would let that much more into a later window. The ledger notes each cost where it was taken, in
slices of the window, and corrects it there; so the sum over any window stays within the limit.
"""

from __future__ import annotations

import math
from collections import deque

SLICES = 240
"""Slices of a window; a quarter of a second of a minute."""


class Ledger:
    """Costs of the last window, by slice.

    Args:
        window: seconds, above 0.

    Attributes:
        newest: where the slice under way starts, and what was taken in it so far; one that never
            starts while there is none.
        end: when it ends; `move` on from then.
        total: what was taken in all of the window.

    State: inside the bucket that owns it.
    """

    __slots__ = ("_slice", "_slices", "end", "newest", "total", "window")

    def __init__(self, window: float) -> None:
        """Start empty."""
        self.window = window
        self.total = 0.0
        self._slice = window / SLICES
        self._slices: deque[list[float]] = deque()
        self.newest: list[float] = [math.inf, 0.0]
        self.end = -math.inf  # of the slice under way

    def add(self, cost: float, now: float) -> None:
        """Note a cost that is taken now."""
        if now >= self.end:
            self.move(now)
        self.newest[1] += cost
        self.total += cost

    def move(self, now: float) -> None:
        """Open the slice of an instant, and forget what has left the window."""
        self._forget(now)
        start = now // self._slice * self._slice
        self.newest = [start, 0.0]
        self._slices.append(self.newest)
        self.end = start + self._slice

    def correct(self, cost: float, taken_at: float) -> None:
        """Add to a cost that was taken at an instant, or take off it; one long gone stays gone."""
        for taken in reversed(self._slices):  # most of them were taken in the newest
            if taken[0] <= taken_at:
                # Never below nothing: what is given back was taken here.
                change = cost if cost > -taken[1] else -taken[1]
                taken[1] += change
                self.total += change
                break

    def room_at(self, cost: float, limit: float) -> float:
        """Return the instant from which `cost` fits under `limit`; in the past when it does."""
        excess = self.total + cost - limit
        # The sum of many floats is not exact: a millionth of the limit is no excess.
        if excess <= limit * 1e-6:
            return -math.inf
        for start, spent in self._slices:
            excess -= spent
            if excess <= limit * 1e-6:
                return start + self._slice + self.window
        return -math.inf

    def spent(self, now: float) -> float:
        """Return what counts at an instant."""
        self._forget(now)
        return self.total

    def within(self, start: float, end: float) -> float:
        """Return what was spent between two instants; parts of a slice count in proportion."""
        width, total = self._slice, 0.0
        for since, spent in self._slices:
            if (part := min(end, since + width) - max(start, since)) > 0:
                total += spent * part / width
        return total

    def rebase(self, seconds: float) -> None:
        """Follow another clock: what was spent counts from the start of its slice on that clock."""
        self.end += seconds
        for each in self._slices:
            each[0] += seconds

    def _forget(self, now: float) -> None:
        # A slice counts until its last instant has left the window.
        while self._slices and self._slices[0][0] + self._slice + self.window <= now:
            self.total -= self._slices.popleft()[1]
        if not self._slices:
            self.total = 0.0
            self.newest = [math.inf, 0.0]
            self.end = -math.inf
