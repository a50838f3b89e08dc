"""Percentiles of any number of times in little memory."""

from __future__ import annotations

import math
from collections import Counter

SMALLEST = 1e-3
"""Seconds; shorter times count as this."""

STEP = math.log(1.05)
"""Each bin is 5 % wider than the one before, so a percentile is off by half of that at most."""


class Histogram:
    """Counts of times in bins of growing width.

    State: its own; at most a few hundred bins.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._bins: Counter[int] = Counter()
        self.total = 0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self._bins[round(math.log(max(seconds, SMALLEST) / SMALLEST) / STEP)] += 1
        self.total += 1

    def percentile(self, share: float) -> float | None:
        """Return the time that a share of all are not above, or None if there are none.

        Args:
            share: in (0, 1].
        """
        left = share * self.total
        for each in sorted(self._bins):
            left -= self._bins[each]
            if left <= 1e-9:
                return SMALLEST * math.exp(each * STEP)
        return None
