"""The script, on a real Redis, against the model of it; and what must always hold of the model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.shared.script import SCRIPT, SHARES, Asked, answers, arguments, keys
from resilient_infe.testing.store import StoreModel

NEEDS = st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 1e5))
SAYS = st.tuples(
    st.integers(0, 4),
    st.tuples(NEEDS, NEEDS, NEEDS),
    st.sampled_from(["has", "has", "gives up", "invents"]),
    st.integers(0, 4_000),
)


def said(member, needs, held, lease=10.0, **others):
    """Return what a member tells the script."""
    return keys("t", ["all"]), arguments(f"m{member}", lease, [Asked(held, needs, **others)])


class Fleet:
    """Members that tell a store what they hold."""

    def __init__(self, store):
        """Hold nothing."""
        self.store, self.now, self.shares = store, 1_000_000, {}

    def say(self, member, needs, how, later):
        """Let a member ask; return its share."""
        self.now += later
        held = self.shares.get(member, 0.0)
        held = {"has": held, "gives up": held / 2, "invents": 1.0}[how]
        self.shares[member] = held
        (answer,) = answers(self.store.call(*said(member, needs, held), self.now))
        self.shares[member] = answer.share
        return answer


@given(st.lists(SAYS, max_size=40))
def test_shares_never_add_up_to_more_than_one(script):
    """Whatever the members say, what the store gives is never more than the limit."""
    fleet = Fleet(StoreModel())
    for member, needs, how, later in script:
        answer = fleet.say(member, needs, how, later)
        assert 0.0 <= answer.share <= 1.0
        assert all(held <= SHARES for held in fleet.store.held().values())


@given(st.lists(SAYS, max_size=40))
def test_what_members_use_never_adds_up_to_more_than_one(script):
    """What is in use is never more than the limit, while each member tells the truth."""
    fleet = Fleet(StoreModel())
    for member, needs, how, _ in script:
        if how != "invents":
            fleet.say(member, needs, how, 100)
            assert sum(fleet.shares.values()) <= 1.0 + 1e-9


@settings(max_examples=25)
@given(st.lists(st.floats(0.5, 100.0), min_size=2, max_size=6))
def test_shares_follow_the_needs(needs):
    """After three rounds, all of the limit is held in proportion to the needs."""
    fleet = Fleet(StoreModel())
    for _ in range(12):
        for member, need in enumerate(needs):
            fleet.say(member, (0.0, need, 0.0), "has", 400)
    for member, need in enumerate(needs):
        assert fleet.shares[member] == pytest.approx(need / sum(needs), rel=1e-3)


def test_what_nobody_needs_is_free_for_the_next():
    """If the needs fit, a member gets twice its own, and the rest at once when it needs it."""
    fleet = Fleet(StoreModel())
    fleet.say(0, (0, 0.2, 0), "has", 0)
    assert fleet.say(0, (0, 0.2, 0), "has", 5_000).share == pytest.approx(0.4)
    assert fleet.say(1, (0, 0.3, 0), "has", 0).share == pytest.approx(0.6)


def test_higher_classes_go_first_and_lower_ones_keep_a_tenth():
    """A person's calls get what they need before a batch, which never stands still."""
    fleet = Fleet(StoreModel())
    for _ in range(6):
        batch = fleet.say(0, (0, 0, 50), "has", 1_000).share
        person = fleet.say(1, (50, 0, 0), "has", 1_000).share
    assert (person, batch) == (pytest.approx(0.9), pytest.approx(0.1))
    for _ in range(6):
        person = fleet.say(1, (0.1, 0, 0), "has", 1_000).share
        batch = fleet.say(0, (0, 0, 50), "has", 1_000).share
    assert (person, batch) == (pytest.approx(0.2), pytest.approx(0.8))


def test_a_silent_member_is_dropped_after_its_lease():
    """What it held is free then, and not before."""
    fleet = Fleet(StoreModel())
    fleet.say(0, (0, 5, 0), "has", 0)
    assert fleet.say(0, (0, 5, 0), "has", 4_000).share == 1.0
    assert fleet.say(1, (0, 5, 0), "has", 9_000).share == 0.0
    assert fleet.say(1, (0, 5, 0), "has", 2_000).share == 1.0


