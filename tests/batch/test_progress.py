"""How far a run is, in figures and in words."""

from __future__ import annotations

import re

import anyio
import pytest
from fakes import FakeServer
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Kind, Retry, presets
from resilient_infe.batch import Monitor, Tally, per_million, run_batch
from resilient_infe.batch.monitor import waiting_for
from resilient_infe.batch.progress import NO_LIMIT, Gauge, in_words, short, span, took
from resilient_infe.batch.spending import Spending
from resilient_infe.core.verdict import Usage
from resilient_infe.errors import InfeError, RateLimitError


def stack_of(monitor, **options):
    """A batch's stack that is listened to."""
    return presets.batch(listeners=[monitor], **options)


def test_words_for_a_run_under_way(run):
    """The line tells how much is done, how fast, what is in flight, and how long it will take."""
    monitor = Monitor()
    stack = stack_of(monitor, requests_per_minute=600, concurrency=8)
    server = FakeServer(script=[500] * 3, latency=0.5)

    async def main():
        results = run_batch(range(400), stack.around(server))
        gauge, words = Gauge(400), []
        async with anyio.create_task_group() as group:
            group.start_soon(look, results, gauge, words)
            async for _ in results:
                pass
            group.cancel_scope.cancel()
        return words

    async def look(results, gauge, words):
        while True:
            await anyio.sleep(10)
            now = anyio.current_time()
            words.append(in_words(gauge.read(now, results.tally, stack.statistics(), monitor)))

    words = run(main)
    assert "3 retries" in words[1]
    assert "limit 600 requests/min" in words[1]
    assert "in flight" in words[1]
    assert words[2].startswith("2")
    assert "/400 (" in words[2]
    assert " left" in words[2]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ((429, {"retry-after": "20"}), "waiting 1"),
        (503, "waiting: the server fails, and is tried again in"),
    ],
)
def test_words_for_waiting(run, outcome, told):
    """While a hint or an open circuit holds all up, the line says so and for how long."""
    monitor = Monitor()
    stack = stack_of(monitor, requests_per_minute=6_000)

    async def main():
        ends = anyio.current_time() + 30
        server = FakeServer(default=lambda now: outcome if now < ends else "ok", latency=0.1)
        results = run_batch(range(60), stack.around(server))
        seen = []
        async with anyio.create_task_group() as group:
            group.start_soon(look, seen)
            assert len([result async for result in results]) == 60
            group.cancel_scope.cancel()
        return seen

    async def look(seen):
        while True:
            await anyio.sleep(1)
            seen.append(waiting_for(stack.statistics()))

    seen = run(main)
    assert any(words and told in words for words in seen), seen
    names = [event["name"] for event in monitor.take_events()]
    assert any(name.startswith(("rate.", "circuit.")) for name in names)
    assert monitor.take_events() == []


def test_words_for_the_last_row_that_waits_to_be_tried_again(run):
    """It is named, no time is told that it does not take, and 100 % are told at the end alone."""
    monitor = Monitor()
    stack = stack_of(monitor, requests_per_minute=60_000)

    async def server(row):
        await anyio.sleep(0.01)
        if row["custom_id"] == "r7":
            raise RateLimitError("no", status=429, code="rate_limit_exceeded")
        return {"row": row}

    async def main():
        rows = [{"custom_id": f"r{number}"} for number in range(400)]
        batch, gauge, words = run_batch(rows, stack.around(server)), Gauge(400), []
        async with anyio.create_task_group() as group:
            group.start_soon(look, batch, gauge, words)
            async for _ in batch:
                pass
            group.cancel_scope.cancel()
        return words

    async def look(batch, gauge, words):
        while True:
            await anyio.sleep(1.5)
            now = anyio.current_time()
            words.append(in_words(gauge.read(now, batch.tally, stack.statistics(), monitor)))

    words = run(main)
    assert words[0].startswith("399/400 (99%)")
    assert "2 429s" in words[0]
    assert all("row r7 is" in each for each in words if " 0 in flight" in each)
    assert not any(" left" in each for each in words if "refused each time" in each)


