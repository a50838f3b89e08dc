"""What a batch spends: counted over all of its runs, and bounded if asked."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import asdict
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import presets
from resilient_infe.batch import Journal, per_million, run_batch
from resilient_infe.batch.spending import Spending, Spent, dollars, read_spent
from resilient_infe.batch.store import recorded_at
from resilient_infe.core.verdict import Usage
from resilient_infe.errors import BatchPaused, ConfigurationError, InfeError

PRICE = per_million(2.0, 8.0, 0.5)

USAGE = {
    "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
}  # fmt: skip

DOLLARS = (60 * 2.0 + 40 * 0.5 + 50 * 8.0) / 1e6
"""Of one such call."""


def rows(number, model="m"):
    """So many rows of one model."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return [body | {"custom_id": f"{model}{n}"} for n in range(number)]


class Server:
    """Answers after a tenth of a second. State: how many were sent."""

    def __init__(self, usage=USAGE):
        self.usage = usage
        self.sent = 0

    async def __call__(self, payload):
        """Answer."""
        self.sent += 1
        await anyio.sleep(0.1)
        return {"choices": [], "usage": self.usage} if self.usage else {"choices": []}


async def go(given, server, path=None, lanes=8, **options):
    """Run a batch; returns its results, why it paused or None, and the run."""
    journal = None if path is None else Journal(path, threaded=False)
    stack = presets.batch(requests_per_minute=60_000, concurrency=lanes)
    seen, run = [], run_batch(given, stack.around(server), journal=journal, **options)
    try:
        async for result in run:
            seen.append(result)  # noqa: PERF401  # what came before an error is kept
    except BatchPaused as pause:
        return seen, pause, run
    finally:
        if journal is not None:
            journal.close()
    return seen, None, run


@pytest.mark.parametrize(
    "bound", [{"max_tokens": 3_000}, {"max_cost": 20 * DOLLARS, "price": PRICE}]
)
def test_a_bound_pauses_the_run_and_every_run_counts(run, tmp_path, bound):
    """What is in flight comes on top, nothing else; a second run sends nothing."""
    server, path = Server(), tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        server.sent = 0
        seen, pause, _ = await go(rows(100), server, path, **bound)
        first = server.sent
        assert 20 <= first <= 20 + 8
        assert len(seen) == first
        assert "of 3,000" in str(pause) or "$" in str(pause)
        _, again, _ = await go(rows(100), server, path, **bound)
        assert again is not None
        assert server.sent == first
        more = {name: value if callable(value) else value * 100 for name, value in bound.items()}
        seen, none, _ = await go(rows(100), server, path, **more)
        assert none is None
        assert len(seen) == 100
        assert server.sent == 100

    run(main)


def test_rows_that_wait_are_not_sent(run):
    """With one slot a bound that the first row meets leaves all others."""
    server = Server()

    async def main():
        server.sent = 0
        _, pause, _ = await go(rows(50), server, lanes=1, max_tokens=1)
        assert pause is not None
        assert server.sent == 1

    run(main)


