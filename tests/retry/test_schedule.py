"""Whether and when to try again: the reference's table, hints, deadlines and refusals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.verdict import Kind, Verdict
from resilient_infe.errors import ConfigurationError
from resilient_infe.retry.backoff import ExponentialBackoff
from resilient_infe.retry.schedule import (
    RULES,
    KindRule,
    Progress,
    RetrySchedule,
    Stop,
    Wait,
)

uniforms = st.floats(0.0, 1.0, exclude_max=True)


def _verdict(kind, retry_after=None, status=None, *, retryable=True):
    return Verdict(kind, retryable=retryable, retry_after=retry_after, status=status)


def _decisions(schedule, verdicts, u=0.0, **more):
    """Return the decisions after a sequence of attempts of one call."""
    progress = Progress()
    return [schedule.decide(verdict, progress, 0.0, None, u, **more) for verdict in verdicts]


def _retries(schedule, verdict, most=100):
    """Count the retries until the schedule stops."""
    progress = Progress()
    for made in range(most):
        if isinstance(schedule.decide(verdict, progress, 0.0, None, 0.5), Stop):
            return made
    return math.inf


def test_a_429_waits_at_least_1_2_4_seconds():
    """The reference's waits for a 429 are floors: jitter only adds."""
    schedule = RetrySchedule()
    verdicts = [_verdict(Kind.RATE_LIMITED, status=429)] * 5
    assert _decisions(schedule, verdicts, 0.0) == [Wait(x) for x in (1.0, 2.0, 4.0, 8.0, 16.0)]
    assert _decisions(schedule, verdicts, 1.0) == [Wait(x) for x in (1.25, 2.5, 5.0, 10.0, 20.0)]


@pytest.mark.parametrize(
    ("kind", "status", "retries"),
    [
        (Kind.RATE_LIMITED, 429, 5),
        (Kind.OVERLOADED, 503, 5),
        (Kind.SERVER_ERROR, 500, 3),
        (Kind.TRANSIENT, 502, 5),
        (Kind.TRANSIENT, None, 5),
        (Kind.TRANSIENT, 425, 1),
        (Kind.TIMEOUT, None, 5),
        (Kind.OK, 200, 0),
        (Kind.QUOTA, 402, 0),
        (Kind.AUTH, 401, 0),
        (Kind.FORBIDDEN, 403, 0),
        (Kind.NOT_FOUND, 404, 0),
        (Kind.INVALID, 400, 0),
        (Kind.CANCELLED, None, 0),
        (Kind.REFUSED, None, 0),
        (Kind.UNKNOWN, None, 0),
    ],
)
def test_the_references_table_of_retries(kind, status, retries):
    """Each kind is tried again as often as the table says, within six attempts."""
    assert _retries(RetrySchedule(), _verdict(kind, status=status)) == retries


def test_a_502_backs_off_with_full_jitter():
    """A 502 waits a random part of 1, 2, 4 ... seconds."""
    verdicts = [_verdict(Kind.TRANSIENT, status=502)] * 3
    assert _decisions(RetrySchedule(), verdicts, 0.5) == [Wait(0.5), Wait(1.0), Wait(2.0)]
    assert _decisions(RetrySchedule(), verdicts, 0.0) == [Wait(0.0)] * 3


@pytest.mark.parametrize("attempts", [1, 2, 10])
def test_max_attempts_counts_the_first(attempts):
    """So many attempts are made in all, and the reason tells why no more."""
    schedule = RetrySchedule(max_attempts=attempts)
    verdicts = [_verdict(Kind.TRANSIENT)] * attempts
    *before, last = _decisions(schedule, verdicts)
    assert all(isinstance(decision, Wait) for decision in before)
    assert last == Stop(f"max_attempts={attempts} reached")


def test_attempts_of_different_kinds_count_together():
    """`max_attempts` bounds the call whatever its failures were."""
    kinds = (Kind.TRANSIENT, Kind.TIMEOUT, Kind.OVERLOADED, Kind.RATE_LIMITED)
    decisions = _decisions(RetrySchedule(max_attempts=4), [_verdict(kind) for kind in kinds])
    assert [type(decision) for decision in decisions] == [Wait, Wait, Wait, Stop]


def test_a_verdict_that_forbids_it_is_final():
    """A retryable kind that is marked as not retryable is not tried again, without a reason."""
    verdict = _verdict(Kind.SERVER_ERROR, retryable=False)
    assert _decisions(RetrySchedule(), [verdict]) == [Stop()]


