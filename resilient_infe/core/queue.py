"""Who is next: the one queue that slots and allowances share.

First come, first served by the *age of the call*, not by the time of joining: a retry rejoins with
its call's old place and so stands ahead of younger calls. Leaving is O(1): a waiter that gave up is
only marked, and skipped (or swept out) later.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar


class Waiter:
    """One place in a queue. `wake` is set by the code that parks on it; the policy never calls it.

    Attributes:
        place: the age of its call; smaller is older.
        granted: True once what was waited for is the waiter's.
        gone: True once it left the queue without being granted.
        wake: resumes the task that waits.
    """

    __slots__ = ("gone", "granted", "place", "wake")

    def __init__(self, place: int) -> None:
        """Start waiting."""
        self.place = place
        self.granted = False
        self.gone = False
        self.wake: Callable[[], None] | None = None


W = TypeVar("W", bound=Waiter)

SWEEP_FLOOR = 64
"""Fewer abandoned waiters than this are not worth a sweep."""


class WaitQueue(Generic[W]):
    """Waiters in the order of their calls' age.

    State: shared, inside the policy that owns it.
    """

    __slots__ = ("_abandoned", "_joined", "_late", "_line", "live", "youngest")

    def __init__(self) -> None:
        """Start empty.

        `live` counts those who still wait; `youngest` is the newest age that ever waited, and where
        one joins who has none.
        """
        self._line: deque[W] = deque()
        # Those who rejoin ahead of the line's end: rare, so a heap of their own keeps the line
        # O(1).
        self._late: list[tuple[int, int, W]] = []
        self._joined = 0  # breaks ties in the heap, in the order of joining
        self._abandoned = 0
        self.live = 0
        self.youngest = 0

    def push(self, waiter: W) -> None:
        """Join, at the place that the waiter's age gives it."""
        self.live += 1
        place, line = waiter.place, self._line
        if place > self.youngest:
            self.youngest = place
            line.append(waiter)
        elif not line or place >= line[-1].place:
            line.append(waiter)
        else:
            self._joined += 1
            heapq.heappush(self._late, (waiter.place, self._joined, waiter))

    def head(self) -> W | None:
        """Return the oldest who still waits, without removing it."""
        line, late = self._line, self._late
        while line and line[0].gone:
            line.popleft()
            self._abandoned -= 1
        while late and late[0][2].gone:
            heapq.heappop(late)
            self._abandoned -= 1
        if late and (not line or late[0][0] < line[0].place):
            return late[0][2]
        return line[0] if line else None

    def pop(self) -> W | None:
        """Remove and return the oldest who still waits."""
        line = self._line
        if line and not self._late and not line[0].gone:  # the usual case
            self.live -= 1
            return line.popleft()
        waiter = self.head()
        if waiter is None:
            return None
        if self._late and self._late[0][2] is waiter:
            heapq.heappop(self._late)
        else:
            self._line.popleft()
        self.live -= 1
        return waiter

    def remove(self, waiter: W) -> None:
        """Leave without being served."""
        waiter.gone = True
        self.live -= 1
        self._abandoned += 1
        if self._abandoned > max(SWEEP_FLOOR, self.live):
            self._sweep()

    def clear(self) -> None:
        """Remove all waiters, as if each had left."""
        for waiter in (*self._line, *(entry[2] for entry in self._late)):
            waiter.gone = True
        self._line.clear()
        self._late.clear()
        self.live = self._abandoned = 0

    def _sweep(self) -> None:
        self._line = deque(waiter for waiter in self._line if not waiter.gone)
        self._late = [entry for entry in self._late if not entry[2].gone]
        heapq.heapify(self._late)
        self._abandoned = 0
