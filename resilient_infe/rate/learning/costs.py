"""Tells whether a limit counts requests or tokens: by the sizes, and by the measures.

Where requests are counted, a large one is rejected as often as a small one. Where tokens are, there
is room for a small one when there is none for a large one. And who paces by tokens where requests
are counted sends too many of the small.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from ...core.verdict import Dimension

SMOOTHING = 0.01
"""How much of the latest request goes into the running mean and variance."""

ENOUGH = 6
"""Rejections before anything is told."""

SURE = 4.0
"""Standard errors by which what is rejected must differ: a chance of one in thirty thousand."""


INTERVALS, ENOUGH_INTERVALS, LONG_ENOUGH = 8, 4, 30.0
"""Measures of both dimensions that are compared, from how many on, and of how many requests."""

STEADIER = 0.5
"""The other dimension is the limit if its measures differ by so many times less."""

UNSTEADY = 0.02
"""And only if a request's mean cost differed by more: equal requests measure alike in both."""


class Costs:
    """The estimated tokens of what was sent, and of what of it was rejected.

    Attributes:
        mean: of what was sent lately.

    State: inside the `Learner` that owns it.
    """

    __slots__ = ("_count", "_excess", "_variance", "mean")

    def __init__(self) -> None:
        """Know of nothing."""
        self.mean = 0.0
        self._variance = 0.0
        self.start_over()

    def start_over(self) -> None:
        """Forget what was rejected."""
        self._count = 0
        self._excess = 0.0

    def sent(self, cost: float) -> None:
        """Note one that is sent."""
        off = cost - self.mean
        if not self.mean:
            self.mean = cost
            return
        self.mean += SMOOTHING * off
        self._variance += SMOOTHING * (off * off - self._variance)

    def rejected(self, cost: float) -> None:
        """Note that one was rejected."""
        self._count += 1
        self._excess += cost - self.mean

    def tell(self) -> Dimension | None:
        """Return which of the two the limit counts, or None while that cannot be told."""
        if self._count < ENOUGH or self._variance <= 0.0:
            return None
        score = self._excess / math.sqrt(self._variance * self._count)
        if score > SURE:
            return "tokens"
        return "requests" if score < -SURE else None


class Intervals:
    """What passed between two rejections, in both dimensions, several times.

    State: inside the `Learner` that owns it.
    """

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        """Start with none."""
        self._pairs: deque[tuple[float, float]] = deque(maxlen=INTERVALS)

    def clear(self) -> None:
        """Forget them."""
        self._pairs.clear()

    def add(self, requests: float, tokens: float, mine: int) -> bool:
        """Note one, per second; True if the other dimension than `mine` is surely the limit."""
        if tokens <= 0 or requests <= 0:
            return False
        self._pairs.append((requests, tokens))
        if len(self._pairs) < ENOUGH_INTERVALS:
            return False
        spreads = [spread([pair[n] for pair in self._pairs]) for n in (0, 1)]
        costs = spread([pair[1] / pair[0] for pair in self._pairs])
        return costs > UNSTEADY and spreads[1 - mine] < STEADIER * spreads[mine]

    def mean(self, dimension: int) -> float:
        """Return the mean of one dimension, 0 for requests and 1 for tokens."""
        return _mean([pair[dimension] for pair in self._pairs])


# Not the standard library's: `statistics` takes as long to import as a tenth of this package.
def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation of positive numbers, as a share of their mean."""
    mean = _mean(values)
    return math.sqrt(_mean([(value - mean) ** 2 for value in values])) / mean
