"""The policy: when a second attempt is due, and how many there may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import errors
from resilient_infe.hedge.hedging import CAPACITY, HedgeBudget, Hedging, seconds_or_share


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (2.5, (2.5, None)),
        (1, (1, None)),
        ("p50", (None, 0.5)),
        ("p95", (None, 0.95)),
        ("p99.9", (None, pytest.approx(0.999))),
    ],
)
def test_after_is_a_time_or_a_quantile(after, expected):
    """Seconds, or the name of a quantile."""
    assert seconds_or_share(after) == expected


@pytest.mark.parametrize(
    "after",
    ["", "95", "p", "p49", "p100", "p95.55", "P95", "p95 ", "p-5", "p\u0665\u0665", "nan", "2",
     0, -1.0, float("nan"), float("inf"), True, None, b"p95", [2.0]],
)  # fmt: skip
def test_anything_else_is_refused(after):
    """What is neither raises and says what is."""
    with pytest.raises(errors.ConfigurationError, match=r"p95|p50"):
        Hedging(after, HedgeBudget(0.05))


@pytest.mark.parametrize("budget", [0, -0.1, 1.01, float("nan"), float("inf"), "5%", None, True])
def test_a_budget_is_a_share(budget):
    """A budget of nothing, and one of more than each attempt, are refused."""
    with pytest.raises(errors.ConfigurationError, match="budget"):
        HedgeBudget(budget)


@given(budget=st.floats(0.001, 1.0), sends=st.lists(st.booleans(), max_size=300))
def test_hedges_are_a_share_of_the_attempts(budget, sends):
    """Of n attempts at most ten and the share of n get a second one."""
    policy = Hedging(2.0, HedgeBudget(budget))
    for hedge in sends:
        policy.budget.deposit()
        if hedge:
            policy.withdraw()
    assert policy.sent <= CAPACITY + budget * len(sends) + 1e-6
    assert 0.0 <= policy.budget.balance <= CAPACITY


def test_twenty_deposits_are_one_hedge():
    """The share of the budget adds up to a whole hedge, in spite of rounding."""
    policy = Hedging(2.0, HedgeBudget(0.05))
    while policy.withdraw():
        pass
    assert policy.sent == CAPACITY
    for _ in range(20):
        assert not policy.budget.has_room
        policy.budget.deposit()
    assert policy.withdraw()
