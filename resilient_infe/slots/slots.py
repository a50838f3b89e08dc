"""How many calls may be in flight at once.

A counter and a queue. A freed slot is *handed* to the next waiter, never thrown back into the open,
so nobody overtakes and no wake-up is lost. `anyio.CapacityLimiter` is bound to tasks (it leaks from
an abandoned async generator) and `asyncio.Semaphore` costs more and cannot be resized.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import bounds
from ..core.queue import Waiter, WaitQueue
from ..errors import QueueFull


@dataclass(frozen=True, slots=True)
class SlotsStatistics:
    """A snapshot: slots in all, those held, and the calls that wait for one."""

    limit: int
    held: int
    waiting: int


WIDEN_EVERY = 60.0
"""Seconds between two tries of more slots: each may cost 429s."""


class Slots:
    """Concurrency with a strict FIFO queue, resizable while in use.

    Args:
        limit: how many may be held at once, at least 1; no default, since none is safe.
        max_waiting: how many may wait (a retry always may), or None for any number.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        narrowed: whether the server takes fewer at once than were configured.

    State: shared by every `ConcurrencyLimiter` that is given the object.
    """

    __slots__ = (
        "__weakref__",
        "_held",
        "_limit",
        "_most",
        "_queue",
        "_widened_at",
        "max_waiting",
        "narrowed",
    )

    def __init__(self, limit: int, *, max_waiting: int | None = None) -> None:
        """Start with every slot free."""
        self._limit = self._most = bounds.whole(limit, 1, "a concurrency limit")
        self._widened_at = 0.0
        self.narrowed = False
        if max_waiting is not None:
            bounds.whole(max_waiting, 0, "max_waiting")
        self.max_waiting = max_waiting
        self._held = 0
        self._queue: WaitQueue[Waiter] = WaitQueue()

    @property
    def limit(self) -> int:
        """How many may be held at once."""
        return self._limit

    @property
    def held(self) -> int:
        """How many are held now."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._queue.live

    @property
    def busy(self) -> bool:
        """Whether a slot is held or waited for, so that only its own loop may use it."""
        return self._held > 0 or self._queue.live > 0

    def idle(self, now: float) -> bool:  # noqa: ARG002  # the shape every keyed policy has
        """Whether it is as good as new, so that `Keyed` may drop it."""
        return not self.busy

    def take(self) -> bool:
        """Take a slot if one is free; False takes nothing. While somebody waits none is free."""
        if self._held < self._limit:
            self._held += 1
            return True
        return False

    def acquire(self, place: int | None = None, *, again: bool = False) -> Waiter | None:
        """Take a slot: None when it was free, else the waiter to wait on.

        Args:
            place: the age of the call (smaller is older), or None for the end of the queue.
            again: whether the call has been let in before, and now comes back for a retry.

        Raises:
            QueueFull: `max_waiting` calls wait already, and this one comes for the first time.
        """
        return None if self.take() else self.join(place, again)

    def join(self, place: int | None = None, again: bool = False) -> Waiter:
        """Join the queue, for who found no slot to `take`; as `acquire`.

        Raises:
            QueueFull: as for `acquire`.
        """
        queue = self._queue
        if self.max_waiting is not None and queue.live >= self.max_waiting and not again:
            raise QueueFull(
                f"{queue.live} calls wait for {self._limit} slots already (max_waiting="
                f"{self.max_waiting}): send fewer at once, or raise max_waiting"
            )
        waiter = Waiter(queue.youngest if place is None else place)
        queue.push(waiter)
        return waiter

    def release(self) -> Waiter | None:
        """Give a slot back; it goes to the waiter that is returned, if one waits."""
        if not self._queue.live or self._held > self._limit:
            self._held -= 1
            return None
        waiter = self._queue.pop()
        if waiter is not None:
            waiter.granted = True
        return waiter

    def cancel(self, waiter: Waiter) -> Waiter | None:
        """Stop waiting; a slot that was just granted goes to the waiter that is returned."""
        if waiter.granted:
            return self.release()
        if not waiter.gone:
            self._queue.remove(waiter)
        return None

    def resize(self, limit: int) -> list[Waiter]:
        """Change the limit at once and return the waiters that got a slot by it.

        Slots held above a lower limit are not taken away; they are not handed on when they end.

        Raises:
            ConfigurationError: the limit is below 1.
        """
        self._limit = self._most = bounds.whole(limit, 1, "a concurrency limit")
        self.narrowed = False
        return self._hand_out()

    def narrow(self, now: float) -> bool:
        """Hold one less than now, as the server takes fewer; True if the limit fell.

        When a crowd is rejected, each of it narrows by itself and its slot is given back, so that
        what remains is what the server took. One alone halves them at most: the others in progress
        may be somebody else's.
        """
        limit = max(1, self._limit // 2, min(self._limit, self._held - 1))
        lower, self._limit, self._widened_at = limit < self._limit, limit, now
        self.narrowed = limit < self._most
        return lower

    def widen(self, now: float) -> list[Waiter]:
        """Try a quarter more, once a minute, up to what was configured; return who got one."""
        if not self.narrowed or now - self._widened_at < WIDEN_EVERY:
            return []
        self._widened_at = now
        self._limit = min(self._most, self._limit + max(1, self._limit // 4))
        self.narrowed = self._limit < self._most
        return self._hand_out()

    def _hand_out(self) -> list[Waiter]:
        granted = []
        while self._held < self._limit and self._queue.live:
            self._held += 1
            waiter = self._queue.pop()
            assert waiter is not None
            waiter.granted = True
            granted.append(waiter)
        return granted

    def rebase(self, seconds: float) -> None:
        """Move the stored instant, to follow another clock."""
        self._widened_at += seconds

    def statistics(self) -> SlotsStatistics:
        """Return a frozen snapshot."""
        return SlotsStatistics(self._limit, self._held, self._queue.live)

    def __repr__(self) -> str:
        """Show the limit and its use."""
        return f"<Slots {self._held}/{self._limit} held, {self._queue.live} waiting>"
