"""What passed is what was sent less what was refused, in whatever order the refusals come."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.learning.hypotheses import DEPTHS, REFUSED, Bucket, Fixed
from resilient_infe.rate.learning.record import Record
from resilient_infe.rate.learning.sends import Sends, Span
from resilient_infe.rate.learning.stop import Stop
from resilient_infe.rate.learning.tuning import DEFAULT

GAPS = st.lists(st.sampled_from([0.0, 0.1, 1.0, 7.0]), min_size=1, max_size=60)


def sent(gaps, refused):
    """Return the sends, and the instants that passed."""
    sends, at, passed = Sends(), 0.0, []
    taken = []
    for gap, no in zip(gaps, refused, strict=False):
        at += gap
        sends.add(at, 10.0)
        (taken if no else passed).append(at)
    for each in reversed(taken):
        sends.take_off(each, 10.0)
    return sends, passed, at


@given(GAPS, st.lists(st.booleans(), min_size=60, max_size=60), st.integers(1, 5))
def test_sums_are_those_of_what_passed(gaps, refused, last):
    """Counted one by one; the last few too."""
    sends, passed, end = sent(gaps, refused)
    for since, until in ((-1.0, end), (end / 3, end / 2), (0.0, 0.0)):
        assert sends.count(since, until) == sum(since < each <= until for each in passed)
        assert sends.units(since, until, 1) == 10.0 * sends.count(since, until)
    if len(passed) >= last and len(set(passed)) == len(passed):
        assert sends.when_left(last) <= passed[-last]
        assert sends.count(math.nextafter(sends.when_left(last), -1.0), end) == last


@given(GAPS, st.sampled_from(DEPTHS))
def test_a_bucket_bears_its_lower_bound_and_hardly_less(gaps, depth):
    """As the level is followed step by step."""
    sends, _, end = sent(gaps, [False] * 60)
    span = Span(sends, 0.0, end + 0.5, 0)
    found = Bucket(depth).bounds(span)
    if found is None:
        return

    def bears(rate):
        full, level, at = max(1.0, rate * depth) + 0.5, 0.0, 0.0
        for instant, units in span.steps:
            level, at = min(full, level + (instant - at) * rate - units), instant
            if level < -REFUSED - 1e-3:
                return False
        return True

    mean = sends.count(0.0, end + 0.5) / (end + 0.5)
    assert found[0] > 3.99 * mean or bears(1.01 * found[0])
    assert found[0] < 0.21 * mean or not bears(0.9 * found[0])


def test_a_window_that_turned_long_ago_does_not_hold_all_that_was_sent_since():
    """What a stop is explained by is what passed within one period before it."""
    record = Record(DEFAULT)
    window = next(each for each in record.kinds if isinstance(each, Fixed) and each.period == 60)
    window.turn, window.width = 10.0, 1.0
    for second in range(0, 1_025, 5):
        record.sends.add(float(second), 1.0)
    stop = Stop(1_025.0, 1_025.1, 0.1, 0.1, DEFAULT)
    stop.refused_at = 1_055.0
    found = record.as_window(stop, 31.0)
    assert found is not None
    assert found.period == 60
    assert window.rate <= 13 / 60


def test_a_period_is_found_from_the_ends_of_stops():
    """Three stops of a window of two minutes: no list of periods has to hold it."""
    record, at = Record(DEFAULT), 0.0
    for begin in (0.0, 120.0, 240.0):
        for second in range(60):
            record.sends.add(at := begin + second, 1.0)
        stop = Stop(at, at, 0.1, 0.1, DEFAULT)
        stop.refused_at = begin + 119.9
        record.ended(stop, begin + 120.0)
    assert any(each.period == pytest.approx(120.0) for each in record.kinds)


def test_a_bucket_of_one_unit_is_no_window():
    """It opens at regular times, but holds a single request."""
    record = Record(DEFAULT)
    for begin in (0.0, 20.0, 40.0, 60.0):
        record.sends.add(begin, 1.0)
        stop = Stop(begin + 1.0, begin + 1.0, 0.1, 0.1, DEFAULT)
        stop.refused_at = begin + 19.0
        record.ended(stop, begin + 20.0)
    assert 20.0 not in {each.period for each in record.kinds}
