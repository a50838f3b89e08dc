"""Slots with classes: a tenth is kept for those above, and nothing is left idle for nobody."""

from __future__ import annotations

import anyio
import pytest
from fakes import FakeServer
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import (
    ConcurrencyLimiter,
    ErrorClassifier,
    RateLimiter,
    Slots,
    Stack,
    errors,
)
from resilient_infe.aio import current
from resilient_infe.core.priority import PRESENT_FOR
from resilient_infe.core.queue import BATCH, INTERACTIVE, NORMAL, Standing


def taken(slots, rank, number, now=0.0):
    """Return how many of a number of calls get a slot at once."""
    return sum(slots.admit(rank, now) for _ in range(number))


def joined(slots, rank, now, tenant=None):
    """Let a call wait; return its waiter and those that got a slot."""
    assert not slots.admit(rank, now)
    waiter = slots.join(standing=Standing(rank, tenant))
    return waiter, slots.adjust(now)


@pytest.mark.parametrize("rank", [INTERACTIVE, NORMAL, BATCH])
def test_a_class_alone_has_all_slots(rank):
    """Whichever it is: nobody else needs them."""
    assert taken(Slots(64), rank, 100) == 64


@pytest.mark.parametrize(("limit", "kept"), [(1, 0), (2, 1), (10, 1), (11, 2), (64, 7), (100, 10)])
def test_a_tenth_is_kept_for_a_class_above_that_is_present(limit, kept):
    """The lower one gets the rest, and the higher one all."""
    slots = Slots(limit)
    assert slots.admit(INTERACTIVE, 0.0)
    slots.release()
    assert taken(slots, BATCH, 200) == limit - kept
    assert taken(slots, INTERACTIVE, 200) == kept


def test_what_is_kept_is_kept_for_a_minute():
    """Then the class above counts as gone, and those that wait get all."""
    slots = Slots(10)
    slots.admit(INTERACTIVE, 0.0)
    assert taken(slots, BATCH, 8) == 8
    waiters = [joined(slots, BATCH, 1.0)[0] for _ in range(3)]
    assert not any(waiter.granted for waiter in waiters)
    assert slots.release() is waiters[0]
    assert not slots.look(PRESENT_FOR - 0.1)
    assert not slots.spare
    assert slots.look(PRESENT_FOR)
    assert slots.adjust(PRESENT_FOR) == waiters[1:2]
    assert slots.held == 10


def test_a_batch_keeps_none_while_no_call_waits_for_the_rate():
    """But where one with a slot does, another slot would wait too: the last tenth is kept."""
    slots = Slots(20)
    assert taken(slots, BATCH, 5) == 5
    slots.crowd.stall()
    assert taken(slots, BATCH, 50) == 13
    assert taken(slots, INTERACTIVE, 50) == 2


def test_the_last_that_stalls_gives_the_rest_free():
    """Nothing stays idle that a batch alone can use."""
    slots, called = Slots(20), []
    slots.crowd.on_moving = lambda: called.append(slots.adjust(0.0))
    slots.crowd.stall()
    slots.crowd.stall()
    assert taken(slots, BATCH, 18) == 18
    waiters = [joined(slots, BATCH, 0.0)[0] for _ in range(3)]
    slots.crowd.move()
    assert not called
    slots.crowd.move()
    slots.crowd.move()  # of a loop that was closed: nobody counts below none
    assert called == [waiters[:2]]
    assert slots.crowd.stalled == 0


def test_a_freed_slot_goes_to_the_highest_class():
    """And each tenth one to the batch, although the other class always waits."""
    slots = Slots(10)
    assert taken(slots, INTERACTIVE, 10) == 10
    for _ in range(200):
        joined(slots, BATCH, 0.0)
        joined(slots, INTERACTIVE, 0.0)
    ranks = [slots.release().standing.rank for _ in range(100)]
    assert ranks.count(BATCH) == 10
    assert slots.statistics().waiting_by_class == {"interactive": 110, "normal": 0, "batch": 190}


def test_a_batch_is_not_starved_by_calls_that_never_wait():
    """Nine tenths of the slots are taken by a class above, again and again: it has its trickle."""
    slots = Slots(10)
    assert taken(slots, INTERACTIVE, 9) == 9
    batch = [joined(slots, BATCH, 0.0)[0] for _ in range(30)]
    for number in range(200):
        waiter = joined(slots, INTERACTIVE, number / 10)[0]
        if not waiter.granted:
            slots.cancel(waiter)
        slots.release()
        slots.adjust(number / 10)
    assert sum(waiter.granted for waiter in batch) >= 15


