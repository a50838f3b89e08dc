"""The thirteen rules of the design, each shown on a whole stack.

Each rule was found broken in at least one library in use; the rules that belong to one policy or
layer alone have more tests beside it.
"""

from __future__ import annotations

import asyncio
import itertools

import anyio
import pytest
from fakes import FakeServer, FakeStreams, Remember, all_at_once

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Keyed,
    Kind,
    RateLimiter,
    Reply,
    RequestIdLogger,
    Retry,
    RetryBudget,
    Slots,
    Stack,
    errors,
    presets,
)
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually


def whole(*, listeners=(), retry=None, circuit=None, **rate):
    """Return a whole stack whose numbers do not matter to the test."""
    return Stack(
        RequestIdLogger(log=False),
        Deadline(1_000.0),
        retry or Retry(uniform=lambda: 0.0),
        ConcurrencyLimiter(8),
        RateLimiter(**({"requests_per_minute": 60_000} | rate)),
        CircuitBreaker(circuit or Circuit()),
        ErrorClassifier(),
        AttemptTimeout(100.0),
        listeners=listeners,
    )


def test_1_a_permit_has_three_endings(run):
    """Cancelling drops: slot, probe and reservation come back, and nothing is counted."""
    circuit = Circuit(consecutive_failures=1, probes=1, open_for=5.0)
    stack = whole(circuit=circuit, retry=Retry(max_attempts=1))
    server = FakeServer([502], latency=1.0)
    send = stack.around(server)

    async def main():
        await all_at_once(send, ["opens"])
        await anyio.sleep(5)
        with anyio.move_on_after(0.5):
            await send("a probe that is cancelled")
        now = stack.statistics()
        assert now.slots[None].held == 0
        assert now.allowances[None].outstanding == 0
        assert now.circuits[None].probes_out == 0
        assert now.circuits[None].state == "half_open"
        return await send("the next probe")

    assert run(main) == "ok"


def test_2_results_carry_an_epoch(run):
    """A success from before the circuit opened does not close it, and a failure extends nothing."""
    circuit = Circuit(consecutive_failures=3, open_for=10.0)
    slow = {0: 5.0, 1: 6.0}
    server = FakeServer(latency=lambda _: slow.get(len(server.sent) - 1, 0.0))
    server.script = ["ok", 502, 502, 502, 502]
    stack = whole(circuit=circuit, retry=Retry(max_attempts=1))
    send = stack.around(server)

    async def main():
        start = current().now()
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, send, range(5))
            await anyio.sleep(1)
            assert circuit.state == "open"
            await anyio.sleep(6)  # the slow success and the slow failure have come in
            assert circuit.state == "open"
            assert circuit.statistics().late == 2
            await current().sleep_until(start + 10.001)
        return await send("probe")

    assert run(main) == "ok"
    assert len(server.sent) == 6


def test_3_half_open_admits_at_most_its_probes(run):
    """However many wait, at most `probes` go through, and the rest are told when to come back."""
    circuit = Circuit(consecutive_failures=1, probes=3, open_for=10.0)
    server = FakeServer([502], latency=2.0)
    stack = whole(circuit=circuit, retry=Retry(max_attempts=1))
    send = stack.around(server)

    async def main():
        await all_at_once(send, ["opens"])
        await anyio.sleep(10)
        return await all_at_once(send, range(60))

    results = run(main)
    refused = [r for r in results if isinstance(r, errors.CircuitOpen)]
    assert all(error.retry_after > 0 for error in refused)
    # Eight slots: three probes and five refusals at once, and all that follow refused until closed.
    assert len([at for at in server.sent if at < server.sent[1] + 2.0]) == 1 + 3


def test_3_a_lost_probe_comes_back_by_itself():
    """A probe whose result never comes is given up after its lease, and probing goes on."""
    circuit = Circuit(consecutive_failures=1, probes=1, open_for=10.0, probe_lease=30.0)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    lost = circuit.admit(10.0)
    assert circuit.admit(39.0) is None
    circuit.record(circuit.admit(40.0), 41.0, success=True)
    assert circuit.state == "closed"
    circuit.record(lost, 42.0, success=False)
    assert circuit.state == "closed"


