"""The layer: a second attempt beside a late one, and all that must not happen."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import weakref
from dataclasses import dataclass, field

import anyio
import pytest
from fakes import Remember, answer

from resilient_infe import (
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Hedge,
    Hold,
    RateLimiter,
    Reply,
    Retry,
    RetryBudget,
    Stack,
    call_options,
    errors,
)
from resilient_infe.aio import current
from resilient_infe.testing import InfeModel, InProcessInfe, run_virtually

STREAM = {"model": "infe-pulse", "stream": True}


@dataclass
class Attempts:
    """A transport whose attempts take the given seconds, in order.

    Their results are their numbers, but where `outcomes` has another one.
    """

    times: list[float] = field(default_factory=list)
    outcomes: list[object] = field(default_factory=list)
    streams: bool = False
    ended: list[str] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)

    async def handle(self, call):
        """Make one attempt."""
        number = len(self.calls)
        self.calls.append(call)
        try:
            seconds = self.times[number] if number < len(self.times) else 0.1
            await anyio.sleep(seconds)
        except BaseException:
            self.ended.append(f"{number} cancelled")
            raise
        self.ended.append(f"{number} ended")
        if number < len(self.outcomes) and self.outcomes[number]:
            return answer(call, self.outcomes[number])
        if self.streams:
            call.hold = Hold()
            self.holds.append(call.hold)
        return number

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise NotImplementedError


def stack_of(hedge, *, retry=1, listeners=(), inside=(), **limits):
    """Return a stack with the usual layers around an attempt."""
    return Stack(
        Retry(retry, uniform=lambda: 0.0),
        hedge,
        ConcurrencyLimiter(limits.get("slots", 8)),
        RateLimiter(requests_per_minute=limits.get("rpm", 6_000)),
        *inside,
        CircuitBreaker(limits.get("circuit", Circuit())),
        ErrorClassifier(),
        listeners=listeners,
    )


def books(stack):
    """Return what is still taken of slots, reservations and probes."""
    now = stack.statistics()
    return (
        now.in_flight,
        now.waiting,
        sum(each.held for each in now.slots.values()),
        sum(each.outstanding for each in now.allowances.values()),
    )


async def timed(send, payload="x", **options):
    """Return the result or the exception, and the seconds that it took."""
    began = current().now()
    try:
        result = await send(payload, **options)
    except Exception as error:
        result = error
    return result, round(current().now() - began, 6)


def test_a_late_attempt_gets_a_second_one(run):
    """The second answers first; the first is cancelled, and all that it held is back."""
    server, seen = Attempts([60.0, 0.5]), Remember()
    stack = stack_of(Hedge(2.0), listeners=[seen])

    async def main():
        assert await timed(stack.around(server)) == (1, 2.5)
        assert books(stack) == (0, 0, 0, 0)

    run(main)
    assert server.ended == ["1 ended", "0 cancelled"]
    [sent], [won] = seen.named("hedge.sent"), seen.named("hedge.won")
    assert (sent.attempt, sent.delay, won.attempt, won.took) == (2, 2.0, 2, 0.5)
    [finished] = seen.named("call.finished")
    assert (finished.attempts, finished.kind, finished.sent_for) == (2, "ok", 2.5)
    now = stack.statistics()
    assert (now.attempts, now.outcomes) == (2, {"ok": 1})
    [hedges] = now.hedges.values()
    assert (hedges.sent, hedges.won, hedges.skipped, hedges.delay) == (1, 1, 0, 2.0)


def test_the_first_may_still_win(run):
    """If the first answers after all, the second is cancelled and leaves nothing."""
    server = Attempts([3.0, 9.0])
    stack = stack_of(Hedge(2.0))

    async def main():
        assert await timed(stack.around(server)) == (0, 3.0)
        await anyio.sleep(0.01)
        assert books(stack) == (0, 0, 0, 0)

    run(main)
    assert server.ended == ["0 ended", "1 cancelled"]
    [hedges] = stack.statistics().hedges.values()
    assert (hedges.sent, hedges.won) == (1, 0)


def test_an_attempt_in_time_is_alone(run):
    """No second attempt, no timer that is left, and the result as it came."""
    server = Attempts([1.9])
    assert run(lambda: timed(stack_of(Hedge(2.0)).around(server))) == (0, 1.9)
    assert len(server.calls) == 1


def test_both_answer_at_once(run):
    """Whichever comes first in the same instant, one result is returned and one is closed."""
    server = Attempts([3.0, 1.0], streams=True)
    stack = stack_of(Hedge(2.0))

    async def main():
        result, took = await timed(stack.around(server))
        assert (result in (0, 1), took) == (True, 3.0)
        await anyio.sleep(0.01)
        for hold in server.holds:
            hold.close()
        assert books(stack) == (0, 0, 0, 0)

    run(main)


@pytest.mark.parametrize(
    ("times", "outcomes", "expected"),
    [
        ([3.0, 4.0], [503], (1, 6.0)),  # the second one decides
        ([3.0, 0.5], [0, 503], (0, 3.0)),  # a second one that fails changes nothing
        ([3.0, 4.0], [400], ("InvalidRequestError", 3.0)),  # the second one would fail too
        ([3.0, 4.0], [503, 400], ("OverloadedError", 6.0)),  # that of the first is passed on
        ([3.0, 4.0], [503, 503], ("OverloadedError", 6.0)),
        ([1.0, 4.0], [503], ("OverloadedError", 1.0)),  # before a second one was due
    ],
)
def test_who_decides_when_one_fails(run, times, outcomes, expected):
    """A failure wins only if no answer can come any more."""
    server = Attempts(times, outcomes)
    stack = stack_of(Hedge(2.0))

    async def main():
        result, took = await timed(stack.around(server))
        shown = type(result).__name__ if isinstance(result, Exception) else result
        assert (shown, took) == expected
        await anyio.sleep(0.01)
        assert books(stack) == (0, 0, 0, 0)

    run(main)


def test_a_retry_sees_one_outcome(run):
    """Both fail: one retry follows, which may be hedged like the first attempt."""
    server = Attempts([3.0, 1.0, 60.0, 0.5], [502, 502])
    budget = RetryBudget(0.5, 0.0, 1.0)
    stack = Stack(Retry(2, budget=budget, uniform=lambda: 0.0), Hedge(2.0), ErrorClassifier())
    assert run(lambda: timed(stack.around(server))) == (3, 5.5)
    assert stack.statistics().attempts == 4
    assert budget.statistics().withdrawn == 1


def test_a_stream_keeps_what_it_holds_to_its_end(run):
    """The winner's slot and reservation stay until its stream is closed; the loser's do not."""
    server, seen = Attempts([60.0, 0.5], streams=True), Remember()
    stack = stack_of(Hedge(2.0), listeners=[seen])

    async def main():
        assert await timed(stack.around(server)) == (1, 2.5)
        assert books(stack) == (1, 0, 1, 1)
        await anyio.sleep(7.5)
        server.holds[0].close()
        assert books(stack) == (0, 0, 0, 0)

    run(main)
    [finished] = seen.named("call.finished")
    assert (finished.attempts, finished.sent_for, finished.waited) == (2, 10.0, 0.0)


def test_how_the_winners_stream_ended_is_the_calls(run):
    """A verdict that the stream's end puts on the winner's attempt is that of the call."""
    server = Attempts([60.0, 0.5], streams=True)
    stack = stack_of(Hedge(2.0))

    async def main():
        await stack.around(server)("x")
        twin = server.calls[1]
        twin.verdict = twin.refuse(errors.Refused("broken")) and twin.verdict
        server.holds[0].close()

    run(main)
    assert stack.statistics().outcomes == {"refused": 1}


def test_the_ids_of_both_are_kept(run):
    """The ids of the server of a second attempt that failed are on the call too."""
    server = Attempts([3.0, 0.5], [503, (503, {"x-request-id": "second"})])
    error, _ = run(lambda: timed(stack_of(Hedge(2.0)).around(server)))
    assert "second" in error.__notes__[0]
    assert "2 attempts" in error.__notes__[0]


@pytest.mark.parametrize("limit", ["slots", "rpm", "gate", "circuit", "budget", "max_attempts"])
def test_there_is_none_without_room(run, limit):
    """Where a second attempt would have to wait, or is not wanted, there is none."""
    server = Attempts([60.0])
    circuit = Circuit()
    options = {"slots": {"slots": 1}, "rpm": {"rpm": 1}}.get(limit, {})
    hedge = Hedge(2.0)
    stack = stack_of(hedge, circuit=circuit, **options)
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.sleep(1.0)
            if limit == "circuit":
                circuit.force_open()
            if limit == "gate":
                [(_, allowance)] = stack.layers[3].allowances.items()
                allowance.gate.close(current().now() + 30.0, current().now(), 1.0, "stated")
            if limit == "budget":
                hedge.budget.balance = 0.5

    async def one():
        with call_options(max_attempts=1 if limit == "max_attempts" else None):
            assert await timed(send) == (0, 60.0)

    run(main)
    assert len(server.calls) == 1
    assert stack.statistics().attempts == 1
    assert books(stack) == (0, 0, 0, 0)


def test_a_body_that_can_be_read_once_is_sent_once(run):
    """Nor is one hedged that two attempts would read at the same time."""

    async def main():
        for name in ("replayable", "single"):
            server = Attempts([9.0])

            async def note(call, call_next, name=name):
                if name == "replayable":
                    call.replayable = False
                else:
                    call.state.single = True
                return await call_next(call)

            stack = Stack(note, Hedge(2.0), ErrorClassifier())
            assert await timed(stack.around(server)) == (0, 9.0)

    run(main)


def test_the_delay_counts_from_the_send(run):
    """The wait for a slot is not the server's: a call that queues has no second attempt."""
    server = Attempts([5.0, 1.5])
    stack = stack_of(Hedge(2.0), slots=1)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(stack.around(server), "x")
                await anyio.sleep(0.01)

    run(main)
    assert len(server.calls) == 2


