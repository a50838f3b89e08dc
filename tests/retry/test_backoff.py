"""Delays between attempts: their ranges, their jitter and their bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.errors import ConfigurationError
from resilient_infe.retry.backoff import ExponentialBackoff

JITTERS = ("full", "equal", "decorrelated", "additive", "none")

uniforms = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def backoffs(draw):
    """Draw a backoff that could be configured by a person."""
    initial = draw(st.floats(1e-3, 1e3))
    maximum = draw(st.floats(initial, 1e5))
    factor = draw(st.one_of(st.just(1.0), st.floats(1.0, 100.0)))
    return ExponentialBackoff(initial, factor, maximum, draw(st.sampled_from(JITTERS)))


@pytest.mark.parametrize(
    ("retry", "expected"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (2_000, 60.0)]
)
def test_without_jitter_the_delay_doubles_up_to_the_maximum(retry, expected):
    """The default ceiling is 1 s, 2 s, 4 s ... and never above 60 s."""
    assert ExponentialBackoff(jitter="none").delay(retry, 0.7) == expected


@pytest.mark.parametrize(
    ("jitter", "low", "high"),
    [("full", 0.0, 4.0), ("equal", 2.0, 4.0), ("additive", 4.0, 5.0), ("none", 4.0, 4.0)],
)
def test_each_jitter_spreads_over_its_documented_range(jitter, low, high):
    """The third delay of 1 s x2 runs from its form's lower to its upper end as u grows."""
    backoff = ExponentialBackoff(jitter=jitter)
    assert backoff.delay(3, 0.0) == low
    assert backoff.delay(3, 1.0) == high
    assert backoff.delay(3, 0.5) == (low + high) / 2


def test_decorrelated_jitter_grows_from_the_previous_delay():
    """Decorrelated jitter draws from [initial, 3 x previous], and from [initial, 3] at first."""
    backoff = ExponentialBackoff(jitter="decorrelated")
    assert backoff.delay(1, 0.0) == 1.0
    assert backoff.delay(1, 1.0) == 3.0
    assert backoff.delay(2, 1.0, 10.0) == 30.0
    assert backoff.delay(2, 1.0, 50.0) == 60.0
    assert backoff.delay(2, 0.5, 10.0) == 15.5


@given(backoffs(), st.integers(1, 10**6))
def test_the_ceiling_is_within_initial_and_maximum(backoff, retry):
    """The exponential part is finite, at least `initial` and at most `maximum` for any retry."""
    assert backoff.initial <= backoff.ceiling(retry) <= backoff.maximum


@given(backoffs(), st.integers(1, 500))
def test_the_ceiling_never_shrinks(backoff, retry):
    """A later retry never has a lower ceiling than an earlier one."""
    assert backoff.ceiling(retry) <= backoff.ceiling(retry + 1) * (1 + 1e-12)


@given(backoffs(), st.lists(uniforms, min_size=1, max_size=40))
def test_every_drawn_delay_is_bounded_by_longest(backoff, drawn):
    """No delay of a sequence is negative, infinite or above `longest` for its retry."""
    previous = None
    for retry, u in enumerate(drawn, 1):
        previous = backoff.delay(retry, u, previous)
        assert 0.0 <= previous <= backoff.longest(retry) * (1 + 1e-9)
        assert previous <= backoff.maximum * (1.25 if backoff.jitter == "additive" else 1.0)


@given(backoffs(), st.integers(1, 50), uniforms, uniforms)
def test_a_larger_draw_never_waits_shorter(backoff, retry, one, other):
    """The delay does not fall as u grows."""
    low, high = sorted((one, other))
    assert backoff.delay(retry, low) <= backoff.delay(retry, high)


@pytest.mark.parametrize(
    "values",
    [
        {"initial": 0.0},
        {"initial": -1.0},
        {"initial": math.nan},
        {"initial": 2.0, "maximum": 1.0},
        {"maximum": math.inf},
        {"maximum": math.nan},
        {"factor": 0.99},
        {"factor": math.inf},
        {"factor": math.nan},
        {"jitter": "some"},
        {"jitter": None},
    ],
)
def test_values_out_of_range_are_refused(values):
    """A backoff that cannot work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        ExponentialBackoff(**values)


def test_it_describes_itself():
    """The text tells all four settings."""
    assert str(ExponentialBackoff()) == "1 s x2 up to 60 s, full jitter"
    assert str(ExponentialBackoff(0.5, 3, 9, "none")) == "0.5 s x3 up to 9 s, no jitter"


def test_the_ceiling_is_finite_over_the_whole_range_of_floats():
    """Even a backoff from 1e-200 s to 1e200 s has a finite ceiling for retry 2000."""
    assert ExponentialBackoff(1e-200, 2.0, 1e200, "none").ceiling(2_000) == 1e200
