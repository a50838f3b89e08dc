"""A run that pauses for what every row would meet, and the run that goes on after it."""

from __future__ import annotations

import itertools
from collections import Counter

import anyio
import pytest

from resilient_infe import Stack, aio, errors, presets
from resilient_infe.batch import Journal, Monitor, run_batch
from resilient_infe.core.verdict import Kind
from resilient_infe.errors import InfeError, RateLimitError

WRONG_MODEL = {"error": {"message": "The model `nope` does not exist", "code": "model_not_found"}}


class Server:
    """Answers each row as `answer` says: None lets it pass, a number is a status.

    Attributes:
        answer: takes a payload.
        sent: the payloads, as they came.
    """

    def __init__(self, answer, latency=0.1):
        self.answer = answer
        self.latency = latency
        self.sent = []

    async def __call__(self, payload):
        """Answer after the latency."""
        self.sent.append(payload)
        await anyio.sleep(self.latency)
        status = self.answer(payload)
        if status is not None:
            raise error_of(status)
        return {"choices": [], "row": payload["n"]}


def error_of(status):
    """An error as the SDK would raise it."""
    body = WRONG_MODEL if status == 404 else None
    error = InfeError("The model `nope` does not exist" if body else "not now", status=status)
    error.body = body
    return error


def rows(number, model="m"):
    """So many rows of one model."""
    return [{"custom_id": f"{model}{n}", "model": model, "n": n} for n in range(number)]


def batch(**options):
    """A batch's stack with a limit that hardly binds."""
    return presets.batch(**({"requests_per_minute": 60_000, "listeners": [Monitor()]} | options))


async def go(given, server, path=None, stack=None, **options):
    """Run a batch; returns its results, and why it paused or None."""
    journal = None if path is None else Journal(path, threaded=False)
    seen, run = [], run_batch(given, (stack or batch()).around(server), journal=journal, **options)
    try:
        await collect(run, seen)
    except errors.BatchPaused as pause:
        return seen, pause
    finally:
        if journal is not None:
            journal.close()
    return seen, None


async def collect(run, seen):
    """Add all results of a run to a list, also where it ends early."""
    async for result in run:
        seen.append(result)  # what came before an error is kept


@pytest.mark.parametrize("status", [400, 402, 404])
def test_what_meets_every_row_pauses_the_run(run, tmp_path, status):
    """At most 100 of 200 rows are sent; put right, the same run sends every row."""
    path, wrong = tmp_path / "j", Server(lambda _: status)

    async def main():
        path.unlink(missing_ok=True)
        wrong.sent.clear()
        first, pause = await go(rows(200), wrong, path, batch(max_attempts=1))
        asked = len(wrong.sent)
        _, again = await go(rows(200), wrong, path, batch(max_attempts=1))
        questions = len(wrong.sent) - asked
        right = Server(lambda _: None)
        second, none = await go(rows(200), right, path)
        assert all(not result.ok for result in first)
        assert str(status) in str(pause)
        assert str(again) == str(pause)
        assert none is None
        assert [result.ok for result in second] == [True] * 200
        assert len(right.sent) == 200
        return asked, questions

    asked, questions = run(main)
    assert 1 <= asked <= 100
    assert 1 <= questions <= 5


def test_the_servers_words_and_the_advice_are_told(run):
    """The pause says what the server said, and what to do."""

    async def main():
        return await go(rows(100), Server(lambda _: 404))

    _, pause = run(main)
    assert "404 The model `nope` does not exist" in str(pause)
    assert pause.kind is Kind.NOT_FOUND


def test_other_partitions_come_to_their_end(run):
    """A model that does not exist stops its own rows alone."""
    mixed = [row for pair in zip(rows(300, "bad"), rows(300, "good"), strict=True) for row in pair]
    server = Server(lambda payload: 404 if payload["model"] == "bad" else None)

    async def main():
        return await go(mixed, server, in_memory=40)

    seen, pause = run(main)
    assert sum(result.ok for result in seen) == 300
    assert str(pause).startswith("bad: 404")
    assert sum(payload["model"] == "bad" for payload in server.sent) <= 100


def test_bad_rows_at_the_start_are_no_pause_where_others_pass(run):
    """The good rows under way end the pause before it begins."""
    server = Server(lambda payload: 400 if payload["n"] < 30 else None)

    async def main():
        return await go(rows(200), server)

    seen, pause = run(main)
    assert pause is None
    assert sum(result.ok for result in seen) == 170


@pytest.mark.parametrize("ordered", [False, True])
def test_good_rows_that_take_longer_than_bad_ones_end_the_wait(run, ordered):
    """Many rows wait for those under way by then, and each is sent once after all."""
    server = Server(lambda payload: 400 if payload["n"] < 20 else None)
    slow = Server(lambda _: None, latency=5.0)

    async def either(payload):
        return await (server if payload["n"] < 20 else slow)(payload)

    async def main():
        return await go(rows(150), either, None, batch(concurrency=30), ordered=ordered)

    seen, pause = run(main)
    assert pause is None
    assert sum(result.ok for result in seen) == 130
    assert len(slow.sent) == 130


