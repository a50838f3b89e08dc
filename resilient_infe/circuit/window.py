"""How many calls succeeded and failed of late.

Counting is on the path of every call and asking is not (only a failure asks), so the counts lie in
slices of the window and are summed when somebody asks.
"""

from __future__ import annotations

import math
from collections import deque

SLICES = 10
"""The window moves in this many steps."""


class Slice:
    """The counts of one step of the window.

    Attributes:
        index: which step of the clock it is.
        successes: calls that were answered in it.
        failures: calls that failed in it.
    """

    __slots__ = ("failures", "index", "successes")

    def __init__(self, index: float) -> None:
        """Start with nothing counted."""
        self.index = index
        self.successes = self.failures = 0


class Window:
    """Successes and failures of the last seconds.

    Args:
        seconds: how far it reaches back, above 0.

    Attributes:
        newest: the slice under way; count in it until the instant `end`, then `move` first.
        end: when it ends.

    State: inside the circuit that owns it.
    """

    __slots__ = ("_slice", "_slices", "end", "newest")

    def __init__(self, seconds: float) -> None:
        """Start empty."""
        self._slice = seconds / SLICES
        self._slices: deque[Slice] = deque()
        self.newest = Slice(-math.inf)
        self.end = -math.inf

    def move(self, now: float) -> None:
        """Open the slice of an instant if it is not the newest already, and forget the oldest."""
        index = now // self._slice
        if index == self.newest.index:
            return
        self.forget(now)
        self.newest = Slice(index)
        self.end = (index + 1) * self._slice
        self._slices.append(self.newest)

    def forget(self, now: float) -> None:
        """Drop what has left the window at an instant."""
        oldest = now // self._slice - SLICES
        while self._slices and self._slices[0].index <= oldest:
            self._slices.popleft()
        if not self._slices:
            self.clear()

    def clear(self) -> None:
        """Forget everything; the next count opens a slice."""
        self._slices.clear()
        self.newest = Slice(-math.inf)
        self.end = -math.inf

    @property
    def empty(self) -> bool:
        """Whether nothing is left since the last `forget`."""
        return not self._slices

    @property
    def successes(self) -> int:
        """How many calls were answered, as of the last `move` or `forget`."""
        return sum(each.successes for each in self._slices)

    @property
    def failures(self) -> int:
        """How many calls failed, as of the last `move` or `forget`."""
        return sum(each.failures for each in self._slices)
