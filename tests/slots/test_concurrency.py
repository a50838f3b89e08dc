"""ConcurrencyLimiter: the shell around Slots."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from fakes import FakeServer, FakeStreams, Remember, all_at_once

from resilient_infe import (
    Allowance,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Keyed,
    Kind,
    RateLimiter,
    Retry,
    Slots,
    Stack,
    errors,
)
from resilient_infe.aio import current
from resilient_infe.errors import ConfigurationError
from resilient_infe.testing import InfeModel, InProcessInfe


def test_never_more_than_the_limit(run):
    """A hundred calls through four slots are never more than four at once."""
    server = FakeServer(latency=1.0)
    stack = Stack(ConcurrencyLimiter(4), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(server), range(100)))
    assert results == ["ok"] * 100
    assert server.peak == 4
    assert server.sent[-1] == pytest.approx(server.sent[0] + 24)


def test_first_come_first_served(run):
    """Calls are sent in the order in which they came."""
    server = FakeServer(latency=1.0)
    stack = Stack(ConcurrencyLimiter(1), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), range(20)))
    assert server.payloads == list(range(20))


def test_a_retry_keeps_its_place(run):
    """A call that failed goes ahead of those that came after it."""
    server = FakeServer([502], latency=1.0)
    stack = Stack(
        Retry(backoff=ExponentialBackoff(0.5, 1.0, 0.5, "none")),
        ConcurrencyLimiter(1),
        ErrorClassifier(),
    )
    run(lambda: all_at_once(stack.around(server), "abcdef"))
    assert "".join(server.payloads) == "abacdef"


def test_no_slot_is_held_while_backing_off(run):
    """While one call sleeps between attempts, its slot serves the others."""
    server = FakeServer([(429, {"retry-after": "100"})], latency=1.0)
    stack = Stack(Retry(uniform=lambda: 0.0), ConcurrencyLimiter(1), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), range(10)))
    assert server.sent[9] - server.sent[0] < 11


def test_a_full_queue_refuses_at_once(run):
    """Beyond max_waiting a call is refused with advice; those inside are served."""
    server = FakeServer(latency=1.0)
    stack = Stack(ConcurrencyLimiter(Slots(1, max_waiting=2)), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(server), range(5)))
    assert results[:3] == ["ok"] * 3
    assert all(isinstance(error, errors.QueueFull) for error in results[3:])
    assert "raise max_waiting" in str(results[4])
    assert stack.statistics().outcomes[Kind.REFUSED] == 2


def test_a_cancelled_waiter_leaves_the_queue(run):
    """A call that gives up waiting takes no slot and streams.holds nobody up."""
    server = FakeServer(latency=10.0)
    stack = Stack(ConcurrencyLimiter(1), ErrorClassifier())
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(send, "first")
            await anyio.sleep(1)
            with anyio.move_on_after(1):
                await send("impatient")
            group.start_soon(send, "third")

    run(main)
    assert server.payloads == ["first", "third"]
    assert stack.statistics().slots[None].held == 0


def test_resize_in_use(run):
    """More slots serve waiting calls at once; fewer are reached as calls end."""
    server = FakeServer(latency=10.0)
    limiter = ConcurrencyLimiter(1)
    send = Stack(limiter, ErrorClassifier()).around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(send, number)
            await anyio.sleep(1)
            limiter.resize(4)
            await anyio.sleep(1)
            assert server.in_flight == 4
            limiter.resize(2)
            await anyio.sleep(10)
            assert server.in_flight == 2

    run(main)
    assert len(server.sent) == 12


def test_slots_per_partition(run):
    """With Keyed, one partition's calls do not take another's slots."""
    server = FakeServer(latency=10.0)
    stack = Stack(ConcurrencyLimiter(Keyed(lambda: Slots(1))), ErrorClassifier())
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for partition in ("a", "a", "b"):
                group.start_soon(lambda p=partition: send(p, partition=p))
            await anyio.sleep(1)
            assert sorted(server.payloads) == ["a", "b"]

    run(main)
    assert set(stack.statistics().slots) == {"a", "b"}


def test_too_many_partitions_are_refused(run):
    """A partition beyond max_keys, all in use, is refused with advice."""
    stack = Stack(ConcurrencyLimiter(Keyed(lambda: Slots(1), max_keys=1)), ErrorClassifier())
    send = stack.around(FakeServer(latency=5.0))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: send(None, partition="a"))
            await anyio.sleep(1)
            with pytest.raises(errors.TooManyPartitions, match="raise max_keys"):
                await send(None, partition="b")

    run(main)


def test_shared_slots_bound_two_stacks(run):
    """State is shared by sharing the policy: two stacks, one limit."""
    server, slots = FakeServer(latency=1.0), Slots(3)
    one = Stack(ConcurrencyLimiter(slots), ErrorClassifier()).around(server)
    two = Stack(ConcurrencyLimiter(slots), ErrorClassifier()).around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for send in (one, two) * 10:
                group.start_soon(send, None)

    run(main)
    assert server.peak == 3


def test_a_stream_holds_its_slot_to_the_end(run):
    """With a hold on the call, the slot comes back when the stream is closed, once."""
    streams = FakeStreams()

    stack = Stack(ConcurrencyLimiter(1), ErrorClassifier())
    send = stack.around(streams)

    async def main():
        assert await send(None) == 200
        assert stack.statistics().slots[None].held == 1
        with anyio.move_on_after(5) as scope:
            await send(None)
        assert scope.cancelled_caught
        streams.holds[0].close()
        streams.holds[0].close()
        assert stack.statistics().slots[None].held == 0
        assert stack.statistics().in_flight == 0
        return current().now()

    run(main)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "4"])
def test_odd_limits_are_refused(limit):
    """A limit that is no whole number from 1 is told at once."""
    with pytest.raises((errors.ConfigurationError, AttributeError)):
        ConcurrencyLimiter(limit).describe()


def test_a_server_that_takes_fewer_at_once_gets_fewer(run):
    """A 429 about calls in progress narrows the slots, and teaches the rate nothing."""
    model = InfeModel(concurrency=10, latency=1.0)
    seen = Remember()
    stack = Stack(
        Retry(max_attempts=20),
        ConcurrencyLimiter(40),
        RateLimiter(requests_per_minute=60_000),
        ErrorClassifier(),
        listeners=[seen],
    )
    send = stack.around(InProcessInfe(model))
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}
    run(lambda: all_at_once(send, [payload] * 400))
    told = stack.statistics()
    assert told.slots[None].limit == 10
    assert model.books.rejected == 30
    assert told.allowances[None].learned is None
    narrowed = seen.named("slots.narrowed")
    assert (narrowed[0].old, narrowed[-1].new) == (40, 10)


def test_who_finds_no_slot_gets_the_one_that_is_added(run):
    """A minute after the slots were narrowed the first who waits widens them, and goes on."""
    slots = Slots(2)
    stack = Stack(ConcurrencyLimiter(slots), ErrorClassifier())
    server = FakeServer(latency=500.0)

    async def main():
        assert slots.take()
        slots.narrow(current().now())
        slots.release()
        async with anyio.create_task_group() as group:
            group.start_soon(stack.around(server), "first")
            await anyio.sleep(100)
            group.start_soon(stack.around(server), "second")
            await anyio.sleep(1)
            return slots.held, slots.waiting

    assert run(main) == (2, 0)


@pytest.mark.parametrize("limit", ["slots", "rate"])
def test_a_full_queue_stays_bounded_when_refusals_are_waited_out(run, limit):
    """Who finds it full comes back as a newcomer, and the bound holds."""
    slots, allowance = Slots(1, max_waiting=2), Allowance(60.0, max_waiting=2)
    bounded = {"slots": ConcurrencyLimiter(slots), "rate": RateLimiter(allowance)}[limit]
    stack = Stack(Retry(3, wait_out_refusals=True), bounded, ErrorClassifier())
    most = 0

    async def main():
        nonlocal most
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, stack.around(FakeServer(latency=1.0)), range(20))
            for _ in range(200):
                await anyio.sleep(0.05)
                most = max(most, slots.waiting, allowance.waiting)
            group.cancel_scope.cancel()

    run(main)
    assert most == 2


def test_a_hint_is_how_long_a_call_waited_that_was_served(run):
    """One that left the queue without a slot says nothing of it."""
    slots = Slots(1)
    stack = Stack(Deadline(), ConcurrencyLimiter(slots), ErrorClassifier())
    send = stack.around(FakeServer(latency=5.0))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, send, ["first"])
            await anyio.sleep(0.1)
            with pytest.raises(errors.DeadlineExceeded):
                await send("late", deadline=0.5)
            left = slots.last_wait
            await send("served")
            return left, slots.last_wait

    left, served = run(main)
    assert left == 1.0
    assert served == pytest.approx(4.4, abs=0.01)


@pytest.mark.parametrize("retries", [True, False])
def test_a_call_that_lost_its_slot_queues_again(run, retries):
    """Slots are narrowed while calls with slots wait for the rate: with a `Retry` none is sent."""
    slots = Slots(8)
    layers = [Retry(max_attempts=1)] if retries else []
    layers += [ConcurrencyLimiter(slots), RateLimiter(requests_per_minute=600, burst=0.1)]
    server = FakeServer(latency=1.0)
    stack = Stack(*layers, ErrorClassifier())

    async def narrow():
        await anyio.sleep(0.05)
        for _ in range(7):
            slots.crowd.sent()
        for others in range(2, 8):
            slots.crowd.answered(others, 0.0, refused=True)
            slots.crowd.ended()
        slots.crowd.ended()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(narrow)
            return await all_at_once(stack.around(server), range(8))

    assert run(main) == ["ok"] * 8
    assert len(server.sent) == 8
    assert (server.peak <= 3) is retries
    assert slots.crowd.in_flight == 0


def test_explained_refusals_do_not_count_against_the_circuit(run):
    """503s for want of room, once calls are let in below the limit, leave the circuit alone."""
    circuit, slots = Circuit(consecutive_failures=2), Slots(8)
    stack = Stack(ConcurrencyLimiter(slots), CircuitBreaker(circuit), ErrorClassifier())
    server = FakeServer(default=lambda _: 503 if server.in_flight >= 2 else "ok", latency=0.1)

    async def main():
        slots.crowd._find(2, 1e9)
        slots.crowd._below = [5, 0]
        return await all_at_once(stack.around(server), range(8))

    results = run(main)
    assert results.count("ok") == 2
    assert circuit.state == "closed"
    assert circuit.statistics().failures == 0


def crowded(slots):
    """Let slots find that the server takes two at once."""
    others = [slots.crowd.sent() for _ in range(10)]
    for each in others[2:] + others[:2]:
        slots.crowd.answered(each, 0.0, refused=each >= 2)
        slots.crowd.ended()
    slots.adjust(0.0)
    assert (slots.crowd.limit, slots.limit) == (2, 2)


def test_a_new_number_does_not_undo_what_was_found():
    """The limit of the server holds for more slots as well."""
    slots = Slots(8)
    crowded(slots)
    slots.resize(16)
    slots.adjust(0.0)
    assert slots.limit == 2


def test_a_limit_that_errors_name_and_one_that_refusals_show_both_hold():
    """The least of them is in use: neither is raised or forgotten because of the other."""
    slots = Slots(8)
    crowded(slots)
    assert slots.take()
    assert slots.narrow(1.0)
    assert slots.adjust(1.5) == []
    assert slots.limit == 1
    slots.adjust(61.0)  # a minute later one more is tried for the one
    assert slots.limit == 2
    slots.adjust(121.0)
    assert slots.limit == slots.crowd.limit == 3
    slots.crowd._forget()
    slots.adjust(122.0)
    assert (slots.limit, slots.narrowed) == (3, True)
    slots.adjust(1_000.0)
    assert slots.narrowed or slots.crowd.limit is not None


def test_what_the_crowd_suspects_is_not_what_errors_name(run):
    """Bare 429s narrow the slots as refusals show, and not by half a minute's tries."""
    slots = Slots(8)
    stack = Stack(ConcurrencyLimiter(slots), ErrorClassifier())
    server = FakeServer(default=lambda _: 429 if server.in_flight >= 6 else "ok", latency=0.1)
    run(lambda: all_at_once(stack.around(server), range(8)))
    assert slots.crowd.limit is None
    assert slots.limit == 8


