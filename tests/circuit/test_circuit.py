"""The circuit: one table of transitions, permits with three endings, probes as leases."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_infe.circuit.circuit import Circuit
from resilient_infe.circuit.states import (
    TRANSITIONS,
    State,
    Transition,
    Trigger,
    diagram,
)
from resilient_infe.errors import ConfigurationError


def _fail(circuit, now, times=1):
    for _ in range(times):
        circuit.record(circuit.admit(now), now, success=False)


def _opened(now=0.0, **values):
    circuit = Circuit(consecutive_failures=1, **values)
    _fail(circuit, now)
    assert circuit.state is State.OPEN
    return circuit


class _CircuitMachine(RuleBasedStateMachine):
    """Attempts are admitted, answered late or early, lost and dropped while time goes on."""

    @initialize(
        probes=st.integers(1, 3),
        row=st.integers(1, 4),
        lease=st.sampled_from([3.0, 20.0]),
        below=st.sampled_from([None, 0.4, 1.0]),
    )
    def start(self, probes, row, lease, below):
        self.circuit = Circuit(
            failure_ratio=0.5,
            minimum_calls=4,
            window=10.0,
            consecutive_failures=row,
            open_for=5.0,
            probes=probes,
            probe_lease=lease,
            throttle_below=below,
        )
        self.now = 100.0
        self.epoch = 0
        self.state = State.CLOSED
        self.out = []  # (permit, epoch in which it was admitted)

    def _settled(self, *, may_move):
        """Check the transition that the last step made, if it made one."""
        circuit = self.circuit
        if circuit.state is self.state:
            return
        assert may_move
        step = circuit.last_transition
        assert step.previous is self.state
        assert step.state is circuit.state
        assert TRANSITIONS[step.previous, step.trigger] is step.state
        self.state = circuit.state
        self.epoch += step.trigger not in (Trigger.SOME_SUCCEED, Trigger.FEWER_FAILURES)

    def _probes_out(self):
        return [p for p, epoch in self.out if epoch == self.epoch and p.expires is not None]

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 2.5, 5.0, 30.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(u=st.sampled_from([0.0, 0.5, 1.0]))
    def admit(self, u):
        permit = self.circuit.admit(self.now, u)
        self._settled(may_move=self.state in (State.OPEN, State.THROTTLED))
        if self.state is State.CLOSED or (self.state is State.THROTTLED and u == 1.0):
            assert permit is not None
        if self.state is State.OPEN:
            assert permit is None
        if permit is None:
            assert 0 < self.circuit.retry_after(self.now) <= self.circuit.open_for + 1e-9
        else:
            self.out.append((permit, self.epoch))
            assert (permit.expires is not None) is (self.state is State.HALF_OPEN)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), success=st.booleans())
    def record(self, data, success):
        index = data.draw(st.integers(0, len(self.out) - 1))
        permit, epoch = self.out.pop(index)
        current, late = epoch == self.epoch, self.circuit.statistics().late
        self.circuit.record(permit, self.now, success=success)
        sibling = self.circuit.state is State.THROTTLED and success
        self._settled(may_move=current or sibling)
        if not (current or sibling):
            assert self.circuit.statistics().late == late + 1

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def drop(self, data):
        index = data.draw(st.integers(0, len(self.out) - 1))
        permit, _ = self.out.pop(index)
        before = self.circuit.statistics()
        self.circuit.drop(permit)
        self._settled(may_move=False)
        after = self.circuit.statistics()
        assert (after.successes, after.failures) == (before.successes, before.failures)

    @precondition(lambda self: getattr(self, "state", None) is State.OPEN)
    @rule()
    def wake_when_told(self):
        self.now += self.circuit.retry_after(self.now) + 1e-9
        permit = self.circuit.admit(self.now)
        self._settled(may_move=True)
        assert self.state is State.HALF_OPEN
        self.out.append((permit, self.epoch))

    @precondition(lambda self: getattr(self, "state", None) is State.HALF_OPEN)
    @rule(success=st.booleans())
    def outlive_every_probe(self, success):
        self.now += self.circuit.probe_lease
        for _ in range(self.circuit.probes):
            permit = self.circuit.admit(self.now)
            assert permit is not None
            self.circuit.record(permit, self.now, success=success)
            self._settled(may_move=True)
            if self.state is not State.HALF_OPEN:
                break
        assert self.state in (State.CLOSED if success else State.OPEN, State.THROTTLED)

    @invariant()
    def at_most_so_many_probes_are_out(self):
        if hasattr(self, "circuit"):
            alive = [p for p in self._probes_out() if p.expires > self.now]
            assert len(alive) <= self.circuit.probes
            assert self.circuit.statistics().probes_out <= self.circuit.probes
            assert self.circuit.state is self.state

    def teardown(self):
        if not hasattr(self, "circuit"):
            return
        for permit, _ in self.out:
            self.circuit.drop(permit)
        assert self.circuit.statistics().probes_out == 0


class TestCircuitMachine(_CircuitMachine.TestCase):
    """Probes are bounded, older epochs decide nothing, half-open always leaves within a lease."""

    settings = settings(max_examples=60, stateful_step_count=40)


STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.4, 1.0, 6.0, 30.0]), st.booleans(), st.booleans()),
    max_size=60,
)


def test_a_new_circuit_admits_everything():
    """It starts closed and refuses nobody."""
    circuit = Circuit()
    assert all(circuit.admit(0.0) is not None for _ in range(1_000))
    assert circuit.state is State.CLOSED
    assert circuit.last_transition is None


def test_it_opens_at_the_failure_ratio():
    """At `minimum_calls` calls with half of them failed, it opens and refuses."""
    circuit = Circuit(0.5, minimum_calls=4, consecutive_failures=None)
    for success in (True, False, True):
        circuit.record(circuit.admit(0.0), 0.0, success=success)
    assert circuit.state is State.CLOSED
    _fail(circuit, 0.0)
    assert circuit.last_transition == Transition(State.CLOSED, State.OPEN, Trigger.FAILURE_RATIO)
    assert circuit.admit(0.0) is None


def test_two_failures_in_a_quiet_night_do_not_open_it():
    """Below `minimum_calls` the ratio decides nothing."""
    circuit = Circuit(0.1, minimum_calls=20, consecutive_failures=None)
    _fail(circuit, 0.0, 19)
    assert circuit.state is State.CLOSED
    _fail(circuit, 0.0)
    assert circuit.state is State.OPEN


def test_it_stays_closed_below_the_ratio():
    """Just below the failure ratio, however many calls, it stays closed."""
    circuit = Circuit(0.5, minimum_calls=1, consecutive_failures=None)
    for number in range(300):
        circuit.record(circuit.admit(0.0), 0.0, success=number % 3 != 2)
    assert circuit.state is State.CLOSED


def test_failures_in_a_row_open_it_however_slow():
    """A slow server that never fills the window opens it by failures in a row."""
    circuit = Circuit(consecutive_failures=3)
    for now in (0.0, 1_000.0, 2_000.0):
        assert circuit.state is State.CLOSED
        _fail(circuit, now)
    assert circuit.last_transition.trigger is Trigger.CONSECUTIVE_FAILURES


def test_a_success_ends_the_row():
    """Only failures that follow each other make a row."""
    circuit = Circuit(consecutive_failures=3)
    for _ in range(5):
        _fail(circuit, 0.0, 2)
        circuit.record(circuit.admit(0.0), 0.0, success=True)
    assert circuit.state is State.CLOSED


def test_the_window_forgets():
    """Failures that are older than the window count no more."""
    circuit = Circuit(0.5, minimum_calls=4, window=10.0, consecutive_failures=None)
    _fail(circuit, 0.0, 3)
    _fail(circuit, 10.1, 3)
    assert circuit.state is State.CLOSED
    assert circuit.statistics().failures == 3
    _fail(circuit, 10.2)
    assert circuit.state is State.OPEN


def test_an_open_circuit_rests_and_then_probes():
    """Nothing is admitted for `open_for`; then the first call is a probe."""
    circuit = _opened(100.0, open_for=10.0)
    assert circuit.admit(109.9) is None
    assert circuit.retry_after(104.0) == 6.0
    probe = circuit.admit(110.0)
    assert probe.expires == 110.0 + circuit.probe_lease
    assert circuit.state is State.HALF_OPEN
    assert circuit.last_transition.trigger is Trigger.RESTED


def test_half_open_admits_at_most_its_probes():
    """However many wait, `probes` are let through and the rest told to ask again."""
    circuit = _opened(probes=3)
    permits = [circuit.admit(10.0) for _ in range(1_000)]
    assert sum(permit is not None for permit in permits) == 3
    assert circuit.retry_after(10.0) == 1.0
    assert circuit.statistics().probes_out == 3


def test_it_closes_when_all_probes_succeed():
    """`probes` successes close it, and no more probes than that are sent."""
    circuit = _opened(probes=2)
    first, second = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(first, 11.0, success=True)
    assert circuit.state is State.HALF_OPEN
    assert circuit.admit(11.0) is None
    circuit.record(second, 12.0, success=True)
    assert circuit.last_transition.trigger is Trigger.PROBES_SUCCEEDED
    assert circuit.state is State.CLOSED
    assert circuit.statistics().failures == 0


def test_one_failed_probe_opens_it_again():
    """A failed probe opens it for the whole of `open_for` again."""
    circuit = _opened(probes=2, open_for=10.0)
    circuit.record(circuit.admit(10.0), 13.0, success=False)
    assert circuit.last_transition.trigger is Trigger.PROBE_FAILED
    assert circuit.admit(22.9) is None
    assert circuit.admit(23.0) is not None
    assert circuit.statistics().opened == 2


def test_a_dropped_probe_gives_its_place_back():
    """A cancelled probe counts for nothing and another may take its place at once."""
    circuit = _opened(probes=1)
    probe = circuit.admit(10.0)
    assert circuit.admit(10.0) is None
    circuit.drop(probe)
    assert circuit.state is State.HALF_OPEN
    assert circuit.admit(10.0) is not None


def test_a_lost_probe_is_given_up_when_its_lease_ends():
    """A probe that never reports blocks recovery for its lease and no longer."""
    circuit = _opened(probes=1, probe_lease=120.0)
    lost = circuit.admit(10.0)
    assert circuit.admit(129.9) is None
    replacement = circuit.admit(130.0)
    assert replacement is not None
    circuit.record(lost, 131.0, success=False)
    assert circuit.state is State.HALF_OPEN
    assert circuit.statistics().late == 1
    circuit.record(replacement, 132.0, success=True)
    assert circuit.state is State.CLOSED


def test_a_probe_of_an_earlier_round_holds_no_place():
    """A probe that is out when another one fails takes no place among the next probes."""
    circuit = _opened(probes=2, open_for=10.0, probe_lease=120.0)
    failed, slow = circuit.admit(10.0), circuit.admit(10.0)
    circuit.record(failed, 11.0, success=False)
    assert circuit.statistics().probes_out == 0
    assert [circuit.admit(21.0) is not None for _ in range(3)] == [True, True, False]
    circuit.record(slow, 22.0, success=True)
    assert circuit.statistics().probes_out == 2


@pytest.mark.parametrize("success", [True, False])
def test_a_result_from_before_it_opened_decides_nothing(success):
    """A call admitted before the circuit opened neither closes nor extends nor opens it."""
    circuit = Circuit(consecutive_failures=1, probes=1)
    old = [circuit.admit(0.0) for _ in range(50)]
    circuit.record(old.pop(), 0.0, success=False)
    for permit in old[:10]:
        circuit.record(permit, 5.0, success=success)
    assert circuit.retry_after(9.0) == 1.0
    probe = circuit.admit(10.0)
    for permit in old[10:20]:
        circuit.record(permit, 10.0, success=success)
    assert circuit.state is State.HALF_OPEN
    circuit.record(probe, 10.0, success=True)
    for permit in old[20:]:
        circuit.record(permit, 11.0, success=success)
    assert circuit.state is State.CLOSED
    assert circuit.statistics().late == 49


def test_dropped_calls_are_not_counted():
    """Cancellations are neither successes nor failures."""
    circuit = Circuit(0.5, minimum_calls=1, consecutive_failures=1)
    for _ in range(100):
        circuit.drop(circuit.admit(0.0))
    assert circuit.state is State.CLOSED
    assert circuit.statistics().failures == circuit.statistics().successes == 0
    assert circuit.idle(0.0)


def test_rebase_moves_the_rest_and_the_leases():
    """After a change of clock, what is left of the rest and of the leases is the same."""
    circuit = _opened(1_000.0, open_for=10.0, probes=1, probe_lease=20.0)
    circuit.rebase(-1_000.0)
    assert circuit.admit(9.9) is None
    assert circuit.admit(10.0) is not None
    circuit.rebase(500.0)
    assert circuit.admit(529.9) is None
    assert circuit.admit(530.0) is not None


def test_idle_means_as_good_as_new():
    """Only a closed circuit with an empty window is idle: a call in flight is no part of it."""
    circuit = Circuit(window=10.0)
    assert circuit.idle(0.0)
    circuit.record(circuit.admit(0.0), 0.0, success=True)
    assert not circuit.idle(5.0)
    assert circuit.idle(11.0)
    assert not circuit.busy


def test_an_open_circuit_is_in_use_until_it_has_rested():
    """Then nobody needs it, unless somebody asks and its probes are out."""
    circuit = Circuit(consecutive_failures=1, open_for=10.0, probe_lease=60.0)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert [circuit.in_use(at) for at in (9.9, 10.0)] == [True, False]
    assert circuit.admit(20.0) is not None
    assert [circuit.in_use(at) for at in (79.9, 80.0)] == [True, False]
    assert not circuit.idle(1e6)  # a new one would let everything through


def test_failures_in_a_row_are_not_forgotten_with_the_window():
    """A circuit that counts one is not as a new one, however long ago it was."""
    circuit = Circuit(consecutive_failures=3, window=10.0)
    circuit.record(circuit.admit(0.0), 0.0, success=False)
    assert not circuit.idle(1e6)
    circuit.record(circuit.admit(1e6), 1e6, success=True)
    assert circuit.idle(2e6)


def test_calls_of_a_loop_that_was_closed_decide_nothing():
    """Their probes make room at once, and a result that comes all the same is late."""
    circuit = _opened()
    probe = circuit.admit(1e6)
    circuit.abandon()
    assert circuit.statistics().probes_out == 0
    circuit.record(probe, 1e6, success=False)
    told = circuit.statistics()
    assert (told.state, told.late) == (State.HALF_OPEN, 1)


@pytest.mark.parametrize(
    "values",
    [
        {"failure_ratio": 0.0},
        {"failure_ratio": 1.01},
        {"failure_ratio": math.nan},
        {"minimum_calls": 0},
        {"probes": 0},
        {"consecutive_failures": -1},
        {"window": 0.0},
        {"window": math.inf},
        {"open_for": -1.0},
        {"open_for": math.nan},
        {"probe_lease": 0.0},
        {"probe_lease": math.inf},
    ],
)
def test_values_out_of_range_are_refused(values):
    """A circuit that cannot work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        Circuit(**values)


