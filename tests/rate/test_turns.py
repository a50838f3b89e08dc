"""Turns: an account gives classes and tenants what one queue would give them, over all models."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import Account, Allowance
from resilient_infe.core.priority import ClassQueue
from resilient_infe.core.queue import BATCH, INTERACTIVE, NORMAL, Standing, Waiter
from resilient_infe.rate.costs import costs_of

MANY = 1_000_000


class Crowd:
    """An account, its models, and the calls that wait."""

    def __init__(self, account, *members):
        """Begin with nobody."""
        self.account, self.members = account, members
        self.now, self.age = 0.0, 0
        self.granted = []

    def ask(self, which, rank, tenant=None, tokens=0.0, number=1):
        """Let calls ask as the layer does; return their reservations."""
        return [self._ask(self.members[which], rank, tenant, tokens) for _ in range(number)]

    def _ask(self, member, rank, tenant, tokens):
        self.age += 1
        costs = costs_of(tokens, None)
        taken = self.account.admit(member, costs, self.now, self.age, rank)
        if taken is not None:
            return taken
        standing = Standing(rank, tenant)
        self.account.await_in(member, standing)
        return member.enqueue(costs, self.age, standing=standing)

    def run(self, until, each=None):
        """Poll at each promised instant; call `each` after a grant."""
        list(self._polled(each))
        while (due := self.account.due) is not None and max(self.now, due) < until:
            assert due > self.now or self.now == 0.0 or due <= self.now
            before = self.now
            self.now = max(self.now, due)
            found = list(self._polled(each))
            assert found or self.account.due is None or self.account.due > before
        self.now = until

    def _polled(self, each):
        for waiting in self.account.poll(self.now):
            self.granted.append(waiting)
            yield waiting
            if each is not None:
                each(waiting)


def ranks(granted):
    """Return how many of each class were granted."""
    return Counter(each.standing.rank for each in granted)


def costs(granted):
    """Return what each tenant was granted, by cost."""
    found = Counter()
    for each in granted:
        found[each.standing.tenant] += each.cost
    return found


def wide(number=2, trickle=0.1):
    """Return models that hold nobody up."""
    return [Allowance(60_000, burst=10.0, trickle=trickle) for _ in range(number)]


@pytest.mark.parametrize("trickle", [0.0, 0.05, 0.1, 1 / 3])
@pytest.mark.parametrize(
    ("people", "rows"),
    [((0,), (1,)), ((0, 1), (1,)), ((0, 1), (0, 1)), ((0,), (0, 1)), ((0,), (0,))],
)
def test_the_trickle_is_exact_over_all_models(people, rows, trickle):
    """Wherever the calls of people and the rows of the batch wait."""
    crowd = Crowd(Account(600, burst=0.1, trickle=trickle), *wide(trickle=trickle))
    for which in people:
        crowd.ask(which, INTERACTIVE, number=500)
    for which in rows:
        crowd.ask(which, BATCH, number=500)
    crowd.granted.clear()
    crowd.run(40.0)
    assert len(crowd.granted) == pytest.approx(400, abs=5)
    assert ranks(crowd.granted)[BATCH] == pytest.approx(trickle * len(crowd.granted), abs=2)


def test_the_trickle_reaches_rows_behind_a_few_people_of_their_model():
    """One person always waits in the model of the rows, many in the other one."""
    crowd = Crowd(Account(600, burst=0.1), *wide())
    crowd.ask(0, INTERACTIVE, number=600)
    crowd.ask(1, INTERACTIVE, number=1)
    crowd.ask(1, BATCH, number=300)

    def come(waiting):
        if waiting.standing.rank == INTERACTIVE and crowd.members[1].line.queue.waiting()[0] == 0:
            crowd.ask(1, INTERACTIVE)

    crowd.run(40.0, come)
    assert ranks(crowd.granted)[BATCH] == pytest.approx(40, abs=3)


def test_three_classes_in_three_models():
    """Of ten grants eight are of the highest, and one is of each lower one."""
    crowd = Crowd(Account(600, burst=0.1), *wide(3))
    for rank in (BATCH, NORMAL, INTERACTIVE):
        crowd.ask(rank, rank, number=500)
    crowd.granted.clear()
    crowd.run(40.0)
    found = ranks(crowd.granted)
    assert (found[NORMAL], found[BATCH]) == (pytest.approx(40, abs=2), pytest.approx(40, abs=2))


@pytest.mark.parametrize("burst", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("whole", [1_000, 6_000])
def test_a_model_that_is_full_does_not_pay_with_its_people(burst, whole):
    """What the account owes the rows is not taken out of the limit of a model that is full."""
    crowd = Crowd(Account(whole), Allowance(3_000), Allowance(60, burst=burst))
    crowd.ask(1, INTERACTIVE, number=200)
    crowd.ask(0, INTERACTIVE, number=whole)
    crowd.ask(1, BATCH, number=200)
    crowd.run(60.0)
    mine = ranks(each for each in crowd.granted if each.standing.rank == BATCH)
    assert mine[BATCH] <= 8


@pytest.mark.parametrize("size", [0.0, 100.0])
def test_tenants_share_the_account_over_all_models(size):
    """One has older calls in both models, the other waits in the second one behind them."""
    account = Account(600, tokens_per_minute=60_000, burst=0.1)
    crowd = Crowd(account, *wide())
    crowd.ask(0, NORMAL, "a", size, number=600)
    crowd.ask(1, NORMAL, "a", size, number=600)
    crowd.ask(1, NORMAL, "b", 2 * size, number=300)
    crowd.granted.clear()
    crowd.run(40.0)
    found = costs(crowd.granted)
    assert found["a"] == pytest.approx(found["b"], rel=0.05)


def test_a_tenant_with_a_single_call_goes_next():
    """In whatever model it waits."""
    crowd = Crowd(Account(60, burst=0.1), *wide())
    crowd.ask(0, NORMAL, "a", number=100)
    crowd.ask(1, NORMAL, "a", number=100)
    crowd.run(10.0)
    [one] = crowd.ask(1, NORMAL, "b")
    crowd.run(12.5)
    assert one.granted


def test_what_a_tenant_has_of_one_model_does_not_count_in_another_that_is_full():
    """Nobody waits for the account, so each model shares its own limit alone."""
    crowd = Crowd(Account(60_000), Allowance(6_000), Allowance(60, burst=0.5))
    crowd.ask(0, NORMAL, "a", number=5_000)
    crowd.ask(1, NORMAL, "a", number=100)
    crowd.ask(1, NORMAL, "b", number=100)
    crowd.run(30.0)
    mine = [each for each in crowd.granted if each in crowd.granted and each.place > 5_000]
    found = costs(mine)
    assert found["a"] == pytest.approx(found["b"], abs=3)


def test_a_person_goes_before_the_rows_of_other_models():
    """At the account's next grant."""
    crowd = Crowd(Account(60, burst=0.1), *wide())
    crowd.ask(0, BATCH, number=100)
    crowd.run(10.0)
    [person] = crowd.ask(1, INTERACTIVE)
    crowd.run(11.5)
    assert person.granted