def test_a_layer_that_calls_on_twice_is_counted_once(run):
    """It has one slot, so it is one of those in flight, and its slot is its own."""
    slots = Slots(8)
    crowded(slots)

    async def twice(call, call_next):
        await call_next(call)
        call.verdict = None
        return await call_next(call)

    server = FakeServer(latency=0.1)
    stack = Stack(Retry(), ConcurrencyLimiter(slots), twice, ErrorClassifier(), strict=False)

    async def main():
        await all_at_once(stack.around(server), range(2))
        return current().now()

    before = slots.crowd.in_flight
    run(main)
    assert len(server.sent) == 4
    assert slots.crowd.in_flight == before == 0


def test_slots_by_model(run):
    """Each model has its own number, and each other model that of the star."""
    limiter = ConcurrencyLimiter({"infe-titan": 1, "*": 3})
    server = FakeServer(latency=1.0)
    send = Stack(limiter, ErrorClassifier()).around(server)

    async def main():
        titan = [partial(send, partition="infe-titan")] * 3
        pulse = [partial(send, partition="infe-pulse")] * 3
        await all_at_once(lambda ask: ask("x"), [*titan, *pulse])
        return current().now() - server.sent[0]

    assert run(main) == 3.0
    assert server.peak == 4
    assert limiter.describe() == "3 in flight, per partition; infe-titan: 1 in flight"


