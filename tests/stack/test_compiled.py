"""Guards in one coroutine do what they do one by one, whatever happens to a call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import re
import textwrap
import traceback
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
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.aio import AsyncioRuntime, current
from resilient_infe.core.guard import Guard, Repeater, Shape, source
from resilient_infe.testing.virtual import run_virtually

LIMITS = {"x-ratelimit-limit-requests": "90", "x-ratelimit-remaining-requests": "7"}
USAGE = {"usage": {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}}


def together(*layers):
    """Return the layers as they are: guards next to each other share a coroutine."""
    return layers


async def passes(call, call_next):
    """Call on, and nothing else: it keeps the guards around it apart."""
    return await call_next(call)


def apart(*layers):
    """Return the layers with one of the user's between any two, so that each runs alone."""
    spread = []
    for layer in layers:
        spread += [layer, passes]
    return tuple(spread)


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


def made(way, keyed, seen, deadline):
    """Return a stack of all layers, small enough to be full, and its listener."""
    slots, allowance, circuit = (
        lambda: Slots(3, max_waiting=4),
        lambda: Allowance(120, 12_000),
        lambda: Circuit(minimum_calls=4, open_for=5.0, probes=1),
    )
    layers = way(
        RequestIdLogger(log=False),
        Deadline(deadline),
        Retry(uniform=lambda: 0.47, budget=RetryBudget(0.5)),
        ConcurrencyLimiter(Keyed(slots) if keyed else slots()),
        RateLimiter(Keyed(allowance) if keyed else allowance()),
        CircuitBreaker(Keyed(circuit) if keyed else circuit()),
        ErrorClassifier(lambda result, error: Kind.INVALID if error is ODD else None),
        AttemptTimeout(2.0),
    )
    return Stack(*layers, listeners=[seen])


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


def policies_of(stack):
    """Return the slots, the allowances and the circuits of a stack."""
    of = {type(layer): layer for layer in stack.layers}
    return of[ConcurrencyLimiter].slots, of[RateLimiter].allowances, of[CircuitBreaker].circuits


async def scenario(way, keyed, deadline, calls):
    """Make the calls; return all that can be seen of them from outside."""
    seen = Remember()
    stack = made(way, keyed, seen, deadline)
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
    policies = [policy for found in policies_of(stack) for _, policy in found.items()]
    assert not any(policy.busy for policy in policies)
    unused = [policy.idle(current().now() + 3_600.0) for policy in policies]
    return results, states, stack.statistics(), seen.events, unused


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(calls=CALLS, keyed=st.booleans(), deadline=st.sampled_from([40.0, 5.0, 1.7, None]))
def test_it_is_the_layers_one_by_one(backend, calls, keyed, deadline):
    """Results, notes, events and what is left of every limit are the same, whatever happens."""
    in_one, one_by_one = (
        run_virtually(partial(scenario, way, keyed, deadline, calls), backend)
        for way in (together, apart)
    )
    assert in_one == one_by_one


def five():
    """Return the guards of an attempt, with plenty of everything."""
    return (
        ConcurrencyLimiter(4),
        RateLimiter(requests_per_minute=6_000),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(2.0),
    )


class Noted(Guard):
    """A guard that notes what it is asked."""

    def __init__(self, name, seen, *, full=False, error=None):
        self.name, self.seen, self.full, self.error = name, seen, full, error

    def enter(self, call):
        """Let the call in, unless it is full."""
        self.seen.append(("enter", self.name))
        return None if self.full else self.name

    async def wait(self, call):
        """Wait a second."""
        await anyio.sleep(1.0)
        self.seen.append(("wait", self.name))
        return self.name

    def leave(self, call, held, result, error):
        """Note what came, and raise something else in its place, if asked to."""
        self.seen.append(("leave", self.name, held, result, type(error).__name__))
        if self.error is not None:
            raise self.error


def around(*layers, transport=FakeServer):
    """Return a transport with the layers around it, and no others."""
    return Stack(*layers, strict=False).around(transport())


def test_the_generated_text_is_as_documented():
    """The docstring shows the text for a guard that may wait, to the letter, and what repeats."""
    one, repeated = re.findall(
        r"::\n\n(.*?)(?=\n\n(?:And|Args))", inspect.getdoc(source), re.DOTALL
    )
    assert source([Shape(waits=True)]) == textwrap.dedent(one)
    assert textwrap.indent(textwrap.dedent(repeated), " " * 12) in source([Shape(repeats=True)])


def test_guards_enter_outermost_first_and_leave_in_reverse(run):
    """One that is full is waited for before the next is asked; all see what came from inside."""
    seen = []
    send = around(Noted("a", seen), Noted("b", seen, full=True), Noted("c", seen))
    assert run(lambda: send("x")) == "ok"
    assert seen == [
        *[("enter", "a"), ("enter", "b"), ("wait", "b"), ("enter", "c")],
        *[("leave", name, name, "ok", "NoneType") for name in "cba"],
    ]