def test_4_our_own_refusals_are_no_attempts(run):
    """Waiting out an open circuit uses up neither attempts nor the budget."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.0, capacity=2)
    retry = Retry(3, budget=budget, wait_out_refusals=True, uniform=lambda: 0.0)
    circuit = Circuit(consecutive_failures=1, probes=1, open_for=10.0)
    server = FakeServer([502, 502])
    stack = whole(retry=retry, circuit=circuit)
    assert run(lambda: all_at_once(stack.around(server), ["x"])) == ["ok"]
    assert budget.statistics().withdrawn == 2
    assert stack.statistics().attempts == 3


def test_4_the_budget_is_filled_when_a_first_attempt_is_sent(run):
    """A call that was refused before it was sent pays nothing in."""
    budget = RetryBudget(ratio=1.0, minimum_per_second=0.0, capacity=5)
    while budget.withdraw(0.0):
        pass
    circuit = Circuit(consecutive_failures=1)
    stack = whole(retry=Retry(1, budget=budget), circuit=circuit)
    server = FakeServer(default=502)
    run(lambda: all_at_once(stack.around(server), range(20)))
    assert len(server.sent) == 1
    assert budget.statistics().balance == pytest.approx(1.0)


REFUSING = {
    "open circuit": lambda: CircuitBreaker(Circuit(consecutive_failures=1, open_for=3600.0)),
    "slots": lambda: ConcurrencyLimiter(Slots(1, max_waiting=0)),
    "rate": lambda: RateLimiter(Allowance(1, max_waiting=0)),
    "partitions": lambda: ConcurrencyLimiter(Keyed(lambda: Slots(1), max_keys=1)),
    "deadline": lambda: Deadline(),
    "draining": lambda: Deadline(),
}
"""Layers of which one refuses every call after the first."""


@pytest.mark.parametrize("why", REFUSING)
def test_4_a_refusal_lets_the_others_run(run, why):
    """A loop that asks until it is let in stops no other task, whatever refuses it."""
    stack = Stack(REFUSING[why](), ErrorClassifier())
    server = FakeServer([502], latency=lambda _: 1e6 if why in ("slots", "partitions") else 0.0)
    send = stack.around(server)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def ask(number):
        if why == "deadline":  # of a call that somebody else has kept too long
            call = Call(number)
            call.deadline = -1.0
            await send.run(call)
        await send(number, partition=str(number))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, send, ["first"])
            await anyio.sleep(1)
            if why == "draining":
                await stack.drain(0)
            group.start_soon(other)
            for number in range(100):
                with pytest.raises(errors.Refused):
                    await ask(number)
            group.cancel_scope.cancel()

    run(main)
    assert turns >= 99  # it may begin with the second refusal


@pytest.mark.parametrize("u", [0.0, 0.5, 0.999])
def test_5_a_hint_is_a_floor(u, run):
    """Nobody sends before the hint is over, and jitter on top keeps the waiters apart."""
    server = FakeServer([(429, {"retry-after": "20"})])
    stack = whole(retry=Retry(uniform=lambda: u))
    run(lambda: all_at_once(stack.around(server), range(10)))
    start = server.sent[0]
    late = [at for at in server.sent if at > start]
    assert min(late) >= start + 20
    assert max(late) <= start + 20 * 1.1 + 1


def test_5_a_hint_past_the_deadline_fails_at_once(run):
    """A wait that the deadline cannot hold is refused at once, and says so."""
    server = FakeServer([(429, {"retry-after": "200"})] * 3)
    stack = Stack(Deadline(100), Retry(), RateLimiter(requests_per_minute=600), ErrorClassifier())

    async def main():
        start = current().now()
        send = stack.around(server)
        told = await all_at_once(send, range(3))
        late = await all_at_once(lambda p: send(p, deadline=0.5), ["late"])
        return told + late, current().now() - start

    (first, *_, late), took = run(main)
    assert took == 0
    assert "remain until the deadline" in first.__notes__[0]
    assert isinstance(late, errors.DeadlineExceeded)
    assert "the server asked for it" in str(late)


def test_5_a_hint_over_max_hint_shuts_the_gate_for_only_so_long(run):
    """A day's Retry-After fails its call; while no question is let in, the gate opens at 300 s."""
    server = FakeServer(default=(429, {"retry-after": "86400"}))
    stack = whole()

    async def main():
        start = current().now()
        told = await all_at_once(stack.around(server), range(3))
        gate = stack.layers[4].allowances.one.gate
        return told, gate.until - start, gate.ends - start

    told, until, ends = run(main)
    assert all(isinstance(each, errors.RateLimitError) for each in told)
    assert until == pytest.approx(1)  # the first question
    assert ends == pytest.approx(300)


