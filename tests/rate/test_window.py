"""Window: no period exceeds the limit, the promised instant grants, and what is owed is made up."""

import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.bucket import LONGEST_DEBT, PACE
from resilient_infe.rate.window import Window

limits = st.floats(1.0, 1e6)
bursts = st.sampled_from([0.01, 0.5, 1.0, 30.0, 60.0, 1e5])


def _send(window, cost, now):
    """Take a cost as soon as it fits, and return when that was, with what was taken."""
    now = max(now, window.ready_at(cost))
    return now, window.take(cost, now)


def _correct(window, extra, part, now):
    """Correct a cost of one slice, in the ledger and in the bucket."""
    window.ledger.correct(part, extra)
    window.adjust(extra, now)


def test_a_new_window_holds_its_burst():
    """The burst can be taken at once, and then one unit at a time, at the whole rate."""
    window = Window(600, 60, 1.0)
    assert window.burst == window.level(0.0) == 10
    for _ in range(10):
        window.take(1, 5.0)
    assert window.level(5.0) == pytest.approx(0)
    assert window.ready_at(1) == pytest.approx(5.1)
    assert window.rate == 10


@pytest.mark.parametrize("burst", [30.0, 60.0, 1e5])
def test_a_burst_grows_with_what_passes(burst):
    """It begins at 2 s of the rate, and is never more than twice what has passed, and one call."""
    window = Window(600, 60, burst)
    assert window.burst == 20
    taken = [window.take(1, 0.0) for _ in range(20)]
    for _, _, ahead, *_ in taken:
        window.passed(1, ahead, 1.0)
    assert window.burst == pytest.approx(41)
    for ahead in (3.0, 20.0, 40.0, 80.0):
        window.passed(1, ahead, 1.0)
    assert window.burst == pytest.approx(min(600, burst * 10))


def test_a_cost_above_the_burst_waits_for_a_full_bucket():
    """It fits when the bucket is full and delays the next one by 5 s of the rate at most."""
    window = Window(600, 60, 0.5)
    window.take(1, 0.0)
    ready = window.ready_at(100)
    assert ready == window.ready_at(5) == pytest.approx(0.1)
    window.take(100, ready)
    assert window.ready_at(1) == pytest.approx(ready + LONGEST_DEBT - 0.4)


@pytest.mark.parametrize("limit", [1, 2, 5, 10, 59, 60])
def test_a_few_units_a_window_never_meet(limit):
    """However the clock falls, no closed window holds more than the limit."""
    window, now, sent = Window(limit, 60, 0.5), 0.0, deque()
    for _ in range(5 * limit):
        now, _ = _send(window, 1, now)
        sent.append(now)
        while sent[0] < now - 60.0:
            sent.popleft()
        assert len(sent) <= limit
    assert now <= 5 * 60.5


def test_half_a_unit_a_minute_is_one_in_two_minutes():
    """A rate below one unit a period is kept over a longer one."""
    window = Window(0.5, 60, 1.0)
    window.take(1, 0.0)
    assert 120.0 < window.ready_at(1) <= 121.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.5, 7.0, 70.0]),
            st.sampled_from([1.0, 40.0, 99.0, 101.0, 900.0, 6_000.0, 7_000.0]),
            st.sampled_from([0.0, 0.3, 1.0]),
            st.sampled_from([0.0, 8.0, 40.0, 61.0]),
        ),
        max_size=40,
    ),
    bursts,
)
def test_no_window_exceeds_the_limit_whatever_comes_back_late(steps, burst):
    """Estimates that are right or too high, settled up to a minute late, never exceed the limit."""
    window, now, sent, late = Window(6_000, 60.0, burst), 50.0, [], []
    for wait, cost, share, after in steps:
        now = max(now + wait, window.ready_at(cost))
        for due, extra, part in [each for each in late if each[0] <= now]:
            _correct(window, extra, part, due)
        late = [each for each in late if each[0] > now]
        if now < window.ready_at(cost):
            continue
        assert now >= window.ready_at(cost)
        _, part, *_ = window.take(cost, now)
        late.append((now + after, cost * share - cost, part))
        sent.append((now, cost * share))
        real = sum(spent for at, spent in sent if at > now - 60.0)
        assert real <= max(6_000, *(spent for _, spent in sent)) * (1 + 1e-6)


@given(limits, bursts, st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e4)), max_size=40))
def test_the_promised_instant_grants(limit, burst, steps):
    """At `ready_at` the cost fits, exactly: the instant is never one that is not yet ready."""
    window, now = Window(limit, 60.0, burst), 0.0
    for pause, cost in steps:
        now = max(now + pause, window.ready_at(cost))
        assert now >= window.ready_at(cost)
        window.take(cost, now)
        assert not math.isnan(window.level(now))


