"""Metered: the quick way of taking grants what the long way would, and takes as much."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.policies.ledger import Ledger
from resilient_infe.policies.metered import Metered

COSTS = st.sampled_from([0.0, 1.0, 40.0, 99.0, 101.0, 900.0, 7_000.0])
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.5, 7.0, 70.0]), COSTS, st.sampled_from([0.0, 0.3, 2.0])
    ),
    max_size=40,
)


@given(STEPS)
def test_the_quick_way_is_the_long_way(steps):
    """Taking at once and asking first, then taking, agree after any history."""
    quick, long, now = Metered(6_000, 60.0), Metered(6_000, 60.0), 50.0
    for wait, cost, share in steps:
        now += wait
        fits = now >= long.ready_at(cost)
        assert quick.take_if_fits(cost, now) is fits
        if fits:
            long.take(cost, now)
            for each in (quick, long):
                each.correct(cost * share - cost, now, now)
        assert math.isclose(quick.level(now), long.level(now), rel_tol=1e-9, abs_tol=1e-6)
        assert math.isclose(quick.ledger.spent(now), long.ledger.spent(now), abs_tol=1e-6)


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
        if bucket.take_if_fits(cost, now):
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
    bucket.take_if_fits(900.0, 0.0)
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


def test_what_cannot_be_taken_changes_nothing():
    """A refusal leaves level and ledger as they were."""
    bucket = Metered(6_000, 60.0)
    assert bucket.take_if_fits(100.0, 0.0)
    before = bucket.level(0.0), bucket.ledger.spent(0.0)
    assert not bucket.take_if_fits(50.0, 0.0)
    assert (bucket.level(0.0), bucket.ledger.spent(0.0)) == before


def test_a_full_window_refuses_although_the_bucket_is_full():
    """The ledger alone can say no: what was given back is still spent in its window."""
    bucket = Metered(100, 60.0)
    bucket.ledger.add(100.0, 0.0)
    assert bucket.level(1.0) == bucket.burst
    assert not bucket.take_if_fits(1.0, 1.0)
    assert bucket.take_if_fits(1.0, bucket.ready_at(1.0))