def test_spending_is_known_after_a_kill(run, tmp_path):
    """Whatever is safe of a run is there with what was spent for it, by model."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        journal = Journal(path, threaded=False)
        send = presets.batch(requests_per_minute=60_000, concurrency=8).around(Server())
        given = rows(20, "a") + rows(20, "b")
        ended = 0
        async for _ in run_batch(given, send, journal=journal, price=PRICE):
            ended += 1
            spent = recorded_at(path).spent
            assert sum(each.calls for each in spent.values()) >= ended
        assert spent["a"].calls == spent["b"].calls == 20
        assert spent["b"].dollars == pytest.approx(20 * DOLLARS)
        assert (spent["b"].prompt, spent["b"].completion, spent["b"].cached) == (2_000, 1_000, 800)
        journal.close()

    run(main)


def test_a_row_that_is_sent_again_was_paid_for_twice(run, tmp_path):
    """A hook that fails throws an answer away, not what it cost."""
    path = tmp_path / "j"

    def broken(reply):
        raise ValueError("no")

    async def main():
        path.unlink(missing_ok=True)
        await go(rows(3), Server(), path, record=broken)
        await go(rows(3), Server(), path, record=len)
        assert recorded_at(path).spent["m"].prompt == 600

    run(main)


def test_an_answer_without_a_usage_counts_as_estimated(run, tmp_path):
    """A server that states none does not make a bound void; a refusal costs nothing."""
    path = tmp_path / "j"

    async def refuse(payload):
        raise InfeError("no", status=400)

    async def main():
        path.unlink(missing_ok=True)
        seen, pause, run = await go(rows(100), Server(None), path, max_tokens=200)
        assert pause is not None
        assert len(seen) < 100
        assert run.spending.now.estimated > 0
        assert run.spending.now.prompt == 0
        _, _, run = await go(rows(3), refuse)
        assert run.spending.now.calls == 0

    run(main)


def test_a_model_without_a_price_cannot_be_bounded(run):
    """The run pauses rather than spend without knowing."""

    async def main():
        _, pause, _ = await go(rows(50), Server(), max_cost=5.0, price=lambda model, usage: None)
        assert "no price is known for m" in str(pause)

    run(main)


def test_usage_is_read_off_an_object_of_an_sdk(run):
    """Also where a plain function is called, and whatever `record` makes of the reply."""
    usage = SimpleNamespace(
        prompt_tokens=100, completion_tokens=50, total_tokens=150,
        prompt_tokens_details=SimpleNamespace(cached_tokens=40),
    )  # fmt: skip

    async def send(payload):
        return SimpleNamespace(choices=[SimpleNamespace(text="x")], usage=usage)

    async def main():
        batch = run_batch(rows(3), send, record=lambda reply: reply.choices[0].text, price=PRICE)
        found = [result async for result in batch]
        assert [each.usage.cached_tokens for each in found] == [40] * 3
        assert batch.tally.prompt_tokens == 300
        assert batch.spending.now.dollars == pytest.approx(3 * DOLLARS)

    run(main)


def test_what_was_lost_is_read_off_the_rows(run, tmp_path):
    """A salvage may have lost the count; the rows have the usage of what stands."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        await go(rows(5), Server(), path)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM state WHERE name = 'spent'")
        spent = recorded_at(path).spent[""]
        assert (spent.calls, spent.prompt, spent.completion, spent.cached) == (5, 500, 250, 200)
        _, _, run = await go(rows(5), Server(), path, price=PRICE)
        assert run.spending.before.dollars == pytest.approx(5 * DOLLARS)

    run(main)


@pytest.mark.parametrize(
    "wrong",
    [{"max_cost": 1.0}, {"max_cost": 0, "price": PRICE}, {"max_tokens": 0}, {"max_tokens": 1.5},
     {"max_cost": math.nan, "price": PRICE}],
)  # fmt: skip
def test_bounds_that_cannot_be_kept(wrong):
    """They are refused before anything is sent."""
    with pytest.raises(ConfigurationError):
        run_batch([], Server(), **wrong)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, "1"])
def test_prices_that_are_none(wrong):
    """A price is a number from 0."""
    with pytest.raises(ConfigurationError):
        per_million(wrong, 1.0)


@pytest.mark.parametrize("price", [math.nan, -1.0, math.inf, "much", None])
def test_a_price_of_a_user_may_be_anything(price):
    """What is no price is none."""
    spending = Spending(lambda model, usage: price)
    spending.count("m", Usage(1, 1, 2), None)
    assert spending.now.dollars is None

    def broken(model, usage):
        raise LookupError(model)

    spending = Spending(broken)
    spending.count("m", Usage(1, 1, 2), None)
    assert spending.now.dollars is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)), max_size=30)
)
def test_models_add_up_to_the_run(calls):
    """What the models cost is what the run costs, and what it is resumed from."""
    spending = Spending(PRICE)
    for model, prompt, completion in calls:
        spending.count(model, Usage(prompt, completion, prompt + completion), None)
    assert sum(each.tokens for each in spending.models.values()) == spending.now.tokens
    told = {name: asdict(each) for name, each in spending.models.items()}
    later = Spending(PRICE)
    later.resume(read_spent(told))
    assert later.before.tokens == spending.now.tokens
    if calls:
        assert later.before.dollars == pytest.approx(spending.now.dollars)
        assert spending.take_news() == told
    assert spending.take_news() is None


def test_models_without_end():
    """Memory is bounded, and nothing is lost."""
    spending = Spending()
    for number in range(2_000):
        spending.count(f"m{number}", Usage(1, 0, 1), None)
    assert len(spending.models) <= 1_001
    assert sum(each.prompt for each in spending.models.values()) == 2_000


def test_a_sum_with_an_unknown_part_is_unknown():
    """An unknown price is not 0."""
    total = Spent(1, 5, 5, dollars=1.0)
    total.add(Spent(1, 5, 5))
    assert total.dollars is None
    total = Spent()
    total.add(Spent(1, dollars=2.0))
    assert total.dollars == 2.0


def test_amounts_in_words():
    """No more digits than they are worth, and never 0 for something."""
    told = [dollars(each) for each in (0, 1e-9, 0.0042, 0.42, 1234.5)]
    assert told == ["$0.00", "under $0.0001", "$0.0042", "$0.42", "$1,234.50"]