def test_every_transition_of_the_table_happens():
    """The table holds no pair that a circuit cannot go through."""
    seen, circuit = set(), Circuit(0.5, 3, 10.0, 3, probes=2, throttle_below=0.4)

    def note():
        seen.add((circuit.last_transition.previous, circuit.last_transition.trigger))

    def results(now, *successes):
        for success in successes:
            circuit.record(circuit.admit(now), now, success=success)
            note()

    def throttled(now):
        results(now, True, False, False)
        assert circuit.state is State.THROTTLED

    _fail(circuit, 0.0, 3)  # nothing ever succeeded
    note()
    first, second = circuit.admit(10.0), circuit.admit(10.0)
    note()
    circuit.record(first, 10.0, success=False)
    note()
    circuit.record(second, 10.1, success=True)
    note()
    assert circuit.state is State.THROTTLED
    results(11.0, True, True)
    assert circuit.admit(12.0) is not None
    note()
    throttled(30.0)
    results(30.0, False)  # the third in a row
    results(40.0, True, False)
    results(40.0, False, False, False)
    results(50.0, True, True)
    throttled(70.0)
    results(75.0, True)
    circuit.record(circuit.admit(75.1), 75.1, success=False)
    results(80.0, False)  # the ratio, and nothing succeeded for 5 s
    results(90.0, True, True)
    _fail(circuit, 100.0, 3)
    note()
    results(110.0, True, True)
    results(110.0, True)
    circuit.record(circuit.admit(114.0), 114.0, success=False)
    circuit.record(circuit.admit(116.0), 116.0, success=False)
    note()
    assert seen == set(TRANSITIONS)


