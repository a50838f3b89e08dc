"""GuardedAttempt: the layers at once do what they do one by one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from functools import partial

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Hold,
    Keyed,
    Kind,
    RateLimiter,
    Reply,
    RequestIdLogger,
    Retry,
    RetryBudget,
    Slots,
    Stack,
    Usage,
    Verdict,
    errors,
    presets,
)
from resilient_infe.adapters.replies import error_of
from resilient_infe.aio import AsyncioRuntime, current
from resilient_infe.layers.attempt import GuardedAttempt, around_at, guards_at
from resilient_infe.stack.link import chain
from resilient_infe.testing.virtual import run_virtually

LIMITS = {"x-ratelimit-limit-requests": "90", "x-ratelimit-remaining-requests": "7"}
USAGE = {"usage": {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}}


class Timeout(AttemptTimeout):
    """Not taken for the one it is derived from, so that its layers run one by one."""


class Answers:
    """A transport that does what its payload says."""

    async def handle(self, call):
        """Wait, then answer with a status, raise, or hand over an open stream."""
        latency, outcomes = call.payload
        outcome = outcomes[min(call.sends, len(outcomes)) - 1]
        runtime = current()
        if outcome == "swallow":
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await runtime.sleep_until(runtime.now() + latency)
        try:
            await runtime.sleep_until(runtime.now() + latency)
        finally:
            if outcome == "clean up":
                await runtime.sleep_until(runtime.now() + latency)
            elif outcome == "clean up, shielded":
                with anyio.CancelScope(shield=True):
                    await runtime.sleep_until(runtime.now() + latency)
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, dict):
            return outcome
        if outcome == "stream":
            hold = call.hold = Hold()
            runtime.start(lambda: self.close(hold))
            return hold
        if outcome == "broken stream":
            call.hold = Hold()
            raise ConnectionResetError
        if isinstance(outcome, str):
            return outcome
        status, headers = outcome
        call.reply = Reply(status, headers, {} if status == 200 else None)
        if status == 200:
            return "answered"
        raise error_of(call.reply)

    async def close(self, hold):
        """Read a stream to its end."""
        await anyio.sleep(3.0)
        hold.close(Usage(10, 10, 20))

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise NotImplementedError


def made(timeout, keyed, seen, deadline):
    """Return a stack of all layers, small enough to be full, and its listener."""
    slots, allowance, circuit = (
        lambda: Slots(3, max_waiting=4),
        lambda: Allowance(120, 12_000),
        lambda: Circuit(minimum_calls=4, open_for=5.0, probes=1),
    )
    return Stack(
        RequestIdLogger(log=False),
        Deadline(deadline),
        Retry(uniform=lambda: 0.47, budget=RetryBudget(0.5)),
        ConcurrencyLimiter(Keyed(slots) if keyed else slots()),
        RateLimiter(Keyed(allowance) if keyed else allowance()),
        CircuitBreaker(Keyed(circuit) if keyed else circuit()),
        ErrorClassifier(lambda result, error: Kind.INVALID if error is ODD else None),
        timeout(2.0),
        listeners=[seen],
    )


ODD = ValueError("odd")


class Interrupt(BaseException):
    """What no layer takes for a failure."""


OUTCOMES = st.sampled_from(
    [
        {},
        USAGE,
        (200, {}),
        (200, {**LIMITS, "x-request-id": "infe-1"}),
        (429, {"retry-after": "2"}),
        (429, LIMITS),
        (429, {}),
        (503, {}),
        (500, {}),
        (401, {}),
        ConnectionResetError(),
        ODD,
        Interrupt(),
        "stream",
        "broken stream",
        "swallow",
        "clean up",
        "clean up, shielded",
    ]
)

OUT_OF_STEP = 0.0137
"""Seconds between any two calls: which of two timers of one instant rings first means nothing."""

CALLS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0]),  # after the one before
        st.sampled_from([0.1, 0.5, 3.0]),  # latency: the last is over the attempt's timeout
        st.lists(OUTCOMES, min_size=1, max_size=3),
        st.sampled_from([None, 0.0, 10, 400, 5_000]),  # tokens
        st.sampled_from([None, None, None, 0.0, 0.3, 4.0]),  # cancelled after
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, None, 1.9, 2.1, 2.5, 30.0]),  # a deadline of its own
    ),
    min_size=1,
    max_size=14,
)


async def scenario(timeout, keyed, deadline, calls):
    """Make the calls; return all that can be seen of them from outside."""
    seen = Remember()
    stack = made(timeout, keyed, seen, deadline)
    send, results, states = stack.around(Answers()), [None] * len(calls), []

    async def one(number, latency, outcomes, tokens, cancelled, partition, deadline):
        latency += number * OUT_OF_STEP / 20
        with anyio.move_on_after(cancelled) if cancelled is not None else anyio.CancelScope():
            try:
                found = await send(
                    (latency, outcomes),
                    tokens=tokens,
                    partition=partition,
                    request_id=f"r{number}",
                    deadline=deadline,
                )
                results[number] = found if isinstance(found, str | dict) else type(found)
            except (Exception, Interrupt) as error:
                results[number] = type(error), str(error), getattr(error, "__notes__", None)

    async with anyio.create_task_group() as group:
        for number, (gap, *call) in enumerate(calls):
            await anyio.sleep(gap + OUT_OF_STEP)
            states.append(stack.statistics())
            group.start_soon(one, number, *call)
    await anyio.sleep(10.0)
    layers = (stack.layers[3].slots, stack.layers[4].allowances, stack.layers[5].circuits)
    policies = [policy for layer in layers for _, policy in layer.items()]
    assert not any(policy.busy for policy in policies)
    unused = [policy.idle(current().now() + 3_600.0) for policy in policies]
    return results, states, stack.statistics(), seen.events, unused


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(calls=CALLS, keyed=st.booleans(), deadline=st.sampled_from([40.0, 5.0, 1.7, None]))
def test_it_is_the_layers_one_by_one(backend, calls, keyed, deadline):
    """Results, notes, events and what is left of every limit are the same, whatever happens."""
    at_once, one_by_one = (
        run_virtually(partial(scenario, kind, keyed, deadline, calls), backend)
        for kind in (AttemptTimeout, Timeout)
    )
    assert at_once == one_by_one


def layers(timeout=None):
    """Return the five, with plenty of everything."""
    return (
        ConcurrencyLimiter(4),
        RateLimiter(requests_per_minute=6_000),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(2.0) if timeout is None else timeout,
    )


def test_only_the_five_next_to_each_other_are_taken_for_them():
    """What stands in between, lacks, or is derived from one, leaves the layers as they are."""
    five = layers()
    assert guards_at(five, 0) == five
    assert guards_at((Retry(), *five), 1) == five
    assert guards_at((Retry(), *five), 0) is None
    assert guards_at(five[1:], 0) is None
    assert guards_at(layers(Timeout(2.0)), 0) is None


class OwnDeadline(Deadline):
    """Not taken for the one it is derived from."""


class OwnRetry(Retry):
    """Not taken for the one it is derived from."""


def test_what_a_first_attempt_does_without():
    """Retry, or Deadline and Retry, right outside of the five, unless the deadline is near."""
    five, retry, far, near = layers(), Retry(), Deadline(3.0), Deadline(2.0)
    only_given = Deadline()
    assert around_at((far, retry, *five), 2) == (far, retry)
    assert around_at((only_given, retry, *five), 2) == (only_given, retry)
    assert around_at((near, retry, *five), 2) == (None, retry)
    assert around_at((retry, *five), 1) == (None, retry)
    assert around_at((far, RequestIdLogger(), retry, *five), 3) == (None, retry)
    assert around_at((far, retry, RequestIdLogger(), *five), 3) is None
    assert around_at((far, OwnRetry(), *five), 2) is None
    assert around_at((OwnDeadline(3.0), retry, *five), 2) == (None, retry)
    assert around_at((far, *five), 1) is None
    assert around_at(five, 0) is None


@pytest.mark.parametrize("make", [presets.service, presets.batch])
def test_the_presets_are_guarded_in_one(make):
    """Both presets have the five in a row, and around them what a first attempt does without."""
    found = make(requests_per_minute=60).layers
    around = around_at(found, len(found) - 5)
    assert guards_at(found, len(found) - 5)
    assert around == found[-7:-5]


def whole(deadline=40.0, timeout=None, **options):
    """Return a stack whose calls make their first attempt at once, from the second call on."""
    return Stack(Deadline(deadline), Retry(uniform=lambda: 0.0, **options), *layers(timeout))


def hangs_later(now):
    """Answer at once at first, and then never."""
    return 0.0 if now < 1.0 else 100.0


def test_a_far_deadline_needs_no_timer():
    """While the first attempt runs its own timer is the only one; the call knows its deadline."""
    seen = []

    class Transport:
        async def handle(self, call):
            running = sum(len(line.entries) for line in current()._lines.values())
            seen.append((running, call.deadline - current().now()))

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        send = whole().around(Transport())
        await send("binds the policies to the loop")
        await send("x")
        await send("y", deadline=30.0)
        await send("z", deadline=1.0)

    run_virtually(main)
    assert seen == [(2, 40.0), (1, 40.0), (1, 30.0), (1, 1.0)]  # the last has a timer of its own


def test_the_deadline_bounds_all_attempts(run):
    """It cuts a later attempt, although it had no timer while the first one ran."""
    server = FakeServer(latency=hangs_later)

    async def main():
        send = whole(5.0).around(server)
        await send("binds the policies to the loop")
        await anyio.sleep(10.0)
        start = current().now()
        with pytest.raises(errors.DeadlineExceeded, match="after 5 s") as caught:
            await send("x")
        return current().now() - start, caught.value.__notes__

    took, notes = run(main)
    assert took == pytest.approx(5.0, abs=1e-3)
    assert "3 attempts in 5 s" in notes[0]
    assert len(server.sent) == 4


def test_a_deadline_nearer_than_the_timeout_cuts_the_attempt(run):
    """A call's own deadline may be the nearer bound; then the attempt is cut by it."""

    async def main():
        send = whole().around(FakeServer(latency=hangs_later))
        await send("binds the policies to the loop")
        await anyio.sleep(10.0)
        start = current().now()
        with pytest.raises(errors.DeadlineExceeded):
            await send("x", deadline=1.0)
        return current().now() - start

    assert run(main) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("timeout", [AttemptTimeout(2.0), Timeout(2.0)])
