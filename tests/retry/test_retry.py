"""Retry: what is tried again, when, and what the caller sees at the end."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from fakes import FakeServer, Remember

from resilient_infe import (
    Allowance,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Kind,
    KindRule,
    RateLimiter,
    Retry,
    RetryBudget,
    Slots,
    Stack,
    call_options,
    errors,
)
from resilient_infe.aio import current


def stack_of(*, listeners=(), uniform=lambda: 0.0, **options):
    """Return the smallest stack that retries."""
    return Stack(Retry(uniform=uniform, **options), ErrorClassifier(), listeners=listeners)


async def outcome(stack, server, payload=None, **options):
    """Return the result or the exception of one call."""
    try:
        return await stack.around(server)(payload, **options)
    except Exception as error:
        return error


def test_a_bare_429_waits_1_2_4(run):
    """The reference's waits: at least 1 s, then 2 s, then 4 s."""
    server = FakeServer([429, 429, 429])
    assert run(lambda: outcome(stack_of(), server)) == "ok"
    gaps = [b - a for a, b in zip(server.sent, server.sent[1:], strict=False)]
    assert gaps == pytest.approx([1, 2, 4])


def test_429_jitter_only_adds(run):
    """Jitter on a 429 never shortens the reference's wait."""
    server = FakeServer([429, 429, 429])
    run(lambda: outcome(stack_of(uniform=lambda: 0.999), server))
    gaps = [b - a for a, b in zip(server.sent, server.sent[1:], strict=False)]
    assert all(gap >= floor for gap, floor in zip(gaps, (1, 2, 4), strict=True))
    assert all(gap <= floor * 1.25 for gap, floor in zip(gaps, (1, 2, 4), strict=True))


def test_a_500_gets_three_retries(run):
    """A server error is tried four times in all, whatever max_attempts allows."""
    server = FakeServer(default=500)
    error = run(lambda: outcome(stack_of(max_attempts=10), server))
    assert isinstance(error, errors.ServerError)
    assert len(server.sent) == 4


def test_a_502_backs_off_up_to_max_attempts(run):
    """An upstream failure is tried until max_attempts."""
    server = FakeServer(default=502)
    error = run(lambda: outcome(stack_of(max_attempts=5), server))
    assert isinstance(error, errors.UpstreamError)
    assert len(server.sent) == 5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_final_statuses_are_sent_once(status, run):
    """What another attempt cannot help is not tried again."""
    server = FakeServer(default=status)
    error = run(lambda: outcome(stack_of(), server))
    assert isinstance(error, errors.InfeError)
    assert len(server.sent) == 1


def test_a_425_is_tried_once_more(run):
    """RFC 8470: a 425 is retried once."""
    server = FakeServer(default=425)
    run(lambda: outcome(stack_of(), server))
    assert len(server.sent) == 2


def test_every_number_can_be_changed_per_kind(run):
    """A rule of one's own replaces the table's for its kind, and None switches it off."""
    rules = {Kind.TRANSIENT: None, Kind.SERVER_ERROR: KindRule(max_retries=1)}
    stack = stack_of(rules=rules)
    transient, broken = FakeServer(default=502), FakeServer(default=500)
    run(lambda: outcome(stack, transient))
    run(lambda: outcome(stack, broken))
    assert (len(transient.sent), len(broken.sent)) == (1, 2)


def test_a_hint_is_a_floor(run):
    """The wait is never shorter than Retry-After, and never much longer."""
    for u in (0.0, 0.999):
        server = FakeServer([(429, {"retry-after": "7"})])
        run(lambda u=u, server=server: outcome(stack_of(uniform=lambda: u), server))
        gap = server.sent[1] - server.sent[0]
        assert 7 <= gap <= 7.8


def test_a_zero_hint_is_no_hint(run):
    """Retry-After: 0 leaves the reference's wait in place."""
    server = FakeServer([(429, {"retry-after": "0"})])
    run(lambda: outcome(stack_of(), server))
    assert server.sent[1] - server.sent[0] == pytest.approx(1)


def test_a_hint_over_max_hint_ends_the_call(run):
    """A server that asks for an hour fails the call and is told in the note."""
    server = FakeServer(default=(429, {"retry-after": "3600"}))
    error = run(lambda: outcome(stack_of(), server))
    assert len(server.sent) == 1
    assert "over max_hint=300 s" in error.__notes__[0]


def test_the_last_exception_passes_unchanged_with_a_note(run):
    """The caller gets the very exception of the last attempt, and learns what was tried."""
    mine = ConnectionResetError("mine")
    server = FakeServer([502, mine])
    error = run(lambda: outcome(stack_of(max_attempts=2), server))
    assert error is mine
    assert "2 attempts in" in error.__notes__[0]
    assert "max_attempts=2 reached" in error.__notes__[0]


def test_the_last_result_passes_unchanged(run):
    """A response that stands for a failure comes back itself, not an exception."""

    class Response:
        status_code = 503
        headers = {}  # noqa: RUF012

    last = Response()
    server = FakeServer([Response(), last])
    assert run(lambda: outcome(stack_of(max_attempts=2), server)) is last