def test_a_full_queue_of_rows_refuses_no_call_of_a_person():
    """Those of lower classes do not count for the bound."""
    slots = Slots(1, max_waiting=2)
    slots.admit(BATCH, 0.0)
    for _ in range(2):
        slots.join(standing=Standing(BATCH))
    with pytest.raises(errors.QueueFull):
        slots.join(standing=Standing(BATCH))
    person = slots.join(standing=Standing(INTERACTIVE))
    assert slots.release() is person


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 40)), max_size=120),
)
def test_the_books_agree_whatever_happens(limit, steps):
    """Held and waiting are right, and while any call waits another has a slot."""
    slots, held, waiting, now = Slots(limit), 0, [], 0.0

    def got(waiters):
        nonlocal held
        for waiter in filter(None, waiters):
            assert waiter.granted
            waiting.remove(waiter)
            held += 1

    for what, number, seconds in steps:
        now += seconds
        rank, tenant = number % 3, "ab"[number % 2]
        if what <= 1:
            if slots.admit(rank, now):
                held += 1
            else:
                waiting.append(slots.join(standing=Standing(rank, tenant)))
                got(slots.adjust(now))
        elif what == 2 and held:
            held -= 1
            slots.look(now)
            got([slots.release()])
        elif what == 3 and waiting:
            assert slots.cancel(waiting.pop(number % len(waiting))) is None
        elif what == 4:
            got(slots.resize(1 + number))
        elif what == 5:
            (slots.crowd.stall if number % 2 else slots.crowd.move)()
            got(slots.adjust(now))
        told = slots.statistics()
        assert (told.held, told.waiting) == (held, len(waiting))
        assert sum(told.waiting_by_class.values()) in (0, len(waiting))
        assert held or not waiting, "all wait, and nobody has a slot"


def test_classes_through_a_stack(run):
    """A batch that is there first leaves room: a call of a person is sent at once."""
    server = FakeServer(latency=30.0)
    stack = Stack(ConcurrencyLimiter(20), RateLimiter(requests_per_minute=60), ErrorClassifier())
    send, waited = stack.around(server), []

    async def person():
        began = current().now()
        await send("person", priority="interactive")
        waited.append(current().now() - began - 30.0)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(lambda number=number: send(number, priority="batch"))
            await anyio.sleep(5)
            assert stack.statistics().slots[None].held == 18
            for _ in range(2):
                await anyio.sleep(2)
                group.start_soon(person)
            await anyio.sleep(60)
            group.cancel_scope.cancel()

    run(main)
    assert len(waited) == 2
    assert max(waited) <= 1.0
    assert stack.statistics().slots[None].held == 0


def test_a_batch_alone_fills_all_slots(run):
    """In its class too, and at once, where the rate is not the limit."""
    server = FakeServer(latency=5.0)
    stack = Stack(
        ConcurrencyLimiter(20), RateLimiter(requests_per_minute=60_000), ErrorClassifier()
    )
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(lambda number=number: send(number, priority="batch"))

    run(main)
    assert server.peak == 20
    assert server.sent[-1] - server.sent[0] == pytest.approx(20.0, abs=0.1)


def test_tenants_through_a_stack(run):
    """One with two hundred calls and one with twenty that always wait get as many answers."""
    server = FakeServer(latency=0.5)
    stack = Stack(ConcurrencyLimiter(4), ErrorClassifier())
    send, done = stack.around(server), {"many": 0, "few": 0}

    async def again(name):
        while True:
            await send(name, tenant=name)
            done[name] += 1

    async def main():
        with anyio.move_on_after(100):
            async with anyio.create_task_group() as group:
                for number in range(220):
                    group.start_soon(again, "few" if number % 11 == 0 else "many")

    run(main)
    assert done["few"] / sum(done.values()) == pytest.approx(0.5, abs=0.02)


def test_slots_are_shared_by_what_calls_cost(run):
    """Where the rate limits tokens, a tenant with ten times larger calls gets a tenth as many."""
    server = FakeServer(latency=0.1)
    limiter = RateLimiter(tokens_per_minute=60_000)
    send = Stack(ConcurrencyLimiter(4), limiter, ErrorClassifier()).around(server)
    done = {"large": 0, "small": 0}

    async def again(name, tokens):
        while True:
            await send(name, tenant=name, tokens=tokens)
            done[name] += tokens

    async def main():
        with anyio.move_on_after(300):
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(again, "large", 1_000)
                    group.start_soon(again, "small", 100)

    run(main)
    assert done["small"] / sum(done.values()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("wrong", ["urgent", "", 3])
def test_an_unknown_class_is_refused(wrong, run):
    """Before anything is sent, with the names that there are."""
    send = Stack(ConcurrencyLimiter(1), ErrorClassifier()).around(FakeServer())

    async def main():
        with pytest.raises(errors.ConfigurationError, match="'interactive', 'normal' or 'batch'"):
            await send("x", priority=wrong)

    run(main)