def test_a_swallowed_cancellation_does_not_save_a_call(timeout):
    """Who swallows the end of an attempt is cut at the deadline, as where it has a timer."""

    async def stubborn(payload):
        if payload == "stubborn":
            with contextlib.suppress(asyncio.CancelledError):  # and no uncancel()
                await anyio.sleep(100.0)
            await anyio.sleep(100.0)

    async def main():
        send = whole(5.0, timeout).around(stubborn)
        await send("binds the policies to the loop")
        start = current().now()
        with pytest.raises(errors.DeadlineExceeded):
            await send("stubborn")
        took = current().now() - start
        await anyio.sleep(100.0)
        return took, asyncio.current_task().cancelling()

    assert run_virtually(main) == (pytest.approx(5.0, abs=0.1), 0)


def test_an_attempt_that_ends_late_is_not_cut_again():
    """What was to be cut at the deadline is left alone once it has ended by itself."""

    async def late(payload):
        if payload == "late":
            with contextlib.suppress(asyncio.CancelledError):
                await anyio.sleep(100.0)
            await anyio.sleep(1.0)
        return payload

    async def main():
        send = whole(5.0).around(late)
        await send("binds the policies to the loop")
        assert await send("late") == "late"
        await anyio.sleep(100.0)
        return asyncio.current_task().cancelling()

    assert run_virtually(main) == 0


