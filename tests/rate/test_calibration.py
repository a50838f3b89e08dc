"""Calibration: the mean of what requests really cost, and what is held back for the others."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.calibration import Calibration


def _sent(calibration, estimate, real):
    """Send and settle one request."""
    calibration.began(estimate)
    calibration.settled(estimate, real)


def test_right_estimates_stay_as_they_are():
    """Nothing is changed, and nothing is held back."""
    calibration = Calibration()
    for tokens in range(1, 200):
        _sent(calibration, tokens, tokens)
    assert calibration.ratio == 1.0
    assert calibration.held_back() == 0.0


def test_the_ratio_is_that_of_the_sums():
    """It is weighted by the estimates: the limit is on tokens, and large requests have most."""
    calibration = Calibration()
    for _ in range(2_000):
        _sent(calibration, 10.0, 40.0)
        _sent(calibration, 1_000.0, 500.0)
    assert calibration.ratio == pytest.approx(540 / 1_010, rel=0.02)


def test_the_first_results_change_little():
    """A single request is no mean."""
    calibration = Calibration()
    _sent(calibration, 100.0, 10.0)
    assert calibration.ratio == pytest.approx(0.82, rel=0.01)


def test_what_is_held_back_goes_with_what_is_in_flight():
    """It is zero when all have ended, and at most what the estimates are above the mean."""
    calibration, rnd = Calibration(), random.Random(1)
    for _ in range(300):
        real = rnd.uniform(100, 400)
        _sent(calibration, real * rnd.uniform(1, 4), real)
    assert calibration.held_back() == 0.0
    calibration.began(1_000.0)
    one = calibration.held_back()
    assert one == pytest.approx(1_000.0 * 3 * 0.2, rel=0.25)
    assert one <= 1_000.0 * (1 - calibration.ratio)
    for _ in range(99):
        calibration.began(1_000.0)
    assert one < calibration.held_back() < 20 * one
    for _ in range(100):
        calibration.ended(1_000.0)
    assert calibration.held_back() == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_in_flight_stays_below_what_is_reserved_and_held_back(seed):
    """For a hundred in flight, in 99 cases of 100."""
    rnd, calibration, below = random.Random(seed), Calibration(), 0
    for _ in range(400):
        estimates = [rnd.lognormvariate(6, 1) for _ in range(100)]
        real = [each / rnd.uniform(1, 4) for each in estimates]
        for each in estimates:
            calibration.began(each)
        reserved = sum(estimates) * calibration.ratio + calibration.held_back()
        below += sum(real) <= reserved
        for each, spent in zip(estimates, real, strict=True):
            calibration.settled(each, spent)
    assert below >= 0.99 * 400


def test_what_a_closed_loop_had_in_flight_is_forgotten():
    """Nobody is there to end it."""
    calibration = Calibration()
    _sent(calibration, 100.0, 10.0)
    calibration.began(100.0)
    assert calibration.held_back() > 0.0
    calibration.abandon()
    assert calibration.held_back() == 0.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=50))
def test_it_stays_finite(steps):
    """Whatever the estimates and the usage are, free requests included."""
    calibration = Calibration()
    for estimate, real in steps:
        calibration.began(estimate)
        calibration.began(estimate)
        calibration.settled(estimate, real)
        assert 0.0 <= calibration.ratio < 1e30
        assert 0.0 <= calibration.held_back() < 1e30