def test_words_for_a_single_row_that_waits(run):
    """Nothing else is sent, so it cannot be said to be refused while others are let in."""
    monitor = Monitor()
    retry = Retry(uniform=lambda: 0.5)
    stack = stack_of(monitor, requests_per_minute=600, retry=retry)

    async def main():
        gauge, batch = Gauge(1), run_batch([{"custom_id": "r7"}], stack.around(FakeServer([500])))
        async with anyio.create_task_group() as group:

            async def look():
                await anyio.sleep(0.01)
                now = anyio.current_time()
                words.append(in_words(gauge.read(now, batch.tally, stack.statistics(), monitor)))

            group.start_soon(look)
            async for _ in batch:
                pass

    words = []
    run(main)
    assert "waiting: row r7 is tried again (500, 1 attempt)" in words[0]
    assert "1 retry," in words[0]
    assert monitor.retried() is None


def test_429s_are_counted(run):
    """What the server rejected is told apart from what is tried again for another reason."""
    monitor = Monitor()
    server = FakeServer(script=[429, 429, 500], latency=0.1)
    stack = stack_of(monitor, requests_per_minute=6_000)

    async def main():
        return [result async for result in run_batch(range(5), stack.around(server))]

    assert len(run(main)) == 5
    assert (monitor.rejected, monitor.retries) == (2, 3)


def test_a_gauge_without_an_end():
    """Where the number of rows is not known, there is no share and no time left."""
    gauge = Gauge(None)
    stack = presets.batch(requests_per_minute=NO_LIMIT).statistics()
    gauge.read(0.0, Tally(), stack, Monitor())
    progress = gauge.read(30.0, Tally(ok=50, replayed=7, replayed_failed=2), stack, Monitor())
    assert (progress.done, progress.failed, progress.left) == (55, 2, None)
    assert progress.rate == 100.0
    assert in_words(progress) == "57 rows in 30 s, 100/min (1.7/s), 2 failed, 0 in flight"


def test_a_rate_is_of_the_last_minute():
    """What was fast an hour ago does not shorten the time that is left."""
    gauge, stack = Gauge(2_000), presets.batch().statistics()
    gauge.read(0.0, Tally(), stack, Monitor())
    gauge.read(3600.0, Tally(ok=1_000), stack, Monitor())
    progress = gauge.read(3630.0, Tally(ok=1_010), stack, Monitor())
    assert progress.rate == 20.0
    assert progress.left == 990 / 20 * 60


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (139, "2 min 19 s"),
        (600, "10 min"),
        (3_599.6, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (864_000, "10 days 0 h"),
    ],
)
def test_times_in_words(seconds, words):
    """A time has no more digits than it is worth."""
    assert span(seconds) == words


@given(st.floats(0.0, 1e9))
def test_a_time_in_words_has_no_60(seconds):
    """No part of it is as large as the next unit, and nothing but 0 is told as 0."""
    told = span(seconds)
    assert (took(seconds) in ("0 s", "0.0 s")) == (seconds == 0)
    assert not re.search(r" 60 s|\b60 min", told)


def test_tokens_and_money_in_words():
    """They are told once they are known, those of earlier runs apart."""
    spending, stack = Spending(per_million(2.0, 8.0)), presets.batch(requests_per_minute=NO_LIMIT)
    gauge, stack = Gauge(None), stack.statistics()
    words = in_words(gauge.read(0.0, Tally(), stack, Monitor(), spending=spending))
    assert "token" not in words
    assert "$" not in words
    spending.count("m", Usage(1_000, 500, 1_500, 400), None)
    words = in_words(gauge.read(1.0, Tally(ok=1), stack, Monitor(), spending=spending))
    assert "1.5k tokens (400 cached), $0.0060" in words
    later = Spending(per_million(2.0, 8.0))
    later.resume(spending.models)
    later.count("m", Usage(1_000, 500, 1_500), None)
    words = in_words(gauge.read(1.0, Tally(ok=1), stack, Monitor(), spending=later))
    assert "1.5k tokens, $0.0060 ($0.0120 in all runs)" in words