@pytest.mark.parametrize("kind", list(RULES))
@given(st.floats(1e-3, 300.0), uniforms)
def test_a_hint_is_a_floor(kind, hint, u):
    """At least the hint is waited, with some jitter on top, never less."""
    (decision,) = _decisions(RetrySchedule(), [_verdict(kind, hint)], u)
    assert hint <= decision.delay <= hint + max(0.1, 0.1 * hint)
    assert u == 0 or decision.delay > hint or u < 1e-6


def test_a_hint_over_max_hint_ends_the_call_and_says_so():
    """A longer hint than `max_hint` is not waited out, and not shortened either."""
    schedule = RetrySchedule(max_hint=300.0)
    (at, over) = (_verdict(Kind.RATE_LIMITED, 300.0), _verdict(Kind.RATE_LIMITED, 301.0))
    assert isinstance(_decisions(schedule, [at])[0], Wait)
    stop = _decisions(schedule, [over])[0]
    assert isinstance(stop, Stop)
    assert "301" in stop.reason
    assert "max_hint=300" in stop.reason


def test_no_wait_ends_after_the_deadline():
    """A wait that cannot finish before the deadline is not begun, and the reason tells both."""
    schedule, verdict = RetrySchedule(), _verdict(Kind.RATE_LIMITED, 10.0)
    assert schedule.decide(verdict, Progress(), 100.0, 110.5, 0.0) == Wait(10.0)
    for deadline in (110.0, 105.0, 90.0):
        stop = schedule.decide(verdict, Progress(), 100.0, deadline, 0.0)
        assert isinstance(stop, Stop)
        assert "10 s" in stop.reason
        assert f"{max(0.0, deadline - 100.0):.3g} s remain" in stop.reason


@pytest.mark.parametrize("hint", [None, 2.0])
def test_refusals_are_raised_at_once_unless_asked(hint):
    """By default our own refusal is not waited out."""
    refusal = _verdict(Kind.REFUSED, hint)
    assert _decisions(RetrySchedule(), [refusal]) == [Stop()]


def test_refusals_are_waited_out_when_asked_and_count_nothing():
    """A refusal that says how long uses up no attempt; one that does not is raised."""
    schedule, progress = RetrySchedule(max_attempts=1, wait_out_refusals=True), Progress()
    for _ in range(50):
        refusal = _verdict(Kind.REFUSED, 2.0)
        assert schedule.decide(refusal, progress, 0.0, None, 0.0) == Wait(2.0)
    assert progress == Progress()
    assert schedule.decide(_verdict(Kind.REFUSED), progress, 0.0, None, 0.0) == Stop()
    late = schedule.decide(_verdict(Kind.REFUSED, 9.0), progress, 0.0, 5.0, 0.0)
    assert isinstance(late, Stop)


def test_an_uncounted_kind_uses_up_no_attempts():
    """A batch may wait out any number of 429s and still has its attempts."""
    rules = {Kind.RATE_LIMITED: KindRule(counted=False)}
    schedule, progress = RetrySchedule(max_attempts=2, rules=rules), Progress()
    for _ in range(100):
        decision = schedule.decide(_verdict(Kind.RATE_LIMITED), progress, 0.0, None, 0.5)
        assert isinstance(decision, Wait)
    failed = _verdict(Kind.TRANSIENT)
    assert isinstance(schedule.decide(failed, progress, 0.0, None, 0.5), Wait)
    assert isinstance(schedule.decide(failed, progress, 0.0, None, 0.5), Stop)


def test_a_rule_replaces_the_tables_and_none_means_never():
    """What is given for a kind replaces its row, the other rows stay."""
    rules = {
        Kind.TIMEOUT: None,
        Kind.UNKNOWN: KindRule(max_retries=2),
        Kind.SERVER_ERROR: KindRule(ExponentialBackoff(7.0, 1.0, 7.0, "none"), max_retries=1),
    }
    schedule = RetrySchedule(rules=rules)
    assert _retries(schedule, _verdict(Kind.TIMEOUT)) == 0
    assert _retries(schedule, _verdict(Kind.UNKNOWN)) == 2
    assert _retries(schedule, _verdict(Kind.SERVER_ERROR)) == 1
    assert _decisions(schedule, [_verdict(Kind.SERVER_ERROR)]) == [Wait(7.0)]
    assert _retries(schedule, _verdict(Kind.TRANSIENT)) == 5


