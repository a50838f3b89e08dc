"""Which waiter is next, when calls of several classes or tenants wait for the same limit.

There are three rules, from the outside in:

1. *Classes are served in order*: interactive, normal, batch. A class that waits below the highest
   one is guaranteed a trickle, a tenth of all that is granted meanwhile. For example, if all three
   always wait and each call costs 1, of 1,000 grants 800 are interactive, 100 normal and 100 batch.
2. *Tenants of a class share it fairly, by cost*: see `FairLine`.
3. *The calls of a tenant are served oldest first*, in a `WaitQueue`. A retry keeps its call's age.

The guarantee is kept by a credit for each class below the highest that waits::

    credit += trickle * cost        with each grant to any class, this one included
    credit -= cost                  with each grant to this class

It gets the next call as soon as its credit then stays at 0 or more: from ``(1 - trickle) * cost``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeAlias, TypeVar

from ..errors import ConfigurationError
from . import bounds
from .fair import FairLine, Shares
from .queue import BATCH, INTERACTIVE, NORMAL, ORDINARY, Standing, Waiter, WaitQueue

Priority: TypeAlias = Literal["interactive", "normal", "batch"]
"""The name of a class."""

PRIORITIES: tuple[Priority, ...] = ("interactive", "normal", "batch")
"""The names of the classes, by rank."""

RANKS: dict[object, int] = {None: NORMAL, **{name: rank for rank, name in enumerate(PRIORITIES)}}
"""The rank of each class by name; None is that of a call without a priority."""

TRICKLE = 0.1
"""The share of what is granted that each class below the highest is guaranteed.