def test_a_guard_may_raise_another_error(run):
    """Guards outside of it see the new error, guards inside the old one, and the caller the new."""
    seen = []
    odd = Noted("b", seen, error=KeyError())
    send = around(Noted("a", seen), odd, Noted("c", seen), transport=lambda: FakeServer([502]))
    with pytest.raises(KeyError):
        run(lambda: send("x"))
    assert [each[-1] for each in seen if each[0] == "leave"] == [
        *["UpstreamError", "UpstreamError", "KeyError"]
    ]


def test_a_guard_that_refuses_holds_nothing(run):
    """It does not leave, nor is anything inside of it asked; those outside of it leave."""
    seen = []

    class Refuses(Noted):
        def enter(self, call):
            raise call.refuse(errors.Refused("no"))

    send = around(Noted("a", seen), Refuses("b", seen), Noted("c", seen))
    with pytest.raises(errors.Refused):
        run(lambda: send("x"))
    assert seen == [("enter", "a"), ("leave", "a", "a", None, "Refused")]


def test_a_guard_without_a_wait_may_hold_nothing(run):
    """Then nothing is taken back."""
    seen = []

    class Free(Noted):
        wait = Guard.wait

    send = around(Free("a", seen, full=True))
    assert run(lambda: send("x")) == "ok"
    assert seen == [("enter", "a")]


def test_a_guard_can_be_called_as_any_layer(run):
    """A layer of the user's may call one on its own, and it does the same."""
    seen = []

    async def mine(call, call_next):
        return await Noted("a", seen, full=True)(call, call_next)

    assert run(lambda: around(mine)("x")) == "ok"
    assert [each[0] for each in seen] == ["enter", "wait", "leave"]


def test_what_is_derived_from_a_guard_may_call_on_by_itself(run):
    """A class with a `__call__` of its own is called, and its neighbours are guarded without it."""
    seen = []

    class Own(Noted):
        async def __call__(self, call, call_next):
            seen.append("mine")
            return await call_next(call)

    assert run(lambda: around(Noted("a", seen), Own("b", seen), Noted("c", seen))("x")) == "ok"
    assert [each if each == "mine" else each[:2] for each in seen] == [
        *[("enter", "a"), "mine", ("enter", "c"), ("leave", "c"), ("leave", "a")]
    ]


def test_a_long_row_of_guards_runs(run):
    """The interpreter nests no more than twenty blocks; more guards than that take turns."""
    seen = []
    send = around(*(Noted(number, seen, full=number % 2 == 0) for number in range(50)))
    assert run(lambda: send("x")) == "ok"
    assert [each[1] for each in seen if each[0] == "enter"] == list(range(50))
    assert [each[1] for each in seen if each[0] == "leave"] == list(range(50))[::-1]


@pytest.mark.parametrize("number", [6, 7, 20])
def test_a_long_row_of_repeaters_runs(run, number):
    """A repeater needs three blocks, so fewer of them share a coroutine."""
    retries = [Retry(max_attempts=1) for _ in range(number)]
    send = Stack(*retries, ErrorClassifier(), strict=False).around(FakeServer([]))
    assert run(lambda: send("x")) is not None


def test_what_repeats_may_wait_too(run):
    """A guard that says both is asked for both."""
    seen = []

    class Both(Repeater, Noted):
        def again(self, call, held, error):
            return 0.0 if seen.count(("enter", "in")) < 3 else None

        async def pause(self, call, held, until):
            seen.append(("pause", held))
            call.verdict = None

    Both.wait = Noted.wait
    stack = (Both("out", seen, full=True), ErrorClassifier(), Noted("in", seen))
    send = Stack(*stack, strict=False).around(FakeServer([502, 502]))
    assert run(lambda: send("x")) == "ok"
    assert [each[:2] for each in seen if each[0] != "leave"] == [
        *[("enter", "out"), ("wait", "out"), ("enter", "in"), ("pause", "out")],
        *[("enter", "in"), ("pause", "out"), ("enter", "in")],
    ]


def test_a_traceback_shows_the_lines_of_its_own_stack(run):
    """Two stacks of as many guards, but of other kinds, have other texts."""

    async def transport(_):
        raise Odd

    free = Stack(Deadline(), ErrorClassifier()).around(transport)
    full = Stack(ConcurrencyLimiter(1), ErrorClassifier()).around(transport)
    for send in (free, full, free):
        with pytest.raises(Odd) as caught:
            run(lambda send=send: send("x"))
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert "result = await call_next(call)" in [each.line for each in frames]


