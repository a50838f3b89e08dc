"""The wait queue of slots and allowances, while all waiters are of one class and one tenant.

When a waiter of another class or tenant joins, a `ClassQueue` takes its place. In this one the
oldest *call* is served first, not the first to join. A retry joins again with the age of its call,
so it is ahead of younger calls that have waited longer.

A waiter is stored in one of two places:

1. The line, a deque sorted by age. A waiter whose call is not older than the last one in the line
   is appended. This is the usual case, and O(1).
2. A heap. A waiter whose call is older, such as a retry, is pushed onto it. This is rare, and costs
   O(log n).

The next waiter is the older of the two heads. Leaving is O(1): a waiter that gives up is only
marked as gone. It is skipped when it reaches a head, or removed by a sweep. A sweep runs when the
marked waiters outnumber those that still wait, so its cost per departure is constant on average.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

INTERACTIVE, NORMAL, BATCH = range(3)
"""The classes by rank: the lower number is served first."""


HASTENED = -1
"""The age of what stands before all others: calls are numbered from 1, and what waited for none has
0."""


class Standing(NamedTuple):
    """The class and the tenant of a waiter.

    Attributes:
        rank: the class: `INTERACTIVE`, `NORMAL` or `BATCH`.
        tenant: the name of the tenant; None for all calls that have none.
    """

    rank: int = NORMAL
    tenant: str | None = None


ORDINARY = Standing()
"""The standing of a call that has neither a priority nor a tenant."""

ages = itertools.count(1)
"""The ages of calls; all loops share one counter, since a policy can move to another loop."""


class Waiter:
    """One entry of a queue.

    Attributes:
        place: the age of the waiter's call, as a number; a smaller number is an older call.
        standing: its class and its tenant.
        cost: what it costs, for a fair share; 0 to take what its tenant's calls cost on average.
        behind: whether it waits for all others of its class, and not only for those of its tenant.
        granted: True once the waiter has received what it waited for.
        gone: True once the waiter has left the queue without a grant.
        untried: whether its call was not sent before.
        wake: resumes the task that waits. The runtime that parks the task sets it; policies never
            call it.
    """

    __slots__ = ("behind", "cost", "gone", "granted", "place", "standing", "untried", "wake")

    def __init__(
        self,
        place: int,
        standing: Standing = ORDINARY,
        cost: float = 1.0,
        behind: bool = False,
    ) -> None:
        self.place = place
        self.standing = standing
        self.cost = cost
        self.behind = behind
        self.untried = self.granted = False
        self.gone = False
        self.wake: Callable[[], None] | None = None


W = TypeVar("W", bound=Waiter)

SWEEP_FLOOR = 64
"""No sweep runs while at most this many abandoned waiters are stored."""


class WaitQueue(Generic[W]):
    """Waiters, ordered by the age of their calls.

    Attributes:
        live: the number of waiters that still wait.
        youngest: the largest place that was ever pushed. A waiter whose call has no age takes it,
            and so joins at the end.
        standing: the class and the tenant of all its waiters; only `queue_for` looks at it.

    State: shared, inside the policy that owns it.
    """

    __slots__ = ("_abandoned", "_joined", "_late", "_line", "live", "standing", "youngest")

    def __init__(self) -> None:
        self._line: deque[W] = deque()
        self._late: list[tuple[int, int, W]] = []  # a heap of (place, order of joining, waiter)
        self._joined = 0  # pushes onto the heap so far; among equal places the first to join wins
        self._abandoned = 0  # waiters marked as gone that are still stored
        self.live = 0
        self.youngest = 0
        self.standing = ORDINARY

    def push(self, waiter: W) -> None:
        """Add a waiter, at the position that its age gives it."""
        self.live += 1
        place, line = waiter.place, self._line
        if place > self.youngest:
            self.youngest = place
        if not line or place >= line[-1].place:
            line.append(waiter)
        else:
            self._joined += 1
            heapq.heappush(self._late, (waiter.place, self._joined, waiter))

    def head(self) -> W | None:
        """Return the oldest waiter without removing it; None if the queue is empty."""
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
        """Remove and return the oldest waiter; None if the queue is empty."""
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
        """Take out a waiter that was not served, in O(1)."""
        waiter.gone = True
        self.live -= 1
        self._abandoned += 1
        if self._abandoned > max(SWEEP_FLOOR, self.live):
            self._sweep()

    def untried(self, part: float) -> W | None:
        """Return one whose call was not tried before; None if none is.

        Args:
            part: where in the line it stands, or ahead of that, in [0, 1]: 0 is its head, 1 its
                end.
        """
        line = self._line
        behind = len(line) - 1 - int(part * len(line))
        ahead = itertools.islice(reversed(line), max(0, behind), None)
        for each in itertools.chain(ahead, reversed(line)):
            if each.untried and each.place != HASTENED and not each.gone:
                return each
        return None

    def hasten(self, waiter: W) -> None:
        """Let a waiter stand before all others, if it still waits. O(n), for rare use."""
        if waiter.granted or waiter.gone:
            return
        self._line = deque(each for each in self._line if each is not waiter)
        self._late = [entry for entry in self._late if entry[2] is not waiter]
        heapq.heapify(self._late)
        self.live -= 1
        waiter.place = HASTENED
        self.push(waiter)

    def owed(self, _: W) -> bool:
        """Whether the guaranteed share of its class pays for a waiter; no other class waits."""
        return False

    def before(self, standing: Standing) -> int:
        """Return how many wait that one more of this standing certainly does not pass."""
        return self.live if self.standing == standing else 0

    def full(self, standing: Standing, most: int) -> bool:
        """Whether one more of this standing is too many, if `most` of each class may wait.

        A tenant that has less than its equal part of them is let in all the same: the others must
        not keep it out.
        """
        if self.live < most or (self.standing.rank != standing.rank and most):
            return False
        return self.standing == standing or most <= 1

    def waiting(self) -> tuple[int, int, int]:
        """Return how many wait, by class."""
        counts = [0, 0, 0]
        counts[self.standing.rank] = self.live
        return counts[0], counts[1], counts[2]

    def learn(self, standing: Standing, cost: float) -> None:
        """Do nothing: where no tenants share, costs do not matter."""

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
