"""A circuit that is forced, one that only reports, and one that minds slow answers."""

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once

from resilient_infe import Circuit, CircuitBreaker, ErrorClassifier, Stack, errors
from resilient_infe.circuit.states import State, Trigger


def test_forced_open_refuses_until_reset(run):
    """Nothing is sent, however long; after `reset` all is; each change is an event."""
    circuit, server, seen = Circuit(open_for=5.0), FakeServer(), Remember()
    stack = Stack(CircuitBreaker(circuit), ErrorClassifier(), listeners=[seen])

    async def main():
        circuit.force_open()
        refused = await all_at_once(stack.around(server), range(3))
        await anyio.sleep(3_600)
        refused += await all_at_once(stack.around(server), range(3))
        circuit.reset()
        return refused, await all_at_once(stack.around(server), range(3))

    refused, served = run(main)
    assert all(isinstance(each, errors.CircuitOpen) for each in refused)
    assert "forced open" in str(refused[0])
    assert refused[0].retry_after == 0.5
    assert served == ["ok"] * 3
    changes = [(e.name, e.reason) for e in seen.events if e.name.startswith("circuit")]
    assert changes == [("circuit.opened", "by hand"), ("circuit.closed", "by hand")]


def test_forced_closed_lets_all_through():
    """A row of failures does not open it; after `reset` it counts from nothing."""
    circuit = Circuit(consecutive_failures=3)
    circuit.force_closed()
    for _ in range(50):
        circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert circuit.state is State.FORCED_CLOSED
    circuit.reset()
    for _ in range(2):
        circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert circuit.state is State.CLOSED
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert circuit.state is State.OPEN


def test_reset_closes_an_open_circuit():
    """And the probes that were out are late."""
    circuit = Circuit(consecutive_failures=1)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    probe = circuit.admit(10.0)
    circuit.reset()
    assert circuit.last_transition.trigger is Trigger.BY_HAND
    circuit.record(probe, 10.0, success=False)
    assert (circuit.state, circuit.statistics().late) == (State.CLOSED, 1)
    assert circuit.idle(10.0)


def test_a_shadow_refuses_nothing_and_reports_all(run):
    """It opens and tells so, counts what it would have refused, and every call is sent."""
    circuit, server, seen = Circuit(consecutive_failures=3, shadow=True), FakeServer(), Remember()
    server.default = 502
    stack = Stack(CircuitBreaker(circuit), ErrorClassifier(), listeners=[seen])
    run(lambda: all_at_once(stack.around(server), range(10)))
    assert len(server.sent) == 10
    told = stack.statistics().circuits[None]
    assert (told.state, told.refused, told.late) == (State.OPEN, 7, 0)
    [opened] = seen.named("circuit.opened")
    assert opened.reason.endswith("(shadow: nothing is refused)")
    assert "as a shadow" in str(circuit)


def test_what_a_shadow_would_have_refused_changes_nothing():
    """Its state goes on as if the attempt had not been sent."""
    circuit = Circuit(consecutive_failures=1, probes=1, shadow=True)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    for success in (True, False):
        permit = circuit.admit(5.0)
        circuit.record(permit, 5.0, success=success)
        circuit.drop(permit)
    probe, other = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(other, 10.0, success=False)
    assert circuit.state is State.HALF_OPEN
    circuit.record(probe, 10.0, success=True)
    assert (circuit.state, circuit.statistics().late) == (State.CLOSED, 0)


def test_slow_answers_count_as_failures(run):
    """Answers that take longer than `slow_after` open the circuit; the callers get them."""
    circuit, server = Circuit(consecutive_failures=3, slow_after=2.0), FakeServer(latency=2.5)
    stack = Stack(CircuitBreaker(circuit), ErrorClassifier())
    assert run(lambda: all_at_once(stack.around(server), range(3))) == ["ok"] * 3
    assert circuit.state is State.OPEN
    assert circuit.answered


@pytest.mark.parametrize(("took", "failures"), [(2.0, 0), (2.1, 1)])
def test_just_in_time_is_no_failure(took, failures):
    """`slow_after` seconds are still a success."""
    circuit = Circuit(slow_after=2.0)
    circuit.record(circuit.admit(0.0), 3.0, success=True, took=took)
    assert circuit.statistics().failures == failures


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), "2"])
def test_a_time_that_is_none_is_refused(seconds):
    """`slow_after` is a finite number of seconds above 0, or None."""
    with pytest.raises(errors.ConfigurationError):
        Circuit(slow_after=seconds)