def test_what_comes_back_fills_the_bucket_and_the_rest_is_owed():
    """An estimate that was too high is made up for at twice the rate, and no faster."""
    window = Window(600, 60.0, 0.5)
    _, part, *_ = window.take(60, 0.0)
    assert window.ready_at(1) == pytest.approx(4.6)
    _correct(window, -50, part, 4.0)
    assert window.level(4.0) == pytest.approx(5)  # 10 are missing at 4 s, and 40 are owed
    instants, now = [], 4.0
    for _ in range(50):
        now, _ = _send(window, 1, now)
        instants.append(now)
    assert instants.count(4.0) == 10
    assert instants[20] - instants[10] == pytest.approx(0.5)
    assert window.ledger.total == pytest.approx(60)


def test_what_is_owed_is_forgotten_after_a_period():
    """What was not made up for in time is no debt of the server's."""
    window = Window(600, 60.0, 0.5)
    window.owe(100, 0.0)
    window.take(1, 61.0)
    for _ in range(5):
        window.take(1, 61.0)
    assert window.ready_at(1) == pytest.approx(61.2)


@pytest.mark.parametrize(
    ("since", "at_once", "later"), [(3.0, 5, 6.0), (2.9, 6, 6.0), (2.0, 7, 5.95), (0.0, 7, 5.95)]
)
def test_time_in_which_the_sender_was_kept_still_is_made_up_for(since, at_once, later):
    """At 10 a second, 0.75 s of the rate is sent after a stop, where a burst is 0.5 s.

    Only the time in which the bucket was already full is lost.
    """
    window, sent, now = Window(600, 60.0, 0.5), [], 3.0
    window.kept_since(since, 3.0)
    for _ in range(at_once + 60):
        now, _ = _send(window, 1, now)
        sent.append(now)
    assert sum(at < 3.0 + 1e-6 for at in sent) == at_once
    assert sent[-1] - 3.0 == pytest.approx(later)


def test_a_stop_is_made_up_for_as_far_as_a_server_was_seen_to_bear_it():
    """Once a request that was 4 s early has passed, so much is sent after a stop of 10 s."""
    window = Window(600, 60.0, 0.5)
    window.passed(1, 4.0, 1.0)
    window.kept_since(1.0, 11.0)
    sent, now = [], 11.0
    for _ in range(100):
        now, _ = _send(window, 1, now)
        sent.append(now)
    assert sum(at < 11.01 for at in sent) == 10
    assert sum(at < 13.0 for at in sent) == pytest.approx(10 + 2 * 20, abs=3)


def test_a_refused_burst_is_followed_by_a_smaller_one():
    """Twenty at once to a server that holds ten: its 429s teach the burst, and not the rate."""
    window = Window(600, 60.0, 30.0)
    taken = [window.take(1, 0.0) for _ in range(20)]
    assert [window.refused(1, part, 0.1) for _, part, *_ in taken[10:]] == [True] * 10
    assert window.burst == pytest.approx(0.95 * 10, rel=0.06)
    assert window.rate == pytest.approx(10 * PACE)


def test_single_requests_are_spaced_out_once_they_were_refused():
    """At one a second, a server's bucket of one unit refuses what comes a little early."""
    window = Window(60, 60.0, 0.5)
    now, (_, part, *_) = _send(window, 1, 0.0)
    assert not window.refused(1, part, now)  # nothing was let in yet: it may be an outage
    for _ in range(3):
        now, (_, part, ahead, *_) = _send(window, 1, now)
        window.passed(1, ahead, now)
        window.let_in_at = now
    now, (_, part, *_) = _send(window, 1, now)
    assert window.refused(1, part, now)
    before, _ = _send(window, 1, now)
    after, _ = _send(window, 1, before)
    assert after - before == pytest.approx(1.04)


def test_it_is_empty_when_a_whole_period_has_cost_nothing():
    """A request above the whole limit needs the full window, and a full bucket."""
    window = Window(6_000, 60.0, 1.0)
    assert window.empty_at() <= 0.0
    _, part, *_ = window.take(10.0, 5.0)
    empty = window.empty_at()
    assert 65.0 <= empty <= 66.0
    assert window.ledger.spent(empty) == 0.0
    _correct(window, -10.0, part, 6.0)  # it was never sent
    assert window.empty_at() <= 6.0


def test_units_that_are_held_back_are_not_spent():
    """While what is in flight may cost more, the window has so much less room."""
    window = Window(100, 60.0, 60.0)
    window.held_back = 30.0
    for _ in range(70):
        window.take(1, 0.0)
    assert window.ready_at(1) > 60.0
    window.held_back = 0.0
    assert window.ready_at(1) < 60.0


