"""The sizes of what is rejected tell what a limit counts."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.learning.costs import Costs, Intervals, spread


def told(weigh, count=1_500):
    """Send requests of many sizes; reject those that `weigh` picks; return what is told of it."""
    costs, draw = Costs(), random.Random(3)
    for _ in range(count):
        cost = draw.choice([10.0, 50.0, 400.0])
        costs.sent(cost)
        if draw.random() < weigh(cost):
            costs.rejected(cost)
    return costs.tell()


@pytest.mark.parametrize(
    ("weigh", "expected"),
    [
        (lambda cost: cost / 2_000, "tokens"),
        (lambda cost: 0.1, None),
        (lambda cost: 1 / cost, "requests"),
        (lambda cost: 0.0, None),
    ],
    ids=["the large", "any", "the small", "none"],
)
def test_what_is_rejected_most_tells(weigh, expected):
    """The large: tokens. The small: requests. Any: nothing."""
    assert told(weigh) == expected


def test_equal_requests_and_few_rejections_tell_nothing():
    """Without a difference in size, or with hardly a rejection, there is nothing to see."""
    equal = Costs()
    for _ in range(100):
        equal.sent(100.0)
        equal.rejected(100.0)
    assert equal.tell() is None
    few = Costs()
    for cost in (10.0, 400.0) * 20:
        few.sent(cost)
    few.rejected(400.0)
    assert few.tell() is None
    zero = Costs()
    for _ in range(10):
        zero.sent(0.0)
        zero.rejected(0.0)
    assert zero.tell() is None


def test_the_dimension_that_stays_the_same_is_the_limit():
    """Requests that vary, and tokens that do not, over the same intervals: tokens."""
    varying, steady = Intervals(), Intervals()
    for number in range(6):
        assert not steady.add(10.0, 1_000.0 + number, mine=0)
        other = varying.add(10.0 + number % 3, 1_000.0 + number, mine=0)
    assert other
    assert varying.mean(1) == pytest.approx(1_002.5)
    assert not varying.add(10.0, 0.0, mine=0)
    varying.clear()
    assert not varying.add(10.0, 1_000.0, mine=0)


@given(st.lists(st.floats(0.001, 1e9), min_size=1, max_size=8))
def test_the_spread_is_the_standard_deviation_over_the_mean(values):
    """By the standard library's measure, which takes too long to import."""
    expected = statistics.pstdev(values) / statistics.fmean(values)
    assert spread(values) == pytest.approx(expected, rel=1e-6, abs=1e-7)