def test_it_is_learned_for_streams_alone(run):
    """A quantile is that of streams, and whole answers have no second attempt."""

    async def main(payload):
        server = Attempts([1.0] * 120 + [60.0])
        stack = Stack(Hedge(), ErrorClassifier())
        send = stack.around(server)
        for _ in range(120):
            await send(payload)
        [hedges] = stack.statistics().hedges.values()
        return hedges.delay, (await timed(send, payload))[1]

    delay, took = run(lambda: main(STREAM))
    assert delay == pytest.approx(1.0, rel=0.05)
    assert took == pytest.approx(delay + 0.1, abs=1e-6)
    assert run(lambda: main({"model": "infe-pulse"})) == (None, 60.0)


def test_what_was_cut_off_is_late(run):
    """An attempt that lost counts with its time so far, so the delay does not shrink."""

    async def main():
        server = Attempts(([1.0] * 9 + [60.0, 0.1]) * 40)
        stack = Stack(Hedge("p90", 1.0), ErrorClassifier())
        send = stack.around(server)
        for _ in range(300):
            await send(STREAM)
        return stack.statistics().hedges.popitem()[1]

    hedges = run(main)
    assert hedges.delay == pytest.approx(1.0, rel=0.05)
    assert hedges.sent < 40


def test_partitions_learn_apart(run):
    """Each model has a delay and a budget of its own."""
    stack = Stack(Hedge(), ErrorClassifier())

    async def main():
        for model, seconds in (("a", 1.0), ("b", 4.0)):
            send = stack.around(Attempts([seconds] * 120))
            for _ in range(120):
                await send({"model": model, "stream": True})

    run(main)
    delays = {name: each.delay for name, each in stack.statistics().hedges.items()}
    assert delays == {"a": pytest.approx(1.0, rel=0.05), "b": pytest.approx(4.0, rel=0.05)}


