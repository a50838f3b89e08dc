"""Bounds how many attempts are in flight.

Why inside Retry? A call that backs off must not hold a slot: with 64 slots and an outage, 64
sleeping calls would be all that happens. Its slot goes to the next at once, and it keeps its place
for later.
"""

from __future__ import annotations

from functools import partial
from typing import Any

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


class ConcurrencyLimiter(Guard[Slots]):
    """Bounds how many attempts run at once; the others wait, oldest call first.

    Args:
        slots: a number from 1, a shared `Slots`, or a ``Keyed(lambda: Slots(n))`` for one per
            partition. No default: none is safe.

    Raises:
        QueueFull: from a call, when the `Slots` bound their queue and it is full.

    A server that says (by the error's code) that too many are in progress makes the slots fewer;
    once a minute a quarter more is tried again. State: in the `Slots`. A slot is held from the send
    to the end of the reply, for a stream to the end of its body.
    """

    def __init__(self, slots: int | Slots | Keyed[Slots]) -> None:
        """Make the slots if only their number is given."""
        self.slots: Partitioned[Slots] = Partitioned(
            Slots(slots) if isinstance(slots, int) else slots,
            Slots,
            "ConcurrencyLimiter",
            "a whole number from 1, Slots(...) or Keyed(lambda: Slots(...))",
        )

    def enter(self, call: Call[Any]) -> Slots | None:
        """Take a slot if one is free."""
        slots = self.slots.of(call)
        return slots if slots.take() else None

    async def wait(self, call: Call[Any]) -> Slots:
        """Wait for a slot; one that is handed over while the caller leaves goes to the next."""
        slots = self.slots.of(call)
        waiter = self._join(call, slots)
        try:
            if not waiter.granted:
                await call.runtime.park(waiter)
        except BaseException:
            wake(slots.cancel(waiter))
            raise
        return slots

    def leave(self, call: Call[Any], held: Slots, _: Any, error: BaseException | None) -> None:
        """Give the slot to the next, now or when the stream that came is closed."""
        verdict = call.verdict
        if verdict is not None and verdict.kind is REJECTED:
            self._narrow(call, held, verdict)
        if call.hold is None or error is not None:
            freed = held.release()
            if freed is not None:
                wake(freed)
        else:
            call.hold.on_close(partial(_release, held))

    def resize(self, limit: int, partition: str | None = None) -> None:
        """Change the limit of a partition's slots (of the shared ones by default) while in use.

        Raises:
            ConfigurationError: the limit is below 1.
            KeyError: no call of that partition has come by yet.
        """
        slots = dict(self.slots.items())[partition]
        for waiter in slots.resize(limit):
            wake(waiter)

    def statistics(self, _: float) -> dict[str | None, SlotsStatistics]:
        """Return a snapshot per partition."""
        return {partition: slots.statistics() for partition, slots in self.slots.items()}

    def describe(self) -> str:
        """Say the limit."""
        slots: Any = self.slots.sample()
        bound = "" if slots.max_waiting is None else f", at most {slots.max_waiting} waiting"
        return f"{slots.limit} in flight{bound}{self.slots.describe()}"

    def _narrow(self, call: Call[Any], slots: Slots, verdict: Verdict) -> None:
        """Hold fewer where the server said that too many are in progress."""
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


def _release(slots: Slots, _: Usage | None) -> None:
    wake(slots.release())
