"""Counts the calls of the last seconds that succeeded and that failed.

The counts are kept in slices of the window. Each call is counted in the newest slice alone; what
the others have is added when the next slice starts, so a failure need not add them all up.
"""

from __future__ import annotations

import math
from collections import deque

SLICES = 10
"""The window moves in this number of steps."""


class Slice:
    """The counts of one step of the window.

    Attributes:
        index: the step's number on the clock: the instant divided by the step's length, rounded
            down.
        successes: calls that succeeded in this step.
        failures: calls that failed in this step.
    """

    __slots__ = ("failures", "index", "successes")

    def __init__(self, index: float) -> None:
        self.index = index
        self.successes = self.failures = 0


class Window:
    """The successes and failures of the last seconds.

    Args:
        seconds: the length of the window, above 0.

    Attributes:
        newest: the current slice. Count in it while the time is before `end`; else call `move`
            first.
        end: the instant at which the current slice ends.

    State: inside the circuit that owns it.
    """

    __slots__ = ("_failures", "_slice", "_slices", "_successes", "end", "newest")

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / SLICES
        self._slices: deque[Slice] = deque()
        self._successes = self._failures = 0  # of all slices but the newest
        self.newest = Slice(-math.inf)
        self.end = -math.inf

    def move(self, now: float) -> None:
        """Start the slice that contains an instant, if it is not the newest; drop old slices."""
        index = now // self._slice
        if index == self.newest.index:
            return
        self.forget(now)
        self._successes, self._failures = self.successes, self.failures
        self.newest = Slice(index)
        self.end = (index + 1) * self._slice
        self._slices.append(self.newest)

    def forget(self, now: float) -> None:
        """Drop the slices that have left the window at an instant."""
        oldest = now // self._slice - SLICES
        while self._slices and self._slices[0].index <= oldest:
            left = self._slices.popleft()
            self._successes -= left.successes
            self._failures -= left.failures
        if not self._slices:
            self.clear()

    def clear(self) -> None:
        """Drop everything; the next call of `move` starts a slice."""
        self._slices.clear()
        self._successes = self._failures = 0
        self.newest = Slice(-math.inf)
        self.end = -math.inf

    @property
    def empty(self) -> bool:
        """Whether no slice is left, as of the last `forget`."""
        return not self._slices

    @property
    def successes(self) -> int:
        """The number of calls that succeeded, as of the last `move` or `forget`."""
        return self._successes + self.newest.successes

    @property
    def failures(self) -> int:
        """The number of calls that failed, as of the last `move` or `forget`."""
        return self._failures + self.newest.failures