def test_partitions_share_the_budget(run):
    """A partition for each user does not bring ten second attempts for each."""
    server = Attempts([9.0] * 1_000)
    stack = Stack(Hedge(2.0), ErrorClassifier())

    async def main():
        for user in range(100):
            await stack.around(server)("x", partition=f"user-{user}")

    run(main)
    assert sum(each.sent for each in stack.statistics().hedges.values()) <= 15


def test_the_deadline_ends_both(run):
    """A deadline cuts the call, and nothing of either attempt is left."""
    server = Attempts([60.0, 60.0])
    stack = Stack(Deadline(5.0), *stack_of(Hedge(2.0)).layers)

    async def main():
        error, took = await timed(stack.around(server))
        assert (type(error), took) == (errors.DeadlineExceeded, 5.0)
        await anyio.sleep(0.01)
        assert books(stack) == (0, 0, 0, 0)

    run(main)
    assert sorted(server.ended) == ["0 cancelled", "1 cancelled"]


def test_the_second_attempt_has_the_callers_context(run):
    """Context variables of the caller are seen in both attempts."""
    name = contextvars.ContextVar("name", default="nobody")
    seen = []

    async def note(call, call_next):
        seen.append(name.get())
        return await call_next(call)

    async def main():
        name.set("caller")
        await stack_of(Hedge(2.0), inside=[note]).around(Attempts([60.0]))("x")

    run(main)
    assert seen == ["caller", "caller"]


def test_an_attempt_that_swallows_its_end_still_loses_nothing(run):
    """A transport that answers in spite of its cancellation: its result is returned or closed."""

    async def stubborn(call, call_next):
        try:
            return await call_next(call)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)

    async def main():
        stack = stack_of(Hedge(2.0), inside=[stubborn])
        assert (await timed(stack.around(Attempts([60.0, 1.0]))))[0] == 1
        await anyio.sleep(5.0)
        assert books(stack) == (0, 0, 0, 0)

    run(main)