def test_an_empty_budget_returns_the_real_error(run):
    """When the budget is empty, the last error comes back at once, and the note says why."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.0, capacity=1)
    server = FakeServer(default=502)
    error = run(lambda: outcome(stack_of(budget=budget), server))
    assert isinstance(error, errors.UpstreamError)
    assert "retry budget is empty" in error.__notes__[0]
    assert len(server.sent) == 2


def test_the_budget_bounds_all_calls_together(run):
    """With everything failing, retries stay within capacity + ratio x calls + time's minimum."""
    budget = RetryBudget(ratio=0.2, minimum_per_second=0.0, capacity=10)
    server = FakeServer(default=502)
    stack = stack_of(budget=budget)

    async def main():
        for _ in range(100):
            await outcome(stack, server)

    run(main)
    assert len(server.sent) - 100 <= 10 + 0.2 * 100
    assert len(server.sent) - 100 >= 20


def test_a_body_that_cannot_be_replayed_is_sent_once(run):
    """A body that can be read only once is never sent again."""
    server = FakeServer(default=502)

    async def once(call, call_next):
        call.replayable = False
        return await call_next(call)

    stack = Stack(once, Retry(), ErrorClassifier())
    error = run(lambda: outcome(stack, server))
    assert len(server.sent) == 1
    assert "read only once" in error.__notes__[0]


@pytest.mark.parametrize("most", [1, 2, 9])
@pytest.mark.parametrize("status", [429, 502, 500])
def test_a_call_says_how_often_it_may_be_sent(run, most, status):
    """`call_options(max_attempts=n)` lowers the attempts of a call, and never adds to them."""
    server = FakeServer(default=status)

    async def main():
        with call_options(max_attempts=most):
            return await outcome(stack_of(max_attempts=3), server)

    error = run(main)
    assert len(server.sent) == min(most, 3)
    assert ("the call asked for at most" in error.__notes__[0]) == (most < 3)


def test_a_call_that_is_sent_once_teaches_the_others(run):
    """Its 429 is not retried, and the gate that its hint and those of others shut holds."""
    server = FakeServer([(429, {"retry-after": "30"})] * 3)
    stack = Stack(
        Retry(3, uniform=lambda: 0.0), RateLimiter(requests_per_minute=6_000), ErrorClassifier()
    )

    async def main():
        with call_options(max_attempts=1):
            for _ in range(3):
                await outcome(stack, server)
        began = current().now()
        await outcome(stack, server)
        return current().now() - began

    assert run(main) >= 1.0
    assert len(server.sent) == 4


def test_a_cancelled_call_is_not_tried_again(run):
    """A caller who leaves during the sleep is let go."""
    server = FakeServer(default=502)

    async def main():
        import anyio

        with anyio.move_on_after(0.5):
            await stack_of(uniform=lambda: 0.999).around(server)(None)

    run(main)
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    "limiter",
    [
        lambda: ConcurrencyLimiter(Slots(1, max_waiting=1)),
        lambda: RateLimiter(Allowance(requests_per_minute=60, max_waiting=1)),
    ],
    ids=["slots", "allowance"],
)
def test_a_full_queue_takes_a_retry(limiter, run):
    """A call that was let in before is not refused by a full queue, and goes first."""
    server = FakeServer([502], latency=1.0)
    backoff = ExponentialBackoff(0.5, 1.0, 0.5, "none")
    send = Stack(Retry(backoff=backoff), limiter(), ErrorClassifier()).around(server)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(send, "fails at first")
            await anyio.sleep(0.9)
            group.start_soon(send, "second")
            await anyio.sleep(0.3)
            group.start_soon(send, "fills the queue")

    run(main)
    assert server.payloads == ["fails at first", "second", "fails at first", "fills the queue"]


def test_a_retry_is_not_refused_for_those_who_wait_behind_it(run):
    """A retry goes ahead of the younger calls, so their number says nothing of its deadline."""
    server = FakeServer([502], latency=1.0)
    backoff = ExponentialBackoff(0.5, 1.0, 0.5, "none")
    stack = Stack(
        Deadline(), Retry(backoff=backoff), RateLimiter(requests_per_minute=60), ErrorClassifier()
    )
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(send, "fails at first", deadline=5.0))
            await anyio.sleep(0.9)
            for _ in range(10):
                group.start_soon(send, "younger")

    run(main)
    assert server.payloads[:3] == ["fails at first", "younger", "fails at first"]
    assert len(server.sent) == 12


def test_events_tell_of_each_retry(run):
    """Each retry and the giving up are told, with the delay and the reason."""
    seen = Remember()
    server = FakeServer(default=502)
    stack = stack_of(max_attempts=2, listeners=[seen], backoff=ExponentialBackoff(jitter="none"))
    run(lambda: outcome(stack, server))
    [scheduled] = seen.named("retry.scheduled")
    [stopped] = seen.named("retry.stopped")
    assert (scheduled.attempt, scheduled.kind, scheduled.delay) == (2, Kind.TRANSIENT, 1.0)
    assert "max_attempts=2" in stopped.reason


def test_attempts_are_numbered_from_one(run):
    """The call carries the number of the attempt under way."""
    seen = []

    async def watch(call, call_next):
        seen.append(call.attempt)
        return await call_next(call)

    stack = Stack(Retry(), watch, ErrorClassifier())
    run(lambda: outcome(stack, FakeServer([502, 502])))
    assert seen == [1, 2, 3]


def test_no_sleep_that_cannot_finish(run):
    """A retry that could only start after the deadline ends the call at once, and says so."""
    from resilient_infe import Deadline

    server = FakeServer(default=(429, {"retry-after": "20"}))
    stack = Stack(Deadline(10), Retry(), ErrorClassifier())

    async def main():
        start = current().now()
        error = await outcome(stack, server)
        return error, current().now() - start

    error, took = run(main)
    assert isinstance(error, errors.RateLimitError)
    assert took == 0
    assert "remain until the deadline" in error.__notes__[0]
