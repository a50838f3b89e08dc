"""Events say why: what a call waited for, what refused it, and how its stream ended."""

from __future__ import annotations

import json
import logging

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
    RateLimiter,
    RequestIdLogger,
    Retry,
    Slots,
    Stack,
    Usage,
    errors,
    events,
)


def ended(listener):
    """Return what the calls ended as, in order."""
    return [each for each in listener.events if isinstance(each, events.CallFinished)]


def test_refusals_are_told_apart(run):
    """Each has the name of its error, and its message as the reason."""
    seen = Remember()
    slots = ConcurrencyLimiter(Slots(1, max_waiting=1))
    late = Stack(Deadline(0.5), slots, ErrorClassifier(), listeners=[seen])
    circuit = CircuitBreaker(Circuit(consecutive_failures=1))
    broken = Stack(circuit, ErrorClassifier(), listeners=[seen])

    async def main():
        await all_at_once(late.around(FakeServer(latency=1.0)), range(3))
        await all_at_once(broken.around(FakeServer(default=500)), range(2))

    run(main)
    told = [(each.error, each.kind.value, each.attempts) for each in ended(seen)]
    assert sorted(told) == sorted(
        [
            ("QueueFull", "refused", 0),
            ("DeadlineExceeded", "refused", 1),
            ("DeadlineExceeded", "refused", 0),
            ("ServerError", "server_error", 1),
            ("CircuitOpen", "refused", 0),
        ]
    )
    [full] = [each for each in ended(seen) if each.error == "QueueFull"]
    assert "max_waiting=1" in full.reason


def test_a_failure_carries_what_the_server_said(run):
    """The last attempt's status and code, and why there was no further one."""
    seen = Remember()
    stack = Stack(Retry(2, uniform=lambda: 0.0), ErrorClassifier(), listeners=[seen])
    run(lambda: all_at_once(stack.around(FakeServer(default=503)), ["x"]))
    [end] = ended(seen)
    assert (end.kind.value, end.status, end.attempts) == ("overloaded", 503, 2)
    assert end.reason == "max_attempts=2 reached"
    [again] = [each for each in seen.events if isinstance(each, events.RetryScheduled)]
    assert (again.status, again.error, again.reason) == (503, end.error, "backoff")


def test_the_reason_of_a_delay_is_said(run):
    """A hint of the server, and a refusal of the stack that is waited out."""
    seen = Remember()
    stack = Stack(
        Retry(3, wait_out_refusals=True, uniform=lambda: 0.0),
        CircuitBreaker(Circuit(consecutive_failures=1, open_for=2.0, probes=1)),
        ErrorClassifier(),
        listeners=[seen],
    )
    server = FakeServer([500, "ok"])
    run(lambda: all_at_once(stack.around(server), ["x"]))
    reasons = [each.reason for each in seen.events if isinstance(each, events.RetryScheduled)]
    assert reasons == ["backoff", "the stack refused it (CircuitOpen)"]


def test_waits_are_divided_by_what_was_waited_for(run):
    """Slots, the rate limit and the backoff; together they are what the call waited."""
    seen = Remember()
    stack = Stack(
        Retry(2, uniform=lambda: 1.0),
        ConcurrencyLimiter(1),
        RateLimiter(Allowance(60.0, burst=1.0)),
        ErrorClassifier(),
        listeners=[seen],
    )
    server = FakeServer([503, "ok", "ok"], latency=0.25)
    run(lambda: all_at_once(stack.around(server), range(2)))
    first, second = sorted(ended(seen), key=lambda each: -each.attempts)
    assert set(first.waits) >= {"backoff", "rate_limit"}
    assert set(second.waits) >= {"slot"}
    for each in first, second:
        assert sum(each.waits.values()) == pytest.approx(each.waited, abs=1e-6)


def test_a_call_that_waited_for_nothing_says_nothing(run):
    """Its waits are empty, and left out."""
    seen = Remember()
    stack = Stack(ConcurrencyLimiter(1), ErrorClassifier(), listeners=[seen])
    run(lambda: all_at_once(stack.around(FakeServer()), ["x"]))
    [end] = ended(seen)
    assert end.waits == {}
    assert not {"waits", "reason", "error"} & end.as_dict().keys()


def test_an_attempt_that_streams_ends_with_its_stream(run):
    """It is told when the stream is closed, with its usage and the time that it was open."""
    seen, streams = Remember(), FakeStreams()
    stack = Stack(ErrorClassifier(), listeners=[seen])

    async def main():
        await stack.around(streams)("x")
        await anyio.sleep(3.0)
        before = [each.name for each in seen.events]
        streams.holds[0].close(Usage(1, 2, 3))
        return before

    assert run(main) == ["call.started"]
    attempt, end = seen.events[1:]
    assert (attempt.name, end.name) == ("attempt.finished", "call.finished")
    assert attempt.usage == end.usage == Usage(1, 2, 3)
    assert attempt.sent_for == end.sent_for == pytest.approx(3.0)


def test_events_are_json(run):
    """Every event of a call that fails and one that succeeds can be written as it is."""
    seen = Remember()
    stack = Stack(
        RequestIdLogger(log=False),
        Retry(2, uniform=lambda: 0.0),
        ConcurrencyLimiter(1),
        ErrorClassifier(),
        listeners=[seen],
    )
    answer = {
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }

    async def main():
        await stack.around(FakeServer([429, 429]))("x")

    with pytest.raises(errors.RateLimitError):
        run(main)

    async def answering(_):
        return answer

    run(lambda: stack.around(answering)("x"))
    told = [json.loads(json.dumps(each.as_dict())) for each in seen.events]
    assert told[-1]["usage"].items() >= answer["usage"].items()
    assert {each.get("kind") for each in told} == {None, "rate_limited", "ok"}


@pytest.mark.parametrize(("hint", "level"), [(0.5, logging.INFO), (5.0, logging.WARNING)])
def test_a_gate_that_is_closed_shortly_is_no_warning(run, caplog, hint, level):
    """Nobody need act on half a second."""
    caplog.set_level(logging.DEBUG, "resilient_infe")
    stack = Stack(
        RequestIdLogger(), Retry(2), RateLimiter(requests_per_minute=60_000), ErrorClassifier()
    )
    server = FakeServer([(429, {"retry-after": str(hint)})] * 3)
    run(lambda: all_at_once(stack.around(server), ["x", "y", "z"]))
    [closed] = [each for each in caplog.records if "rate.gate_closed" in each.getMessage()]
    assert closed.levelno == level