def test_without_a_stack_nobody_knows_of_retries():
    """What is not known is not told as 0."""
    progress = Gauge(10).read(0.0, Tally(), None, None)
    assert (progress.in_flight, progress.retries, progress.rejected) == (None, None, None)
    assert in_words(progress) == "0/10 (0%) in 0 s, 0/min (0/s)"


def test_numbers_in_few_digits():
    """Tokens are told in thousands and millions."""
    assert [short(each) for each in (950, 12_400, 3.1e6, 2e9)] == ["950", "12.4k", "3.1M", "2.0G"]


def test_words_for_failures_and_a_row_that_is_refused(run):
    """The line names the most frequent failure, and the row that is refused each time, and why."""
    monitor = Monitor()
    stack = stack_of(monitor, requests_per_minute=600)
    gone = InfeError("gone", status=404)
    large = RateLimitError("too large", status=429, code="rate_limit_exceeded")

    async def transport(number):
        await anyio.sleep(0.1)
        if number == 7:
            raise large
        if number % 10 == 0 and number:
            raise gone
        return {"choices": []}

    async def main():
        results = run_batch(range(400), stack.around(transport), row_id=lambda n: f"r{n}")
        gauge, words = Gauge(400), []
        async with anyio.create_task_group() as group:
            group.start_soon(look, results, gauge, words)
            async for result in results:
                if result.id == "r7":
                    assert result.failure.kind is Kind.RATE_LIMITED
                    assert not result.failure.permanent  # the next run sends it again
            group.cancel_scope.cancel()
        return words, monitor.refused()

    async def look(results, gauge, words):
        while True:
            await anyio.sleep(25)
            now = anyio.current_time()
            figures = gauge.read(
                now, results.tally, stack.statistics(), monitor, failures=results.failures
            )
            words.append(in_words(figures))

    words, left = run(main)
    assert "failed (mostly 404 not_found)" in words[0]
    assert "row r7 is refused each time (429 rate_limit_exceeded, 2 attempts)" in words[0]
    assert left is None


def test_words_for_rows_that_are_larger_than_the_limit(run):
    """The time that is left grows while they wait, and the line says why."""
    monitor = Monitor()
    stack = stack_of(monitor, tokens_per_minute=1_000, estimate=lambda row: row)
    rows = [100.0] * 15 + [1_500.0, 1_200.0]
    server = FakeServer()

    async def main():
        results, gauge, words = run_batch(rows, stack.around(server)), Gauge(17), []
        async with anyio.create_task_group() as group:
            group.start_soon(look, results, gauge, words)
            async for _ in results:
                pass
            group.cancel_scope.cancel()
        return words

    async def look(results, gauge, words):
        while True:
            await anyio.sleep(20)
            now = anyio.current_time()
            words.append(in_words(gauge.read(now, results.tally, stack.statistics(), monitor)))

    words = run(main)
    assert "2 rows are larger than the limit of a minute: each waits for the others" in words[0]
    assert any("1 row is larger than the limit of a minute: it waits" in each for each in words)
    assert monitor.too_large() is None
    assert sorted(server.payloads[-2:]) == [1_200.0, 1_500.0]


def test_limits_of_many_models_are_named_in_a_few_words(run):
    """A line has room for some of them."""
    monitor = Monitor()
    stack = stack_of(
        monitor, requests_per_minute={"*": 600}, account={"requests_per_minute": 6_000}
    )

    async def main():
        for number in range(7):
            await stack.around(FakeServer())("x", partition=f"m{number}", tokens=1.0)
        return in_words(Gauge(7).read(0.0, Tally(), stack.statistics(), monitor))

    words = run(main)
    assert "600 requests/min (m3); 3 more; 6,000 requests/min (the account)" in words