def test_lowering_only_lowers():
    """The server's word can take from a bucket but never fill it."""
    window = Window(600, 60, 1.0)
    for asked, level in ((4, 4), (9, 4), (-5, -5)):
        window.lower_to(asked, 1.0)
        assert window.level(1.0) == pytest.approx(level)


def test_what_is_spent_stays_spent_when_resized():
    """A new limit does not forgive what was taken, in the bucket or in the window."""
    window = Window(600, 60, 1.0)
    for _ in range(8):
        window.take(1, 0.0)
    window.resize(6_000, 0.0)
    assert window.burst == 100
    assert window.level(0.0) == pytest.approx(92)
    window.resize(60, 0.0)
    assert window.level(0.0) == pytest.approx(-7)
    window.resize(8, 0.0)
    assert window.ready_at(1) > 60.0


def test_another_period_begins_with_what_this_one_spent():
    """A change of the period is no way to spend a limit twice."""
    window = Window(600, 60, 1.0)
    for second in range(8):
        window.take(1, float(second))
    window.resize(10, 8.0, 10)
    assert (window.ledger.total, window.window, window.period) == (8, 10, 10)
    assert window.level(8.0) <= window.burst
    window.resize(1_000, 8.0, 3_600)
    assert window.ledger.total == 8


def test_a_shorter_period_between_does_not_forget_what_the_longer_one_spent():
    """Else a server that states now a second, now a minute, would have the limit spent twice."""
    window = Window(600, 60, 60.0)
    window.take(600, 0.0)
    window.resize(5, 1.0, 1)
    assert window.ready_at(1) < 15.0
    window.resize(600, 3.0, 60)
    assert window.ledger.total == 600
    assert window.ready_at(1) > 60.0
    window.take(1, 62.0)
    assert window.ledger.total == 1


def test_what_was_taken_before_another_period_is_corrected_in_it():
    """Also if it left a shorter one in between."""
    window = Window(600, 60, 60.0)
    _, part, *_ = window.take(500, 0.0)
    window.resize(300, 0.5, 10)
    _correct(window, -200, part, 1.0)
    assert window.ledger.total == 300
    window.resize(100, 20.0, 1)
    assert window.ledger.spent(20.0) == 0
    _correct(window, -100, part, 20.0)
    assert window.ledger.spent(20.0) == 0
    window.resize(600, 21.0, 60)
    assert window.ledger.total == 200


def test_rebase_moves_the_instants():
    """After a change of clock the same shortage is left."""
    window = Window(600, 60, 1.0)
    for _ in range(10):
        window.take(1, 1_000.0)
    window.owe(3, 1_000.0)
    window.rebase(-1_000.0)
    assert window.level(0.0) == pytest.approx(0, abs=1e-6)
    assert window.ready_at(1) == pytest.approx(0.05)
    assert window.ledger.spent(60.0) == 10


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_values_out_of_range_are_refused(bad):
    """Limit, period and burst are above 0 and finite."""
    for arguments in ((bad, 60.0, 1.0), (60.0, bad, 1.0), (60.0, 60.0, bad)):
        if arguments[2] != math.inf:  # the whole limit at once
            with pytest.raises(ConfigurationError):
                Window(*arguments)
    window = Window(60, 60, 1.0)
    with pytest.raises(ConfigurationError):
        window.resize(bad, 0.0)
    assert window.limit == 60


def test_an_absurd_cost_does_not_lift_the_limit():
    """After an absurd cost is taken and given back, the window still limits."""
    window = Window(1, 60, 1.0)
    _, part, *_ = window.take(1e308, 0.0)
    _correct(window, -1e308, part, 0.0)
    window.take(1, 0.0)
    window.take(1, 0.0)
    assert window.ready_at(1) > 0.0


def test_what_is_ahead_of_an_even_pace_follows_a_new_limit():
    """Ten units that were sent at once are a second's of 600 a minute, and ten of 60."""
    window = Window(600, 60, 60.0)
    for _ in range(10):
        window.take(1, 0.0)
    window.resize(60, 0.0)
    _, _, ahead, *_ = window.take(1, 0.0)
    assert ahead == pytest.approx(11.0)
    window.resize(600, 0.0)
    _, _, ahead, *_ = window.take(1, 0.0)
    assert ahead == pytest.approx(1.2)