def test_a_layer_outside_may_call_on_again(run):
    """Each time it is a new attempt, and judged anew."""
    kinds = []

    async def twice(call, call_next):
        for _ in range(2):
            await call_next(call)
            kinds.append((call.attempt, call.verdict.status, call.verdict.kind))

    class Transport:
        async def handle(self, call):
            call.reply = Reply(200 + call.sends, {}, {})

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        send = Stack(twice, *whole().layers).around(Transport())
        await send("binds the policies to the loop")
        await send("x")

    run(main)
    assert kinds == [(1, 201, Kind.OK), (2, 202, Kind.OK)] * 2


class Odd(Exception):
    """An error that can be watched."""


WAYS = pytest.mark.parametrize("timeout", [None, Timeout(2.0)], ids=["at once", "one by one"])


async def blocked_and_odd():
    """Keep the loop busy until after the deadline, and fail."""
    loop = asyncio.get_running_loop()
    loop._virtual += 10.0
    raise Odd


async def odd():
    """Fail."""
    raise Odd


async def hangs():
    """Take longer than any attempt may."""
    await anyio.sleep(100.0)


@WAYS
@pytest.mark.parametrize("fail", [odd, blocked_and_odd, hangs])
def test_a_failed_call_leaves_no_garbage(timeout, fail):
    """No frame keeps what it raised, so memory does not wait for a collection to come back."""

    async def broken(payload):
        if payload == "broken":
            await fail()

    async def main():
        send = whole(5.0, timeout, max_attempts=1).around(broken)
        await send("binds the policies to the loop")
        # What came is kept, even if it came too late.
        with pytest.raises((Odd, errors.AttemptTimedOut)) as caught:
            await send("broken")
        seen = weakref.ref(caught.value)
        del caught
        return seen

    gc.disable()
    try:
        assert run_virtually(main)() is None
    finally:
        gc.enable()


