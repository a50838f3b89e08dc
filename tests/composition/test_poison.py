"""Rows that a server always refuses, through both presets: they end, and hold up nobody."""

from __future__ import annotations

import contextlib
import math
import random
from functools import cache

import anyio
import pytest
from endpoints import Endpoint, played, rows_of, tries

from resilient_infe import presets
from resilient_infe.aio import current
from resilient_infe.errors import RateLimitError
from resilient_infe.testing import run_virtually

ROWS = 300
HEAD = range(10)
SPREAD = random.Random(1).sample(range(ROWS), 10)


def batch(endpoint, *, declared=600.0, tokens=(100.0,) * ROWS, **more):
    """Send rows through the preset for batches."""
    slots = 64 if endpoint.answer < 2 else 512
    stack = presets.batch(requests_per_minute=declared, concurrency=slots, log=False, **more)
    return played(stack, endpoint, tokens)


@cache
def alone(answer):
    """Return how long the rows take if none of them is poison."""
    return batch(Endpoint(answer=answer)).last


@pytest.mark.parametrize("answer", [0.5, 10.0])
@pytest.mark.parametrize("hint", [None, 1.0, 12.0, 60.0])
@pytest.mark.parametrize("poison", [[150], HEAD, SPREAD], ids=["one", "the first ten", "ten"])
def test_poison_ends_and_holds_up_nobody(poison, hint, answer):
    """Others take at most 1.2 times as long; poison ends by 20 attempts and 15 minutes later.

    Or 10 s longer: poison rows at the head are the witnesses, and the first seven questions too.
    """
    endpoint = Endpoint(hint=hint, answer=answer, refuse=rows_of(*poison))
    outcome = batch(endpoint)
    assert len(outcome.done) == ROWS - len(poison)
    assert outcome.last <= max(1.2 * alone(answer), alone(answer) + 10.0)
    assert sorted(outcome.failed) == sorted(poison)
    assert max(outcome.failed.values()) <= outcome.last + 900.0
    assert tries(endpoint, poison) <= 20
    assert all(
        "the server refuses this request" in str(e.__notes__) for e in outcome.errors.values()
    )


@pytest.mark.parametrize("hint", [None, 12.0, 60.0])
def test_poison_among_others_does_not_stop_a_search(hint):
    """Nothing is declared, and waits are long: 30 rows of 900, drawn at random, are refused."""
    poison = random.Random(1).sample(range(900), 30)
    endpoint = Endpoint(hint=hint, refuse=rows_of(*poison))
    outcome = batch(endpoint, declared=None, tokens=[100.0] * 900)
    assert sorted(outcome.failed) == sorted(poison)
    assert outcome.last <= 1.3 * 90.0 + (hint or 0.0)  # the search meets the limit once


@pytest.mark.parametrize("hint", [None, 1.0, 12.0, 60.0])
def test_a_service_answers_the_others_as_fast_as_without(hint):
    """Ten poison calls of 200, one every 0.2 s: the others are answered in their usual time."""
    usual = played(presets.service(requests_per_minute=600, log=False), Endpoint(), [100.0] * 200,
                   arrive=0.2)  # fmt: skip
    poison = range(0, 200, 20)
    endpoint = Endpoint(hint=hint, refuse=rows_of(*poison))
    stack = presets.service(requests_per_minute=600, log=False)
    outcome = played(stack, endpoint, [100.0] * 200, arrive=0.2)
    assert sorted(outcome.failed) == list(poison)
    assert tries(endpoint, poison) <= 4
    assert outcome.last <= usual.last + 2.0


@pytest.mark.parametrize("hint", [None, 12.0])
def test_one_row_alone_that_is_refused_ends_within_90_minutes(hint):
    """With nothing to compare with, ten 429s in an hour of quiet are no outage."""
    endpoint = Endpoint(hint=hint, refuse=rows_of(0))
    outcome = batch(endpoint, tokens=[100.0])
    assert outcome.failed[0] <= 5_400.0


@pytest.mark.parametrize("hint", [None, 12.0])
def test_three_rows_at_the_end_that_are_refused_end_too(hint):
    """Nothing was let in after them, so it may be an outage: an hour for each of the three."""
    poison = range(ROWS - 3, ROWS)
    endpoint = Endpoint(hint=hint, refuse=rows_of(*poison))
    outcome = batch(endpoint)
    assert sorted(outcome.failed) == list(poison)
    assert max(outcome.failed.values()) <= 3 * 5_400.0


def test_the_largest_row_is_asked_last():
    """Nothing is as large as it, so it waits for the others, and then ends in the quiet."""
    endpoint = Endpoint(refuse=rows_of(0))
    outcome = batch(endpoint, tokens=[5_000.0] + [100.0] * (ROWS - 1))
    assert outcome.last <= 1.2 * alone(0.5)
    assert outcome.failed[0] <= outcome.last + 900.0


def test_a_row_above_the_whole_limit_ends_at_its_first_429():
    """It is sent behind the others with an empty window, and not again."""
    endpoint, tokens = Endpoint(refuse=rows_of(30)), [100.0] * 61
    tokens[30] = 7_000.0
    outcome = batch(endpoint, tokens_per_minute=6_000, tokens=tokens)
    assert sorted(outcome.failed) == [30]
    assert endpoint.sends[30] == 1
    assert outcome.failed[30] >= outcome.last + 30.0
    assert "more than the limit of a whole minute" in str(outcome.errors[30].__notes__)


