"""Concurrency slots: never above the limit, strictly in order, nobody lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_infe.errors import ConfigurationError, QueueFull
from resilient_infe.slots.slots import Slots, SlotsStatistics


class _SlotsMachine(RuleBasedStateMachine):
    """Calls come, wait, leave, retry and end while the limit moves."""

    @initialize(limit=st.integers(1, 4))
    def start(self, limit):
        self.slots = Slots(limit)
        self.calls = 0
        self.held = []  # places of the calls that hold a slot
        self.waiting = {}  # place -> waiter
        self.granted = {}  # place -> waiter that was granted and may still cancel
        self.ended = []  # places that may come back as retries

    def _enter(self, place):
        free = len(self.held) < self.slots.limit and not self.waiting
        waiter = self.slots.acquire(place)
        assert (waiter is None) is free
        if waiter is None:
            self.held.append(place)
        else:
            assert not waiter.granted
            self.waiting[place] = waiter

    def _handed_to(self, waiter):
        oldest = min(self.waiting)
        assert waiter is self.waiting[oldest]
        assert waiter.granted
        self.granted[oldest] = self.waiting.pop(oldest)
        self.held.append(oldest)

    def _left(self, place, waiter):
        self.held.remove(place)
        self.granted.pop(place, None)
        self.ended.append(place)
        if self.waiting and len(self.held) < self.slots.limit:
            self._handed_to(waiter)
        else:
            assert waiter is None

    @rule()
    def arrive(self):
        self.calls += 1
        self._enter(self.calls)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def retry(self, data):
        place = data.draw(st.sampled_from(self.ended))
        self.ended.remove(place)
        self._enter(place)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data):
        place = data.draw(st.sampled_from(self.held))
        self._left(place, self.slots.release())

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def cancel_just_granted(self, data):
        place = data.draw(st.sampled_from(sorted(self.granted)))
        self._left(place, self.slots.cancel(self.granted[place]))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), times=st.integers(1, 2))
    def give_up(self, data, times):
        place = data.draw(st.sampled_from(sorted(self.waiting)))
        waiter = self.waiting.pop(place)
        for _ in range(times):
            assert self.slots.cancel(waiter) is None
        assert not waiter.granted
        self.ended.append(place)

    @rule(limit=st.integers(1, 6))
    def resize(self, limit):
        granted = self.slots.resize(limit)
        for waiter in granted:
            assert len(self.held) < limit
            self._handed_to(waiter)

    @invariant()
    def counts_agree(self):
        if not hasattr(self, "slots"):
            return
        slots = self.slots
        assert slots.statistics() == SlotsStatistics(slots.limit, len(self.held), len(self.waiting))
        assert slots.busy is bool(self.held or self.waiting)
        assert slots.in_use(0.0) is slots.busy

    @invariant()
    def no_slot_is_free_while_a_call_waits(self):
        if hasattr(self, "slots") and self.waiting:
            assert len(self.held) >= self.slots.limit

    def teardown(self):
        if not hasattr(self, "slots"):
            return
        while self.held:
            self._left(self.held[0], self.slots.release())
        assert not self.waiting
        assert self.slots.held == self.slots.waiting == 0


class TestSlotsMachine(_SlotsMachine.TestCase):
    """In flight <= limit, strict order by place, nobody lost, everything home at the end."""

    settings = settings(max_examples=60, stateful_step_count=40)


def test_free_slots_are_taken_at_once():
    """As many calls as the limit get in without waiting, and no more."""
    slots = Slots(2)
    assert slots.acquire() is None
    assert slots.acquire() is None
    assert slots.acquire() is not None
    assert (slots.limit, slots.held, slots.waiting) == (2, 2, 1)


def test_waiters_are_served_first_come_first_served():
    """Calls that name no place are served in the order of their coming."""
    slots = Slots(1)
    slots.acquire()
    waiters = [slots.acquire() for _ in range(5)]
    assert [slots.release() for _ in waiters] == waiters
    assert slots.release() is None


def test_a_newcomer_never_takes_a_slot_past_a_waiter():
    """A freed slot belongs to the waiter, so a newcomer joins the queue."""
    slots = Slots(1)
    slots.acquire()
    first = slots.acquire()
    assert slots.release() is first
    assert slots.acquire() is not None
    assert slots.held == 1


def test_lowering_the_limit_takes_no_slot_away():
    """Slots above a lower limit are not handed on when they end."""
    slots = Slots(3)
    for _ in range(3):
        slots.acquire()
    waiter = slots.acquire()
    assert slots.resize(1) == []
    assert [slots.release(), slots.release()] == [None, None]
    assert not waiter.granted
    assert slots.release() is waiter
    assert slots.held == 1


def test_raising_the_limit_wakes_the_oldest():
    """A higher limit is used at once, by those who waited longest."""
    slots = Slots(1)
    slots.acquire()
    waiters = [slots.acquire() for _ in range(3)]
    assert slots.resize(3) == waiters[:2]
    assert not waiters[2].granted


def test_a_full_queue_refuses_newcomers():
    """No more than `max_waiting` wait; the hint is how long the last call waited, or a second."""
    slots = Slots(1, max_waiting=1)
    slots.acquire(1)
    assert slots.acquire(2) is not None
    with pytest.raises(QueueFull) as caught:
        slots.acquire(3)
    assert caught.value.retry_after == 1.0
    slots.last_wait = 7.5
    with pytest.raises(QueueFull) as caught:
        slots.acquire(3)
    assert caught.value.retry_after == 7.5
    assert (slots.held, slots.waiting) == (1, 1)


def test_a_full_queue_refuses_callers_without_a_place():
    """Who names no place is a newcomer."""
    slots = Slots(1, max_waiting=0)
    assert slots.acquire() is None
    with pytest.raises(QueueFull):
        slots.acquire()


def test_a_full_queue_still_takes_a_retry():
    """A retry, older than the last in line, was let in before and is never refused."""
    slots = Slots(1, max_waiting=1)
    slots.acquire(1)
    younger = slots.acquire(5)
    retry = slots.acquire(2, again=True)
    assert slots.waiting == 2
    assert [slots.release(), slots.release()] == [retry, younger]


def test_the_queue_may_be_entered_again_after_someone_left():
    """A waiter that gave up makes room for another."""
    slots = Slots(1, max_waiting=1)
    slots.acquire(1)
    slots.cancel(slots.acquire(2))
    assert slots.acquire(3, again=True) is not None


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3", None, float("inf")])
def test_a_limit_that_is_no_whole_number_is_refused(limit):
    """A limit is a whole number from 1, when made and when resized."""
    with pytest.raises(ConfigurationError):
        Slots(limit)
    slots = Slots(2)
    with pytest.raises(ConfigurationError):
        slots.resize(limit)
    assert slots.limit == 2


def test_a_negative_queue_bound_is_refused():
    """`max_waiting` is 0 or more."""
    with pytest.raises(ConfigurationError):
        Slots(1, max_waiting=-1)


def test_it_describes_itself_and_rebases_to_nothing():
    """The repr shows limit and use; a change of clock changes nothing."""
    slots = Slots(2)
    slots.acquire()
    slots.rebase(1e9)
    assert repr(slots) == "<Slots 1/2 held, 0 waiting>"


def test_a_newcomer_without_a_place_never_overtakes_a_rejoined_call():
    """When the line's end has left, a caller without a place still joins behind all others."""
    slots = Slots(1)
    slots.acquire()
    last = slots.acquire(7)
    first, second = slots.acquire(5, again=True), slots.acquire(6, again=True)
    slots.cancel(last)
    assert slots.release() is first
    newcomer = slots.acquire()
    assert slots.release() is second
    assert slots.release() is newcomer


