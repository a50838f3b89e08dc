"""What tells a real limit from 429s by chance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.learning.contradiction import INTERVALS, MANY, Contradiction


def found(numbers, per_second=10.0):
    """Tell of 429s by the numbers of their requests; returns the first limit that is found."""
    contradiction = Contradiction()
    limits = (contradiction.add(number, number / per_second) for number in numbers)
    return next((limit for limit in limits if limit is not None), None)


def test_many_close_together_are_a_limit():
    """Eight among twelve requests; what was let in between them is the limit."""
    assert found([0, 1, 3, 4, 6, 7, 9], 2.0) is None
    assert found([0, 1, 3, 4, 6, 7, 9, 10], 2.0) == pytest.approx(2.0 * 3 / 10)
    assert found(range(0, 8 * 2, 2), 2.0) is None  # eight among fifteen


def test_many_in_one_second_are_a_few_bad_rows():
    """What is sent one after another may be alike: ten in a row tell nothing yet."""
    assert found(range(10)) is None
    assert found(range(25)) == pytest.approx(1 / 2.0)


def test_a_quarter_of_a_hundred_is_a_limit():
    """Not in a row, and not at regular intervals."""
    rnd = random.Random(1)
    numbers = sorted(rnd.sample(range(99), MANY[0]))
    assert found(numbers[:-1]) is None
    assert found(numbers) == pytest.approx(10.0 * (numbers[-1] - numbers[0] - 24) / (
        numbers[-1] - numbers[0]
    ))  # fmt: skip


@pytest.mark.parametrize("every", [6, 11, 50])
def test_regular_intervals_are_a_limit(every):
    """A bucket refuses each so-manieth; the network moves some by one or two."""
    rnd = random.Random(every)
    numbers = [every * n + rnd.choice([-1, 0, 1]) for n in range(1, INTERVALS + 2)]
    assert found(numbers[:-1]) is None
    assert found(numbers) == pytest.approx(10.0 * (1 - 1 / every), rel=0.03)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.08])
@pytest.mark.parametrize("seed", range(5))
def test_chance_is_none(share, seed):
    """In 20,000 requests, of which up to 8 % are refused by chance, nothing is found."""
    rnd = random.Random(seed)
    assert found(number for number in range(20_000) if rnd.random() < share) is None


def test_the_order_in_which_they_come_does_not_matter():
    """Answers overtake each other."""
    numbers = [6 * n for n in range(INTERVALS + 1)]
    mixed = [number for pair in zip(numbers[1::2], numbers[::2], strict=False) for number in pair]
    assert found([*mixed, numbers[-1]]) == pytest.approx(found(numbers))


@given(st.lists(st.tuples(st.integers(0, 1_000), st.floats(0, 1_000)), max_size=80))
def test_whatever_is_told_a_limit_is_above_zero(told):
    """Also if all 429s are of one instant, or their times make no sense."""
    contradiction = Contradiction()
    for number, at in told:
        limit = contradiction.add(number, at)
        assert limit is None or limit > 0