@pytest.mark.parametrize("layer", [AttemptTimeout(1.0), Deadline(1.0)], ids=["attempt", "call"])
def test_a_timeout_keeps_nothing_of_what_hung(run, layer):
    """A caller may keep the error; the frames that were cut, and what they held, are let go."""

    class Held:
        pass

    alive = weakref.WeakSet()

    async def hangs(_):
        held = Held()
        alive.add(held)
        await anyio.sleep(100.0)
        return held

    async def main():
        layers = sorted(
            [layer, ErrorClassifier()], key=lambda each: isinstance(each, AttemptTimeout)
        )
        results = await all_at_once(Stack(*layers).around(hangs), range(5))
        assert all(isinstance(each, TimeoutError) for each in results)
        assert all(each.__context__ is None for each in results)
        return len(alive), results

    assert run(main)[0] == 0


@pytest.mark.parametrize("make", [presets.service, presets.batch])
def test_a_failing_call_is_told_in_few_frames(make):
    """The traceback shows at most eight frames of ours, with the generated lines readable."""

    async def transport(_):
        raise Odd

    with pytest.raises(Odd) as caught:
        run_virtually(lambda: make(requests_per_minute=600).around(transport)("x"))
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [each for each in frames if "resilient_infe" in each.filename]
    ours = [each for each in ours if "/testing/" not in each.filename]
    assert len(ours) <= 8
    assert any(each.line == "result = await call_next(call)" for each in ours)


def whole(deadline=40.0, way=together, **options):
    """Return a stack of all but the logger."""
    return Stack(*way(Deadline(deadline), Retry(uniform=lambda: 0.0, **options), *five()))


def hangs_later(now):
    """Answer at once at first, and then never."""
    return 0.0 if now < 1.0 else 100.0


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


@pytest.mark.parametrize("way", [together, apart])
def test_a_swallowed_cancellation_does_not_save_a_call(way):
    """Who swallows the end of an attempt is cut at the deadline, as where it has a timer."""

    async def stubborn(payload):
        if payload == "stubborn":
            with contextlib.suppress(asyncio.CancelledError):  # and no uncancel()
                await anyio.sleep(100.0)
            await anyio.sleep(100.0)

    async def main():
        send = whole(5.0, way).around(stubborn)
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


WAYS = pytest.mark.parametrize("way", [together, apart])


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
def test_a_failed_call_leaves_no_garbage(way, fail):
    """No frame keeps what it raised, so memory does not wait for a collection to come back."""

    async def broken(payload):
        if payload == "broken":
            await fail()

    async def main():
        send = whole(5.0, way, max_attempts=1).around(broken)
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
def test_what_is_no_exception_passes_untouched(run, way):
    """Nothing is tried again and nothing noted on what ends a program."""

    async def broken(payload):
        if payload == "broken":
            raise Interrupt

    async def main():
        send = whole(5.0, way).around(broken)
        await send("binds the policies to the loop")
        with pytest.raises(Interrupt) as caught:
            await send("broken")
        return getattr(caught.value, "__notes__", None)

    assert run(main) is None


@WAYS
def test_a_stream_that_breaks_before_it_is_handed_over_leaves_nothing_taken(run, way):
    """What is raised ends the attempt, although the transport has put a hold on it."""

    class Transport:
        async def handle(self, call):
            if call.payload == "broken":
                call.hold = Hold()
                raise Odd

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        stack = whole(5.0, way)
        send = stack.around(Transport())
        await send("binds the policies to the loop")
        with pytest.raises(Odd):
            await send("broken")
        return await settled(stack)

    assert run(main) == (0, 0, 0)


@WAYS
def test_the_deadline_begins_before_the_count(way):
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

        stack = whole(5.0, way)
        rate = RateLimiter(tokens_per_minute=6_000, estimate=slow)
        layers = [rate if isinstance(each, RateLimiter) else each for each in stack.layers]
        send = Stack(*layers).around(Transport())
        for seconds in (0.0, 1.0):
            await send(seconds)
        with pytest.raises(errors.DeadlineExceeded):
            await send(4.0, deadline=3.0)

    run_virtually(main)
    assert seen == [5.0, 5.0]


@WAYS
def test_what_outlasts_its_deadline_reads_alike(way):
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
        stack = whole(5.0, way)
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
def test_an_error_keeps_its_context(run, way):
    """What it was raised from is still there when it was handed on between the layers."""

    async def broken(_):
        try:
            raise OSError("the cause")
        except OSError:
            raise Odd  # noqa: B904

    async def main():
        send = whole(5.0, way).around(broken)
        try:
            raise KeyError("something else that is being handled")
        except KeyError:
            for _ in range(2):
                with pytest.raises(Odd) as caught:
                    await send("x")
        return caught.value.__context__

    assert str(run(main)) == "the cause"


