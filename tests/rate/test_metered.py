"""Metered: what fits, what is taken, and where it is corrected."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.ledger import Ledger
from resilient_infe.rate.metered import Metered

COSTS = st.sampled_from([0.0, 1.0, 40.0, 99.0, 101.0, 900.0, 7_000.0])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.5, 7.0, 70.0]), COSTS, st.sampled_from([0.0, 0.3, 2.0])
    ),
    max_size=40,
)


@given(STEPS)
def test_what_fits_is_what_is_ready(steps):
    """`fits` looks at no more than it must, and agrees with `ready_at` after any history."""
    bucket, now = Metered(6_000, 60.0), 50.0
    for wait, cost, share in steps:
        now += wait
        fits = now >= bucket.ready_at(cost)
        assert fits is (now >= bucket.ready_at(cost))
        if fits:
            bucket.take(cost, now)
            bucket.correct(cost * share - cost, now, now)


LATE = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.2, 7.0, 59.9, 61.0]),
        st.sampled_from([1.0, 40.0, 90.0]),
        st.sampled_from([0.0, 0.3, 2.0]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(LATE)
def test_what_is_corrected_late_is_corrected_where_it_was_taken(steps):
    """Its ledger holds what one holds that is told of each cost and correction by itself."""
    bucket, alone = Metered(60_000, 60.0), Ledger(60.0)
    now, under_way = 50.0, []
    for wait, cost, share, settled, looked in steps:
        now += wait
        if looked:
            bucket.ledger.spent(now)
        if now >= bucket.ready_at(cost):
            bucket.take(cost, now)
            alone.add(cost, now)
            under_way.append((cost * share - cost, now))
        while settled and under_way:
            extra, taken_at = under_way.pop(0)
            bucket.correct(extra, taken_at, now)
            alone.correct(extra, taken_at)
    assert math.isclose(bucket.ledger.spent(now), alone.spent(now), abs_tol=1e-6)


def test_what_comes_back_when_its_window_is_over_is_not_given_twice():
    """Nothing is left to take it off, so that the next window holds no more than its limit."""
    bucket = Metered(60_000, 60.0)
    bucket.take(900.0, 0.0)
    assert bucket.ledger.spent(200.0) == 0.0
    bucket.correct(-800.0, 0.0, 200.0)
    assert bucket.ledger.total == 0.0


def test_credit_is_only_what_was_over_estimated():
    """A correction to a bucket that has long been full adds its own amount, not the idle time's."""
    bucket = Metered(600, 60.0)
    bucket.take(5.0, 0.0)
    bucket.correct(-1.0, 0.0, 100.0)
    assert bucket.level(100.0) == pytest.approx(bucket.burst + 1.0)
    bucket.take(1.0, 100.0)
    assert bucket.credit == pytest.approx(0.0, abs=1e-9)
    assert bucket.level(100.0) == pytest.approx(bucket.burst)


def test_a_full_window_refuses_although_the_bucket_is_full():
    """The ledger alone can say no: what was given back is still spent in its window."""
    bucket = Metered(100, 60.0)
    bucket.ledger.add(100.0, 0.0)
    assert bucket.level(1.0) == bucket.burst
    assert 1.0 < bucket.ready_at(1.0) <= 60.5


def test_it_is_empty_when_a_whole_period_has_cost_nothing():
    """A request above the whole limit needs the full window, and a full bucket."""
    bucket = Metered(6_000, 60.0)
    assert bucket.empty_at() <= 0.0
    bucket.take(10.0, 5.0)
    empty = bucket.empty_at()
    assert 65.0 <= empty <= 66.0
    assert bucket.ledger.spent(empty) == 0.0
    bucket.correct(-10.0, 5.0, 6.0)  # it was never sent
    assert bucket.empty_at() <= 6.0


@given(STEPS)
def test_nothing_is_spent_when_it_is_empty(steps):
    """After any history, the window is free and the bucket full at the instant that is foretold."""
    bucket, now = Metered(6_000, 60.0), 50.0
    for wait, cost, _ in steps:
        now += wait
        bucket.take(cost, now)
    empty = max(now, bucket.empty_at())
    assert bucket.ledger.spent(empty) <= 1e-6
    assert bucket.level(empty) >= bucket.burst - 1e-6