def test_a_retry_is_never_refused_while_a_younger_call_waits():
    """A retry older than every waiter gets in, even when the line's end has left."""
    slots = Slots(1, max_waiting=1)
    slots.acquire(1)
    last = slots.acquire(7)
    first, second = slots.acquire(5, again=True), slots.acquire(6, again=True)
    slots.cancel(last)
    assert slots.release() is first
    assert slots.acquire(3, again=True) is not None
    assert not second.granted


def test_slots_are_narrowed_to_what_the_server_took():
    """Sixteen at once, ten of them taken: each rejection narrows, and ten are left."""
    slots = Slots(16)
    assert all(slots.take() for _ in range(16))
    lowered = 0
    for _ in range(6):
        lowered += slots.narrow(5.0)
        slots.release()
    assert (slots.limit, slots.held, slots.narrowed) == (10, 10, True)
    assert lowered == 6
    assert not slots.take()
    assert Slots(1).narrow(0.0) is False
    alone = Slots(64)
    assert alone.take()
    assert alone.narrow(5.0)
    assert alone.limit == 32  # the others in progress may be somebody else's


def test_narrowed_slots_are_tried_again_once_a_minute():
    """One more a minute, up to what was configured; a waiter gets it."""
    slots = Slots(3)
    assert slots.take()
    assert slots.take()
    slots.narrow(5.0)
    waiter = slots.join()
    assert slots.adjust(60.0) == []
    slots.release()
    assert slots.adjust(65.0) == [waiter]
    assert slots.adjust(124.0) == []
    assert slots.adjust(125.0) == []
    assert (slots.limit, slots.narrowed) == (3, False)
    slots.narrow(200.0)
    slots.rebase(-190.0)
    slots.adjust(69.0)
    assert slots.narrowed
    slots.adjust(70.0)
    slots.resize(8)
    assert not slots.narrowed


