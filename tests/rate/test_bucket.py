"""One rate in one dimension: the instant that is promised is the instant that grants."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.bucket import Bucket

limits = st.floats(1.0, 1e6)
bursts = st.one_of(st.none(), st.floats(0.01, 1e5))


def test_a_new_bucket_is_full():
    """The burst can be taken at once, and then nothing."""
    bucket = Bucket(600, 60)
    assert bucket.burst == 10
    assert bucket.level(0.0) == 10
    bucket.take(10, 5.0)
    assert bucket.level(5.0) == 0
    assert bucket.ready_at(1) > 5.0


def test_the_refill_leaves_room_for_the_burst():
    """The steady rate is (limit - burst) / period, so that no window holds more than the limit."""
    bucket = Bucket(600, 60, burst=20)
    assert bucket.rate == (600 - 20) / 60
    bucket.take(20, 0.0)
    assert bucket.level(30.0) == 20
    assert bucket.level(1.0) == pytest.approx(580 / 60)


@pytest.mark.parametrize("limit", [1, 2, 5, 10, 59, 60])
def test_a_few_units_a_window_are_spaced_out(limit):
    """With a burst of 1, sends are a window and a second apart, over the limit."""
    bucket = Bucket(limit, 60)
    assert bucket.burst == 1
    assert 1 / bucket.rate == pytest.approx(61 / limit)


def test_half_a_unit_a_minute_is_one_in_two_minutes():
    """A rate below one unit a period is kept over a longer one."""
    bucket = Bucket(0.5, 60)
    bucket.take(1, 0.0)
    assert 120.0 < bucket.ready_at(1) <= 122.0


def test_a_big_cost_waits_for_a_full_bucket_then_goes_into_debt():
    """A cost above the burst fits when the bucket is full; its debt is paid off by time."""
    bucket = Bucket(600, 60)
    bucket.take(1, 0.0)
    ready = bucket.ready_at(500)
    assert ready == bucket.ready_at(10) == 1 / bucket.rate
    bucket.take(500, ready)
    assert bucket.level(ready) == -490
    assert bucket.ready_at(1) == pytest.approx(ready + 491 / bucket.rate)


def test_what_is_given_back_never_exceeds_the_burst():
    """A refund refills the bucket and no more."""
    bucket = Bucket(600, 60)
    bucket.take(3, 0.0)
    bucket.give_back(100, 0.0)
    assert bucket.level(0.0) == 10
    bucket.take(10, 0.0)
    assert bucket.level(0.0) == pytest.approx(0)


def test_lowering_only_lowers():
    """The server's word can take from a bucket but never fill it."""
    bucket = Bucket(600, 60)
    bucket.lower_to(4, 1.0)
    assert bucket.level(1.0) == pytest.approx(4)
    bucket.lower_to(9, 1.0)
    assert bucket.level(1.0) == pytest.approx(4)
    bucket.lower_to(-5, 1.0)
    assert bucket.level(1.0) == pytest.approx(-5)


def test_what_is_spent_stays_spent_when_resized():
    """A new limit does not forgive what was taken."""
    bucket = Bucket(600, 60)
    bucket.take(8, 0.0)
    bucket.resize(6_000, 0.0)
    assert bucket.burst == 100
    assert bucket.level(0.0) == pytest.approx(92)
    bucket.resize(60, 0.0)
    assert bucket.level(0.0) == pytest.approx(-7)


def test_rebase_moves_the_instants():
    """After a change of clock the same shortage is left."""
    bucket = Bucket(600, 60)
    bucket.take(10, 1_000.0)
    bucket.rebase(-1_000.0)
    assert bucket.level(0.0) == pytest.approx(0)
    fresh = Bucket(600, 60)
    fresh.rebase(5.0)
    assert fresh.level(0.0) == 10


@given(limits, st.floats(0.1, 1e5), bursts)
def test_burst_and_refill_never_add_up_to_more_than_the_limit(limit, period, burst):
    """A full bucket plus a period's refill is at most the limit, or whole counts with a margin."""
    bucket = Bucket(limit, period, burst)
    assert 1 <= bucket.burst <= max(1.0, limit / 2)
    assert bucket.rate > 0
    if bucket.burst > 1:
        assert bucket.burst + bucket.rate * period <= limit * (1 + 1e-12)
    else:
        assert bucket.rate * period < limit


@given(limits, bursts, st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e4)), max_size=40))
def test_waking_at_the_promised_instant_always_grants(limit, burst, steps):
    """At `ready_at` the cost fits, exactly: the instant is never one that is not yet ready."""
    bucket, now = Bucket(limit, 60.0, burst), 0.0
    for pause, cost in steps:
        now += pause
        now = max(now, bucket.ready_at(cost))
        assert now >= bucket.ready_at(cost)
        assert bucket.level(now) >= min(cost, bucket.burst) - 1e-6 * max(1.0, bucket.rate)
        bucket.take(cost, now)
        assert not math.isnan(bucket.level(now))


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_values_out_of_range_are_refused(bad):
    """Limit, period and burst are above 0 and finite."""
    for arguments in ((bad, 60.0), (60.0, bad), (60.0, 60.0, bad)):
        with pytest.raises(ConfigurationError):
            Bucket(*arguments)
    bucket = Bucket(60, 60)
    with pytest.raises(ConfigurationError):
        bucket.resize(bad, 0.0)
    assert bucket.limit == 60


def test_an_absurd_cost_given_back_does_not_lift_the_limit():
    """After an absurd cost is taken and given back, the bucket still limits."""
    bucket = Bucket(1, 60)
    bucket.take(1e308, 0.0)
    bucket.give_back(1e308, 0.0)
    bucket.take(1, 0.0)
    assert bucket.ready_at(1) > 0.0
