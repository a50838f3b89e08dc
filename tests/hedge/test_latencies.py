"""The sketch of times: its quantile is right, follows the traffic, and needs little memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.hedge.latencies import LEAST, WINDOW, Latencies

TIMES = st.lists(st.floats(0.001, 1_000.0), min_size=LEAST + 12, max_size=160)


@settings(max_examples=20)
@given(times=TIMES, share=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_quantile_is_at_most_a_bucket_too_high(times, share):
    """It is above the exact one, by 4 % at most."""
    sketch = Latencies(share)
    for each in times:
        sketch.record(each, 0.0)
    seen = sorted(times[: len(times) // 16 * 16])
    exact = seen[math.ceil(share * len(seen) - 1e-6) - 1]
    assert exact < sketch.quantile <= exact * 1.0401


def test_there_is_none_before_a_hundred_times():
    """Fewer than 100 say nothing of the slowest 5 %."""
    sketch = Latencies(0.95)
    assert sketch.empty
    for _ in range(LEAST - 1):
        sketch.record(1.0, 0.0)
        assert sketch.quantile is None
    for _ in range(16):
        sketch.record(1.0, 0.0)
    assert sketch.quantile == pytest.approx(1.0, rel=0.05)


def test_old_times_are_forgotten():
    """After two windows only the newer times count."""
    sketch = Latencies(0.95)
    for instant, seconds in ((0.0, 8.0), (WINDOW, 1.0), (2 * WINDOW, 1.0)):
        for _ in range(200):
            sketch.record(seconds, instant)
    assert sketch.quantile == pytest.approx(1.0, rel=0.05)


def test_little_traffic_keeps_its_times():
    """A generation with few times is not closed, however old it is."""
    sketch = Latencies(0.5)
    for hour in range(2 * LEAST):
        sketch.record(1.0, hour * 3_600.0)
    assert sketch.quantile == pytest.approx(1.0, rel=0.05)


@given(seconds=st.floats(allow_nan=False, min_value=0.0, max_value=1e300))
def test_any_time_can_be_recorded(seconds):
    """Zero, tiny and huge times have a bucket each."""
    sketch = Latencies(0.5)
    for _ in range(2 * LEAST):
        sketch.record(seconds, 0.0)
    assert sketch.quantile >= min(seconds, 1e299) * 0.99
