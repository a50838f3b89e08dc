"""The queue that slots and allowances share: strictly by age, nobody lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.queue import SWEEP_FLOOR, Waiter, WaitQueue


def _queue(*places):
    queue, waiters = WaitQueue(), {}
    for place in places:
        waiters[place] = Waiter(place)
        queue.push(waiters[place])
    return queue, waiters


def _drained(queue):
    places = []
    while (waiter := queue.pop()) is not None:
        places.append(waiter.place)
    return places


def test_an_empty_queue_has_no_head():
    """Nobody waits in a new queue."""
    queue = WaitQueue()
    assert queue.head() is None
    assert queue.pop() is None
    assert queue.live == 0
    assert queue.youngest == 0


def test_a_retry_stands_ahead_of_younger_calls():
    """Order is by the call's age, not by the time of joining."""
    queue, _ = _queue(4, 9, 2, 7, 1, 10)
    assert _drained(queue) == [1, 2, 4, 7, 9, 10]


def test_equal_places_are_served_in_the_order_of_joining():
    """Ties go to whoever joined first."""
    queue, joined = WaitQueue(), [Waiter(3) for _ in range(4)]
    for waiter in joined:
        queue.push(waiter)
    assert [queue.pop() for _ in joined] == joined


def test_one_that_is_hastened_stands_before_all_others():
    """Wherever it stood; but not if it was served or has left."""
    queue, waiters = _queue(2, 4, 1, 3)
    queue.remove(waiters[2])
    for place in (4, 1, 2):
        queue.hasten(waiters[place])
    assert queue.live == 3
    assert [queue.pop() for _ in range(4)] == [waiters[4], waiters[1], waiters[3], None]
    waiters[4].granted = True
    queue.hasten(waiters[4])
    assert queue.head() is None


def test_the_head_is_not_removed():
    """Looking at the head twice gives the same waiter."""
    queue, waiters = _queue(2, 1)
    assert queue.head() is queue.head() is waiters[1]
    assert queue.live == 2


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_waiter_that_left_is_skipped(gone):
    """Whoever leaves is never served, wherever it stood."""
    queue, waiters = _queue(1, 3, 2)
    queue.remove(waiters[gone])
    assert waiters[gone].gone
    assert queue.live == 2
    assert _drained(queue) == [place for place in (1, 2, 3) if place != gone]


def test_abandoned_waiters_are_swept_out():
    """Memory follows those who wait, not those who have given up."""
    queue, waiters = _queue(*range(1_000, 1_500), *range(500))
    for place in range(499):
        queue.remove(waiters[place])
        queue.remove(waiters[place + 1_000])
    assert queue.live == 2
    assert len(queue._line) + len(queue._late) <= SWEEP_FLOOR + 3
    assert _drained(queue) == [499, 1_499]


class _Watched(Waiter):
    """A waiter that counts how often it is asked whether it has left."""

    def __init__(self, place):
        self.asked = 0
        super().__init__(place)

    @property
    def gone(self):
        self.asked += 1
        return self._gone

    @gone.setter
    def gone(self, value):
        self._gone = value


@pytest.mark.parametrize("youngest", [0, 1_000], ids=["in line", "rejoined"])
def test_waiters_that_were_skipped_cause_no_sweep(youngest):
    """A waiter that left and was skipped is forgotten, so the others are never gone through."""
    queue, waiters = WaitQueue(), [_Watched(place) for place in range(1, 4 * SWEEP_FLOOR)]
    queue.push(Waiter(youngest))
    for waiter in waiters:
        queue.push(waiter)
    if not youngest:
        queue.pop()
    for leaving, following in pairwise(waiters[: 3 * SWEEP_FLOOR]):
        queue.remove(leaving)
        assert queue.head() is following
    assert waiters[-1].asked == 0


@given(st.permutations(range(24)), st.lists(st.integers(0, 2), max_size=80))
def test_it_agrees_with_a_sorted_list(places, choices):
    """Whatever joins, leaves and is served in whatever order, the oldest is always next."""
    queue, model, coming = WaitQueue(), {}, list(places)
    for choice in choices:
        if choice == 0 and coming:
            waiter = Waiter(coming.pop())
            model[waiter.place] = waiter
            queue.push(waiter)
        elif choice == 1 and model:
            oldest = model.pop(min(model))
            assert queue.pop() is oldest
        elif choice == 2 and model:
            queue.remove(model.pop(sorted(model)[len(model) // 2]))
        assert queue.live == len(model)
        assert queue.head() is (model[min(model)] if model else None)
    assert _drained(queue) == sorted(model)


def test_the_youngest_is_known_when_only_rejoined_calls_wait():
    """Where only calls that rejoined are left, a newcomer still joins behind them."""
    queue, waiters = _queue(7, 5, 6)
    queue.remove(waiters[7])
    assert queue.pop() is waiters[5]
    assert queue.youngest >= 6


def test_who_lets_a_thousand_pass_is_served_after_them():
    """Its place is that of a call to come: those before it go first, whenever they join."""
    queue = WaitQueue()
    for place in (1_000, 5, 3, 7, 1_001, 999):
        queue.push(Waiter(place))
    assert [queue.pop().place for _ in range(6)] == [3, 5, 7, 999, 1_000, 1_001]
