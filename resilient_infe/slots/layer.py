"""Limits the number of attempts in flight.

Why inside Retry? A call that backs off must not hold a slot: with 64 slots and an outage, 64
sleeping calls would block all others. Instead its slot goes to the next call at once, and the retry
later gets the place in the queue that the call's age gives it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from ..aio import Runtime, wake
from ..aio.partitioned import Partitioned
from ..core.by_model import OTHERS, Count, by_model
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.priority import rank_of, standing_of
from ..core.queue import ORDINARY, Waiter
from ..core.rejection import REJECTED, is_crowded
from ..core.verdict import Usage, Verdict
from ..errors import ConfigurationError, OpenStreamsWarning, QueueFull
from ..events import SlotsNarrowed
from .slots import Slots, SlotsStatistics

Held: TypeAlias = tuple[Slots, object]
"""The slots of an attempt, and the lease that they were taken under."""


LONGEST_WAIT = 5.0
"""Seconds that a call waits while open streams hold all slots, before a warning is given."""

MOST_NAMED = 10
"""Ids of calls that the warning names."""


class ConcurrencyLimiter(Guard[Held]):
    """Limits how many attempts run at once; the others wait, the oldest call first.

    With priorities, the classes are served in order; tenants of a class share the slots fairly.

    Args:
        slots: a number from 1, a shared `Slots`, or a ``Keyed(lambda: Slots(n))`` for one per
            partition. There is no default, because no number is safe for every server. So a mapping
            from model to number, which makes slots for each partition, must have ``"*"`` for each
            other model.

    Raises:
        ConfigurationError: it is something else, or a number is below 1.
        QueueFull: from a call, if its `Slots` limit their queue and the queue is full.

    If the server reports too many calls in progress (by the error's code), the limit falls; once a
    minute it is raised by a quarter again, up to the configured number.

    If open streams hold all slots and a call waits over 5 s for one, there is one warning
    (`OpenStreamsWarning`), because a call inside the loop over a stream may wait for ever.

    State: in the `Slots`, and whether it has warned. A slot is held from the send to the end of the
    reply, for a stream to the end of its body.
    """

    def __init__(self, slots: Count | Slots | Keyed[Slots]) -> None:
        if isinstance(slots, Mapping):
            if OTHERS not in slots:
                raise ConfigurationError(
                    f"ConcurrencyLimiter: the mapping says nothing of models that it does not "
                    f"name: add {OTHERS!r}, the number for each other model"
                )
            slots = by_model(lambda **given: Slots(given["slots"]), {"slots": slots})
        self.slots: Partitioned[Slots] = Partitioned(
            Slots(slots) if isinstance(slots, int) else slots,
            Slots,
            "ConcurrencyLimiter",
            "a whole number from 1, a mapping from model to number, Slots(...) or "
            "Keyed(lambda: Slots(...))",
        )
        self._watched: WeakKeyDictionary[Slots, Runtime] = WeakKeyDictionary()
        self._warned = False

    def enter(self, call: Call[Any]) -> Held | None:
        """Take a slot if one is free."""
        slots = self.slots.of(call)
        state = call.state
        state.crowd, state.others = slots.crowd, -1
        if call.priority is None and not slots.ranked:
            taken = slots.take()
        else:
            taken = slots.admit(rank_of(call.priority), call.runtime.now())
        return (slots, slots.lease) if taken else None

    async def wait(self, call: Call[Any]) -> Held:
        """Wait for a slot.

        If the call is cancelled when it has just been granted a slot, the slot goes to the next
        waiter.
        """
        slots = self.slots.of(call)
        waiter, lease = self._join(call, slots), slots.lease
        began = call.runtime.now()
        if slots.streams:
            self._watch(call.runtime, slots, call.partition)
        try:
            if not waiter.granted:
                await call.runtime.park(waiter)
        except BaseException:
            wake(slots.cancel(waiter, lease))
            raise
        finally:
            waited = call.runtime.now() - began
            call.state.waited("slot", waited)
        slots.last_wait = waited
        return slots, lease

    def leave(self, call: Call[Any], held: Held, _: Any, error: BaseException | None) -> None:
        """Release the slot: now, or for a stream when it is closed."""
        slots, lease = held
        verdict, sent = call.verdict, call.state.others >= 0
        before = slots.limit
        lapsed = slots.ranked and slots.look(call.runtime.now())
        if verdict is not None and verdict.kind is REJECTED and _names_the_calls(verdict):
            slots.narrow(call.runtime.now())
        if slots.narrowed or slots.crowd.limit is not None:
            self._adjust(call, slots, before)
        if call.hold is None or error is not None:
            freed = slots.release(lease, sent=sent)
            if freed is not None:
                wake(freed)
        else:
            stream = object()
            slots.streams[stream] = call.request_id
            call.hold.on_close(partial(_release, slots, lease, sent, stream))
            if slots.waiting:
                self._watch(call.runtime, slots, call.partition)
        if lapsed:
            self._refill(call.runtime, slots)
        if call.tenant is not None and call.state.cost:
            slots.learn(standing_of(call.priority, call.tenant), call.state.cost)

    def resize(self, limit: int, partition: str | None = None) -> None:
        """Change the limit of a partition's slots while they are in use.

        Args:
            limit: the new number of slots, from 1.
            partition: the partition, which is made if it has had no call yet; None for slots that
                all partitions share.

        Raises:
            ConfigurationError: the limit is below 1, or all partitions share the slots.
            TooManyPartitions: the partition is new, and `Keyed` has no room for it.
        """
        self.declare(self.slots.to_resize(partition), limit)

    def declare(self, slots: Slots, concurrency: int) -> None:
        """Change the limit of slots of this layer, and grant those that are free now."""
        for waiter in slots.resize(concurrency):
            wake(waiter)

    def statistics(self, _: float) -> dict[str | None, SlotsStatistics]:
        """Return a snapshot per partition."""
        return {partition: slots.statistics() for partition, slots in self.slots.items()}

    def describe(self) -> str:
        """Return the limit as text."""
        return self.slots.describe(_in_words)

    def _watch(self, runtime: Runtime, slots: Slots, partition: str | None) -> None:
        """If open streams hold all slots, look in a while whether the first call still waits."""
        full = len(slots.streams) >= slots.held
        if full and not self._warned and self._watched.get(slots) is not runtime:
            self._watched[slots] = runtime
            look = partial(self._look, runtime, slots, partition, slots.first)
            runtime.alarm(look).set(runtime.now() + LONGEST_WAIT)

    def _look(
        self, runtime: Runtime, slots: Slots, partition: str | None, first: Waiter | None, _: float
    ) -> None:
        """Warn if the call still waits; watch the next one if the call got its slot or left."""
        self._watched.pop(slots, None)
        if first is None or first.granted or first.gone:
            if slots.waiting:
                self._watch(runtime, slots, partition)
        elif len(slots.streams) >= slots.held and not self._warned:
            self._warned = True
            where = f" of partition {partition!r}" if partition else ""
            whose = _listed(slots.streams.values())
            message = (
                f"all {slots.held} slots{where} are held by open streams{whose}, and a call has "
                f"waited over {LONGEST_WAIT:g} s for one. A call inside the loop over a stream "
                f"waits for that stream, and the stream for it: read the stream to its end or "
                f"close it before the call, or give the limiter more slots than there are streams "
                f"at once"
            )
            # A filter may make it an error, which would end the loop: no caller is here to get it.
            with contextlib.suppress(OpenStreamsWarning):
                warnings.warn(message, OpenStreamsWarning, stacklevel=2)

    def _adjust(self, call: Call[Any], slots: Slots, before: int) -> None:
        """Use what is known of the server's limit by now, and report a lower one."""
        for granted in slots.adjust(call.runtime.now()):
            wake(granted)
        if slots.limit < before and call.emit is not None:
            call.emit(SlotsNarrowed(call.request_id, call.partition, before, slots.limit))

    def _refill(self, runtime: Runtime, slots: Slots) -> None:
        """Grant what was kept while calls with a slot waited for the rate limit."""
        for granted in slots.adjust(runtime.now()):
            wake(granted)
        if not slots.waiting:
            slots.crowd.on_moving = None

    def _join(self, call: Call[Any], slots: Slots) -> Waiter:
        state, standing = call.state, ORDINARY
        if call.priority is not None or call.tenant is not None:
            standing = standing_of(call.priority, call.tenant)
        try:
            waiter = slots.join(state.place, state.readmitted, standing, state.cost, state.behind)
        except QueueFull as full:
            raise call.refuse(full) from None
        if slots.ranked:
            slots.look(call.runtime.now())
            if slots.crowd.on_moving is None:
                slots.crowd.on_moving = partial(self._refill, call.runtime, slots)
        if slots.narrowed or slots.crowd.limit is not None or (slots.ranked and slots.spare):
            self._adjust(call, slots, slots.limit)
        return waiter


def _in_words(slots: Slots) -> str:
    bound = "" if slots.max_waiting is None else f", at most {slots.max_waiting} waiting"
    return f"{slots.limit} in flight{bound}"


def _names_the_calls(verdict: Verdict) -> bool:
    """Whether the error names the calls in progress; what the crowd explains, it counts itself."""
    return is_crowded(verdict) and not verdict.crowded


def _release(slots: Slots, lease: object, sent: bool, stream: object, _: Usage | None) -> None:
    slots.streams.pop(stream, None)
    wake(slots.release(lease, sent=sent))


def _listed(found: Iterable[str | None]) -> str:
    """Return the ids of calls as text; empty if they have none."""
    ids = sorted(each for each in found if each is not None)
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f" ({', '.join(ids[:MOST_NAMED])}{more})" if ids else ""