def outage(start, end):
    """Refuse everything between two instants."""
    return lambda _, now: start <= now < end


def by_chance(share):
    """Refuse a share of all, at random."""
    draw = random.Random(3)
    return lambda _, __: draw.random() < share


def heavy(count):
    """Return tokens of very different sizes; a few rows are a tenth of the limit."""
    draw = random.Random(5)
    return [min(20_000.0, draw.lognormvariate(7.2, 1.2)) for _ in range(count)]


HONEST = {
    "declared 1.5 times too high, fixed window": (
        Endpoint(60.0, style="fixed"), {"declared": 90.0, "tokens": [100.0] * 150}),
    "declared 1.5 times too high, bucket of 1 s": (
        Endpoint(60.0), {"declared": 90.0, "tokens": [100.0] * 150}),
    "heavy-tailed tokens, declared right": (
        Endpoint(6_000.0, 200e3, "sliding"),
        {"declared": 6_000.0, "tokens_per_minute": 200e3, "tokens": heavy(200)}),
    "heavy-tailed tokens, declared 1.5 times too high": (
        Endpoint(6_000.0, 200e3, "sliding"),
        {"declared": 6_000.0, "tokens_per_minute": 300e3, "tokens": heavy(200)}),
    "an outage of 30 minutes": (
        Endpoint(refuse=outage(1.0, 1_801.0)), {"tokens": [100.0] * 40}),
    "an outage of 30 minutes, hints of 5 s": (
        Endpoint(refuse=outage(1.0, 1_801.0), hint=5.0), {"tokens": [100.0] * 40}),
    "an outage of 30 minutes, hints of 60 s": (
        Endpoint(refuse=outage(1.0, 1_801.0), hint=60.0), {"tokens": [100.0] * 40}),
    "5 % at random": (Endpoint(refuse=by_chance(0.05)), {}),
    "5 % at random, hints of 1 s": (Endpoint(refuse=by_chance(0.05), hint=1.0), {}),
    "5 % at random, hints of 60 s": (Endpoint(refuse=by_chance(0.05), hint=60.0), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_no_innocent_row_fails(name):
    """However it is refused, a row that the limit has room for is answered in the end."""
    endpoint, options = HONEST[name]
    outcome = batch(endpoint, **options)
    assert outcome.failed == {}
    assert len(outcome.done) == len(options.get("tokens", range(ROWS)))
    assert outcome.last < math.inf


def test_after_an_outage_the_rest_goes_at_the_rate():
    """Half a minute after a server is back from half an hour of 429s, its limit is used again."""
    endpoint = Endpoint(refuse=outage(10.0, 1_810.0), hint=5.0)
    outcome = batch(endpoint)
    assert outcome.failed == {}
    refused_for = next(at for at in endpoint.accepted if at > 1_800.0) - 1_810.0
    assert refused_for <= 0.2 * 1_800.0 + 2.0  # the pause between questions is a fifth of the stop
    assert outcome.last <= 1_810.0 + refused_for + 60.0


@pytest.mark.parametrize("slots", [1, 64])
@pytest.mark.parametrize("refused", [True, False])
def test_a_row_above_the_whole_limit_is_sent_in_steady_traffic(slots, refused):
    """The window is never empty by itself: the others wait for one, once, after five minutes."""
    large, others = [], []

    async def transport(number):
        (large if number is None else others).append(current().now())
        await anyio.sleep(0.1)
        if number is None and refused:
            raise RateLimitError("too large", status=429)
        return {"choices": [], "usage": {"total_tokens": 7_000 if number is None else 100}}

    async def main():
        stack = presets.batch(requests_per_minute=60, tokens_per_minute=6_000, concurrency=slots,
                              log=False)  # fmt: skip
        send, ended = stack.around(transport), []

        async def one(number):
            with contextlib.suppress(RateLimitError):
                await send(number, tokens=7_000.0 if number is None else 100.0)
            ended.append(number)

        async with anyio.create_task_group() as group:
            for number in range(450):
                group.start_soon(one, number)
                if number == 10:
                    group.start_soon(one, None)
                await anyio.sleep(1.1)
        return ended

    ended = run_virtually(main)
    assert len(ended) == 451
    assert len(large) == 1
    assert large[0] <= 450.0
    assert large[0] >= 330.0 or slots == 1  # it waits with the only slot
    assert max(at for at in others if at < large[0]) <= large[0] - 60.0
    assert max(others) <= 450 * 1.1 + (70.0 if refused else 140.0)


def test_rows_above_the_whole_limit_keep_no_slot_from_others():
    """Ten at the head, with two slots: they wait for all others, and each is sent once, alone."""
    sent = []

    async def transport(number):
        sent.append((number, current().now()))
        await anyio.sleep(0.1)
        if number < 10:
            raise RateLimitError("too large", status=429)
        return {"choices": []}

    async def main():
        stack = presets.batch(requests_per_minute=600, tokens_per_minute=60_000, concurrency=2,
                              log=False)  # fmt: skip
        send = stack.around(transport)

        async def one(number):
            with contextlib.suppress(RateLimitError):
                await send(number, tokens=70_000.0 if number < 10 else 100.0)

        async with anyio.create_task_group() as group:
            for number in range(110):
                group.start_soon(one, number)

    run_virtually(main)
    assert len(sent) == 110
    large = [at for number, at in sent if number < 10]
    others = [at for number, at in sent if number >= 10]
    assert max(others) < 15.0
    assert sorted(large)[1] > max(others)  # the first of them met an empty window
