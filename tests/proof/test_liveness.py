"""The long form of the learner's liveness: many more histories."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.histories import HISTORIES, LIMITS, MOST, Driver, everything, kept, live

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


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
def test_any_limit_is_used_within_a_quarter_of_an_hour(history, limit):
    """80 % of it, in the three minutes before."""
    driver = Driver()
    live(driver, history)
    accepts = kept(*limit)
    driver.run(720.0, accepts)
    assert driver.run(180.0, accepts) >= 0.8 * min(limit[1] / 60.0, MOST)
