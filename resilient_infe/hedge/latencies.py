"""A sketch of how long answers took lately: quantiles of a sliding window, in little memory.

A time goes into a bucket whose upper edge is 1.04 times its lower one. A quantile is the upper edge
of a bucket. So it is at most 4 % too high, and above the times in the bucket: where all answers
take the same time, none of them is late. Times from 100 ms to a minute need some 160 buckets.

There are two generations of buckets. When the younger one is old enough, the elder one is
forgotten.
"""

from __future__ import annotations

import math
from collections import Counter

GROWTH = math.log(1.04)
"""The logarithm of the upper edge of a bucket divided by its lower edge."""

SHORTEST = 1e-4
"""Seconds: shorter times count as this."""

WINDOW = 300.0
"""Seconds that a generation is young: times of the last 5 to 10 minutes count."""

LEAST = 100
"""The times without which there is no quantile: 5 of them are above the p95. A generation with
fewer is not closed, so a partition with little traffic remembers more than 10 minutes.
"""

REFRESH = 16
"""The times after which a quantile is computed again."""


class Latencies:
    """The times of the last minutes, and one quantile of them.

    Args:
        share: the share of the times that the quantile is not below, in (0, 1); 0.95 is the p95.

    Attributes:
        quantile: seconds; None while there are fewer than 100 times.

    State: per partition.
    """

    __slots__ = ("_elder", "_pending", "_since", "_younger", "quantile", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self.quantile: float | None = None
        self._elder: Counter[int] = Counter()
        self._younger: Counter[int] = Counter()
        self._since: float | None = None
        self._pending = 0

    @property
    def empty(self) -> bool:
        """Whether there is no time."""
        return self._since is None

    def record(self, seconds: float, now: float) -> None:
        """Add a time.

        Args:
            seconds: how long an answer took. Of an attempt that was cut off because it was late, it
                is the time until then: that is above the quantile, and no more matters.
            now: the loop time, in seconds.
        """
        if self._since is None:
            self._since = now
        if now - self._since >= WINDOW and self._younger.total() >= LEAST:
            self._elder, self._younger = self._younger, Counter()
            self._since, self._pending = now, REFRESH
        self._younger[1 + math.floor(math.log(max(seconds, SHORTEST)) / GROWTH)] += 1
        self._pending += 1
        if self._pending >= REFRESH:
            self._pending = 0
            self.quantile = self._computed()

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instant, because the clock has changed."""
        if self._since is not None:
            self._since += seconds

    def _computed(self) -> float | None:
        counts = self._elder + self._younger
        total = counts.total()
        if total < LEAST:
            return None
        rest = self.share * total
        for bucket in sorted(counts):
            rest -= counts[bucket]
            if rest <= 1e-9 * total:
                return math.exp(bucket * GROWTH)
        raise AssertionError("unreachable")
