"""The number of calls that may be in flight at once.

A counter and a queue. A freed slot is *handed* to the next waiter and is never free in between, so
no call can overtake the queue and no wake-up is lost. Why not an existing class?
`anyio.CapacityLimiter` is bound to tasks (it leaks from an abandoned async generator), and
`asyncio.Semaphore` costs more and cannot be resized.

As soon as a call has a priority, the last tenth of the slots is kept for the classes above the one
that asks, in two cases:

1. A class above is *present*: a call of it came within the last minute. Otherwise a batch whose
   answers take minutes would hold all slots when the next call of a person comes.
2. A call that holds a slot waits for the rate limit. Then one more slot for the batch would wait
   too: nothing is left idle. So a batch that runs first leaves room for what comes later.

The trickle that a lower class is guaranteed may use all slots.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core import bounds
from ..core.priority import (
    TRICKLE,
    ClassQueue,
    Presence,
    by_name,
    queue_for,
    trickle_of,
)
from ..core.queue import INTERACTIVE, ORDINARY, Standing, Waiter, WaitQueue
from ..core.shared import Shared
from ..errors import SHORTEST_HINT, QueueFull
from .crowd import Crowd


@dataclass(frozen=True, slots=True)
class SlotsStatistics:
    """A snapshot: the limit, the slots that are held, and the calls that wait for one.

    `waiting_by_class` counts those that wait by priority; it is empty until a call has one.
    """

    limit: int
    held: int
    waiting: int
    waiting_by_class: Mapping[str, int] = field(default_factory=dict)


KEPT = 10
"""One slot in so many is kept for the classes above, and at least one if there are two or more."""


WIDEN_EVERY = 60.0
"""Seconds between two attempts to raise a lowered limit: each attempt may cost 429s."""


class Slots(Shared):
    """A concurrency limit with a strict FIFO queue, which can be resized while in use.

    Args:
        limit: the number of slots that may be held at once, at least 1; there is no default,
            because no number is safe for every server.
        max_waiting: the number of calls that may wait, from 0, or None for any number. A retry may
            always wait. Each class has its own bound, and each tenant its part of it.
        trickle: the share of the slots that each class below the highest that waits is guaranteed,
            from 0 to 1/3. With the default of 0.1 a batch ends, and the others hardly notice.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        limit: the number of slots that may be held at once.
        held: the number of slots that are held now.
        last_wait: seconds that the last call waited in the queue, set by the layer; 1 before the
            first. A call that finds the queue full is asked to come back after this time, in which
            the calls that wait now will probably have been served.
        lease: what slots that are taken now are held by. All that are held in one event loop have
            the same lease. If the loop is closed, the next one has a new lease, and the old one
            gives nothing back.
        streams: the open streams that hold a slot, each with the id of its call, or None. The layer
            adds and removes them. It is not the calls themselves, which would keep alive what a
            caller has dropped.
        narrowed: whether the limit is below the configured one, because the server accepts less.
        ranked: whether a call with a priority has come, so that `admit` decides in place of `take`.
        crowd: the attempts in flight, and what refusals show of an unnamed limit on them.

    State: shared by every `ConcurrencyLimiter` that is given the object.
    """

    __slots__ = (
        "__weakref__",
        "_classes",
        "_configured",
        "_named",
        "_queue",
        "_resized",
        "_trickle",
        "_widened_at",
        "crowd",
        "held",
        "last_wait",
        "lease",
        "limit",
        "max_waiting",
        "narrowed",
        "ranked",
        "streams",
    )

    def __init__(
        self, limit: int, *, max_waiting: int | None = None, trickle: float = TRICKLE
    ) -> None:
        self.limit = self._configured = bounds.whole(limit, 1, "a concurrency limit")
        # The limit is the least of three: the configured one, the one from errors that name the
        # calls in progress, and the crowd's.
        self._named: int | None = None
        self._widened_at = 0.0
        self.narrowed = False
        this = weakref.ref(self)  # a cycle would keep a dropped partition until a collection
        self.crowd = Crowd(lambda: 0 if (slots := this()) is None else slots.waiting)
        if max_waiting is not None:
            bounds.whole(max_waiting, 0, "max_waiting")
        self.max_waiting = max_waiting
        self.held = 0
        self.last_wait = 1.0
        self._resized = False
        self.lease = object()
        self.streams: dict[object, str | None] = {}
        self._trickle = trickle_of(trickle)
        self._classes, self.ranked = Presence(), False
        self._queue: WaitQueue[Waiter] | ClassQueue[Waiter] = WaitQueue()

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a slot."""
        return self._queue.live

    @property
    def first(self) -> Waiter | None:
        """The waiter that gets the next slot, or None if no call waits."""
        return self._queue.head()

    @property
    def busy(self) -> bool:
        """Whether a slot is held or waited for, so that only its own loop may use it."""
        return self.held > 0 or self._queue.live > 0

    def in_use(self, _: float) -> bool:
        """Whether a slot is held or a call waits, so that `Keyed` must not drop it."""
        return self.busy

    def idle(self, _: float) -> bool:
        """Whether dropping them loses nothing; slots that were resized are not as the factory's."""
        return not (self.busy or self._resized)

    def look(self, now: float) -> bool:
        """Find out which classes are present now; return whether the highest one changed."""
        return self._classes.look(now)

    @property
    def spare(self) -> bool:
        """Whether a call waits that may have a slot, because no class above needs it any more."""
        return self.held < self.limit and self._next_one() is not None

    def take(self) -> bool:
        """Take a slot if one is free, else return False. While a call waits, no slot is free."""
        if self.held < self.limit:
            self.held += 1
            return True
        return False

    def admit(self, rank: int, now: float) -> bool:
        """Take a slot for a call of class `rank`, if the classes above can spare it.

        While any call waits, it returns False: `join` and then `adjust` decide who is next.
        """
        self.ranked = True
        self._classes.note(rank, now)
        if self._queue.live or self.held >= self._room(rank):
            return False
        self.held += 1
        return True

    def acquire(self, place: int | None = None, *, again: bool = False) -> Waiter | None:
        """Take a slot for an ordinary call: return None if one was free, else its waiter.

        Args:
            place: the age of the call (smaller is older), or None for the end of the queue.
            again: whether the call was let in before and now comes back for a retry.

        Raises:
            QueueFull: `max_waiting` calls are waiting, and this call comes for the first time.
        """
        return None if self.take() else self.join(place, again)

    def join(
        self,
        place: int | None = None,
        again: bool = False,
        standing: Standing = ORDINARY,
        cost: float = 0.0,
        behind: bool = False,
    ) -> Waiter:
        """Queue a call that got no slot. If `ranked`, call `adjust`: it may be its turn.

        Args:
            place: as for `acquire`.
            again: as for `acquire`.
            standing: the class and the tenant of the call.
            cost: what the call costs its tenant; 0 if that is not known yet.
            behind: whether it waits for all others of its class.

        Raises:
            QueueFull: as for `acquire`; see `WaitQueue.full`.
        """
        queue, most = self._queue, self.max_waiting
        if most is not None and not again and queue.full(standing, most):
            raise QueueFull(
                f"{queue.live} calls are already waiting for {self.limit} slots (max_waiting="
                f"{self.max_waiting}): send fewer at once, or raise max_waiting",
                retry_after=max(SHORTEST_HINT, self.last_wait),
            )
        age = queue.youngest if place is None else place
        waiter = Waiter(age, standing, cost, behind)
        if queue.standing is not standing:
            self._queue = queue = queue_for(queue, waiter, self._trickle)
        queue.push(waiter)
        return waiter

    def release(self, lease: object = None, *, sent: bool = False) -> Waiter | None:
        """Give a slot back; if a call waits, it gets the slot, and its waiter is returned.

        Args:
            lease: what the slot was held by. A lease from before `abandon` gives nothing back; None
                is the current one. If no slot is held, nothing is given back either.
            sent: whether the crowd counted the attempt as in flight.
        """
        if lease is not None and lease is not self.lease:
            return None
        if not self.held:
            return None  # released once too often: the limit must not rise by it
        if sent:
            self.crowd.in_flight -= 1
        # Above a lowered limit a slot is not handed on: this is how the number falls.
        if self.ranked or not self._queue.live or self.held > self.limit:
            self.held -= 1
            return self._hand_on() if self.ranked else None
        waiter = self._queue.pop()  # the usual case of `_hand_on`
        if waiter is not None:
            waiter.granted = True
        return waiter

    def cancel(self, waiter: Waiter, lease: object = None) -> Waiter | None:
        """Stop waiting; a slot that was just granted goes to the next waiter, which is returned.

        Args:
            waiter: what `acquire` or `join` returned.
            lease: the current one when it was returned, as for `release`.
        """
        if waiter.granted:
            return self.release(lease)
        if not waiter.gone:
            self._queue.remove(waiter)
        return None

    def resize(self, limit: int) -> list[Waiter]:
        """Change the limit at once, and return the waiters that get a slot from it.

        Slots held above a lower limit are not taken away; they are not handed on when they are
        released.

        Raises:
            ConfigurationError: the limit is below 1.
        """
        self._configured = bounds.whole(limit, 1, "a concurrency limit")
        self._named = None
        self._resized = True
        self.crowd.most = limit  # for calls that hold a slot already, and are not sent yet
        return self._use_least()

    def declared(self, _: str) -> int:
        """Return the configured limit, whatever the server accepts now."""
        return self._configured

    def declare(self, _: str, limit: int, __: float) -> list[Waiter]:
        """Do what `resize` does."""
        return self.resize(limit)

    def narrow(self, now: float) -> bool:
        """Lower the limit, because the server rejected a call; return whether the limit fell.

        The new limit is one less than the slots held now, including that of the rejected call. When
        a burst of calls is rejected, each of them lowers the limit and then releases its slot, so
        the limit ends at the number of calls that the server accepted: of 64 in flight with 24
        rejected, 40.

        One rejection lowers the limit to half at most. If only 1 of 64 slots is held and that call
        is rejected, the calls that fill the server are those of other clients, and the slots held
        here say little about the limit.
        """
        before = self.limit
        self._named = max(1, before // 2, min(before, self.held - 1))
        self._widened_at = now
        self._use_least()
        return self.limit < before

    def adjust(self, now: float) -> list[Waiter]:
        """Use what is known of the server's limit by now; return the waiters that get a slot.

        A limit from errors that name the calls in progress is raised by a quarter, once a minute.
        The crowd's is tried as it says.
        """
        self._classes.look(now)
        named = self._named
        if named is not None and now - self._widened_at >= WIDEN_EVERY:
            self._widened_at = now
            named += max(1, named // 4)
            self._named = named if named < self._configured else None
        self.crowd.try_more(now, self._configured)
        return self._use_least()

    def _use_least(self) -> list[Waiter]:
        configured = self._configured
        self.limit = min(configured, self._named or configured, self.crowd.limit or configured)
        self.narrowed = self.limit < configured
        granted = []
        while (waiter := self._hand_on()) is not None:
            granted.append(waiter)
        return granted

    def _hand_on(self) -> Waiter | None:
        """Grant a slot to the next waiter, and return it; None if there is no slot for it."""
        waiter = self._next_one()
        if waiter is not None:
            self._queue.pop()
            self.held += 1
            waiter.granted = True
        return waiter

    def _next_one(self) -> Waiter | None:
        """Return the waiter that may have a slot now, or None."""
        held, queue = self.held, self._queue
        if held >= self.limit or not queue.live:
            return None
        head = queue.head()
        if not self.ranked or head is None or queue.owed(head):
            return head
        return head if held < self._room(head.standing.rank) else None

    def _room(self, rank: int) -> int:
        """Return the number of slots that may be held after a call of class `rank` gets one."""
        limit = self.limit
        if rank == INTERACTIVE or limit == 1:
            return limit
        if self.crowd.stalled or self._classes.above(rank):
            return limit - -(-limit // KEPT)
        return limit

    def learn(self, standing: Standing, cost: float) -> None:
        """Note what a call has cost, for those of its tenant whose cost is not known."""
        self._queue.learn(standing, cost)

    def abandon(self) -> None:
        """Free all slots and forget who waits, because their event loop was closed."""
        self.lease = object()
        self.streams.clear()
        self.held = 0
        self._queue.clear()
        self.crowd.abandon()

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instants, because the clock has changed."""
        self._widened_at += seconds
        self.crowd.rebase(seconds)
        self._classes.rebase(seconds)

    def statistics(self) -> SlotsStatistics:
        """Return a frozen snapshot."""
        by_class = by_name(self._queue.waiting()) if self.ranked else {}
        return SlotsStatistics(self.limit, self.held, self._queue.live, by_class)

    def __repr__(self) -> str:
        return f"<Slots {self.held}/{self.limit} held, {self._queue.live} waiting>"
