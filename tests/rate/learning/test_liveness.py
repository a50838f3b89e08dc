"""The learner cannot lose its way: whatever happened to it, time alone brings it back."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.histories import HISTORIES, LIMITS, MOST, Driver, everything, kept, live, nothing

SETTINGS = settings(
    max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


SMALL_WINDOW = "sliding", 30.0, 10.0, 1.0
"""Five in 10 s: one less is a fifth of it."""


@SETTINGS
@given(HISTORIES)
@example([("limit", 150.0, 0), ("refuse", 120.0, 60), ("limit", 150.0, 0)])
def test_a_server_that_answers_everything_is_used_within_five_minutes(history):
    """Whatever was refused before: 90 % of what the slots allow."""
    driver = Driver()
    live(driver, history)
    driver.run(270.0, everything)
    assert driver.run(30.0, everything) >= 0.9 * MOST


@SETTINGS
@given(HISTORIES, st.sampled_from(LIMITS))
@example([("accept", 20.0, 0), ("refuse", 1.0, 0), ("accept", 20.0, 0)], SMALL_WINDOW)
@example([("limit", 20.0, 6), ("noise", 60.0, 2), ("noise", 5.0, 2)], LIMITS[1])
def test_any_limit_is_used_within_a_quarter_of_an_hour(history, limit):
    """80 % of it, in the three minutes before."""
    driver = Driver()
    live(driver, history)
    accepts = kept(*limit)
    driver.run(720.0, accepts)
    assert driver.run(180.0, accepts) >= 0.8 * min(limit[1] / 60.0, MOST)


@SETTINGS
@given(HISTORIES)
def test_the_same_history_gives_the_same_sends(history):
    """Nothing but what it is told decides."""
    first, again = Driver(), Driver()
    for each in (first, again):
        live(each, history)
        each.run(10.0, everything)
    assert (first.sends, first.accepted, first.learner.evidence) == (
        again.sends,
        again.accepted,
        again.learner.evidence,
    )


@SETTINGS
@given(HISTORIES)
def test_a_declared_limit_is_never_exceeded(history):
    """However it is woken, the pace stays at what was declared."""
    driver = Driver(requests_per_minute=120.0)
    driver.learner.rejected_at_rest(0.0, 0)
    for number in range(12):
        driver.learner.rejected_at_rest(number / 2, number)
    driver.now = 6.0
    assert driver.learner.active
    live(driver, history)
    assert all(0.0 < pace <= 2.0 + 1e-9 for pace in driver.paces)


@pytest.mark.parametrize("hint", [0.0, 1.0, 60.0])
def test_what_was_proven_is_used_again_after_an_outage(hint):
    """Ten minutes of nothing but 429s lower no belief about how much."""
    driver = Driver()
    accepts = kept("bucket", 600.0)
    driver.run(300.0, accepts)
    driver.run(600.0, nothing, hint=hint)
    # A question is at most 40 s apart by then; half at once, all within a few round trips.
    driver.run(50.0, accepts)
    assert driver.run(30.0, accepts) >= 0.9 * 10.0