@WAYS
def test_a_long_clean_up_is_cut_by_the_deadline(run, way):
    """Its cancellation interrupts that of the attempt: none of the two is the caller's."""

    async def slow(payload):
        if payload == "slow":
            try:
                await anyio.sleep(100.0)
            finally:
                await anyio.sleep(100.0)

    async def main():
        send = whole(5.0, way, max_attempts=1).around(slow)
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
def test_who_is_told_of_the_first_send(run, way, bounded):
    """It is told once, of the first attempt alone; a retry budget takes its place."""
    seen = []

    async def outer(call, call_next):
        call.state.on_send = lambda sent: seen.append(sent.payload)
        return await call_next(call)

    async def main():
        budget = RetryBudget() if bounded else None
        stack = Stack(outer, *whole(5.0, way, budget=budget).layers)
        await stack.around(FakeServer())("binds the policies to the loop")
        await stack.around(FakeServer(script=[503, 503]))("x")

    run(main)
    assert seen == ([] if bounded else ["binds the policies to the loop", "x"])


def test_what_is_told_may_fail_and_is_told_again(run):
    """Who calls on again after that failed is told anew."""
    seen = []

    async def outer(call, call_next):
        def on_send(_):
            seen.append(call.payload)
            raise LookupError

        call.state.on_send = on_send
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


@WAYS
def test_a_scope_left_open_is_told_as_trio_tells_it(way):
    """The timer's end fails then; it is not ended a second time."""

    async def leaves_open(payload):
        if payload == "open":
            anyio.CancelScope().__enter__()

    async def main():
        send = whole(5.0, way).around(leaves_open)
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
    stack = Stack(*five(), inner)
    run(lambda: all_at_once(stack.around(server), range(10)))  # six of them wait for a slot
    assert seen == server.payloads
    assert sorted(seen) == list(range(10))


def counting_tokens(way):
    """Return the guards of an attempt, with room for 100 tokens at once."""
    limiter, _, *others = five()
    return Stack(*way(limiter, RateLimiter(tokens_per_minute=6_000), *others))


@WAYS
@pytest.mark.parametrize("outcome", [USAGE, 401], ids=["used less", "failed"])
def test_tokens_that_come_back_go_to_who_waits_at_once(run, way, outcome):
    """What an attempt did not use serves the next call in the instant in which it ends."""
    server = FakeServer([{}, outcome], latency=0.1)
    send = counting_tokens(way).around(server)

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
def test_a_success_is_settled_to_its_usage(run, way, headers):
    """The real tokens are charged, and not the estimate, whatever else the reply tells."""

    class Transport:
        async def handle(self, call):
            call.reply = Reply(200, headers, {"choices": [], **USAGE})

        async def __call__(self, payload):
            raise NotImplementedError

    async def main():
        stack = counting_tokens(way)
        send = stack.around(Transport())
        await send("binds the policies to the loop")
        await anyio.sleep(10.0)
        await send("x", tokens=80)
        return stack.statistics().allowances[None]

    after = run(main)
    assert after.tokens_left == pytest.approx(100 - 50)
    assert after.outstanding == 0


def test_a_failing_deposit_leaves_nothing_taken(run):
    """What fails between admission and the send gives back all that was taken."""

    async def broken(call, call_next):
        def on_send(_):
            raise LookupError("no budget here")

        call.state.on_send = on_send
        return await call_next(call)

    async def main():
        stack = Stack(broken, *five())
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
        stack = Stack(Deadline(), *five())
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
    circuits = [circuit for _, circuit in policies_of(stack)[2].items()]
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

    async def main(way):
        seen = Remember()
        stack = Stack(*way(*five()), listeners=[seen])
        send = stack.around(transport)
        for _ in range(5):
            with pytest.raises((ExceptionGroup, TimeoutError, ValueError)):
                await send("x")
        failures = [each.failures for each in stack.statistics().circuits.values()]
        judged = [(each.kind, each.error) for each in seen.named("attempt.finished")]
        return await settled(stack), failures, judged

    in_one = run(partial(main, together))
    assert in_one[:2] == ((0, 0, 0), [5])
    assert in_one == run(partial(main, apart))


@pytest.mark.parametrize("tokens", ["5", [1]])
def test_tokens_that_are_no_number_leave_nothing_taken(run, tokens):
    """A `Call` of one's own making is not checked; what then fails gives back what it had."""

    async def main():
        stack = Stack(*five())
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
        stack = Stack(*five())
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
            *five()[2:],
        )
        send = stack.around(server)
        await send("binds the policies to the loop")
        with pytest.raises(errors.DeadlineExceeded):
            await send("slow")
        return await settled(stack)

    assert run(main) == (0, 0, 0)
    assert server.payloads == ["binds the policies to the loop"]