@WAYS
def test_what_is_no_exception_passes_untouched(run, timeout):
    """Nothing is tried again and nothing noted on what ends a program."""

    async def broken(payload):
        if payload == "broken":
            raise Interrupt

    async def main():
        send = whole(5.0, timeout).around(broken)
        await send("binds the policies to the loop")
        with pytest.raises(Interrupt) as caught:
            await send("broken")
        return getattr(caught.value, "__notes__", None)

    assert run(main) is None


@WAYS
def test_a_stream_that_breaks_before_it_is_handed_over_leaves_nothing_taken(run, timeout):
    """What is raised ends the attempt, although the transport has put a hold on it."""

    class Transport:
        async def handle(self, call):
            if call.payload == "broken":
                call.hold = Hold()
                raise Odd

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        stack = whole(5.0, timeout)
        send = stack.around(Transport())
        await send("binds the policies to the loop")
        with pytest.raises(Odd):
            await send("broken")
        return await settled(stack)

    assert run(main) == (0, 0, 0)


@WAYS
def test_the_deadline_begins_before_the_count(timeout):
    """What a slow estimate takes is the call's time too, and none is left after a very slow one."""
    seen, server = [], FakeServer()

    class Transport:
        async def handle(self, call):
            seen.append(call.deadline - call.started)
            await server.handle(call)

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        loop = asyncio.get_running_loop()

        def slow(body):
            loop._virtual += body
            return 10.0

        stack = whole(5.0, timeout)
        rate = RateLimiter(tokens_per_minute=6_000, estimate=slow)
        send = Stack(*stack.layers[:3], rate, *stack.layers[4:]).around(Transport())
        for seconds in (0.0, 1.0):
            await send(seconds)
        with pytest.raises(errors.DeadlineExceeded):
            await send(4.0, deadline=3.0)

    run_virtually(main)
    assert seen == [5.0, 5.0]