It makes sure that a batch ends, and costs the highest class a tenth for each lower one."""

MOST_TRICKLE = 1 / 3
"""The largest share: the highest class must keep as much as the two others."""

PRESENT_FOR = 60.0
"""Seconds for which a class counts as present after a call of it. A minute is the usual window of a
limit, and what is kept for a class that does not come back is unused for that long."""

ROUNDING = 1.0 - 1e-9
"""A sum of tenths is not exact, so a credit that lacks a billionth is enough."""

LOWER = ((1, 2), (2,), ())
"""The ranks of the classes below each class."""

ALONE = tuple(map(Standing, range(len(PRIORITIES))))
"""The standing of a call of each class that has no tenant."""

W = TypeVar("W", bound=Waiter)


def rank_of(priority: object) -> int:
    """Return the rank of a class; that of the normal one for None.

    Raises:
        ConfigurationError: no class has this name.
    """
    try:
        return RANKS[priority]
    except (KeyError, TypeError):
        names = ", ".join(map(repr, PRIORITIES[:-1])) + f" or {PRIORITIES[-1]!r}"
        raise ConfigurationError(f"priority must be {names}; got {priority!r}") from None


def standing_of(priority: object, tenant: object) -> Standing:
    """Return the standing of a call.

    Args:
        priority: the name of its class, or None for the normal one.
        tenant: the name of its tenant, or None.

    Raises:
        ConfigurationError: no class has this name, or the tenant is not text.
    """
    if tenant is None:
        return ORDINARY if priority is None else ALONE[rank_of(priority)]
    if isinstance(tenant, str):
        return _of_tenant(rank_of(priority), tenant)
    raise ConfigurationError(f"tenant must be text, such as a customer's name; got {tenant!r}")


def by_name(counts: tuple[int, int, int]) -> dict[str, int]:
    """Return counts by the names of the classes."""
    return dict(zip(PRIORITIES, counts, strict=True))


@functools.lru_cache(maxsize=4_096)
def _of_tenant(rank: int, tenant: str) -> Standing:
    """Return a standing that was made before, if it was: to make one costs four times as much."""
    return Standing(rank, tenant)


def trickle_of(trickle: object) -> float:
    """Return the share that each lower class is guaranteed.

    Raises:
        ConfigurationError: it is not a number from 0 to a third.
    """
    share = bounds.at_least(trickle, 0.0, "trickle, the share that a lower class is guaranteed,")
    if share > MOST_TRICKLE:
        raise ConfigurationError(
            f"trickle must be at most a third, because there are three classes; got {trickle!r}"
        )
    return share


class Presence:
    """Which classes have asked for something of late.

    Attributes:
        top: the highest of them.

    State: inside the policy that owns it.
    """

    __slots__ = ("_until", "top")

    def __init__(self) -> None:
        self._until = [-math.inf, -math.inf]  # that of the lowest class does not matter
        self.top = BATCH

    def note(self, rank: int, now: float) -> None:
        """Note that a call of class `rank` asks. Who has gone since, `look` finds out."""
        if rank < BATCH:
            self._until[rank] = now + PRESENT_FOR
            if rank < self.top:
                self.top = rank

    def look(self, now: float) -> bool:
        """Find out who is present at the time `now`; return whether the highest class changed."""
        first, second = self._until
        before = self.top
        self.top = INTERACTIVE if first > now else NORMAL if second > now else BATCH
        return self.top != before

    def above(self, rank: int) -> bool:
        """Whether a class above `rank` is present."""
        return self.top < rank

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self._until = [until + seconds for until in self._until]


class Credit:
    """What each class below the highest that waits is still owed of its trickle.

    Args:
        trickle: the share of what is granted that each of them is guaranteed.

    Attributes:
        credit: what each class has saved.

    State: inside the policy that owns it.
    """

    __slots__ = ("_largest", "_trickle", "credit")

    def __init__(self, trickle: float) -> None:
        self._trickle = trickle
        self.credit = [0.0] * len(PRIORITIES)
        self._largest = 0.0  # of the costs granted

    def pays(self, rank: int, cost: float) -> bool:
        """Whether the guaranteed share of a class pays for a call of it."""
        credit = self.credit[rank]
        return credit > 0.0 and credit >= (1.0 - self._trickle) * (cost or 1.0) * ROUNDING

    def grant(
        self,
        rank: int,
        top: int,
        waits: Sequence[object],
        cost: float,
        next_cost: Callable[[int], float],
    ) -> None:
        """Charge a class for what it is granted, and credit those that wait below the highest.

        Args:
            rank: the class that is granted.
            top: the highest class that waits.
            waits: by class, something that is true if it waits.
            cost: what is granted.
            next_cost: returns what the next call of a class costs.
        """
        if cost > self._largest:
            self._largest = cost
        credit, part, largest = self.credit, self._trickle * cost, self._largest
        for each in LOWER[top]:
            if waits[each]:
                credit[each] += part
                if credit[each] > largest:
                    # It saves no more than for its next call: one that cost more may have left.
                    credit[each] = min(credit[each], next_cost(each) + largest)
        credit[rank] -= cost if rank != top or credit[rank] > cost else credit[rank]

    def start_over(self) -> None:
        """Forget what was saved: nobody waits, so nobody has a claim."""
        self.credit = [0.0] * len(PRIORITIES)
        self._largest = 0.0


class ClassQueue(Generic[W]):
    """Waiters of several classes and tenants.

    Args:
        trickle: the share of what is granted that each class below the highest is guaranteed.
        shares: by class, what the tenants have had, if the queues of other limits share it.

    Attributes:
        live: the number of waiters that still wait.
        youngest: the largest place that was ever pushed.
        standing: None, since its waiters differ.

    State: inside the policy that owns it.
    """

    __slots__ = ("_classes", "_credit", "_next", "_shared", "live", "standing",
                 "youngest")  # fmt: skip

    def __init__(self, trickle: float = TRICKLE, shares: Sequence[Shares] | None = None) -> None:
        self._shared = shares is not None
        # A class whose waiters are all of one tenant needs no shares.
        self._classes: list[WaitQueue[W] | FairLine[W]] = [WaitQueue() for _ in PRIORITIES]
        if shares is not None:
            self._classes = [FairLine(each) for each in shares]
        self._credit = Credit(trickle)
        self._next: W | None = None  # the head, once it has been looked for
        self.standing: Standing | None = None
        self.live = 0
        self.youngest = 0

    def push(self, waiter: W) -> None:
        """Add a waiter, at the position that its class, its tenant and its age give it."""
        if not self.live:
            self._start_over()
        self.live += 1
        if waiter.place > self.youngest:
            self.youngest = waiter.place
        self._next = None
        standing = waiter.standing
        line = self._classes[standing.rank]
        if line.standing is not standing and isinstance(line, WaitQueue):
            line = self._joined(line, standing)
        line.push(waiter)

    def head(self) -> W | None:
        """Return the next waiter without removing it; None if the queue is empty."""
        if (self._next is None or self._shared) and self.live:
            self._next = self._classes[self._turn(self.top)].head()
        return self._next

    def pop(self) -> W | None:
        """Remove and return the next waiter; None if the queue is empty."""
        waiter = self.head()
        if waiter is not None:
            self.pop_next(waiter)
        return waiter

    def pop_next(self, waiter: W) -> None:
        """Remove a waiter that is the next one of its class."""
        self._next = None
        self.live -= 1
        rank, classes = waiter.standing.rank, self._classes
        first, second, third = classes
        waits = first.live, second.live, third.live
        top = 0 if waits[0] else 1 if waits[1] else 2
        self._credit.grant(rank, top, waits, waiter.cost or 1.0, self._next_cost)
        classes[rank].pop()

    def _next_cost(self, rank: int) -> float:
        head = self._classes[rank].head()
        return 0.0 if head is None else head.cost or 1.0

    def next_of(self, rank: int) -> W | None:
        """Return the next waiter of a class without removing it; None if none of it waits."""
        return self._classes[rank].head()

    def tag(self, rank: int) -> float:
        """Return what orders the next waiter of a class among those of other queues."""
        line = self._classes[rank]
        return line.tag() if isinstance(line, FairLine) else 0.0

    def owed(self, waiter: W) -> bool:
        """Whether the guaranteed share of its class pays for a waiter that is the next of it."""
        return self._credit.pays(waiter.standing.rank, waiter.cost)

    def remove(self, waiter: W) -> None:
        """Take out a waiter that was not served, in O(1) on average."""
        self.live -= 1
        self._next = None
        self._classes[waiter.standing.rank].remove(waiter)

    def untried(self, part: float) -> W | None:
        """Return one of the highest class whose call was not tried before; None if none is."""
        return self._classes[self.top].untried(part)

    def hasten(self, waiter: W) -> None:
        """Let a waiter stand before all others of its class, if it still waits."""
        if not (waiter.granted or waiter.gone):
            self._next = None
            self._classes[waiter.standing.rank].hasten(waiter)

    def before(self, standing: Standing) -> int:
        """Return how many wait that one more of this standing certainly does not pass."""
        return self._classes[standing.rank].before(standing)

    def full(self, standing: Standing, most: int) -> bool:
        """Whether one more of this standing is too many; see `WaitQueue.full`."""
        return self._classes[standing.rank].full(standing, most)

    def waiting(self) -> tuple[int, int, int]:
        """Return how many wait, by class."""
        first, second, third = self._classes
        return first.live, second.live, third.live

    def learn(self, standing: Standing, cost: float) -> None:
        """Note what a call has cost, for those of its tenant whose cost is not known."""
        self._classes[standing.rank].learn(standing, cost)

    def clear(self) -> None:
        """Remove all waiters, as if each had left."""
        for each in self._classes:
            each.clear()
        self.live, self._next = 0, None

    def _start_over(self) -> None:
        """Forget who had how much: nobody waits, so nobody has a claim."""
        for each in self._classes:
            if isinstance(each, FairLine):
                each.start_over()
        self._credit.start_over()

    def _joined(self, line: WaitQueue[W], standing: Standing) -> WaitQueue[W] | FairLine[W]:
        """Return the line of a class that a waiter of this standing is to join."""
        if not line.live or line.standing == standing:
            line.standing = standing
            return line
        shared: FairLine[W] = FairLine()
        while (each := line.pop()) is not None:
            shared.push(each)
        self._classes[standing.rank] = shared
        return shared

    @property
    def top(self) -> int:
        """The highest class that waits."""
        first, second, _ = self._classes
        return 0 if first.live else 1 if second.live else 2

    def _turn(self, top: int) -> int:
        """Return the class that is next: the lowest that is owed a call, or the highest."""
        credit = self._credit.credit
        for rank in (BATCH, NORMAL):
            if rank > top and credit[rank] > 0.0:
                head = self._classes[rank].head()
                if head is not None and self.owed(head):
                    return rank
        return top


def queue_for(
    queue: WaitQueue[W] | ClassQueue[W], waiter: W, trickle: float
) -> WaitQueue[W] | ClassQueue[W]:
    """Return the queue for all who wait in `queue` and for `waiter`, who is to join it.

    It is the same one as long as all of them have the same class and the same tenant.
    """
    if isinstance(queue, ClassQueue) or queue.standing == waiter.standing:
        return queue
    if not queue.live:
        queue.standing = waiter.standing
        return queue
    shared: ClassQueue[W] = ClassQueue(trickle)
    shared.youngest = queue.youngest
    while (each := queue.pop()) is not None:
        shared.push(each)
    return shared