def test_6_one_shared_gate(run):
    """Three hints in a row stop all senders, those who queued before too; then one asks."""
    server = FakeServer([(429, {"retry-after": "30"})] * 5, latency=0.05)
    stack = whole(requests_per_minute=600)
    run(lambda: all_at_once(stack.around(server), range(40)))
    sent = [round(at - server.sent[0], 3) for at in server.sent]
    # Eight slots take eight calls. The first five of them are refused, the others are let in; but
    # what was sent before the first refusal says nothing against it.
    assert sent[7:9] == [0.0, 1.05]
    assert 1.1 <= sent[9] <= 1.2
    assert [at >= 30.05 for at in sent].count(True) == 5


def test_6_a_refused_question_shuts_the_gate_again(run):
    """While questions are refused, one call goes at a time: after 1 s, then a fifth of the stop."""
    refused = (429, {"retry-after": "60"})
    server = FakeServer(latency=0.05)
    server.default = lambda now: refused if now < server.sent[0] + 20.0 else "ok"
    stack = whole(requests_per_minute=600)
    run(lambda: all_at_once(stack.around(server), range(40)))
    sent = [at - server.sent[0] for at in server.sent if at < server.sent[0] + 20.0]
    pauses = [later - earlier for earlier, later in itertools.pairwise(sent[7:])]
    assert pauses[0] == pytest.approx(1.05)
    assert all(pause >= 1.05 - 1e-9 for pause in pauses)
    assert len(sent) <= 8 + 15


def test_7_the_deadline_is_hard(run):
    """Attempt, queue wait and sleep are all cut; see test_deadline for each."""
    server = FakeServer(latency=3.0)
    stack = Stack(Deadline(10), Retry(), ConcurrencyLimiter(1), RateLimiter(), ErrorClassifier())

    async def main():
        start = current().now()
        results = await all_at_once(stack.around(server), range(10))
        return results, current().now() - start

    results, took = run(main)
    assert results.count("ok") == 3
    assert took == pytest.approx(10, abs=1e-3)


def test_8_fifo_through_every_queue(run):
    """Calls are sent in the order they came, through slots and rate, but for retries."""
    server = FakeServer(latency=0.2)
    stack = whole(requests_per_minute=600)
    run(lambda: all_at_once(stack.around(server), range(60)))
    firsts = [p for p in server.payloads if isinstance(p, int)]
    # Slots freed in one instant wake their calls in any order on trio: at most the slots apart.
    assert all(abs(p - i) < 8 for i, p in enumerate(firsts))


def test_8_a_big_request_is_not_starved(run):
    """Small requests behind a big one wait for it, and the big one does not wait for ever."""
    server = FakeServer()
    stack = Stack(RateLimiter(tokens_per_minute=6_000), ErrorClassifier())
    send = stack.around(server)

    async def main():
        await all_at_once(
            lambda p: send(p, tokens=1_000 if p == "big" else 50),
            ["s1", "s2", "big", "s3", "s4"],
        )

    run(main)
    assert server.payloads == ["s1", "s2", "big", "s3", "s4"]
    assert server.sent[2] - server.sent[0] < 2


def test_9_a_stream_is_held_to_its_end(run):
    """Slot and reservation stay taken until the body is closed; a retry closes what it replaces."""
    streams = FakeStreams([503])

    stack = whole()

    async def main():
        assert await stack.around(streams)(None) == 200
        assert [hold.closed for hold in streams.holds] == [True, False]
        during = stack.statistics()
        streams.holds[1].close()
        return during, stack.statistics()

    during, after = run(main)
    assert (during.in_flight, during.slots[None].held) == (1, 1)
    assert during.allowances[None].outstanding == 1
    assert (after.in_flight, after.slots[None].held) == (0, 0)
    assert after.allowances[None].outstanding == 0