@WAYS
def test_what_outlasts_its_deadline_reads_alike(timeout):
    """Trio's shield lets a clean-up outlast the deadline, which is then what ended the attempt."""
    seen = Remember()

    async def slow(payload):
        if payload == "slow":
            try:
                await anyio.sleep(100.0)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(10.0)

    async def main():
        stack = whole(5.0, timeout)
        send = Stack(*stack.layers, listeners=[seen]).around(slow)
        await send("binds the policies to the loop")
        with pytest.raises(errors.DeadlineExceeded, match="after 12 s"):
            await send("slow")

    run_virtually(main, "trio")
    assert [(each.kind, each.error) for each in seen.named("attempt.finished")] == [
        (Kind.OK, None),
        (Kind.TIMEOUT, "Cancelled"),
    ]


@WAYS
def test_an_error_keeps_its_context(run, timeout):
    """What it was raised from is still there when it was handed on between the layers."""

    async def broken(_):
        try:
            raise OSError("the cause")
        except OSError:
            raise Odd  # noqa: B904

    async def main():
        send = whole(5.0, timeout).around(broken)
        try:
            raise KeyError("something else that is being handled")
        except KeyError:
            for _ in range(2):
                with pytest.raises(Odd) as caught:
                    await send("x")
        return caught.value.__context__

    assert str(run(main)) == "the cause"


@WAYS
def test_a_long_clean_up_is_cut_by_the_deadline(run, timeout):
    """Its cancellation interrupts that of the attempt: none of the two is the caller's."""

    async def slow(payload):
        if payload == "slow":
            try:
                await anyio.sleep(100.0)
            finally:
                await anyio.sleep(100.0)

    async def main():
        send = whole(5.0, timeout, max_attempts=1).around(slow)
        await send("binds the policies to the loop")
        start = current().now()
        with pytest.raises(errors.DeadlineExceeded if asyncio_runs() else errors.AttemptTimedOut):
            await send("slow")
        return current().now() - start

    # Under trio whatever cleans up is cancelled at once, if it is not shielded.
    assert run(main) in (pytest.approx(5.0, abs=0.1), pytest.approx(2.0))


def asyncio_runs():
    """Return whether it is asyncio that runs here."""
    return isinstance(current(), AsyncioRuntime)


@WAYS
@pytest.mark.parametrize("bounded", [False, True])
def test_who_is_told_of_the_first_send(run, timeout, bounded):
    """It is told once, of the first attempt alone; a retry budget takes its place."""
    seen = []

    async def outer(call, call_next):
        call.on_send = lambda: seen.append(call.payload)
        return await call_next(call)

    async def main():
        budget = RetryBudget() if bounded else None
        stack = Stack(outer, *whole(5.0, timeout, budget=budget).layers)
        await stack.around(FakeServer())("binds the policies to the loop")
        await stack.around(FakeServer(script=[503, 503]))("x")

    run(main)
    assert seen == ([] if bounded else ["binds the policies to the loop", "x"])


def test_what_is_told_may_fail_and_is_told_again(run):
    """Who calls on again after that failed is told anew."""
    seen = []

    async def outer(call, call_next):
        def on_send():
            seen.append(call.payload)
            raise LookupError

        call.on_send = on_send
        with contextlib.suppress(LookupError):
            await call_next(call)
        return await call_next(call)

    async def main():
        plain = whole()
        await plain.around(FakeServer())("binds the policies to the loop")
        with pytest.raises(LookupError):
            await Stack(outer, *plain.layers).around(FakeServer())("x")
        return await settled(plain)

    assert run(main) == (0, 0, 0)
    assert seen == ["x", "x"]


@pytest.mark.parametrize("timeout", [None, Timeout(2.0)])
def test_a_scope_left_open_is_told_as_trio_tells_it(timeout):
    """The timer's end fails then; it is not ended a second time."""

    async def leaves_open(payload):
        if payload == "open":
            anyio.CancelScope().__enter__()

    async def main():
        send = whole(5.0, timeout).around(leaves_open)
        await send("binds the policies to the loop")
        await send("open")

    with pytest.raises(RuntimeError, match=r"attempted to exit .* still within"):
        run_virtually(main, "trio")