def test_slots_by_model_must_say_what_the_others_get():
    """No number is safe for every server, so there is none to fall back on."""
    with pytest.raises(ConfigurationError, match="add '\\*'"):
        ConcurrencyLimiter({"infe-titan": 1})
    with pytest.raises(ConfigurationError, match="the model 'infe-titan': a concurrency limit"):
        ConcurrencyLimiter({"infe-titan": 0, "*": 1})


def test_resize_before_the_first_call_makes_the_partition(run):
    """The number holds from the first call on."""
    limiter = ConcurrencyLimiter(Keyed(lambda: Slots(1)))
    limiter.resize(2, "infe-titan")
    server = FakeServer(latency=1.0)
    send = Stack(limiter, ErrorClassifier()).around(server)
    run(lambda: all_at_once(partial(send, partition="infe-titan"), range(2)))
    assert server.peak == 2
    assert limiter.statistics(0.0)["infe-titan"].limit == 2


def test_resize_of_one_partition_needs_slots_of_its_own():
    """One `Slots` for all has no partitions, and the star is no partition."""
    with pytest.raises(ConfigurationError, match="one limit serves all partitions"):
        ConcurrencyLimiter(5).resize(2, "infe-titan")
    for odd in ("*", 5):
        with pytest.raises(ConfigurationError, match="name of one"):
            ConcurrencyLimiter(Keyed(lambda: Slots(1))).resize(2, odd)


def test_a_factory_that_knows_only_some_keys_can_be_given(run):
    """It is not asked for a key that no call has, and its error reaches the call."""
    limits = {"infe-titan": 1}
    limiter = ConcurrencyLimiter(Keyed(lambda model: Slots(limits[model])))
    assert limiter.describe() == "by your function, per partition"
    send = Stack(limiter, ErrorClassifier()).around(FakeServer())

    async def main():
        assert await send("x", partition="infe-titan") == "ok"
        with pytest.raises(KeyError):
            await send("x", partition="infe-pulse")

    run(main)


def test_a_factory_that_makes_something_else_is_refused_at_the_call(run):
    """It cannot be tried with every key before."""
    limiter = ConcurrencyLimiter(Keyed(lambda model: {"a": Slots(1)}[model] if model else Slots(1)))
    assert limiter.describe().startswith("1 in flight")
    wrong = ConcurrencyLimiter(Keyed(lambda model: object() if model else Slots(1)))
    send = Stack(wrong, ErrorClassifier()).around(FakeServer())

    async def main():
        with pytest.raises(ConfigurationError, match="ConcurrencyLimiter: give"):
            await send("x", partition="b")

    run(main)