def test_kinds_without_delays_of_their_own_use_those_of_the_schedule():
    """The schedule's backoff fills in where a rule has none."""
    backoff = ExponentialBackoff(3.0, 1.0, 3.0, "none")
    schedule = RetrySchedule(backoff=backoff)
    assert schedule.rule(Kind.TRANSIENT).backoff is backoff
    assert schedule.rule(Kind.RATE_LIMITED).backoff is not backoff
    assert schedule.rule(Kind.AUTH) is None


def test_a_failed_probe_is_free_only_where_refusals_are_waited_out():
    """The oldest calls are always the probes: a batch does not end them for it."""
    failed, progress = _verdict(Kind.SERVER_ERROR, status=500), Progress()
    batch = RetrySchedule(max_attempts=2, wait_out_refusals=True)
    for _ in range(50):
        decision = batch.decide(failed, progress, 0.0, None, 0.5, probe=True)
        assert isinstance(decision, Wait)
    assert progress.counted == 0
    service = RetrySchedule(max_attempts=2)
    decisions = _decisions(service, [failed] * 2, probe=True)
    assert [type(decision) for decision in decisions] == [Wait, Stop]


@st.composite
def schedules(draw):
    """Draw a schedule with any jitter."""
    jitter = draw(st.sampled_from(["full", "equal", "additive", "none", "decorrelated"]))
    initial = draw(st.floats(0.01, 10))
    maximum = draw(st.floats(initial, 1_000))
    backoff = ExponentialBackoff(initial, draw(st.floats(1, 5)), maximum, jitter)
    return RetrySchedule(draw(st.integers(1, 12)), backoff)


@given(schedules(), st.sampled_from(list(RULES)), st.lists(uniforms, min_size=12, max_size=12))
def test_longest_wait_bounds_any_drawn_sequence_of_one_kind(schedule, kind, drawn):
    """No call that fails the same way each time spends longer in backoff than is foretold."""
    progress, waited = Progress(), 0.0
    for u in drawn:
        decision = schedule.decide(_verdict(kind), progress, 0.0, None, u)
        if isinstance(decision, Stop):
            break
        waited += decision.delay
    assert waited <= schedule.longest_wait() * (1 + 1e-9)