def test_what_was_never_sent_proves_nothing():
    """A burst is judged by what was sent: connections that failed were not in it."""
    window = Window(600, 60, 60.0)
    sent = [window.take(1, 0.0) for _ in range(5)]
    unsent = [window.take(1, 0.0) for _ in range(10)]
    part = sent[0][1]
    assert (part.sent, part.ahead) == (15, pytest.approx(1.5))
    for each in unsent:
        window.give_back(each, 0.1, sent=False)
    assert (part.sent, part.ahead) == (5, pytest.approx(0.5))
    window.give_back(unsent[0], 0.1, sent=False)  # a ledger that is wrong is never below 0
    assert part.ahead >= 0.0


def test_what_was_sent_behind_a_refused_one_proves_less():
    """A server does not count what it refuses, so the next one was not as far ahead."""
    window = Window(60_000, 60, 60.0, "tokens")
    for _ in range(200):
        window.calibration.settled(1_000.0, 1_000.0)
    _, refused, let_in = (window.take(1_000.0, now) for now in (0.0, 0.2, 0.4))
    window.give_back(refused, 0.5, sent=True)
    window.settle(let_in, 1_000.0, 1.0)
    assert window._depth.proven == pytest.approx(1.6, abs=0.1)  # of 2.6


def _refuse(window, now):
    """Have one refused that was sent behind another; the burst is as small as can be then."""
    window.let_in_at = now
    window.take(window.limit / 20, now)
    taken = window.take(window.limit / 20, now)
    assert window.refused(taken[3], taken[1], now)
    window.give_back(taken, now, sent=True)


def test_a_request_is_kept_apart_by_what_it_may_cost():
    """What is let in lets the next one come sooner, and each 429 later, up to the estimate."""
    window = Window(60_000, 60, 30.0, "tokens")
    for number in range(200):
        window.calibration.settled(1_000.0, 200.0 + 600.0 * (number % 2))
    window.ratio = window.calibration.ratio
    _refuse(window, 0.0)

    def gap():
        now = window.ready_at(4_000.0)
        taken = window.take(4_000.0, now)
        return window.full_at - now, taken, now

    first, *_ = gap()
    for _ in range(900):
        window.relax()
    later, taken, now = gap()
    window.let_in_at = now
    window.refused(taken[3], taken[1], now)
    last, *_ = gap()
    assert first == pytest.approx(4.04, abs=0.01)  # the estimate is the most that it costs
    assert (later, last) == (pytest.approx(2.42, abs=0.05), pytest.approx(3.62, abs=0.05))


def test_what_estimates_vary_by_is_no_proof():
    """A burst that passed may have been smaller: it is tried again, and not believed."""
    window = Window(60_000, 60, 30.0, "tokens")
    for number in range(200):
        window.calibration.settled(1_000.0, 200.0 + 600.0 * (number % 2))
    window.passed(1_000.0, 2.0, 1.0)
    assert window.burst > 3_000
    assert window._depth.proven == 0.0
    right = Window(60_000, 60, 30.0, "tokens")
    for _ in range(200):
        right.calibration.settled(1_000.0, 1_000.0)
    right.passed(1_000.0, 2.0, 1.0)
    assert right._depth.proven == pytest.approx(2.0, abs=0.2)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.05, 0.2, 7.0, 61.0]),
            st.floats(1.0, 2_000.0),
            st.sampled_from([0.2, 1.0, 3.0]),
            st.integers(0, 9),
        ),
        max_size=40,
    )
)
def test_what_is_in_flight_is_what_has_not_ended_and_not_left(steps):
    """Whatever the slices are in which requests are sent and end, and if the period changes."""
    window, now, flying = Window(60_000, 60.0, 1.0, "tokens"), 10.0, []
    for wait, estimate, real, which in steps:
        now += wait
        flying.append(window.take(estimate, now))
        if which == 9:
            window.resize(60_000, now, 10.0 if window.period == 60.0 else 60.0)
        elif which < len(flying):
            ended = flying.pop(which)
            window.settle(ended, ended[4] * real, now)
        window.ledger.spent(now)
        inside = [each for each in flying if each[1].start >= window.ledger.oldest]
        sums = [sum(each[3] for each in inside), sum(each[4] for each in inside)]
        assert window.ledger.in_flight()[:2] == pytest.approx(sums, rel=1e-6, abs=1e-6)


def test_what_ends_after_it_has_left_a_shorter_period_is_not_in_flight_in_a_longer_one():
    """It comes back into the window as a cost, and no more."""
    window = Window(6_000, 60.0, 1.0, "tokens")
    taken = window.take(50.0, 0.0)
    window.resize(6_000, 0.5, 10.0)
    assert window.ledger.spent(20.0) == 0.0
    window.settle(taken, 40.0, 20.0)
    window.resize(6_000, 20.5, 60.0)
    assert (window.ledger.total, *window.ledger.in_flight()) == (40.0, 0.0, 0.0, 0.0)