def test_one_layer_serves_loop_after_loop(run):
    """What was learned in one loop is used in the next."""
    stack = Stack(Hedge(), ErrorClassifier())

    async def learn():
        send = stack.around(Attempts([1.0] * 120))
        for _ in range(120):
            await send(STREAM)

    run(learn)
    assert run(lambda: timed(stack.around(Attempts([60.0])), STREAM))[1] < 1.2


@pytest.mark.parametrize("options", [{"after": 0}, {"after": "95"}, {"budget": 0}, {"budget": 2}])
def test_wrong_values_are_refused_at_once(options):
    """A value out of range raises when the layer is made."""
    with pytest.raises(errors.ConfigurationError):
        Hedge(**options)


def test_it_says_what_it_does():
    """The description names the delay and the budget."""
    assert Hedge().describe() == (
        "a second attempt after the p95 of a stream's first chunk; 0.05 per attempt at most"
    )
    assert Hedge(2).describe() == "a second attempt after 2 s; 0.05 per attempt at most"


@pytest.mark.parametrize(
    ("times", "outcomes"),
    [
        ([0.1], []),
        ([9.0, 0.1], []),
        ([3.0, 9.0], []),
        ([3.0, 0.1], [503, 503]),
        ([3.0, 9.0], [400]),
    ],
)
def test_no_call_is_left_to_the_garbage_collector(run, times, outcomes):
    """However the two end, the call is freed when it is over."""
    server = Attempts(times, outcomes)
    stack, found = stack_of(Hedge(2.0)), []

    async def note(call, call_next):
        found.append(weakref.ref(call))
        return await call_next(call)

    send = Stack(note, *stack.layers).around(server)

    async def main():
        with contextlib.suppress(errors.InfeError):
            await send("x")
        await anyio.sleep(1.0)
        server.calls.clear()
        return found[0]()

    gc.collect()
    gc.disable()
    try:
        assert run(main) is None
    finally:
        gc.enable()


def test_a_stream_that_is_dropped_unread_gives_its_slot_back(run):
    """Also if it is the second attempt's: nothing of the race refers to it."""
    server = InProcessInfe(InfeModel(latency=0.5))

    async def slow_at_first(call, call_next):
        if call.attempt == 1:
            await anyio.sleep(60.0)
        return await call_next(call)

    stack = stack_of(Hedge(2.0), inside=[])
    stack = Stack(*stack.layers, slow_at_first)
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}

    async def main():
        stream = await stack.around(server.stream)(payload)
        assert books(stack) == (1, 0, 1, 1)
        del stream
        await anyio.sleep(0.1)
        assert books(stack) == (0, 0, 0, 0)

    run(main)


def test_a_failed_result_is_closed_if_the_caller_leaves(run):
    """The first failed with an open body, and the caller goes while the second is under way."""
    hold = Hold()

    async def transport(call):
        await anyio.sleep(3.0 if call.attempt == 1 else 60.0)
        call.hold, call.reply = hold, Reply(503, {})
        return "open"

    async def main():
        stack = stack_of(Hedge(2.0))
        with anyio.move_on_after(5.0):
            await stack.handler(transport)(Call("x"))
        await anyio.sleep(0.1)
        assert hold.closed
        assert books(stack)[2:] == (0, 0)

    run(main)


def test_the_loop_may_end_in_the_middle(backend):
    """A program that ends while two attempts are under way ends without a complaint."""
    stack = stack_of(Hedge(2.0))

    async def main():
        with anyio.move_on_after(3.0):
            async with anyio.create_task_group() as group:
                group.start_soon(stack.around(Attempts([60.0, 60.0])), "x")
        return books(stack)

    found = run_virtually(main, backend)
    assert found[0] == 0
    assert run_virtually(lambda: timed(stack.around(Attempts([0.1]))), backend) == (0, 0.1)
    assert books(stack) == (0, 0, 0, 0)


def test_a_failure_of_the_own_code_is_the_callers(run):
    """A body that cannot be looked at raises where the call is made, and nothing is left."""

    def broken():
        raise ValueError("no body")

    async def transport(call):
        return "ok"

    stack = Stack(Retry(1), Hedge(), ConcurrencyLimiter(1), ErrorClassifier())

    async def main():
        handler = stack.handler(transport)
        for _ in range(2):
            with pytest.raises(ValueError, match="no body"):
                await handler(Call("x", body=broken))
        assert await handler(Call("x")) == "ok"

    run(main)
    assert books(stack)[2] == 0