def test_10_nested_stacks_are_noticed(run):
    """A stack in a stack warns; three tries each would be nine requests."""
    server = FakeServer(default=502)
    quick = Retry(3, uniform=lambda: 0.0)
    inner = Stack(quick, ErrorClassifier()).around(server)
    with pytest.warns(errors.NestedStackWarning):
        outer = Stack(quick, ErrorClassifier()).around(inner)
    run(lambda: all_at_once(outer, ["x"]))
    assert len(server.sent) == 9


def test_11_the_last_result_passes_unchanged(run):
    """The real last exception comes back, with a note of attempts, time and ids."""

    class Last(ConnectionResetError):
        pass

    last = Last("the real one")
    reply = Reply(502, {"x-request-id": "infe-7"})

    async def transport(call):
        call.reply = reply if call.attempt < 3 else None
        raise error_of(reply) if call.attempt < 3 else last

    handler = whole(retry=Retry(3, uniform=lambda: 0.5)).handler(transport)

    async def main():
        try:
            await handler(Call(None, request_id="row-17"))
        except Last as error:
            return error
        return None

    error = run(main)
    assert error is last
    [note] = error.__notes__
    assert "3 attempts in 1.5 s" in note
    assert "row-17" in note
    assert "infe-7, infe-7" in note


@pytest.mark.parametrize(
    "hint",
    ["-5", "nan", "inf", "1e999", "", "soon", "٣", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT",
     "Thu, 01 Jan 1970 00:00:00 GMT", b"\xff\xfe", "5, 5", None],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 10_000, b"\xff" * 1000, b"null", "\ud800"])
def test_12_hostile_values_change_nothing(hint, body, run):
    """Whatever stands in a hint or a body, the call ends, in time, with its own error."""

    async def transport(call):
        call.reply = Reply(429, {"retry-after": hint}, body)
        raise error_of(call.reply)

    async def main():
        start = current().now()
        [error] = await all_at_once(Stack(
            Retry(2, uniform=lambda: 0.0, rules={}), RateLimiter(), ErrorClassifier()
        ).handler(transport), [Call(None)])  # fmt: skip
        return error, current().now() - start

    error, took = run(main)
    assert isinstance(error, errors.RateLimitError)
    assert 0 <= took <= 300


def test_13_state_is_shared_by_sharing_the_policy(run):
    """Two stacks with the same slots share them; two with equal ones do not."""
    server = FakeServer(latency=1.0)
    shared = Slots(2)
    stacks = [Stack(ConcurrencyLimiter(shared), ErrorClassifier()) for _ in range(3)]

    async def main():
        async with anyio.create_task_group() as group:
            for stack in stacks:
                group.start_soon(all_at_once, stack.around(server), range(4))

    run(main)
    assert server.peak == 2
    assert presets.batch().layers[3] is not presets.batch().layers[3]


def test_13_use_from_a_second_loop_is_refused():
    """A policy in use on one loop is refused on a second one, until the first is closed."""
    stack = Stack(ConcurrencyLimiter(Slots(1)), ErrorClassifier())
    streams, first = FakeStreams(), asyncio.new_event_loop()
    first.run_until_complete(stack.around(streams)(None))
    with pytest.raises(errors.WrongLoopError, match="one per loop"):
        run_virtually(lambda: stack.around(streams)(None))
    first.close()
    run_virtually(lambda: stack.around(streams)(None))
    assert stack.statistics().slots[None].held == 1


def test_secrets_never_reach_events_or_errors(run, caplog):
    """A key that the server quotes back appears in no event, log line, repr or exception."""
    canary = "sk-canary-4242424242"
    seen = Remember()

    async def transport(call):
        call.reply = Reply(
            401,
            {"x-request-id": canary + "\r\n", "authorization": canary},
            {"error": {"message": f"Incorrect API key provided: {canary}", "code": f"{canary} !"}},
        )
        raise error_of(call.reply)

    stack = Stack(RequestIdLogger(), ErrorClassifier(), listeners=[seen])
    [error] = run(lambda: all_at_once(stack.handler(transport), [Call(canary)]))
    notes = getattr(error, "__notes__", [])
    shown = f"{seen.events} {error} {error!r} {notes} {caplog.text} {stack!r}"
    assert canary not in shown
    assert error.status == 401
    assert [e.kind for e in seen.named("call.finished")] == [Kind.AUTH]
