"""Limits the number of attempts in flight.

Why inside Retry? A call that backs off must not hold a slot: with 64 slots and an outage, 64
sleeping calls would block all others. Instead its slot goes to the next call at once, and the retry
later gets the place in the queue that the call's age gives it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

from ..aio import wake
from ..aio.partitioned import Partitioned
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.queue import Waiter
from ..core.rejection import REJECTED, is_crowded
from ..core.verdict import Usage, Verdict
from ..errors import QueueFull
from ..events import SlotsNarrowed
from .slots import Slots, SlotsStatistics

Held: TypeAlias = tuple[Slots, object]
"""The slots of an attempt, and the lease that they were taken under."""


class ConcurrencyLimiter(Guard[Held]):
    """Limits how many attempts run at once; the others wait, the oldest call first.

    Args:
        slots: a number from 1, a shared `Slots`, or a ``Keyed(lambda: Slots(n))`` for one per
            partition. There is no default, because no number is safe for every server.

    Raises:
        QueueFull: from a call, if its `Slots` limit their queue and the queue is full.

    If the server reports too many calls in progress (by the error's code), the limit falls; once a
    minute it is raised by a quarter again, up to the configured number.

    State: in the `Slots`. A slot is held from the send to the end of the reply, for a stream to the
    end of its body.
    """

    def __init__(self, slots: int | Slots | Keyed[Slots]) -> None:
        self.slots: Partitioned[Slots] = Partitioned(
            Slots(slots) if isinstance(slots, int) else slots,
            Slots,
            "ConcurrencyLimiter",
            "a whole number from 1, Slots(...) or Keyed(lambda: Slots(...))",
        )

    def enter(self, call: Call[Any]) -> Held | None:
        """Take a slot if one is free."""
        slots = self.slots.of(call)
        return (slots, slots.lease) if slots.take() else None

    async def wait(self, call: Call[Any]) -> Held:
        """Wait for a slot.

        If the call is cancelled when it has just been granted a slot, the slot goes to the next
        waiter.
        """
        slots = self.slots.of(call)
        waiter, lease = self._join(call, slots), slots.lease
        began = call.runtime.now()
        try:
            if not waiter.granted:
                await call.runtime.park(waiter)
            slots.last_wait = call.runtime.now() - began
        except BaseException:
            wake(slots.cancel(waiter, lease))
            raise
        finally:
            call.state.waited("slot", call.runtime.now() - began)
        return slots, lease

    def leave(self, call: Call[Any], held: Held, _: Any, error: BaseException | None) -> None:
        """Release the slot: now, or for a stream when it is closed."""
        slots, lease = held
        verdict = call.verdict
        if verdict is not None and verdict.kind is REJECTED:
            self._narrow(call, slots, verdict)
        if call.hold is None or error is not None:
            freed = slots.release(lease)
            if freed is not None:
                wake(freed)
        else:
            call.hold.on_close(partial(_release, slots, lease))

    def resize(self, limit: int, partition: str | None = None) -> None:
        """Change the limit of a partition's slots while they are in use.

        Args:
            limit: the new number of slots, from 1.
            partition: the partition; None for slots that all partitions share.

        Raises:
            ConfigurationError: the limit is below 1.
            KeyError: no call of that partition has been made yet.
        """
        slots = dict(self.slots.items())[partition]
        for waiter in slots.resize(limit):
            wake(waiter)

    def statistics(self, _: float) -> dict[str | None, SlotsStatistics]:
        """Return a snapshot per partition."""
        return {partition: slots.statistics() for partition, slots in self.slots.items()}

    def describe(self) -> str:
        """Return the limit as text."""
        slots: Any = self.slots.sample()
        bound = "" if slots.max_waiting is None else f", at most {slots.max_waiting} waiting"
        return f"{slots.limit} in flight{bound}{self.slots.describe()}"

    def _narrow(self, call: Call[Any], slots: Slots, verdict: Verdict) -> None:
        """Lower the limit if the server reported too many calls in progress."""
        before = slots.limit
        if is_crowded(verdict) and slots.narrow(call.runtime.now()) and call.emit is not None:
            call.emit(SlotsNarrowed(call.request_id, call.partition, before, slots.limit))

    def _join(self, call: Call[Any], slots: Slots) -> Waiter:
        try:
            waiter = slots.join(call.state.place, call.state.readmitted)
        except QueueFull as full:
            raise call.refuse(full) from None
        if slots.narrowed:
            for granted in slots.widen(call.runtime.now()):
                wake(granted)
        return waiter


def _release(slots: Slots, lease: object, _: Usage | None) -> None:
    wake(slots.release(lease))