def test_a_layer_between_transport_and_the_five_is_still_called(run):
    """What stands inside of the five is theirs to call, on the short way as on the long one."""
    seen = []

    async def inner(call, call_next):
        seen.append(call.payload)
        return await call_next(call)

    server = FakeServer(latency=1.0)
    stack = Stack(*layers(), inner)
    run(lambda: all_at_once(stack.around(server), range(10)))  # six of them wait for a slot
    assert seen == server.payloads
    assert sorted(seen) == list(range(10))


def counting_tokens(timeout):
    """Return the five, with room for 100 tokens at once."""
    limiter, _, *others = layers(timeout)
    return Stack(limiter, RateLimiter(tokens_per_minute=6_000), *others)


@WAYS
@pytest.mark.parametrize("outcome", [USAGE, 401], ids=["used less", "failed"])
def test_tokens_that_come_back_go_to_who_waits_at_once(run, timeout, outcome):
    """What an attempt did not use serves the next call in the instant in which it ends."""
    server = FakeServer([{}, outcome], latency=0.1)
    send = counting_tokens(timeout).around(server)

    async def first():
        with contextlib.suppress(errors.InfeError):
            await send("first", tokens=100)

    async def main():
        await send("binds the policies to the loop")
        await anyio.sleep(10.0)
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.sleep(0.01)
            group.start_soon(partial(send, "waits", tokens=50))

    run(main)
    assert server.payloads[1:] == ["first", "waits"]
    assert server.sent[2] - server.sent[1] == pytest.approx(0.1)


@WAYS
@pytest.mark.parametrize("headers", [{}, LIMITS], ids=["states nothing", "states limits"])
def test_a_success_is_settled_to_its_usage(run, timeout, headers):
    """The real tokens are charged, and not the estimate, whatever else the reply tells."""

    class Transport:
        async def handle(self, call):
            call.reply = Reply(200, headers, {"choices": [], **USAGE})

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        stack = counting_tokens(timeout)
        send = stack.around(Transport())
        await send("binds the policies to the loop")
        await anyio.sleep(10.0)
        await send("x", tokens=80)
        return stack.statistics().allowances[None]

    after = run(main)
    assert after.tokens_left == pytest.approx(100 - 50)
    assert after.outstanding == 0


def test_only_what_cannot_be_had_at_once_goes_through_the_layers(run):
    """That is the first call, whose policies are bound to the loop, and those that must wait."""
    server, ways = FakeServer(latency=1.0), []
    five = guards_at(layers(), 0)
    one_by_one = chain(five, server.handle)

    async def apart(call):
        ways.append(call.payload)
        return await one_by_one(call)

    async def main():
        send = Stack(GuardedAttempt(five, apart), strict=False).around(server)
        for payload in ("first", "second", "third"):
            await send(payload)
        assert await all_at_once(send, range(6)) == ["ok"] * 6

    run(main)
    assert ways == ["first", 4, 5]
    assert len(server.sent) == 9


def test_a_failing_deposit_leaves_nothing_taken(run):
    """What fails between admission and the send gives back all that was taken."""

    async def broken(call, call_next):
        def on_send():
            raise LookupError("no budget here")

        call.on_send = on_send
        return await call_next(call)

    async def main():
        stack = Stack(broken, *layers())
        plain = Stack(*stack.layers[1:]).around(FakeServer())
        await plain("binds the policies to the loop")
        with pytest.raises(LookupError):
            await stack.around(FakeServer())("x")
        return stack.statistics()

    now = run(main)
    assert [each.held for each in now.slots.values()] == [0]
    assert [each.outstanding for each in now.allowances.values()] == [0]
    assert now.outcomes == {Kind.UNKNOWN: 1}
    assert [each.failures for each in now.circuits.values()] == [0]  # it says nothing of the server


