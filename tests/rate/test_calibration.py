"""Calibration: the mean of what requests really cost, and what is held back for the others."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.calibration import Calibration
from resilient_infe.rate.ledger import Ledger


def _in_flight(calibration, estimates):
    """Return a ledger that has requests in flight, as `Window.take` notes them."""
    ledger = Ledger(60.0)
    for each in estimates:
        ledger.add(each * calibration.ratio, 0.0)
        part = ledger.newest
        part.reserved += each * calibration.ratio
        part.open += each
        part.squares += each * each
    return ledger


def test_right_estimates_stay_as_they_are():
    """Nothing is changed, and nothing is held back."""
    calibration = Calibration()
    for tokens in range(1, 200):
        calibration.settled(tokens, tokens)
    assert calibration.ratio == 1.0
    assert calibration.held_back(_in_flight(calibration, [100.0] * 9), 1e6) == 0.0


def test_the_ratio_is_that_of_the_sums():
    """It is weighted by the estimates: the limit is on tokens, and large requests have most."""
    calibration = Calibration()
    for _ in range(2_000):
        calibration.settled(10.0, 40.0)
        calibration.settled(1_000.0, 500.0)
    assert calibration.ratio == pytest.approx(540 / 1_010, rel=0.02)


def test_the_first_results_change_little():
    """A single request is no mean."""
    calibration = Calibration()
    calibration.settled(100.0, 10.0)
    assert calibration.ratio == pytest.approx(0.82, rel=0.01)


@pytest.mark.parametrize("before", [0, 200])
def test_one_usage_that_is_a_mistake_is_soon_forgotten(before):
    """Else a billion tokens that a server states once let a single request go each minute."""
    calibration = Calibration()
    for _ in range(before):
        calibration.settled(1_000.0, 1_000.0)
    calibration.settled(1_000.0, 4e9)
    assert 1.2 < calibration.ratio < 7
    for _ in range(100):
        calibration.settled(1_000.0, 1_000.0)
    assert calibration.ratio < 1.3


def test_usages_that_are_far_above_are_learned():
    """A thousand times the estimate, all the time, is what they cost."""
    calibration = Calibration()
    for _ in range(300):
        calibration.settled(10.0, 10_000.0)
    assert calibration.ratio == pytest.approx(1_000.0, rel=0.1)


@pytest.mark.parametrize("before", [5, 500])
def test_one_estimate_that_was_far_too_high_says_little_of_the_others(before):
    """Its weight makes the mean small, and the mean unsure: nearly all of the others is held."""
    calibration = Calibration()
    for _ in range(before):
        calibration.settled(1_000.0, 1_000.0)
    calibration.settled(190_000.0, 1_000.0)
    ledger = _in_flight(calibration, [1_000.0] * 150)
    assert ledger.total < 60_000.0
    assert ledger.total + calibration.held_back(ledger, 200_000.0) > 149_000.0


def test_what_is_held_back_goes_with_what_is_in_flight():
    """It is zero when all have ended, and at most what the estimates are above the mean."""
    calibration, rnd = Calibration(), random.Random(1)
    for _ in range(300):
        real = rnd.uniform(100, 400)
        calibration.settled(real * rnd.uniform(1, 4), real)
    assert calibration.held_back(_in_flight(calibration, []), 1e6) == 0.0
    one = calibration.held_back(_in_flight(calibration, [1_000.0]), 1e6)
    assert one == pytest.approx(1_000.0 * 3 * 0.2, rel=0.25)
    assert one <= 1_000.0 * (1 - calibration.ratio)
    ledger = _in_flight(calibration, [1_000.0] * 100)
    assert one < calibration.held_back(ledger, 1e6) < 20 * one
    assert calibration.held_back(ledger, 1_000.0) == 999.0  # something is left of any limit
    for _ in range(100):
        ledger.ended(ledger.newest, 1_000.0, 1_000.0 * calibration.ratio, 0.0)
    assert calibration.held_back(ledger, 1e6) == pytest.approx(0.0, abs=1e-6)


def test_nothing_is_held_back_for_what_has_left_the_window():
    """Whatever it costs, no request that is sent from now on is in one window with it."""
    calibration = Calibration()
    calibration.settled(100.0, 10.0)
    ledger = _in_flight(calibration, [1_000.0])
    part = ledger.newest
    assert calibration.held_back(ledger, 1e6) > 0.0
    assert ledger.spent(61.0) == 0.0
    assert calibration.held_back(ledger, 1e6) == 0.0
    ledger.ended(part, 1_000.0, 820.0, -100.0)
    assert (ledger.total, *ledger.in_flight()) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_in_flight_stays_below_what_is_reserved_and_held_back(seed):
    """For a hundred in flight, in 99 cases of 100."""
    rnd, calibration, below = random.Random(seed), Calibration(), 0
    for _ in range(400):
        estimates = [rnd.lognormvariate(6, 1) for _ in range(100)]
        real = [each / rnd.uniform(1, 4) for each in estimates]
        ledger = _in_flight(calibration, estimates)
        reserved = ledger.total + calibration.held_back(ledger, 1e9)
        below += sum(real) <= reserved
        for each, spent in zip(estimates, real, strict=True):
            calibration.settled(each, spent)
    assert below >= 0.99 * 400


def test_what_a_closed_loop_had_in_flight_is_forgotten():
    """Nobody is there to end it."""
    calibration = Calibration()
    calibration.settled(100.0, 10.0)
    ledger = _in_flight(calibration, [100.0])
    assert calibration.held_back(ledger, 1e6) > 0.0
    ledger.abandon()
    assert calibration.held_back(ledger, 1e6) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=50))
def test_it_stays_finite(steps):
    """Whatever the estimates and the usage are, free requests included."""
    calibration = Calibration()
    for estimate, real in steps:
        ledger = _in_flight(calibration, [estimate, estimate])
        calibration.settled(estimate, real)
        assert 0.0 <= calibration.ratio < 1e30
        assert 0.0 <= calibration.held_back(ledger, 1e6) < 1e6


def test_usages_that_grow_without_end_are_forgotten_too():
    """The square of a cost must not become infinite, and the variance not a number."""
    calibration = Calibration()
    for _ in range(5_000):
        calibration.settled(1.0, 1e308)
    for _ in range(10_000):
        calibration.settled(1.0, 1.0)
    assert calibration.ratio == pytest.approx(1.0)
    assert calibration.held_back(_in_flight(calibration, [1.0]), 1e6) == pytest.approx(0.0, abs=1.0)
