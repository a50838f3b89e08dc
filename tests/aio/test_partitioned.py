"""The policy of a call: found by its partition, and bound to the call's loop whoever moved it."""

import asyncio

import pytest

from resilient_infe.aio import current, keeper_of
from resilient_infe.aio.partitioned import Partitioned
from resilient_infe.core.call import Call
from resilient_infe.core.keyed import Keyed
from resilient_infe.core.queue import Waiter
from resilient_infe.errors import WrongLoopError
from resilient_infe.slots.slots import Slots


def found(partitioned, partition=None):
    """Return the policy of a call of this partition on the running loop."""
    call = Call("x", partition=partition)
    call.runtime = current()
    return partitioned.of(call)


def of(policy):
    """Return what finds a policy of slots."""
    return Partitioned(policy, Slots, "ConcurrencyLimiter", "Slots(...)")


def test_each_partition_has_its_own_policy(run):
    """Calls of one partition get one policy, in whatever order the partitions come."""

    async def main():
        partitioned = of(Keyed(lambda: Slots(1)))
        order = [None, "a", "a", None, "b", "a", "b", None, ""]
        policies = {}
        for partition in order:
            policy = found(partitioned, partition)
            assert policies.setdefault(partition, policy) is policy
        return len(set(map(id, policies.values())))

    assert run(main) == 4


def test_two_layers_share_a_keyed(run):
    """What the one has dropped is not kept by the other, although it had found it last."""

    async def main():
        keyed = Keyed(lambda: Slots(1), max_keys=1)
        one, other = of(keyed), of(keyed)
        first = found(one, "a")
        assert found(other, "a") is first
        first.resize(2)  # so that it is not as new, and rests
        assert found(other, "b") is not first
        assert found(one, "a") is first
        assert found(other, "a") is first
        assert [name for name, _ in keyed.items()] == ["a"]

    run(main)


def test_a_policy_that_another_layer_moved_is_bound_again():
    """Two layers share slots: each finds them on its call's loop, after any change of loops."""
    slots = Slots(1)
    one, other = of(slots), of(slots)

    async def use(*layers):
        for layer in layers:
            assert found(layer) is slots
            assert keeper_of(slots).runtime is current()

    for layers in ([one, other], [other], [one], [other, one], [one]):
        asyncio.run(use(*layers))


def test_slots_in_use_on_a_loop_are_not_found_on_another():
    """A layer that had them on its loop does not take them back from the loop that uses them."""
    slots = Slots(1)
    one, other = of(slots), of(slots)
    loops = [asyncio.new_event_loop() for _ in range(2)]

    async def take(layer):
        return found(layer).take()

    try:
        assert loops[0].run_until_complete(take(one))
        slots.release()
        assert loops[1].run_until_complete(take(other))
        with pytest.raises(WrongLoopError):
            loops[0].run_until_complete(take(one))
    finally:
        for loop in loops:
            loop.close()


class Granting(Slots):
    """Slots that have a waiter to grant at once."""

    __slots__ = ("polled",)

    def __init__(self):
        super().__init__(1)
        self.polled = []

    @property
    def due(self):
        """The time at which a waiter is granted: before any other."""
        return None if self.polled else 0.0

    def poll(self, now):
        """Note who asked, and grant nobody."""
        self.polled.append(now)
        return list[Waiter]()


def test_an_alarm_of_the_loop_before_does_not_ring():
    """A loop that was only stopped runs again, and leaves alone what has moved to another."""
    policy = Granting()
    loops = [asyncio.new_event_loop() for _ in range(2)]

    async def bind():
        found(of(policy))
        when = current().now() + 0.001
        keeper_of(policy)._alarm.set(when)
        return when

    async def move():
        found(of(policy))
        return keeper_of(policy).runtime is current()

    async def pass_by(when):
        await current().sleep_until(when)

    try:
        when = loops[0].run_until_complete(bind())
        assert loops[1].run_until_complete(move())
        loops[0].run_until_complete(pass_by(when))
        assert policy.polled == []
    finally:
        for loop in loops:
            loop.close()
