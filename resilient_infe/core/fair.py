"""The waiters of one class: tenants share it fairly, by cost.

This is start-time fair queueing (Goyal, Vin and Cheng, 1996). Each tenant that waits has a start
tag, and the smallest is next. Its next tag is its start tag plus the cost that was granted. A
tenant that comes back starts at the virtual time, which is the tag of the call that was granted
last: it has no claim to time in which it did not wait. For example, tenants with 2,000 and 200
calls waiting get half of the limit each, and a tenant with a single call goes next.

With `n` tenants that wait, a grant takes O(log n), and so does joining; leaving takes O(1).
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

from .queue import HASTENED, SWEEP_FLOOR, Standing, Waiter, WaitQueue

W = TypeVar("W", bound=Waiter)

PATIENCE = 4
"""Rounds among all tenants after which those that come for the first time stand behind a tenant
that waits. Without this bound, new tenants without end would go before it for ever."""

REMEMBERED = 1_024
"""Tenants that do not wait, and whose tags are kept; or as many as wait, if that is more."""

SMOOTHING = 0.1
"""The weight of the latest call in the mean of what the calls of a tenant cost."""


class _Tenant(Generic[W]):
    """A tenant that waits: its calls, and what they cost on average (0 if that is unknown)."""

    __slots__ = ("line", "mean", "name")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.line: WaitQueue[W] = WaitQueue()
        self.mean = 0.0


class Shares:
    """What the tenants of a class have had: of one line, or of all lines that share a limit.

    Attributes:
        in_use: whether the lines that share it do so now; see `FairLine`.
        virtual: the virtual time.
        tags: the next start tag of each tenant that was granted something of late.
        live: the number of waiters in all lines that share it.
        tenants: the number of tenants in the heaps of all lines.
        round: how often everything was forgotten.

    State: inside the policy that owns the lines.
    """

    __slots__ = ("in_use", "live", "round", "tags", "tenants", "virtual")

    def __init__(self) -> None:
        self.in_use = False
        self.virtual = 0.0
        self.tags: dict[str | None, float] = {}
        self.live = self.tenants = self.round = 0

    def grant(self, name: str | None, start: float, cost: float) -> float:
        """Charge a tenant; return its next start tag."""
        finish = self.tags[name] = start + cost
        virtual = self.virtual + cost / (PATIENCE * self.tenants)
        self.virtual = virtual if virtual > start else start
        if len(self.tags) > 2 * REMEMBERED and len(self.tags) > 2 * self.tenants:
            self._forget()
        return finish

    def start_over(self) -> None:
        """Forget all tags, because nobody waits."""
        self.tags.clear()
        self.virtual = 0.0
        self.round += 1

    def _forget(self) -> None:
        """Keep the largest tags alone: the others say the least."""
        ahead = sorted((tag, number) for number, tag in enumerate(self.tags.values()))
        kept = {number for _, number in ahead[-max(REMEMBERED, self.tenants) :]}
        self.tags = {
            name: tag for number, (name, tag) in enumerate(self.tags.items()) if number in kept
        }


class FairLine(Generic[W]):
    """The waiters of one class, fair among tenants by cost.

    Args:
        joint: what the tenants have had of a limit that other lines share; None if none do. It
            counts while it is `in_use`. Else the lines do not wait for that limit, and a tenant
            that has had much in one of them must not wait for that in another.

    Attributes:
        live: the number of waiters that still wait.
        standing: None, since the tenants of its waiters differ.

    State: inside the `ClassQueue` that owns it.
    """

    __slots__ = ("_behind", "_empty", "_heap", "_joint", "_mean", "_own", "_round", "_serial",
                 "_shares", "_tenants", "live", "standing")  # fmt: skip

    def __init__(self, joint: Shares | None = None) -> None:
        self.live = 0
        self.standing: Standing | None = None
        self._own, self._joint = Shares(), joint
        self._shares = self._own
        self._round = self._shares.round
        self._behind: WaitQueue[W] = WaitQueue()  # those that wait for all others of the class
        self._tenants: dict[str | None, _Tenant[W]] = {}  # those in the heap
        self._heap: list[tuple[float, int, _Tenant[W]]] = []  # (start tag, order of joining, ...)
        self._serial = 0
        self._empty = 0  # tenants in the heap all of whose calls have left
        self._mean = 1.0  # what a call of the class costs on average

    def push(self, waiter: W) -> None:
        """Add a waiter."""
        if self._joint is not None:
            self._follow(self._joint)
            self._joint.live += 1
        self.live += 1
        if waiter.behind:
            self._behind.push(waiter)
            return
        name = waiter.standing.tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name)
            self._serial += 1
            shares = self._shares
            shares.tenants += 1
            start = max(shares.virtual, shares.tags.get(name, 0.0))
            heapq.heappush(self._heap, (start, self._serial, tenant))
        elif not tenant.line.live:
            self._empty -= 1
        tenant.line.push(waiter)

    def head(self) -> W | None:
        """Return the next waiter without removing it; None if nobody waits."""
        if self._joint is not None:
            self._follow(self._joint)
        heap, first, shares = self._heap, None, self._shares
        while heap:
            start, serial, tenant = heap[0]
            if shares.in_use and (tag := shares.tags.get(tenant.name, start)) > start:
                heapq.heapreplace(heap, (tag, serial, tenant))  # it was granted in another line
                continue
            first = tenant.line.head()
            if first is not None:
                if first.cost <= 0.0:
                    first.cost = tenant.mean or self._mean
                break
            heapq.heappop(heap)
            self._empty -= 1
            self._rest(tenant)
        late = self._behind.head()
        if late is None or (first is not None and first.place < late.place):
            return first
        if late.cost <= 0.0:
            late.cost = self._mean
        return late

    def tag(self) -> float:
        """Return the start tag of the next waiter; infinite if it waits for all others.

        It is 0 while the tags of other lines are not comparable.
        """
        first = self.head()
        if first is None or first.behind:
            return -math.inf if first is not None and first.place == HASTENED else math.inf
        return self._heap[0][0] if self._shares.in_use else 0.0

    def pop(self) -> W | None:
        """Remove and return the next waiter; None if nobody waits."""
        waiter = self.head()
        if waiter is None:
            return None
        self.live -= 1
        if self._joint is not None:
            self._joint.live -= 1
        if waiter.behind:
            return self._behind.pop()
        heap = self._heap
        start, _, tenant = heap[0]
        tenant.line.pop()
        finish = self._shares.grant(tenant.name, start, waiter.cost)
        if tenant.line.live:
            self._serial += 1
            heapq.heapreplace(heap, (finish, self._serial, tenant))
        else:
            heapq.heappop(heap)
            self._rest(tenant)
        return waiter

    def remove(self, waiter: W) -> None:
        """Take out a waiter that was not served, in O(1) on average."""
        self._count_out()
        if waiter.behind:
            self._behind.remove(waiter)
            return
        line = self._tenants[waiter.standing.tenant].line
        line.remove(waiter)
        if not line.live:
            self._empty += 1
            if self._empty > max(SWEEP_FLOOR, len(self._heap) // 2):
                self._sweep()

    def untried(self, part: float) -> W | None:
        """Return one whose call was not tried before, of any tenant; None if none is."""
        tenants = list(self._tenants.values())
        place = part * len(tenants)
        start = min(int(place), len(tenants) - 1)
        for each in (*tenants[start:], *tenants[:start]):
            if (found := each.line.untried(place - start)) is not None:
                return found
        return None

    def hasten(self, waiter: W) -> None:
        """Let a waiter stand before all others of the class. O(n), for rare use."""
        if waiter.behind:
            self._behind.hasten(waiter)
            return
        line = self._tenants[waiter.standing.tenant].line
        line.hasten(waiter)
        line.pop()
        self._count_out()
        self._empty += not line.live
        waiter.behind = True  # of the two parts, the one without shares
        self.push(waiter)

    def before(self, standing: Standing) -> int:
        """Return how many wait that one more of this standing certainly does not pass."""
        tenant = self._tenants.get(standing.tenant)
        return 0 if tenant is None else tenant.line.live

    def full(self, standing: Standing, most: int) -> bool:
        """Whether one more of this standing is too many; see `WaitQueue.full`."""
        own = self.before(standing)
        tenants = len(self._heap) - self._empty + (not own)
        return self.live >= most and (own + 1) * tenants > most

    def learn(self, standing: Standing, cost: float) -> None:
        """Note what a call of a tenant has cost."""
        self._mean += SMOOTHING * (cost - self._mean)
        tenant = self._tenants.get(standing.tenant)
        if tenant is not None:
            tenant.mean += (SMOOTHING if tenant.mean else 1.0) * (cost - tenant.mean)

    def clear(self) -> None:
        """Remove all waiters, as if each had left."""
        self._behind.clear()
        for tenant in self._tenants.values():
            tenant.line.clear()
        if self._joint is not None:
            self._joint.live -= self.live
        self.live = 0
        self.start_over()

    def start_over(self) -> None:
        """Forget who waited here, and all tags unless others wait in other lines."""
        if self._shares is self._own or not self._shares.live:
            self._shares.start_over()
        self._clear_heap()

    def _follow(self, joint: Shares) -> None:
        """Count in what is in use now, from now on."""
        shares = joint if joint.in_use else self._own
        if shares is self._shares and self._round == shares.round:
            return
        entries = [entry for entry in self._heap if entry[2].line.live]
        self._shares.tenants -= len(self._heap)
        if shares is self._own:
            shares.start_over()
        shares.tenants += len(entries)
        self._shares, self._round, self._empty = shares, shares.round, 0
        self._tenants = {tenant.name: tenant for _, _, tenant in entries}
        self._heap = [
            (max(shares.virtual, shares.tags.get(tenant.name, 0.0)), serial, tenant)
            for _, serial, tenant in entries
        ]
        heapq.heapify(self._heap)

    def _clear_heap(self) -> None:
        self._round = self._shares.round
        self._shares.tenants -= len(self._heap)
        self._tenants.clear()
        self._heap.clear()
        self._empty = 0

    def _count_out(self) -> None:
        self.live -= 1
        if self._joint is not None:
            self._joint.live -= 1

    def _rest(self, tenant: _Tenant[W]) -> None:
        """Take out a tenant that no longer waits; its tag matters if it is ahead of the others."""
        del self._tenants[tenant.name]
        shares = self._shares
        shares.tenants -= 1
        if shares.tags.get(tenant.name, math.inf) <= shares.virtual:
            del shares.tags[tenant.name]

    def _sweep(self) -> None:
        """Take out the tenants all of whose calls have left."""
        entries, self._heap = self._heap, []
        for entry in entries:
            if entry[2].line.live:
                self._heap.append(entry)
            else:
                self._rest(entry[2])
        heapq.heapify(self._heap)
        self._empty = 0