@given(
    st.lists(st.tuples(st.sampled_from(list(RULES)), uniforms), min_size=1, max_size=20),
    st.integers(1, 10),
)
def test_longest_wait_bounds_mixed_failures_by_the_default_table(failures, attempts):
    """With the reference's table, no mixture of failures waits longer than is foretold."""
    schedule, progress, waited = RetrySchedule(attempts), Progress(), 0.0
    for kind, u in failures:
        decision = schedule.decide(_verdict(kind), progress, 0.0, None, u)
        if isinstance(decision, Stop):
            break
        waited += decision.delay
    assert waited <= schedule.longest_wait() * (1 + 1e-9)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Kind)), st.one_of(st.none(), st.floats(1e-3, 1e4)), uniforms
        ),
        max_size=60,
    ),
    st.integers(1, 8),
    st.floats(0, 1e4),
)
def test_any_sequence_stays_within_attempts_and_deadline(steps, attempts, deadline):
    """Attempts never exceed `max_attempts`, and every wait ends before the deadline.

    Answers that a check refused have a bound of their own.
    """
    schedule, progress, now, sent, checked = RetrySchedule(attempts), Progress(), 0.0, 0, 0
    for kind, hint, u in steps:
        sent += kind is not Kind.MALFORMED
        checked += kind is Kind.MALFORMED
        decision = schedule.decide(_verdict(kind, hint), progress, now, deadline, u)
        if isinstance(decision, Stop):
            break
        assert decision.delay >= (hint or 0.0)
        now += decision.delay
        assert now < deadline
    assert sent <= attempts
    assert checked <= 11


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_hint": 0.0},
        {"max_hint": math.inf},
        {"max_hint": math.nan},
    ],
)
def test_values_out_of_range_are_refused(values):
    """A schedule that cannot work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        RetrySchedule(**values)


def test_free_probes_leave_a_500_its_three_retries():
    """A call that probed through an outage still has its retries for an ordinary 500."""
    schedule, progress = RetrySchedule(wait_out_refusals=True), Progress()
    failed = _verdict(Kind.SERVER_ERROR, status=500)
    for _ in range(5):
        schedule.decide(failed, progress, 0.0, None, 0.5, probe=True)
    assert isinstance(schedule.decide(failed, progress, 0.0, None, 0.5), Wait)


def test_the_first_425_is_retried_once_whatever_came_before():
    """A 502 before it does not use up the one retry of a 425."""
    verdicts = [_verdict(Kind.TRANSIENT, status=502), _verdict(Kind.TRANSIENT, status=425)]
    assert isinstance(_decisions(RetrySchedule(), verdicts)[1], Wait)


def test_a_rule_without_retries_holds_for_a_425_too():
    """Who allows no retries of a kind gets none for a 425."""
    schedule = RetrySchedule(rules={Kind.TRANSIENT: KindRule(max_retries=0)})
    assert _retries(schedule, _verdict(Kind.TRANSIENT, status=425)) == 0


def test_longest_wait_bounds_mixed_failures_by_any_table():
    """Where kinds have bounds of their own, a mixture waits no longer than is foretold."""
    rules = {Kind.RATE_LIMITED: KindRule(ExponentialBackoff(50, 1, 50, "none"), max_retries=1)}
    schedule = RetrySchedule(rules=rules)
    verdicts = [_verdict(Kind.RATE_LIMITED), *[_verdict(Kind.TRANSIENT)] * 4]
    waited = sum(decision.delay for decision in _decisions(schedule, verdicts, 1 - 1e-9))
    assert waited <= schedule.longest_wait()


def test_longest_wait_bounds_decorrelated_jitter_after_another_kind():
    """A long 429 wait does not make the next delay of another kind longer than is foretold."""
    backoff = ExponentialBackoff(1.0, 2.0, 1_000.0, "decorrelated")
    rules = {Kind.RATE_LIMITED: KindRule(ExponentialBackoff(30, 1, 30, "none"))}
    schedule = RetrySchedule(3, backoff, rules)
    verdicts = [_verdict(Kind.RATE_LIMITED), _verdict(Kind.TRANSIENT)]
    waited = sum(decision.delay for decision in _decisions(schedule, verdicts, 1 - 1e-9))
    assert waited <= schedule.longest_wait()


def test_longest_wait_leaves_out_kinds_that_use_up_no_attempts():
    """What is waited out without bound is told apart by the description, not summed up here."""
    rules = {Kind.RATE_LIMITED: KindRule(ExponentialBackoff(50, 1, 50, "none"), counted=False)}
    assert RetrySchedule(rules=rules).longest_wait(counted=True) == 1 + 2 + 4 + 8 + 16


@pytest.mark.parametrize("max_attempts", [1, 6])
def test_longest_wait_includes_bounded_retries_that_use_up_no_attempts(max_attempts):
    """Three of them come before those that count, and on top of them."""
    rules = {Kind.RATE_LIMITED: KindRule(max_retries=3, counted=False)}
    schedule = RetrySchedule(max_attempts, rules=rules)
    verdicts = [_verdict(Kind.RATE_LIMITED)] * 3 + [_verdict(Kind.TRANSIENT)] * max_attempts
    decisions = _decisions(schedule, verdicts, 1 - 1e-9)
    waited = sum(each.delay for each in decisions if isinstance(each, Wait))
    assert waited == pytest.approx(schedule.longest_wait(), rel=1e-6)


def test_waits_double_from_a_calls_second_429_whatever_the_hint():
    """A server that says 1 s each time, of a call that it always refuses, is asked ever later."""
    verdicts = [_verdict(Kind.RATE_LIMITED, retry_after=1.0)] * 9
    rules = {Kind.RATE_LIMITED: KindRule(ExponentialBackoff(1, 2, 60, "none"), counted=False)}
    waits = [each.delay for each in _decisions(RetrySchedule(rules=rules), verdicts)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_longer_hint_stays_the_floor():
    """The doubled wait never takes the place of a longer hint."""
    verdicts = [_verdict(Kind.RATE_LIMITED, retry_after=30.0)] * 3
    assert [each.delay >= 30.0 for each in _decisions(RetrySchedule(), verdicts)] == [True] * 3


def test_hints_of_other_kinds_do_not_double():
    """A 503 is about the server, so its hint alone says when."""
    verdicts = [_verdict(Kind.OVERLOADED, retry_after=1.0, status=503)] * 4
    assert [each.delay for each in _decisions(RetrySchedule(), verdicts)] == [1.0] * 4
