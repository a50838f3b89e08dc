"""One policy per partition: made once, bounded in number, never dropped while in use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.circuit.circuit import Circuit
from resilient_infe.core.keyed import MOST_RESTING, Keyed
from resilient_infe.errors import ConfigurationError, TooManyPartitions
from resilient_infe.rate.allowance import Allowance
from resilient_infe.slots.slots import Slots


def test_a_key_keeps_its_policy():
    """The same key gives the same object, another key another one."""
    keyed = Keyed(lambda: Slots(1))
    assert keyed.of("a", 0.0) is keyed.of("a", 1.0)
    assert keyed.of("b", 0.0) is not keyed.of("a", 0.0)
    assert keyed.of(None, 0.0) is keyed.of(None, 9.0)
    assert len(keyed) == 3


def test_only_idle_policies_are_dropped():
    """When the number is reached an idle one goes, never one that is held."""
    keyed = Keyed(lambda: Slots(1), max_keys=2)
    busy = keyed.of("busy", 0.0)
    busy.acquire()
    keyed.of("idle", 0.0)
    keyed.of("new", 0.0)
    assert [key for key, _ in keyed.items()] == ["busy", "new"]
    assert keyed.of("busy", 0.0) is busy


def test_too_many_partitions_in_use_are_refused():
    """When all are in use a new key is refused and the others stay."""
    keyed = Keyed(lambda: Slots(1), max_keys=2)
    for key in "ab":
        keyed.of(key, 0.0).acquire()
    with pytest.raises(TooManyPartitions):
        keyed.of("c", 0.0)
    assert len(keyed) == 2
    keyed.of("a", 0.0).release()
    assert keyed.of("c", 0.0).held == 0


def test_the_least_recently_used_goes_first():
    """One that is asked for again and again stays, however many others come by."""
    keyed = Keyed(lambda: Slots(1), max_keys=3)
    hot = keyed.of("hot", 0.0)
    for number in range(100):
        keyed.of(f"user-{number}", 0.0)
        assert keyed.of("hot", 0.0) is hot
    assert [key for key, _ in keyed.items()] == ["user-98", "user-99", "hot"]


def test_many_held_policies_are_not_looked_at_again_and_again():
    """One in use moves behind the others: a drop looks at it once in a round."""
    looked = []

    class Counted(Slots):
        def in_use(self, now):
            looked.append(self)
            return super().in_use(now)

    keyed = Keyed(lambda: Counted(1), max_keys=100)
    for number in range(90):
        keyed.of(f"held-{number}", 0.0).acquire()
    for number in range(1_000):
        keyed.of(f"user-{number}", 0.0)
    assert len(looked) < 1_000 + 90 * (1_000 / 10 + 1)


def test_what_was_spent_comes_back_with_its_key():
    """A partition that has just spent makes room, and goes on from its debt when it returns."""
    keyed = Keyed(lambda: Allowance(60), max_keys=1)
    allowance = keyed.of("a", 0.0)
    allowance.settle(allowance.reserve(0.0), 0.0)
    assert keyed.of("b", 0.5) is not allowance
    assert keyed.of("a", 0.6) is allowance
    keyed.of("b", 0.7)
    for number in range(3):  # once its window is over it is forgotten, as others are dropped
        keyed.of(f"c-{number}", 65.0)
    assert keyed.of("a", 65.0) is not allowance


def test_a_closed_gate_comes_back_with_its_key():
    """A partition whose gate is closed may be dropped, and its gate is closed when it returns."""
    keyed = Keyed(lambda: Allowance(60), max_keys=1)
    allowance = keyed.of("a", 0.0)
    reservation = allowance.reserve(0.0)
    allowance.refund(reservation, 0.0, request=True)
    allowance.gate.close(100.0, reservation.granted_at, 0.0, "asked")
    keyed.of("b", 1.0)
    assert keyed.of("a", 99.0).gate.until == 100.0


def test_policies_at_rest_are_bounded():
    """However many keys come in a minute, so many times the number that is kept at most."""
    keyed = Keyed(lambda: Allowance(60), max_keys=2)
    first = keyed.of(0, 0.0)
    first.settle(first.reserve(0.0), 0.0)
    for key in range(1, 200):
        allowance = keyed.of(key, 0.0)
        allowance.settle(allowance.reserve(0.0), 0.0)
    assert len(keyed._resting) == MOST_RESTING * 2
    assert keyed.of(0, 0.0) is not first


def test_an_open_circuit_keeps_its_partition_until_it_has_rested():
    """A circuit that is open is not dropped; one that nobody asks again is, in the end."""
    keyed = Keyed(lambda: Circuit(consecutive_failures=1, open_for=10.0), max_keys=1)
    circuit = keyed.of("a", 0.0)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    with pytest.raises(TooManyPartitions):
        keyed.of("b", 5.0)
    assert keyed.of("b", 10.0) is not circuit


def test_a_half_open_circuit_keeps_its_partition_while_its_probes_are_out():
    """Until their leases end."""
    keyed = Keyed(
        lambda: Circuit(consecutive_failures=1, open_for=10.0, probe_lease=60.0), max_keys=1
    )
    circuit = keyed.of("a", 0.0)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert circuit.admit(10.0) is not None
    with pytest.raises(TooManyPartitions):
        keyed.of("b", 69.0)
    assert keyed.of("b", 70.0) is not circuit


def test_items_is_a_copy():
    """A key may be added while the items are looked through."""
    keyed = Keyed(lambda: Slots(1))
    keyed.of("a", 0.0)
    for _ in keyed.items():
        keyed.of("b", 0.0)
    assert len(keyed) == 2


def test_a_sample_is_not_kept():
    """Describing what the factory makes adds no partition."""
    keyed = Keyed(lambda: Slots(3), max_keys=1)
    assert keyed.sample().limit == 3
    assert len(keyed) == 0


@pytest.mark.parametrize("max_keys", [0, -1])
def test_a_bound_below_one_is_refused(max_keys):
    """At least one key must fit."""
    with pytest.raises(ConfigurationError):
        Keyed(Circuit, max_keys=max_keys)


def test_a_factory_that_raises_leaves_nothing_behind():
    """A partition whose policy cannot be made does not exist."""
    keyed = Keyed(lambda: Slots(0))
    with pytest.raises(ConfigurationError):
        keyed.of("a", 0.0)
    assert len(keyed) == 0
    assert repr(keyed) == "<Keyed 0/1024 partitions>"


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=60), st.integers(1, 4))
def test_the_number_is_never_exceeded_and_nothing_held_is_lost(steps, max_keys):
    """However keys come and go, at most `max_keys` exist and a held one keeps its object."""
    keyed, held = Keyed(lambda: Slots(100), max_keys=max_keys), {}
    for number, keep in steps:
        key = str(number)
        if key not in held and len(held) == max_keys:
            with pytest.raises(TooManyPartitions):
                keyed.of(key, 0.0)
            continue
        policy = keyed.of(key, 0.0)
        assert held.get(key, policy) is policy
        if keep:
            policy.acquire()
            held[key] = policy
        assert len(keyed) <= max_keys


def test_a_partition_whose_limit_was_learned_rests_for_an_hour():
    """What was learned comes back with its key, and does not stay for ever."""
    keyed = Keyed(Allowance, max_keys=1)
    allowance = keyed.of("a", 0.0)
    reservation = allowance.reserve(0.0)
    allowance.rejected(reservation, 1.0)
    allowance.settle(reservation, 1.0)
    keyed.of("b", 60.0)
    assert keyed.of("a", 61.0) is allowance
    for number in range(3):
        keyed.of(f"c-{number}", 7_200.0)
    assert keyed.of("a", 7_200.0) is not allowance


def test_what_rests_is_remembered():
    """Those at rest come with the others, for whoever keeps what was learned."""
    keyed = Keyed(lambda: Allowance(60), max_keys=1)
    allowance = keyed.of("a", 0.0)
    allowance.settle(allowance.reserve(0.0), 0.0)
    other = keyed.of("b", 0.0)
    assert dict(keyed.items()) == {"b": other}
    assert dict(keyed.remembered()) == {"a": allowance, "b": other}


def test_a_key_at_rest_is_not_lost_when_there_is_no_room():
    """It is refused as a new one is, and comes back with what it spent when there is room."""
    keyed = Keyed(lambda: Allowance(60), max_keys=1)
    allowance = keyed.of("a", 0.0)
    allowance.settle(allowance.reserve(0.0), 0.0)
    held = keyed.of("b", 0.0)
    reservation = held.reserve(0.0)
    with pytest.raises(TooManyPartitions):
        keyed.of("a", 0.1)
    held.settle(reservation, 0.2)
    assert keyed.of("a", 0.2) is allowance


def test_a_factory_that_requires_an_argument_is_given_the_key():
    """Each key has a policy of its own kind; calls without a partition have the key None."""
    keyed = Keyed(lambda model: Slots({"infe-pulse": 9}.get(model, 2)))
    assert (keyed.of("infe-pulse", 0.0).limit, keyed.of(None, 0.0).limit) == (9, 2)
    assert (keyed.sample("infe-pulse").limit, keyed.sample().limit) == (9, 2)


@pytest.mark.parametrize("factory", [lambda limit=3: Slots(limit), lambda *_: Slots(3)])
def test_a_factory_that_requires_none_is_given_none(factory):
    """A default is often a value that a loop binds, and is left as it is."""
    assert Keyed(factory).of("infe-pulse", 0.0).limit == 3


async def make_slots():
    """Make slots, in a way that cannot be used."""
    return Slots(1)


@pytest.mark.parametrize("factory", [lambda a, b: Slots(1), lambda *, key: Slots(1), make_slots])
def test_a_factory_that_takes_something_else_is_refused(factory):
    """The message says what it may take."""
    with pytest.raises(ConfigurationError, match="takes nothing, or the key"):
        Keyed(factory)
