"""Bounds how many attempts are in flight.

Why inside Retry? A call that backs off must not hold a slot: with 64 slots and an outage, 64
sleeping calls would be all that happens. Its slot goes to the next at once, and it keeps its place
for later.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..aio import wake
from ..call import Call, Handler
from ..errors import QueueFull
from ..policies.keyed import Keyed
from ..policies.queue import Waiter
from ..policies.rejection import REJECTED, is_crowded
from ..policies.slots import Slots
from ..verdict import Usage
from .partitioned import Partitioned

if TYPE_CHECKING:
    from ..policies.snapshots import SlotsStatistics

P = TypeVar("P")
R = TypeVar("R")


class ConcurrencyLimiter:
    """Lets at most so many attempts run at once; the others wait, oldest call first.

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
        self._one: Slots | None = self.slots.one
        self._known = self.slots.known

    async def __call__(  # a frame more per call would cost more than all the rest
        self, call: Call[P], call_next: Handler[P, R]
    ) -> R:
        """Wait for a slot, call on, give the slot to the next."""
        slots = self._one
        if slots is None:
            known = self._known  # apart from its call, since it is no method
            slots = known(call.partition)
        if slots is None or slots.home is not call.runtime:
            slots = self.slots.of(call)
        if not slots.take():
            waiter = self._join(call, slots)
            try:
                if not waiter.granted:
                    await call.runtime.park(waiter)
            except BaseException:
                wake(slots.cancel(waiter))
                raise
        try:
            result = await call_next(call)
        except BaseException:
            self._fail(call, slots)
            raise
        verdict = call.verdict
        if call.hold is not None or (verdict is not None and verdict.kind is REJECTED):
            self._end(call, slots)
            return result
        freed = slots.release()
        if freed is not None and freed.wake is not None:
            freed.wake()
        return result

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

    def _end(self, call: Call[Any], slots: Slots) -> None:
        self._see(call, slots)
        if call.hold is None:
            wake(slots.release())
        else:
            call.hold.on_close(partial(_release, slots))

    def _fail(self, call: Call[Any], slots: Slots) -> None:
        self._see(call, slots)
        wake(slots.release())

    def _see(self, call: Call[Any], slots: Slots) -> None:
        """Hold fewer where the server said that too many are in progress."""
        verdict, before = call.verdict, slots.limit
        if verdict is None or not is_crowded(verdict):
            return
        if slots.narrow(call.runtime.now()) and call.emit is not None:
            from ..events import SlotsNarrowed

            call.emit(SlotsNarrowed(call.request_id, call.partition, before, slots.limit))

    def _join(self, call: Call[Any], slots: Slots) -> Waiter:
        try:
            waiter = slots.join(call.place, call.again)
        except QueueFull as full:
            raise full.on(call) from None
        if slots.narrowed:
            for granted in slots.widen(call.runtime.now()):
                wake(granted)
        return waiter


def _release(slots: Slots, _: Usage | None) -> None:
    wake(slots.release())
