"""The retry budget: a share of first attempts, some by time, and no more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.errors import ConfigurationError
from resilient_infe.retry.budget import RetryBudget


def test_it_starts_full_and_denies_when_empty():
    """As many retries as `capacity` are allowed at once, then none."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.0, capacity=3)
    assert [budget.withdraw(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert budget.statistics().withdrawn == 3
    assert budget.statistics().denied == 2


def test_ten_deposits_of_a_tenth_make_one_retry():
    """Rounding does not eat the retry that ten first attempts have earned."""
    budget = RetryBudget(ratio=0.1, minimum_per_second=0.0, capacity=1)
    assert budget.withdraw(0.0)
    for _ in range(9):
        budget.deposit(0.0)
        assert not budget.withdraw(0.0)
    budget.deposit(0.0)
    assert budget.withdraw(0.0)


def test_time_alone_earns_retries():
    """`minimum_per_second` lets an idle program retry again."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.5, capacity=1)
    assert budget.withdraw(0.0)
    assert not budget.withdraw(1.9)
    assert budget.withdraw(2.0)


def test_no_more_is_saved_than_the_capacity():
    """A long quiet time does not save up more than `capacity` retries."""
    budget = RetryBudget(ratio=1.0, minimum_per_second=1.0, capacity=2)
    budget.deposit(0.0)
    budget.deposit(1e9)
    assert budget.statistics().balance == 2
    assert [budget.withdraw(1e9) for _ in range(3)] == [True, True, False]


def test_time_before_the_first_use_earns_nothing():
    """The clock's origin does not matter: a large first `now` gives no gift."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=1.0, capacity=2)
    assert [budget.withdraw(1e9) for _ in range(3)] == [True, True, False]


def test_rebase_keeps_what_was_earned():
    """After a move to another clock, time goes on from the same point."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=1.0, capacity=1)
    assert budget.withdraw(1_000.0)
    budget.rebase(-1_000.0)
    assert not budget.withdraw(0.5)
    assert budget.withdraw(1.0)


def test_rebase_before_use_is_harmless():
    """A budget that was never used has no instant to move."""
    budget = RetryBudget()
    budget.rebase(5.0)
    assert budget.withdraw(0.0)
    assert not budget.busy


@given(
    st.floats(0, 2),
    st.floats(0, 5),
    st.floats(1, 20),
    st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=80),
)
def test_retries_never_exceed_the_stated_bound(ratio, per_second, capacity, steps):
    """Retries are at most capacity + ratio x attempts + minimum x seconds."""
    budget = RetryBudget(ratio, per_second, capacity)
    now, sent, retried = 0.0, 0, 0
    for is_deposit, pause in steps:
        now += pause
        if is_deposit:
            budget.deposit(now)
            sent += 1
        else:
            retried += budget.withdraw(now)
        assert 0 <= budget.statistics().balance <= capacity
    assert retried <= capacity + ratio * sent + per_second * now + 1e-6
    assert budget.statistics().withdrawn == retried


@pytest.mark.parametrize(
    "values",
    [
        {"ratio": -0.1},
        {"ratio": math.nan},
        {"ratio": math.inf},
        {"minimum_per_second": -1.0},
        {"minimum_per_second": math.inf},
        {"capacity": 0.5},
        {"capacity": math.inf},
        {"capacity": math.nan},
    ],
)
def test_values_out_of_range_are_refused(values):
    """A budget that cannot work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        RetryBudget(**values)


def test_it_describes_itself():
    """The repr tells how it was made."""
    text = "RetryBudget(ratio=0.2, minimum_per_second=1.0, capacity=10.0)"
    assert repr(RetryBudget()) == text
