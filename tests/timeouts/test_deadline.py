"""Deadline and AttemptTimeout: hard bounds on a call and on an attempt."""

from __future__ import annotations

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once

from resilient_infe import (
    AttemptTimeout,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Kind,
    RateLimiter,
    Retry,
    Stack,
    call_options,
    errors,
)
from resilient_infe.aio import current


async def timed(send, *args, **options):
    """Return the outcome of a call and the seconds that it took."""
    start = current().now()
    try:
        result = await send(*args, **options)
    except Exception as error:
        result = error
    return result, current().now() - start


def test_cuts_the_attempt(run):
    """A hung attempt ends at the deadline."""
    send = Stack(Deadline(5), ErrorClassifier()).around(FakeServer(latency=100))
    error, took = run(lambda: timed(send, None))
    assert isinstance(error, errors.DeadlineExceeded)
    assert isinstance(error, TimeoutError)
    assert took == pytest.approx(5, abs=1e-3)


def test_cuts_the_wait_for_a_slot(run):
    """A call that waits for a slot ends at its deadline, unsent, and leaves the queue."""
    server = FakeServer(latency=4)
    stack = Stack(Deadline(5), ConcurrencyLimiter(1), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(server), range(4)))
    assert results[0] == "ok"
    assert all(isinstance(error, errors.DeadlineExceeded) for error in results[1:])
    assert len(server.sent) == 2
    assert stack.statistics().slots[None].waiting == 0


def test_cuts_the_sleep(run):
    """A deadline that passes during a hint's sleep is seen before the sleep begins."""
    server = FakeServer(default=502)
    send = Stack(Deadline(3), Retry(uniform=lambda: 0.9), ErrorClassifier()).around(server)
    error, took = run(lambda: timed(send, None))
    assert isinstance(error, errors.UpstreamError)
    assert took < 3


def test_a_calls_own_deadline_comes_first(run):
    """A deadline given with the call replaces the layer's, longer or shorter."""
    send = Stack(Deadline(5), ErrorClassifier()).around(FakeServer(latency=7))
    assert run(lambda: timed(send, None, deadline=10)) == ("ok", pytest.approx(7))
    assert run(lambda: timed(send, None, deadline=2))[1] == pytest.approx(2, abs=1e-3)


def test_a_deadline_through_call_options(run):
    """A deadline from call_options reaches the call."""
    send = Stack(Deadline(), ErrorClassifier()).around(FakeServer(latency=7))

    async def main():
        with call_options(deadline=2):
            return await timed(send, None)

    assert run(main)[1] == pytest.approx(2, abs=1e-3)


def test_a_deadline_needs_its_layer(run):
    """A deadline that no layer would keep is refused, with what to add."""
    send = Stack(ErrorClassifier()).around(FakeServer())
    error, _ = run(lambda: timed(send, None, deadline=2))
    assert isinstance(error, errors.ConfigurationError)
    assert "add Deadline()" in str(error)


def test_no_bound_by_default(run):
    """Deadline() alone bounds nothing."""
    send = Stack(Deadline(), ErrorClassifier()).around(FakeServer(latency=1e6))
    assert run(lambda: timed(send, None)) == ("ok", pytest.approx(1e6))


def test_an_attempt_that_hangs_is_tried_again(run):
    """AttemptTimeout costs one attempt, not the call."""
    seen = Remember()
    slow_first = FakeServer(latency=lambda now: 100.0 if not slow_first.sent[1:] else 0.0)
    stack = Stack(
        Retry(uniform=lambda: 0.0), ErrorClassifier(), AttemptTimeout(5), listeners=[seen]
    )
    result, took = run(lambda: timed(stack.around(slow_first), None))
    assert result == "ok"
    assert took == pytest.approx(5, abs=1e-3)
    assert [e.kind for e in seen.named("attempt.finished")] == [Kind.TIMEOUT, Kind.OK]


def test_an_attempts_timeout_is_its_own_error(run):
    """Without retries the caller learns which bound was hit."""
    send = Stack(ErrorClassifier(), AttemptTimeout(5)).around(FakeServer(latency=100))
    error, _ = run(lambda: timed(send, None))
    assert isinstance(error, errors.AttemptTimedOut)
    assert "longer than 5 s" in str(error)


def test_the_deadline_cuts_an_attempt_as_a_timeout(run):
    """An attempt cut by the deadline reads TIMEOUT, so that the circuit can count it."""
    seen = Remember()
    stack = Stack(Deadline(3), Retry(), ErrorClassifier(), AttemptTimeout(60), listeners=[seen])
    error, _ = run(lambda: timed(stack.around(FakeServer(latency=100)), None))
    assert isinstance(error, errors.DeadlineExceeded)
    assert [e.kind for e in seen.named("attempt.finished")] == [Kind.TIMEOUT]
    assert seen.named("call.finished")[0].kind is Kind.REFUSED


def test_a_caller_who_leaves_is_cancelled_not_timed_out(run):
    """A cancellation from outside reads CANCELLED and passes through."""
    seen = Remember()
    stack = Stack(Deadline(50), ErrorClassifier(), AttemptTimeout(60), listeners=[seen])

    async def main():
        with anyio.move_on_after(3) as scope:
            await stack.around(FakeServer(latency=100))(None)
        return scope.cancelled_caught

    assert run(main)
    assert [e.kind for e in seen.named("attempt.finished")] == [Kind.CANCELLED]
    assert seen.named("call.finished")[0].kind is Kind.CANCELLED


def test_nothing_is_sent_after_the_deadline(run):
    """Whatever happens inside, no attempt starts past the deadline."""
    server = FakeServer(default=502, latency=0.3)
    stack = Stack(
        Deadline(10),
        Retry(max_attempts=50),
        ConcurrencyLimiter(3),
        RateLimiter(requests_per_minute=120),
        ErrorClassifier(),
    )

    async def main():
        start = current().now()
        await all_at_once(stack.around(server), range(40))
        return start

    start = run(main)
    assert max(server.sent) - start <= 10


@pytest.mark.parametrize("layer", [Deadline, AttemptTimeout])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_odd_bounds_are_refused(layer, seconds):
    """A bound that is not above 0 and finite is told at once."""
    with pytest.raises(errors.ConfigurationError, match="above 0"):
        layer(seconds)
