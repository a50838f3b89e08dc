"""CircuitBreaker: what it counts, what it refuses, what it tells."""

from __future__ import annotations

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    Deadline,
    ErrorClassifier,
    Keyed,
    Kind,
    Stack,
    errors,
)
from resilient_infe.circuit.layer import ANSWERS, FAILURES


def broken_after(n, **options):
    """Return a circuit that opens after n failures in a row."""
    return Circuit(consecutive_failures=n, **options)


def test_opens_and_refuses_with_a_hint(run):
    """After enough failures calls are refused, unsent, and told when to come back."""
    server = FakeServer(default=502)
    stack = Stack(CircuitBreaker(broken_after(3)), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(server), range(10)))
    assert len(server.sent) == 3
    assert all(isinstance(error, errors.CircuitOpen) for error in results[3:])
    assert results[9].retry_after == pytest.approx(10)
    assert "try again in 10 s" in str(results[9])


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429])
def test_answers_and_rate_limits_do_not_open(status, run):
    """A server that answers, even with a refusal, is alive."""
    server = FakeServer(default=status)
    stack = Stack(CircuitBreaker(broken_after(2)), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), range(10)))
    assert len(server.sent) == 10


def test_kinds_are_disjoint():
    """No kind counts both for and against the server."""
    assert not FAILURES & ANSWERS
    assert set(Kind) - FAILURES - ANSWERS == {Kind.RATE_LIMITED, Kind.CANCELLED, Kind.REFUSED}


def test_recovers_through_probes_and_tells(run):
    """After its rest it probes, closes, and each step is an event."""
    seen = Remember()
    server = FakeServer([502] * 3)
    stack = Stack(CircuitBreaker(broken_after(3)), ErrorClassifier(), listeners=[seen])
    send = stack.around(server)

    async def main():
        await all_at_once(send, range(3))
        await anyio.sleep(10)
        return await all_at_once(send, range(2)) + await all_at_once(send, range(2))

    assert run(main) == ["ok"] * 4
    names = [event.name for event in seen.events if event.name.startswith("circuit")]
    assert names == ["circuit.opened", "circuit.half_opened", "circuit.closed"]
    reason = seen.named("circuit.opened")[0].reason
    assert reason == "too many failures in a row: transient, 502, UpstreamError"


def test_a_cancelled_probe_gives_its_place_back(run):
    """A caller who leaves during a probe frees the probe for the next."""
    server = FakeServer([502], latency=1.0)
    stack = Stack(CircuitBreaker(broken_after(1, probes=1)), ErrorClassifier())
    send = stack.around(server)

    async def main():
        await all_at_once(send, ["opens it"])
        await anyio.sleep(10)
        with anyio.move_on_after(0.5):
            await send("lost probe")
        assert stack.statistics().circuits[None].probes_out == 0
        return await send("next probe")

    assert run(main) == "ok"


def test_one_circuit_per_partition(run):
    """A partition's failures open its own circuit only."""
    server = FakeServer(default=lambda _: 502)
    stack = Stack(CircuitBreaker(Keyed(lambda: broken_after(1))), ErrorClassifier())
    send = stack.around(server)

    async def main():
        for partition in ("a", "a", "b"):
            with anyio.CancelScope():
                try:
                    await send(None, partition=partition)
                except errors.ResilienceError as error:
                    last = error
        return last

    assert isinstance(run(main), errors.UpstreamError)
    assert len(server.sent) == 2


def test_a_hung_server_counts_as_failing(run):
    """Attempts cut by the deadline count against the server, not as cancelled."""
    server = FakeServer(latency=1e6)
    stack = Stack(Deadline(5), CircuitBreaker(broken_after(3)), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(server), range(3)))
    assert all(isinstance(error, errors.DeadlineExceeded) for error in results)
    assert stack.statistics().circuits[None].state == "open"


@pytest.mark.parametrize(("waits", "state"), [(7.6, "closed"), (7.4, "open")])
def test_a_call_that_came_late_says_nothing_of_the_server(run, waits, state):
    """Cut by its deadline with less than a quarter of its time left for the attempt."""
    server = FakeServer(latency=1e6)

    async def late(call, call_next):
        await call.runtime.sleep_until(call.started + waits)
        return await call_next(call)

    stack = Stack(Deadline(10), late, CircuitBreaker(broken_after(3)), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), range(3)))
    assert stack.statistics().circuits[None].state == state