def test_the_diagram_is_drawn_from_the_table():
    """Every transition has its line in the diagram."""
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == 2 + len(TRANSITIONS)
    assert "    half_open --> open: a probe failed" in lines


def test_it_describes_itself():
    """The text says when it opens and how it probes."""
    assert repr(Circuit()) == "<Circuit closed>"
    assert "20 in a row" in str(Circuit())
    assert "in a row" not in str(Circuit(consecutive_failures=None))


def test_a_row_of_no_failures_is_refused():
    """`consecutive_failures` is 1 or more, or None; 0 is an error, not a silent "never"."""
    with pytest.raises(ConfigurationError):
        Circuit(consecutive_failures=0)


def test_a_permit_that_is_ended_twice_counts_once():
    """A second end does nothing, so the circuit does not stay in use, and opens no sooner."""
    circuit = Circuit(minimum_calls=2)
    permit = circuit.admit(0.0)
    circuit.record(permit, 0.0, success=False)
    circuit.record(permit, 0.0, success=False)
    circuit.drop(permit)
    assert (circuit.state, circuit.statistics(0.0).failures) == ("closed", 1)
    assert not circuit.in_use(0.0)
    probe = opened(circuit)
    for _ in range(2):
        circuit.record(probe, 100.0, success=True)
    circuit.drop(probe)
    assert not circuit.in_use(1_000.0)


def opened(circuit):
    """Open a circuit by failures, and return the permit of its first probe."""
    for _ in range(3):
        permit = circuit.admit(0.0)
        if permit is not None:
            circuit.record(permit, 0.0, success=False)
    probe = circuit.admit(50.0)
    assert probe.expires is not None
    return probe
