"""Classes in order, a trickle for the lower ones, tenants by fair shares: against a plain model."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.fair import REMEMBERED
from resilient_infe.core.priority import (
    PRESENT_FOR,
    PRIORITIES,
    ClassQueue,
    Presence,
    queue_for,
    rank_of,
    standing_of,
    trickle_of,
)
from resilient_infe.core.queue import BATCH, INTERACTIVE, NORMAL, Standing, Waiter, WaitQueue
from resilient_infe.errors import ConfigurationError


def filled(*waiters, trickle=0.1):
    """Return a queue of many, and these waiters in it."""
    queue = ClassQueue(trickle)
    for waiter in waiters:
        queue.push(waiter)
    return queue


def drained(queue):
    """Pop all, and return them in order."""
    found = []
    while (waiter := queue.pop()) is not None:
        found.append(waiter)
    return found


def many(number, *standings, cost=1.0):
    """Return waiters of these standings in turn, from the oldest on."""
    return [Waiter(age, standings[age % len(standings)], cost) for age in range(number)]


def test_classes_are_served_in_order():
    """With no trickle: all interactive ones, then the normal ones, then the batch."""
    queue = filled(*many(30, Standing(BATCH), Standing(NORMAL), Standing(INTERACTIVE)), trickle=0.0)
    ranks = [waiter.standing.rank for waiter in drained(queue)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("trickle", [0.05, 0.1, 0.25, 1 / 3])
def test_the_trickle_is_exact(trickle):
    """Each lower class gets its share of all that is granted while it waits, to the last call."""
    queue = filled(*many(9_000, *map(Standing, range(3))), trickle=trickle)
    got = Counter()
    for number in range(1, 3_001):
        got[queue.pop().standing.rank] += 1
        for rank in (NORMAL, BATCH):
            assert abs(got[rank] - trickle * number) <= 2


def test_one_lower_class_alone_gets_its_share_and_no_more():
    """Of 1,000 grants 100 are for the batch, the first of them the tenth."""
    queue = filled(*many(4_000, Standing(INTERACTIVE), Standing(BATCH)))
    ranks = [queue.pop().standing.rank for _ in range(1_000)]
    assert ranks.count(BATCH) == 100
    assert ranks.index(BATCH) == 9


def test_the_trickle_is_of_the_cost():
    """A batch of large rows gets a tenth of the cost, not of the calls."""
    standings = [Standing(INTERACTIVE), Standing(BATCH)]
    costs = (1.0, 50.0)
    queue = filled(*[Waiter(age, standings[age % 2], costs[age % 2]) for age in range(40_000)])
    spent = Counter()
    for _ in range(10_000):
        waiter = queue.pop()
        spent[waiter.standing.rank] += waiter.cost
    assert spent[BATCH] / sum(spent.values()) == pytest.approx(0.1, rel=0.01)


def test_a_large_call_that_left_bequeaths_nothing():
    """What was saved for it is not spent on small ones: the batch gets a tenth and no more."""
    huge = Waiter(1, Standing(BATCH), 1e9)
    queue = filled(huge, *many(30_000, Standing(INTERACTIVE), Standing(BATCH)))
    for _ in range(10_000):
        queue.pop()
    queue.remove(huge)
    ranks = [queue.pop().standing.rank for _ in range(1_000)]
    assert ranks.count(BATCH) <= 103


def test_calls_that_never_wait_long_pay_the_trickle_too():
    """A class above whose calls are served as they come does not starve the one below."""
    queue = filled(*many(100, Standing(BATCH)))
    got = Counter()
    for age in range(1_000, 1_500):
        queue.push(Waiter(age, Standing(INTERACTIVE)))
        head = queue.head()
        if head.standing.rank == INTERACTIVE:
            queue.pop()
            head = queue.head()
        if queue.owed(head):
            queue.pop()
            got["batch"] += 1
    assert got["batch"] == pytest.approx(50, abs=6)


def test_tenants_get_equal_shares_by_cost():
    """Larger calls are fewer; one that has more of them waiting gets no more."""
    queue = ClassQueue()
    for age in range(4_400):
        one, large = age % 11 == 0, age % 11 == 1
        name = "few" if one else "large" if large else "many"
        queue.push(Waiter(age, Standing(NORMAL, name), 7.0 if large else 1.0))
    spent = Counter()
    for _ in range(800):
        waiter = queue.pop()
        spent[waiter.standing.tenant] += waiter.cost
    assert max(spent.values()) - min(spent.values()) <= 8.0


def test_a_tenant_with_a_single_call_goes_next():
    """It has had nothing, so it need not wait for the backlog of another."""
    queue = filled(*many(1_000, Standing(NORMAL, "busy")))
    for _ in range(100):
        queue.pop()
    queue.push(Waiter(5_000, Standing(NORMAL, "new")))
    assert "new" in [queue.pop().standing.tenant for _ in range(2)]


def test_a_tenant_that_was_away_has_saved_nothing():
    """Time in which it did not wait gives it no claim."""
    queue = filled(*many(2_000, Standing(NORMAL, "a")))
    queue.push(Waiter(1, Standing(NORMAL, "b")))
    for _ in range(500):
        queue.pop()
    for age in range(3_000, 3_500):
        queue.push(Waiter(age, Standing(NORMAL, "b")))
    names = [queue.pop().standing.tenant for _ in range(100)]
    assert names.count("b") == pytest.approx(50, abs=2)


def test_tenants_without_end_do_not_starve_one_that_waits():
    """Each new one goes first, but not for ever."""
    queue = filled(*many(20, Standing(NORMAL, "patient")))
    served = []
    for number in range(2_000):
        for _ in range(2):
            queue.push(Waiter(1_000 + number, Standing(NORMAL, f"new {number}{_}")))
        served.append(queue.pop().standing.tenant)
    assert served.count("patient") >= 2


def test_a_retry_keeps_its_place_within_its_class():
    """It is ahead of younger calls of its class, and not of a higher class."""
    queue = filled(
        Waiter(5, Standing(BATCH)), Waiter(2, Standing(BATCH)), Waiter(9, Standing(INTERACTIVE))
    )
    assert [waiter.place for waiter in drained(queue)] == [9, 2, 5]


def test_one_that_waits_behind_all_others_does_so():
    """Those of other tenants go first, if their calls are older than its place."""
    late = Waiter(50, Standing(NORMAL, "a"), behind=True)
    queue = filled(late, *many(60, Standing(NORMAL, "b")))
    order = drained(queue)
    assert [waiter.place for waiter in order[:50]] == list(range(50))
    assert late in order[50:52]


def test_a_cost_that_is_unknown_is_what_the_tenants_calls_cost():
    """So shares are fair where the cost is known only after the call."""
    queue = ClassQueue()
    for age in range(2_000):
        queue.push(Waiter(age, Standing(NORMAL, "ab"[age % 2]), 0.0))
    for _ in range(100):
        queue.learn(Standing(NORMAL, "a"), 9.0)
        queue.learn(Standing(NORMAL, "b"), 1.0)
    names = [queue.pop().standing.tenant for _ in range(500)]
    assert names.count("b") == pytest.approx(450, abs=10)


def test_the_queue_is_a_plain_one_until_another_class_or_tenant_comes():
    """All of one class and one tenant need no shares, whichever that is."""
    queue = WaitQueue()
    for age in range(5):
        waiter = Waiter(age, Standing(BATCH, "a"))
        assert queue_for(queue, waiter, 0.1) is queue
        queue.push(waiter)
    assert queue.waiting() == (0, 0, 5)
    assert queue.before(Standing(BATCH, "a")) == 5
    assert queue.before(Standing(BATCH, "b")) == queue.before(Standing(NORMAL, "a")) == 0
    other = Waiter(9, Standing(BATCH, "b"))
    shared = queue_for(queue, other, 0.1)
    assert isinstance(shared, ClassQueue)
    shared.push(other)
    assert (shared.live, shared.youngest) == (6, 9)
    assert {waiter.place for waiter in drained(shared)} == {0, 1, 2, 3, 4, 9}


def test_a_bound_is_for_each_class_and_leaves_each_tenant_its_part():
    """A queue that one tenant fills is not full for another."""
    plain, shared = WaitQueue(), filled(*many(6, Standing(BATCH)))
    plain.standing = Standing(NORMAL, "a")
    for queue in (plain, shared):
        for waiter in many(10, Standing(NORMAL, "a")):
            queue.push(waiter)
        assert queue.full(Standing(NORMAL, "a"), 10)
        assert not queue.full(Standing(NORMAL, "a"), 11)
        assert not queue.full(Standing(NORMAL, "b"), 10)
        assert not queue.full(Standing(INTERACTIVE), 10)
        assert queue.full(Standing(NORMAL, "b"), 1)
        assert queue.full(Standing(INTERACTIVE), 0)
    for number in range(5):
        shared.push(Waiter(100 + number, Standing(NORMAL, "b")))
    assert shared.full(Standing(NORMAL, "b"), 10)
    assert not shared.full(Standing(NORMAL, "c"), 10)
    assert (shared.before(Standing(NORMAL, "b")), shared.before(Standing(NORMAL, "c"))) == (5, 0)


def test_memory_is_bounded_by_who_waits():
    """Ten thousand tenants come and go, some served and some not; nothing is left of them."""
    queue = filled(*many(3, Standing(INTERACTIVE), Standing(NORMAL)))
    for number in range(10_000):
        waiter = Waiter(10 + number, Standing(NORMAL, str(number)))
        queue.push(waiter)
        if number % 2:
            queue.remove(waiter)
        else:
            queue.pop()
    line = queue._classes[NORMAL]
    assert len(line._tenants) == len(line._heap) <= 200
    assert len(line._shares.tags) <= 2 * REMEMBERED


STANDINGS = [Standing(rank, name) for rank in range(3) for name in (None, "a", "b")]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 8),
            st.sampled_from([0.0, 1.0, 1.0, 5.0, 1e12]),
            st.booleans(),
        ),
        max_size=120,
    ),
    st.sampled_from([0.0, 0.1, 1 / 3]),
)
def test_it_agrees_with_a_list(choices, trickle):
    """Nobody is lost, the head is who is popped, and nobody overtakes without a claim.

    An older call of the same tenant is overtaken by none, one of a higher class only by one that is
    owed to its class.
    """
    queue, waiting, age = ClassQueue(trickle), [], 0
    for what, number, cost, behind in choices:
        if what in (0, 3) or not waiting:
            age += 1
            waiter = Waiter(age, STANDINGS[number], cost, behind)
            queue.push(waiter)
            waiting.append(waiter)
        elif what == 1:
            waiter = waiting.pop(number % len(waiting))
            if cost == 5.0:
                queue.hasten(waiter)
            queue.remove(waiter)
        else:
            head = queue.head()
            owed = queue.owed(head)
            assert queue.pop() is head
            waiting.remove(head)
            assert owed or all(head.standing.rank <= each.standing.rank for each in waiting)
            if not head.behind:
                mine = [w for w in waiting if w.standing == head.standing and not w.behind]
                assert all(each.place >= head.place for each in mine)
        assert queue.live == len(waiting) == sum(queue.waiting())
        assert (queue.head() is None) is not bool(waiting)
    assert set(drained(queue)) == set(waiting)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_nobody_starves(numbers):
    """Behind an endless flow of the highest class, each that waits is served."""
    waiting = {Waiter(age, STANDINGS[number]) for age, number in enumerate(numbers)}
    queue = filled(*waiting)
    for age in range(20 * len(numbers) + 40):
        queue.push(Waiter(1_000 + age, Standing(INTERACTIVE)))
        waiting.discard(queue.pop())
    assert not {each for each in waiting if each.standing.rank != INTERACTIVE}


def test_hastened_ones_stand_before_all_others_of_their_class():
    """Not before those of a higher class."""
    waiters = [Waiter(age, STANDINGS[3 + age % 3]) for age in range(9)]
    queue = filled(Waiter(20, Standing(INTERACTIVE)), *waiters)
    queue.hasten(waiters[8])
    queue.hasten(waiters[7])
    order = drained(queue)
    assert order[0].standing.rank == INTERACTIVE
    assert order[1:3] == [waiters[8], waiters[7]]
    assert len(order) == 10


def test_clearing_leaves_nothing():
    """All are gone, and the queue can be used again."""
    waiters = [Waiter(age, STANDINGS[age % 9]) for age in range(27)]
    queue = filled(*waiters)
    queue.clear()
    assert all(waiter.gone for waiter in waiters)
    assert (queue.live, queue.head(), queue.pop()) == (0, None, None)
    queue.push(Waiter(1, STANDINGS[4]))
    assert queue.pop().place == 1


def test_a_class_is_present_for_a_minute():
    """From its last call on; the lowest keeps nothing from anybody."""
    classes = Presence()
    classes.note(BATCH, 0.0)
    assert not classes.above(BATCH)
    classes.note(NORMAL, 10.0)
    assert classes.above(BATCH)
    assert not classes.above(NORMAL)
    classes.note(INTERACTIVE, 20.0)
    assert classes.above(NORMAL)
    assert not classes.above(INTERACTIVE)
    assert classes.look(20.0 + PRESENT_FOR)
    assert not classes.above(BATCH)
    classes.note(INTERACTIVE, 100.0)
    assert classes.above(NORMAL)
    classes.rebase(1_000.0)
    assert not classes.look(1_100.0)
    assert classes.above(BATCH)


def test_names_of_classes():
    """None is normal; a wrong name lists the three."""
    assert [rank_of(name) for name in (*PRIORITIES, None)] == [0, 1, 2, 1]
    for wrong in ("urgent", "", "Batch", 1, True, ["batch"], object()):
        with pytest.raises(ConfigurationError, match="'interactive', 'normal' or 'batch'"):
            rank_of(wrong)
    assert standing_of("batch", "a") == Standing(BATCH, "a")
    for wrong in (3, b"a", ["a"], {}):
        with pytest.raises(ConfigurationError, match="tenant must be text"):
            standing_of(None, wrong)


@pytest.mark.parametrize("wrong", [-0.1, 0.34, 1, "0.1", float("nan"), float("inf"), None, True])
def test_a_trickle_that_cannot_be_kept(wrong):
    """It is a share that three classes can have."""
    with pytest.raises(ConfigurationError, match="trickle"):
        trickle_of(wrong)
