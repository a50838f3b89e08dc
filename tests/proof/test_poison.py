"""The long form of the tests of rows that are always refused: up to 100 of 3,000 rows are."""

from __future__ import annotations

import random
from functools import cache

import pytest
from endpoints import Endpoint, played, rows_of, tries

from resilient_infe import presets

ROWS = 3_000


def batch(endpoint, *, declared=600.0, tokens=(100.0,) * ROWS, **more):
    """Send rows through the preset for batches."""
    slots = 64 if endpoint.answer < 2 else 512
    stack = presets.batch(requests_per_minute=declared, concurrency=slots, log=False, **more)
    return played(stack, endpoint, tokens, longest=24 * 3_600.0)


@cache
def alone(answer):
    """Return how long the rows take if none of them is poison."""
    return batch(Endpoint(answer=answer)).last


def spread(count):
    """Return so many rows, drawn at random."""
    return random.Random(count).sample(range(ROWS), count)


@pytest.mark.parametrize("answer", [0.5, 10.0])
@pytest.mark.parametrize("hint", [None, 1.0, 12.0, 60.0])
@pytest.mark.parametrize(
    "poison", [spread(1), range(10), spread(100)], ids=["one", "the first ten", "a hundred"]
)
def test_poison_ends_and_holds_up_nobody(poison, hint, answer):
    """Others take at most 1.2 times as long; poison ends by 20 attempts and 15 minutes later."""
    endpoint = Endpoint(hint=hint, answer=answer, refuse=rows_of(*poison))
    outcome = batch(endpoint)
    assert len(outcome.done) == ROWS - len(poison)
    assert outcome.last <= 1.2 * alone(answer)
    assert sorted(outcome.failed) == sorted(poison)
    assert max(outcome.failed.values()) <= outcome.last + 900.0
    assert tries(endpoint, poison) <= 20


@pytest.mark.parametrize("hint", [None, 1.0, 12.0, 60.0])
@pytest.mark.parametrize(
    "poison", [[150], range(10), range(50), spread(100)], ids=["one", "ten", "fifty", "a hundred"]
)
def test_poison_holds_up_nobody_while_the_limit_is_learned(poison, hint):
    """Nothing is declared: others take at most 1.3 times as long as without a row refused."""
    endpoint = Endpoint(hint=hint, refuse=rows_of(*poison))
    outcome = batch(endpoint, declared=None)
    assert sorted(outcome.failed) == sorted(poison)
    assert len(outcome.done) == ROWS - len(poison)
    assert outcome.last <= 1.3 * batch(Endpoint(hint=hint), declared=None).last


def heavy(count):
    """Return tokens of very different sizes: the largest take most of a minute's limit."""
    draw = random.Random(5)
    return [min(150e3, draw.lognormvariate(7.2, 1.2)) for _ in range(count)]


@pytest.mark.parametrize("style", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("hint", [None, 1.0, 12.0])
def test_no_innocent_fails_where_the_limit_is_declared_too_high(style, hint):
    """Declared 1.5 times too high, a third of all is refused, and none of 10,000 rows ends."""
    endpoint = Endpoint(style=style, hint=hint)
    outcome = batch(endpoint, declared=900.0, tokens=[100.0] * 10_000)
    assert (len(outcome.done), outcome.failed) == (10_000, {})


@pytest.mark.parametrize("declared", [200e3, 300e3])
@pytest.mark.parametrize("style", ["bucket", "sliding"])
def test_no_innocent_fails_among_rows_of_very_different_sizes(style, declared):
    """A row of three quarters of a minute's tokens is refused more often than any other."""
    endpoint = Endpoint(6_000.0, 200e3, style, burst=60.0)
    tokens = heavy(3_000)
    outcome = batch(endpoint, declared=6_000.0, tokens_per_minute=declared, tokens=tokens)
    assert (len(outcome.done), outcome.failed) == (3_000, {})


@pytest.mark.parametrize("hint", [None, 5.0, 60.0])
def test_no_innocent_fails_in_an_outage(hint):
    """Half an hour of 429s in the middle of a batch: all rows are answered afterwards."""
    endpoint = Endpoint(hint=hint, refuse=lambda _, now: 100.0 <= now < 1_900.0)
    outcome = batch(endpoint)
    assert (len(outcome.done), outcome.failed) == (ROWS, {})


@pytest.mark.parametrize("hint", [None, 1.0, 60.0])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_no_innocent_fails_by_chance(share, hint):
    """Of 20,000 rows none ends, even where a fifth of all calls is refused at random."""
    draw = random.Random(3)
    endpoint = Endpoint(6_000.0, hint=hint, refuse=lambda *_: draw.random() < share)
    outcome = batch(endpoint, declared=6_000.0, tokens=[100.0] * 20_000)
    assert (len(outcome.done), outcome.failed) == (20_000, {})