@pytest.mark.parametrize("rank", [BATCH, INTERACTIVE])
def test_a_large_request_is_not_starved(rank):
    """Neither as the trickle of its class nor in the highest class."""
    crowd = Crowd(Account(600, tokens_per_minute=1_000), *wide())
    crowd.ask(0, INTERACTIVE, tokens=10.0, number=50)
    [large] = crowd.ask(1, rank, tokens=900.0)
    small = crowd.ask(0, INTERACTIVE, tokens=10.0, number=1_500)
    crowd.ask(0, BATCH, tokens=10.0, number=1_500)
    crowd.run(1_000.0)
    assert large.granted
    assert any(each.granted for each in small)


def test_the_first_call_with_a_class_finds_those_that_wait():
    """They keep their order, and it goes before them."""
    crowd = Crowd(Account(60, burst=0.1), *wide())
    ordinary = [one for which in (0, 1) * 10 for one in crowd.ask(which, NORMAL)]
    [person] = crowd.ask(1, INTERACTIVE)
    crowd.granted.clear()
    crowd.run(30.0)
    assert crowd.granted[0] is person
    assert [each for each in ordinary if each in crowd.granted] == crowd.granted[1:]


CALLS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([None, "a", "b"]), st.sampled_from([1, 3, 40])),
    min_size=1,
    max_size=60,
)


@settings(max_examples=50)
@given(CALLS, st.sampled_from([0.0, 0.1, 1 / 3]))
def test_with_one_model_it_is_one_queue(calls, trickle):
    """The account grants in the order of a queue of classes."""
    crowd = Crowd(
        Account(600, 6_000, burst=0.01, trickle=trickle), Allowance(MANY, trickle=trickle)
    )
    first = crowd.ask(0, NORMAL)
    queue, of = ClassQueue(trickle), {}
    for rank, tenant, size in calls:
        [waiting] = crowd.ask(0, rank, tenant, size * 10.0)
        if waiting.granted:
            continue
        model = Waiter(waiting.place, waiting.standing, waiting.cost)
        queue.push(model)
        of[model] = waiting
    crowd.run(10_000.0)
    assert first[0].granted
    assert crowd.granted == [of[model] for model in iter(queue.pop, None)]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 2),
            st.sampled_from([None, "a", "b"]),
            st.sampled_from([0.0, 5.0, 90.0]),
            st.floats(0.0, 3.0),
            st.sampled_from(["ask", "ask", "ask", "cancel", "resize"]),
        ),
        max_size=60,
    )
)
def test_everyone_is_served_and_nobody_overtakes_in_a_line(steps):
    """With any classes, tenants, costs and models, and those that leave."""
    account = Account(30, tokens_per_minute=100)
    crowd = Crowd(account, Allowance(20), Allowance(60, 100), Allowance(6))
    asked = []
    for which, rank, tenant, tokens, seconds, what in steps:
        waiting = [each for each in asked if not (each[2].granted or each[2].gone)]
        if what == "cancel" and waiting:
            member, _, gone = waiting[rank % len(waiting)]
            member.cancel(gone, crowd.now)
        elif what == "resize":
            crowd.members[which].resize(crowd.now, requests_per_minute=10.0 + rank)
        else:
            [one] = crowd.ask(which, rank, tenant, tokens)
            asked.append((crowd.members[which], Standing(rank, tenant), one))
        crowd.run(crowd.now + seconds)
    crowd.run(crowd.now + 100_000.0)
    assert all(each.granted or each.gone for _, _, each in asked)
    assert (account.waiting, account.due) == (0, None)
    assert account.allowance.waiting == 0
    for member, standing, one in asked:
        for other, same, later in asked:
            if (member, standing) == (other, same) and one.place < later.place:
                assert one.gone or later.gone or one.granted_at <= later.granted_at