def test_the_attempts_of_a_row_that_was_cut_are_counted(run):
    """What was sent before others were waited for is told as well."""
    sends = Counter()

    async def answer(payload):
        number = payload["n"]
        sends[number] += 1
        refused = 0 < number <= 20 and sends[number] == 1
        await anyio.sleep(5.0 if number == 0 else 0.1 if refused else 0.5)
        if refused or 20 < number <= 40:
            raise RateLimitError("no", status=429) if refused else error_of(400)
        return {}

    async def main():
        sends.clear()
        return await go(rows(60), answer, None, batch(concurrency=41))

    seen, pause = run(main)
    assert pause is None
    assert {result.index: result.attempts for result in seen} == sends
    assert sends[20] == 2


def test_a_row_that_has_passed_is_not_cut(run):
    """Also while a layer of the user's still awaits something after it."""
    server = Server(lambda payload: 400 if payload["n"] < 20 else None)

    async def lingers(call, call_next):
        result = await call_next(call)
        await anyio.sleep(1.0)
        return result

    def stack():
        whole = batch(concurrency=40)
        return Stack(lingers, *whole.layers)

    async def main():
        return await go(rows(100), server, None, stack())

    seen, pause = run(main)
    assert pause is None
    assert sum(result.ok for result in seen) == 80
    assert len(server.sent) == 100


@pytest.mark.parametrize("in_memory", [1, 16])
def test_rows_that_are_put_off_hold_up_no_other_model(run, tmp_path, in_memory):
    """In order too, with rows of another model behind them, which an earlier run has done."""
    path = tmp_path / "j"
    given = [*rows(30, "bad"), *rows(60, "good"), *rows(10, "bad")]
    for number, row in enumerate(given):
        row["custom_id"] = str(number)
    alive = False
    server = Server(lambda row: None if alive or row["model"] == "good" else 404, latency=0.01)

    async def main():
        nonlocal alive
        alive = False
        path.unlink(missing_ok=True)
        await go(given, server, path, ordered=True, in_memory=in_memory)
        alive = True
        return await go(given, server, path, ordered=True, in_memory=in_memory)

    seen, pause = run(main)
    assert pause is None
    assert [result.index for result in seen if result.ok] == list(range(100))


def test_odd_rows_do_not_hide_a_dead_account(run, tmp_path):
    """Failures that differ before give up no row that an account fails which ends later."""
    path = tmp_path / "j"
    odd = {3: 400, 5: 422}

    async def main():
        path.unlink(missing_ok=True)
        answer = lambda row: odd.get(row["n"], 403 if row["n"] >= 150 else None)  # noqa: E731
        _, pause = await go(rows(400), Server(answer), path)
        seen, none = await go(rows(400), Server(lambda row: odd.get(row["n"])), path)
        return pause, sum(result.ok for result in seen), none

    pause, passed, none = run(main)
    assert pause.kind is Kind.FORBIDDEN
    assert (passed, none) == (398, None)


def test_an_odd_question_does_not_end_the_pause(run, tmp_path):
    """One row that fails otherwise among the five says nothing for the others."""
    path = tmp_path / "j"
    odd = Server(lambda row: 422 if row["n"] == 90 else 412)

    async def main():
        path.unlink(missing_ok=True)
        odd.sent.clear()
        await go(rows(400), odd, path)
        first = len(odd.sent)
        _, pause = await go(rows(400), odd, path)
        return pause, len(odd.sent) - first

    pause, asked = run(main)
    assert "41" in str(pause) or "42" in str(pause)
    assert asked <= 5


def test_a_stop_while_rows_are_held_loses_no_result(run):
    """In order and without a journal: what was paid for is handed out."""
    server = Server(lambda row: 404 if row["n"] < 20 else None)
    slow = Server(lambda _: None, latency=5.0)

    async def either(payload):
        return await (server if payload["n"] < 20 else slow)(payload)

    async def main():
        run_ = run_batch(rows(100), batch(concurrency=30).around(either), ordered=True)
        seen = []
        async for result in run_:
            seen.append(result)
            if len(seen) == 20:
                run_.stop()
        return seen

    seen = run(main)
    assert sum(result.ok for result in seen) == len(slow.sent) > 0


@pytest.mark.parametrize("ordered", [False, True])
def test_bad_rows_at_the_start_can_be_got_past(run, tmp_path, ordered):
    """One at a time the first 30 pause the run; each run after it asks with five others."""
    path = tmp_path / "j"
    server = Server(lambda payload: 400 if payload["n"] < 30 else None, latency=0.01)

    async def main():
        path.unlink(missing_ok=True)
        runs = 0
        while True:
            runs += 1
            stack = batch(concurrency=1)
            seen, pause = await go(rows(60), server, path, stack, in_memory=10, ordered=ordered)
            if pause is None:
                break
        server.sent.clear()
        again, _ = await go(rows(60), server, path)
        return runs, seen, again

    runs, seen, again = run(main)
    assert runs <= 4
    assert len(again) == 60
    assert sum(result.ok for result in seen) == 30
    assert server.sent == []  # what failed for good is not sent again
    if ordered:
        assert [result.index for result in seen] == sorted(result.index for result in seen)


