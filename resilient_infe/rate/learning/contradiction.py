"""When 429s below a declared limit mean that the real limit is lower.

Some servers answer a few requests in a hundred with 429 for no reason. To take these for a limit
would slow the sends down for good, although the declared limit is right. A lower limit shows in one
of three ways:

1. Many stand close together: 8 among 12 requests. At 8 in 100 by chance, this comes about once in a
   million requests. But it counts only over a few seconds: ten rows that the server refuses for
   what they are may well be sent one after another.
2. A quarter of 100 requests is refused. By chance that is as rare.
3. They come at regular intervals, as from a server's token bucket: a limit of 588 refuses each 50th
   of 600. The intervals between chance 429s vary as much as they are long.
"""

from __future__ import annotations

import itertools
import statistics
from bisect import insort
from dataclasses import dataclass

CLOSE = (8, 12)
"""The number of 429s, and of the requests among which they are."""

CLOSE_SECONDS = 3.0
"""Seconds at least from the first of these 429s to the last."""

MANY = (25, 100)
"""The same two numbers for 429s that are further apart."""

SHORTEST = 1.0
"""Seconds: the least time that a rate is measured over. In less, a burst looks like a rate."""

INTERVALS = 20
"""Intervals between 429s that have to be regular."""

REGULAR = 0.35
"""Their standard deviation, at most, as a share of their mean. For chance 429s it is about 1."""


@dataclass(frozen=True, slots=True, order=True)
class Refused:
    """A request that was refused: how many were sent before it, and when it was sent."""

    number: int
    at: float


class Contradiction:
    """The 429s that a declared limit does not explain.

    State: inside the `Learner` that owns it; the last 25.
    """

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent: list[Refused] = []

    def add(self, number: int, at: float) -> float | None:
        """Note a 429; return the requests per second that the server lets in, or None.

        Args:
            number: how many requests were sent before it.
            at: the loop time at which it was sent, in seconds.
        """
        recent = self._recent
        insort(recent, Refused(number, at))
        del recent[: -MANY[0]]
        for (needed, among), seconds in ((CLOSE, CLOSE_SECONDS), (MANY, 0.0)):
            found = recent[-needed:]
            close = len(found) == needed and found[-1].number - found[0].number < among
            if close and found[-1].at - found[0].at >= seconds:
                return _let_in(found)
        found = recent[-INTERVALS - 1 :]
        if len(found) > INTERVALS and _are_regular(found):
            return _let_in(found)
        return None


def _are_regular(found: list[Refused]) -> bool:
    gaps = [after.number - before.number for before, after in itertools.pairwise(found)]
    return statistics.pstdev(gaps) <= REGULAR * statistics.fmean(gaps)


def _let_in(found: list[Refused]) -> float:
    """Return what was let in per second between the first of them and the last."""
    first, last = found[0], found[-1]
    passed = last.number - first.number - (len(found) - 1)
    return max(1, passed) / max(last.at - first.at, SHORTEST)
