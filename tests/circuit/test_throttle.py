"""A throttled circuit: which share it refuses, and how it begins and ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Circuit, errors
from resilient_infe.circuit.states import State, Trigger
from resilient_infe.circuit.throttle import is_over, refused_share

COUNTS = st.integers(0, 10_000)
SHARES = st.floats(0.01, 1.0)


def filled(now, passed, failed, **values):
    """Return a circuit that has counted so many results, one success before the failures."""
    circuit = Circuit(consecutive_failures=None, throttle_below=0.4, **values)
    for success in (True,) * passed + (False,) * failed:
        circuit.record(circuit.admit(now), now, success=success)
    return circuit


@pytest.mark.parametrize(
    ("passed", "failed", "share"), [(200, 0, 0.0), (80, 120, 0.0), (40, 160, 0.5), (10, 190, 0.87)]
)
def test_the_share_of_the_example(passed, failed, share):
    """The numbers of the module's docstring."""
    assert refused_share(passed, failed, 0.4) == pytest.approx(share, abs=0.005)


@given(passed=COUNTS, failed=COUNTS, below=SHARES)
def test_the_share_is_one_and_falls_with_success(passed, failed, below):
    """It is in [0, 1), falls with each success, and never reaches 1: something is always sent."""
    share = refused_share(passed, failed, below)
    assert 0 <= share < 1
    assert refused_share(passed + 1, failed, below) <= share
    if passed >= below * (passed + failed):
        assert share <= 1e-9


@given(passed=COUNTS, failed=COUNTS, ratio=SHARES)
def test_it_is_not_over_where_it_began(passed, failed, ratio):
    """A window that would throttle the circuit again does not close it."""
    if failed and failed >= ratio * (passed + failed):
        assert not is_over(passed, failed, ratio)
    assert is_over(passed, 0, ratio)


def test_half_of_the_load_shed_is_sent_whole():
    """At the failure ratio it is throttled, and refuses nothing while 40 % succeed."""
    circuit = filled(0.0, 20, 20)
    assert circuit.state is State.THROTTLED
    assert circuit.last_transition.trigger is Trigger.SOME_SUCCEED
    assert circuit.admit(0.0, u=0.0) is not None
    assert circuit.statistics().refused_share == 0.0


def test_a_share_is_refused_and_counted():
    """20 % succeed: half of the attempts are refused, as the random number falls."""
    circuit = filled(0.0, 20, 80)
    share = circuit.statistics().refused_share
    assert share == pytest.approx(50 / 101)
    assert circuit.admit(0.0, u=share - 1e-9) is None
    assert circuit.admit(0.0, u=share) is not None
    assert circuit.statistics().refused == 1
    assert circuit.retry_after(0.0) == 1.0


def test_it_opens_when_nothing_passes():
    """No success for half of the window, and the ratio reached: the server is dead."""
    circuit = filled(0.0, 20, 20)
    for _ in range(5):
        circuit.record(circuit.admit(4.9), 4.9, success=False)
    assert circuit.state is State.THROTTLED
    circuit.record(circuit.admit(5.0), 5.0, success=False)
    assert circuit.state is State.OPEN


def test_a_server_that_never_answered_opens_it():
    """Without any success there is no share to let through."""
    assert filled(0.0, 0, 20).state is State.OPEN


def test_it_closes_when_few_fail():
    """Under half of the failure ratio it closes; at just under the ratio it does not yet."""
    circuit = filled(0.0, 20, 20)
    permits = [circuit.admit(0.0) for _ in range(41)]
    permit = permits[0]
    for each in permits[:20]:
        circuit.record(each, 0.0, success=True)
    assert circuit.admit(0.0) is permit
    assert circuit.state is State.THROTTLED
    for each in permits[20:]:
        circuit.record(each, 0.0, success=True)
    assert circuit.admit(0.0) is permit
    assert circuit.state is State.CLOSED


def test_time_alone_closes_it():
    """A window that has run empty refuses nothing: the state needs no event to end."""
    circuit = filled(0.0, 1, 99)
    circuit.record(circuit.admit(0.0), 0.0, success=True)
    assert circuit.admit(9.0, u=0.5) is None
    assert not circuit.idle(9.0)
    assert circuit.idle(100.0)
    assert circuit.admit(100.0, u=0.0) is not None
    assert circuit.state is State.CLOSED


@pytest.mark.parametrize("first", [True, False])
def test_probes_that_differ_throttle_it(first):
    """One of a round succeeds and one fails, in either order: a share is let through."""
    circuit = Circuit(consecutive_failures=1, probes=3, throttle_below=0.4)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    one, other = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(one, 10.1, success=first)
    circuit.record(other, 10.2, success=not first)
    assert circuit.state is State.THROTTLED
    assert circuit.admit(10.3, u=0.0) is not None
    assert circuit.statistics().opened == (1 if first else 2)


def test_a_probe_of_an_older_round_says_nothing():
    """Only probes of the round that failed last count, and only until the next begins."""
    circuit = Circuit(consecutive_failures=1, probes=2, throttle_below=0.4)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    one, other = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(one, 10.1, success=False)
    assert circuit.admit(20.2) is not None
    circuit.record(other, 20.3, success=True)
    assert (circuit.state, circuit.statistics().late) == (State.HALF_OPEN, 1)


@pytest.mark.parametrize("below", [0.0, -1, 1.1, "half", True])
def test_a_share_out_of_range_is_refused(below):
    """`throttle_below` is in (0, 1], or None."""
    with pytest.raises(errors.ConfigurationError):
        Circuit(throttle_below=below)


def test_it_says_that_it_throttles():
    """The description names the share."""
    assert "throttles below 40% successes" in str(Circuit(throttle_below=0.4))


def test_attempts_that_hang_do_not_keep_it_from_opening():
    """Of a burst, successes may still come for half a second, and not as long as any is out."""
    circuit = Circuit(throttle_below=0.4)
    for _ in range(500):
        circuit.admit(0.0)  # and they hang
    now, failures = 10.0, 0
    while circuit.state is State.CLOSED:
        permit = circuit.admit(now)
        now, failures = now + 0.02, failures + 1
        circuit.record(permit, now, success=False, took=0.02)
    assert failures <= 30


def test_a_probe_that_passes_after_another_has_failed_counts_as_a_success():
    """The circuit is throttled from then on, and opens only after half a window of failures."""
    circuit = filled(0.0, 0, 4, minimum_calls=4, probes=2, open_for=10.0, window=10.0)
    assert circuit.state is State.OPEN
    failing, passing = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(failing, 10.1, success=False)
    assert circuit.state is State.OPEN
    circuit.record(passing, 10.2, success=True)
    assert circuit.state is State.THROTTLED
    for now, state in ((10.3, State.THROTTLED), (15.0, State.THROTTLED), (15.3, State.OPEN)):
        for _ in range(3):
            if (permit := circuit.admit(now)) is not None:
                circuit.record(permit, now, success=False)
        assert circuit.state is state