def test_nothing_is_sent_after_the_deadline(run):
    """A call that comes too late is refused by the layer that refuses it, and nothing is taken."""
    server = FakeServer()

    async def slow(call, call_next):
        call.deadline = call.runtime.now() - 0.1  # as if something had kept the loop busy
        return await call_next(call)

    async def main():
        stack = Stack(Deadline(), *layers())
        await stack.around(server)("binds the policies to the loop")
        late = Stack(Deadline(), slow, *stack.layers[1:])
        with pytest.raises(errors.DeadlineExceeded):
            await late.around(server)("late")
        return stack.statistics()

    now = run(main)
    assert server.payloads == ["binds the policies to the loop"]
    assert [each.held for each in now.slots.values()] == [0]


async def settled(stack):
    """Return what a stack still holds: slots, reservations and permits."""
    now = stack.statistics()
    circuits = [circuit for _, circuit in stack.layers[-3].circuits.items()]
    return (
        sum(each.held for each in now.slots.values()),
        sum(each.outstanding for each in now.allowances.values()),
        sum(circuit.busy for circuit in circuits),
    )


def test_a_clean_up_that_fails_when_time_is_over_leaves_nothing_taken(run):
    """Trio takes its own cancellation out of a group, and what is left of it is raised then."""

    async def transport(_):
        async def child():
            try:
                await anyio.sleep(100)
            finally:
                raise ValueError("while cleaning up")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep(100)

    async def main(timeout):
        seen = Remember()
        stack = Stack(*layers(timeout), listeners=[seen])
        send = stack.around(transport)
        for _ in range(5):
            with pytest.raises((ExceptionGroup, TimeoutError, ValueError)):
                await send("x")
        failures = [each.failures for each in stack.statistics().circuits.values()]
        judged = [(each.kind, each.error) for each in seen.named("attempt.finished")]
        return await settled(stack), failures, judged

    at_once = run(partial(main, None))
    assert at_once[:2] == ((0, 0, 0), [5])
    assert at_once == run(partial(main, Timeout(2.0)))


@pytest.mark.parametrize("tokens", ["5", [1]])
def test_tokens_that_are_no_number_leave_nothing_taken(run, tokens):
    """A `Call` of one's own making is not checked; what then fails gives back what it had."""

    async def main():
        stack = Stack(*layers())
        send = stack.around(FakeServer())
        await send("binds the policies to the loop")
        for _ in range(5):
            with pytest.raises(TypeError):
                await send.run(Call("x", tokens=tokens))
        return await settled(stack)

    assert run(main) == (0, 0, 0)


def test_usage_that_is_no_number_leaves_nothing_taken(run):
    """Nor does a transport's own verdict that cannot be settled to."""

    async def answer(call):
        call.verdict = Verdict(Kind.OK, usage=Usage(1, 2, "3"))
        return "x"

    async def main():
        stack = Stack(*layers())
        for _ in range(5):
            with pytest.raises(TypeError):
                await stack.handler(answer)(Call("x"))
        return (await settled(stack))[::2]

    assert run(main) == (0, 0)


def test_the_clock_is_read_after_the_count(run):
    """A call whose deadline passes while its body is counted is not sent any more."""
    server = FakeServer()

    async def main():
        loop = current()

        def slow(body):
            if body == "slow":
                call_of[0].deadline = loop.now()
            return 10.0

        call_of = []

        async def remember(call, call_next):
            call_of[:] = [call]
            return await call_next(call)

        stack = Stack(
            Deadline(),
            remember,
            ConcurrencyLimiter(4),
            RateLimiter(tokens_per_minute=6_000, estimate=slow),
            *layers()[2:],
        )
        send = stack.around(server)
        await send("binds the policies to the loop")
        with pytest.raises(errors.DeadlineExceeded):
            await send("slow")
        return await settled(stack)

    assert run(main) == (0, 0, 0)
    assert server.payloads == ["binds the policies to the loop"]