def test_what_passed_in_an_earlier_run_counts(run, tmp_path):
    """The rows that are left of it may all fail alike: their models and keys do work."""
    path = tmp_path / "j"
    server = Server(lambda payload: 500 if payload["n"] >= 50 else None)

    async def main():
        path.unlink(missing_ok=True)
        await go(rows(80), server, path, batch(max_attempts=1))
        server.sent.clear()
        return await go(rows(80), server, path, batch(max_attempts=1))

    seen, pause = run(main)
    assert (pause, len(server.sent), sum(result.ok for result in seen)) == (None, 30, 50)


def test_keep_going_never_pauses(run):
    """Every row is sent, and fails."""
    server = Server(lambda _: 401)

    async def main():
        return await go(rows(150), server, keep_going=True)

    seen, pause = run(main)
    assert (len(seen), pause, len(server.sent)) == (150, None, 150)


def test_an_account_that_ends_in_the_middle_pauses(run, tmp_path):
    """After rows have passed it takes fifty refusals in a row, and no row is given up."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        server = Server(lambda payload: None if payload["n"] < 500 else 403)
        first, pause = await go(rows(900), server, path)
        right = Server(lambda _: None)
        await go(rows(900), right, path)
        return sum(result.ok for result in first), pause, len(server.sent), len(right.sent)

    passed, pause, sent, later = run(main)
    assert passed == 500
    assert pause.kind is Kind.FORBIDDEN
    assert sent <= 500 + 50 + 64
    assert later == 400


def test_a_refusal_now_and_then_is_no_pause(run):
    """A single 401 among rows that pass fails its row alone."""
    server = Server(lambda payload: 401 if payload["n"] % 10 == 9 else None)

    async def main():
        return await go(rows(300), server)

    seen, pause = run(main)
    assert pause is None
    assert sum(not result.ok for result in seen) == 30


def test_an_input_without_an_end_is_left(run):
    """Where every partition is paused, the input is not read for ever, however slow it is."""

    async def endless():
        for number in itertools.count():
            if number > 40:
                await anyio.sleep(100.0)
            yield {"custom_id": str(number), "model": "m", "n": number}

    async def main():
        return await go(endless(), Server(lambda _: 404))

    _, pause = run(main)
    assert "404" in str(pause)


def test_a_stop_while_rows_are_held_ends_the_run(run):
    """Rows that wait for the ones under way are left for the next run."""
    server = Server(lambda payload: 404 if payload["n"] < 30 else None, latency=1.0)
    slow = Server(lambda _: None, latency=100.0)

    async def either(payload):
        return await (slow if payload["n"] == 0 else server)(payload)

    async def main():
        run_ = run_batch(rows(300), batch(concurrency=21).around(either))
        seen = []
        async for result in run_:
            seen.append(result)
            if len(seen) == 20:
                run_.stop()
        return seen

    assert len(run(main)) == 21  # the slow one too: what was sent comes to its end


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_row_that_is_tried_again_does_not_hold_up_a_pause(run, tmp_path, status):
    """It was under way when the others failed, and fails otherwise: it is left for the next run."""
    path = tmp_path / "j"
    server = Server(lambda row: status if row["n"] == 0 else 404)
    slow = Server(lambda _: status, latency=5.0)

    async def either(row):
        return await (slow if row["n"] == 0 else server)(row)

    async def main():
        path.unlink(missing_ok=True)
        began = aio.current().now()
        seen, pause = await go(rows(300), either, path)
        took = aio.current().now() - began
        later, _ = await go(rows(300), Server(lambda _: None), path)
        return [result.index for result in seen], pause, took, sum(each.ok for each in later)

    ended, pause, took, passed = run(main)
    assert 0 not in ended
    assert pause.kind is Kind.NOT_FOUND
    assert took < 10.0
    assert passed == 300


def test_the_most_frequent_failure_is_named(run):
    """In few words for the progress line, and in a sentence for the end."""
    server = Server(lambda payload: {0: 400, 1: 404, 2: 404}.get(payload["n"] % 10))

    async def main():
        run_ = run_batch(rows(50), batch().around(server))
        assert run_.failures.commonest() is None
        assert run_.failures.explained() is None
        async for _ in run_:
            pass
        return run_.failures.commonest(), run_.failures.explained()

    few, sentence = run(main)
    assert few == "404 model_not_found"
    assert sentence.startswith("most frequent failure, 10 of 15: 404 model_not_found (row m")
    assert "The model `nope` does not exist" in sentence