@pytest.mark.parametrize(
    ("configured", "tried"), [(22, [11, 13, 16, 20, 22, 22]), (4, [2, 3, 4, 4])]
)
def test_a_quarter_more_is_tried_each_minute(configured, tried):
    """Each try adds a quarter, and at least one; none goes above what was configured."""
    slots = Slots(configured)
    assert slots.take()
    slots.narrow(0.0)
    limits = [slots.limit]
    for minute in range(1, len(tried)):
        assert slots.narrowed is (slots.limit < configured)
        slots.adjust(60.0 * minute)
        limits.append(slots.limit)
    assert limits == tried


def test_slots_of_a_loop_that_was_closed_come_back():
    """All are free at once; who waited is gone, and who gives back later gives back nothing."""
    slots = Slots(2)
    old = slots.lease
    assert slots.take()
    assert slots.take()
    waiter = slots.join()
    slots.abandon()
    assert (slots.held, slots.waiting, waiter.gone) == (0, 0, True)
    assert slots.take()
    assert slots.release(old) is None
    assert slots.cancel(waiter, old) is None
    assert (slots.held, slots.waiting) == (1, 0)
    assert slots.release(slots.lease) is None
    assert slots.held == 0


def test_a_slot_granted_before_its_loop_was_closed_is_not_given_back_twice():
    """The waiter had it when the loop was closed; its task goes later, when others hold slots."""
    slots = Slots(1)
    old = slots.lease
    assert slots.take()
    waiter = slots.join()
    assert slots.release(old) is waiter
    slots.abandon()
    assert slots.take()
    assert slots.cancel(waiter, old) is None
    assert slots.held == 1


def test_slots_that_were_resized_are_not_as_made():
    """So `Keyed` lets them rest, and the change comes back with the key."""
    slots = Slots(2)
    assert slots.idle(0.0)
    slots.resize(8)
    assert not slots.idle(0.0)


def test_a_slot_released_twice_raises_no_limit():
    """One release too many does nothing, also for a call in flight."""
    slots = Slots(2)
    assert slots.take()
    slots.release()
    for sent in (False, True):
        assert slots.release(sent=sent) is None
    assert (slots.held, slots.busy) == (0, False)
    assert [slots.take() for _ in range(3)] == [True, True, False]