def test_a_store_without_memory_hands_out_little():
    """After a restart a newcomer does not get what others hold and have not told yet."""
    fleet = Fleet(StoreModel())
    assert fleet.say(9, (0, 5, 0), "has", 0).share == 0.25
    fleet.shares[0] = 0.6
    assert fleet.say(0, (0, 500, 0), "has", 0).share == pytest.approx(0.6)
    assert sum(fleet.shares.values()) <= 1.0


def test_a_fleet_that_starts_together_need_not_wait():
    """While no member comes back with a share, newcomers get up to half of what is free."""
    fleet = Fleet(StoreModel())
    for member in range(8):
        fleet.say(member, (0, 0.04, 0), "has", 10)
    for _ in range(3):
        for member in range(8):
            fleet.say(member, (0, 0.4, 0), "has", 60)
    assert sum(fleet.shares.values()) > 0.85


def test_newcomers_do_not_grow_once_a_member_came_back():
    """What is free may be in use by members of which a restarted store does not know yet."""
    fleet = Fleet(StoreModel())
    fleet.say(0, (0, 1.0, 0), "has", 0)
    fleet.shares[1] = 0.125
    assert fleet.say(1, (0, 1.0, 0), "has", 500).share == pytest.approx(0.125)
    assert fleet.say(0, (0, 1.0, 0), "has", 500).share == pytest.approx(0.25)
    assert fleet.say(0, (0, 1.0, 0), "has", 3_000).share > 0.25


def test_a_day_counts_what_all_have_spent():
    """The answer is the sum over the members and the last 24 hours."""
    store, hour = StoreModel(), 3_600_000
    for member in range(3):
        told = said(member, (0, 1, 0), 0.0, requests=10, tokens=250.5, a_day=True)
        reply = store.call(*told, 100 * hour + member)
    (answer,) = answers(reply)
    assert (answer.requests, answer.tokens) == (30, 752)
    (answer,) = answers(store.call(*said(0, (0, 0, 0), 0.0, a_day=True), 126 * hour))
    assert answer.requests == 0


def test_a_gate_is_shut_for_all():
    """What one member was told is known to the next, until the latest of the hints."""
    store = StoreModel()
    store.call(*said(0, (0, 1, 0), 0.0, gate=12.0), 1_000)
    (answer,) = answers(store.call(*said(1, (0, 1, 0), 0.0, gate=1.0), 3_000))
    assert answer.gate == pytest.approx(10.0)


def test_no_answer_of_the_script_is_refused():
    """Numbers that are too few are no answer."""
    with pytest.raises(ValueError, match="no answer"):
        answers(["1", "2"])


@pytest.mark.network
def test_the_model_does_what_the_script_does(redis_server):
    """The same calls get the same answers from Redis and from the model of it."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        script = client.register_script(SCRIPT)

        def clock():
            seconds, micros = client.time()
            return seconds * 1_000 + micros // 1_000

        @settings(max_examples=40)
        @given(st.lists(SAYS, max_size=12))
        def same(said_by):
            client.flushall()
            store, shares = StoreModel(), {}
            for member, needs, how, _ in said_by:
                held = {"has": 1.0, "gives up": 0.5, "invents": 4.0}[how] * shares.get(member, 0.1)
                told = said(member, needs, min(1.0, held), requests=2, tokens=7, a_day=True)
                (real,) = answers(script(keys=told[0], args=told[1]))
                (model,) = answers(store.call(*told, clock()))
                assert (real.share, real.members) == (model.share, model.members)
                assert (real.requests, real.tokens) == (model.requests, model.tokens)
                shares[member] = real.share
            for member in list(shares):
                told = said(member, (0, 0, 0), 0.0, lease=0.0)
                script(keys=told[0], args=told[1])
            assert int(client.hget("{t}:all", "share") or 0) == 0
            assert not client.zcard("{t}:all:leases")

        same()
