"""What hedges gain, and that they cost nothing where there is nothing to gain."""

from __future__ import annotations

from collections import Counter

import pytest

from resilient_infe import (
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    Hedge,
    RateLimiter,
    Retry,
    Stack,
)
from resilient_infe.testing import Scenario, Stalls, Traffic, simulate

STUCK = {"latency": 0.6, "spread": 0.6, "seconds_per_token": 0.0, "output_tokens": 1}
"""A server whose answers begin after 0.6 s in the median."""


def stack(*hedge, limit):
    """Return the usual layers around an attempt, with or without hedges."""
    return Stack(
        Retry(3),
        *hedge,
        ConcurrencyLimiter(1_000),
        RateLimiter(requests_per_minute=limit, burst=5.0),
        CircuitBreaker(),
        ErrorClassifier(),
    )


@pytest.mark.parametrize("after", ["p95", 2.0])
def test_stalls_are_hidden_for_one_request_in_twenty(after):
    """The p99 is 3 s at most, and at most 5.5 % more is sent."""
    traffic = Traffic(20.0, 100.0, streams=True)
    scenario = Scenario(**STUCK, happenings=[Stalls(share=0.02)])
    record = simulate(lambda: stack(Hedge(after), limit=6_000), traffic, scenario)
    assert record.answered == len(record.calls) > 1_900
    assert record.seconds_of(0.99) <= 3.0
    assert record.sends_per_answer <= 1.055


def test_without_hedges_the_stalls_are_the_p99():
    """The same users wait for the stuck machines."""
    scenario = Scenario(**STUCK, happenings=[Stalls(share=0.02)])
    traffic = Traffic(10.0, 100.0, streams=True)
    assert simulate(lambda: stack(limit=6_000), traffic, scenario).seconds_of(0.99) > 20.0


def test_at_a_full_limit_nothing_is_sent_twice():
    """While calls wait for the rate limit there is no hedge, and there is no 429."""
    traffic = Traffic(12.0, 60.0, streams=True)
    scenario = Scenario(requests_per_minute=300, **STUCK, happenings=[Stalls(share=0.02)])
    record = simulate(lambda: stack(Hedge(2.0), limit=300), traffic, scenario, longest=100.0)
    full = record.between(10.0, 100.0)  # until then the burst is spent
    assert len(full.attempts) > 400
    assert max(Counter(each.number for each in full.attempts).values()) == 1
    assert record.rejected == 0
    assert record.statistics.hedges["infe-pulse"].skipped > 5
