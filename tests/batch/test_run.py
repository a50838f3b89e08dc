"""A batch under way: every row to its result, and every way to end early."""

from __future__ import annotations

import asyncio
import gc
from contextlib import closing

import anyio
import pytest
from fakes import FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import ErrorClassifier, Retry, Stack, errors, presets
from resilient_infe.batch import BatchRun, Journal, Monitor, RowFailed, engine, run_batch
from resilient_infe.batch.store import recorded_at
from resilient_infe.core.verdict import Kind
from resilient_infe.testing import Faults, InfeModel, InProcessInfe, run_virtually


def asks(number):
    """So many rows, each a request."""
    return [
        {"model": "infe-pulse", "messages": [{"role": "user", "content": f"number {n}"}]}
        for n in range(number)
    ]


def batch(**options):
    """A batch's stack with a limit that hardly binds."""
    return presets.batch(**({"requests_per_minute": 60_000, "listeners": [Monitor()]} | options))


async def results_of(run):
    """All results of a run."""
    return [result async for result in run]


async def collect(run, seen):
    """Add all results of a run to a list, also where it ends early."""
    async for result in run:
        seen.append(result)  # what came before an error is kept


async def once(rows, model, path=None, stack=None, **options):
    """Send rows to a stand-in, with a journal if there is a path; returns the results."""
    journal = None if path is None else Journal(path, threaded=False)
    try:
        send = (stack or batch()).around(InProcessInfe(model))
        return await results_of(run_batch(rows, send, journal=journal, **options))
    finally:
        if journal is not None:
            journal.close()


def test_every_row_has_a_result(run):
    """With errors and an outage on the way, all rows end, each once, with what they cost."""
    model = InfeModel(faults=Faults(rates={500: 0.05}, outages=[(0.5, 3)]), requests_per_minute=9e4)

    async def main():
        return await once(asks(300), model)

    results = run(main)
    assert sorted(result.index for result in results) == list(range(300))
    assert all(result.ok and result.value["choices"] for result in results)
    assert sum(result.attempts for result in results) == model.books.sends
    assert sum(result.usage.total_tokens for result in results) == model.books.tokens
    assert {result.status for result in results} == {200}
    assert all(len(result.request_ids) == result.attempts for result in results)
    assert {result.id for result in results} == {f"row-{n}" for n in range(1, 301)}


def test_a_plain_for_is_explained(run):
    """It says what to write instead, and nothing is sent."""
    server = FakeServer()

    async def main():
        with pytest.raises(TypeError, match="`async for`"):
            list(run_batch(asks(1), batch().around(server)))

    run(main)
    assert server.sent == []


def test_in_order(run):
    """Ordered results come in the order of the rows, however long each takes."""
    server = FakeServer(latency=lambda now: 5.0 if now < 1 else 0.1)

    async def main():
        return await results_of(run_batch(range(100), server, ordered=True, in_memory=10))

    assert [result.index for result in run(main)] == list(range(100))


@pytest.mark.parametrize("kind", ["generator", "async generator", "list"])
def test_rows_of_unknown_length_are_taken_as_there_is_room(run, kind):
    """No more rows are taken than may be in memory, whoever is slow."""
    taken, given, most = 0, 0, 0

    def rows():
        nonlocal taken, most
        for number in range(100):
            taken += 1
            most = max(most, taken - given)
            yield number

    async def slow_rows():
        for number in rows():
            await anyio.sleep(0.01)
            yield number

    async def main():
        nonlocal given
        source = {"generator": rows, "async generator": slow_rows}.get(kind, lambda: range(100))
        async for result in run_batch(source(), FakeServer(latency=0.1), in_memory=8):
            assert result.ok
            given += 1
            if given % 10 == 0:
                await anyio.sleep(1)

    run(main)
    assert given == 100
    assert most <= 9  # one was asked for by the generator's own loop


def test_hooks_go_from_a_row_to_a_value(run):
    """A row becomes a request, and a reply a record; ids and partitions are the user's."""
    seen = set()
    model = InfeModel()

    async def main():
        return await once(
            [("a", "say one"), ("b", "say two")],
            model,
            request=lambda row: asks(1)[0] | {"user": row[1]},
            record=lambda reply: reply["choices"][0]["message"]["role"],
            row_id=lambda row: row[0],
            partition=lambda payload: seen.add(payload["user"]) or payload["user"],
        )

    results = run(main)
    assert {(result.id, result.value) for result in results} == {("a", "assistant"),
                                                                 ("b", "assistant")}  # fmt: skip
    assert seen == {"say one", "say two"}


def test_a_hook_that_raises_fails_its_row_alone(run):
    """The row fails with the hook's name and words, and the others go on."""

    async def main():
        requested = await results_of(
            run_batch([1, 0, 2], FakeServer(), request=lambda row: 1 / row, ordered=True)
        )
        recorded = await results_of(
            run_batch([1, 2], FakeServer(), record=lambda reply: reply["x"], ordered=True)
        )
        return requested, recorded

    requested, recorded = run(main)
    assert [result.ok for result in requested] == [True, False, True]
    assert requested[1].failure.code == "request_hook"
    assert "ZeroDivisionError" in requested[1].failure.message
    assert (requested[1].attempts, recorded[0].attempts) == (0, 1)
    assert recorded[0].failure.code == "record_hook"
    assert not recorded[0].failure.permanent
    with pytest.raises(RowFailed, match="row-1"):
        recorded[0].unwrap()


def test_a_number_that_cannot_be_recorded_fails_its_row_alone(run, tmp_path):
    """It is not recorded as null: the row says what to do, and is sent again."""

    async def main():
        async def send(row):
            return 10 ** (5_000 if row == 1 else 30)

        with closing(Journal(tmp_path / "journal", threaded=False)) as journal:
            return await results_of(run_batch([1, 2], send, journal=journal))

    long, short = run(main)
    assert long.failure.code == "record_hook"
    assert "let record= return it as a text" in long.failure.message
    assert (long.value, long.attempts, long.failure.permanent) == (None, 1, False)
    assert short.value == 10**30


def test_a_row_that_cannot_be_mended_fails_alone(run):
    """A bad request is a failure for good; a server that fails too often is one for now."""
    stack = Stack(Retry(max_attempts=2), ErrorClassifier())
    server = FakeServer(script=[400, 500, 500], latency=0.1)

    async def main():
        send = stack.around(server)
        return await results_of(run_batch(range(3), send, in_memory=1, ordered=True))

    bad, failing, fine = run(main)
    assert (bad.failure.kind, bad.failure.permanent, bad.attempts) == (Kind.INVALID, True, 1)
    assert (failing.failure.kind, failing.failure.permanent) == (Kind.SERVER_ERROR, False)
    assert failing.attempts == 2
    assert fine.unwrap() == "ok"


def test_a_hint_too_long_to_wait_pauses_the_run(run):
    """A server that asks for an hour is not waited for row by row."""
    server = FakeServer(default=(429, {"retry-after": "3600"}), latency=0.1)

    async def main():
        with pytest.raises(errors.BatchPaused, match="3,600 s"):
            await results_of(run_batch(range(10), batch().around(server)))

    run(main)
    assert len(server.sent) <= 10


def test_what_is_recorded_is_not_sent_again(run, tmp_path):
    """The same call again sends only what is new, and hands out everything, in order too."""
    path = tmp_path / "j"
    first, second = InfeModel(), InfeModel()

    async def main():
        path.unlink(missing_ok=True)
        await once(asks(30), first, path)
        results = await once(asks(50), second, path, ordered=True)
        only_new = await once(asks(60), InfeModel(), path, replay=False, ordered=True)
        return results, only_new

    results, only_new = run(main)
    assert [result.index for result in results] == list(range(50))
    assert [result.replayed for result in results] == [True] * 30 + [False] * 20
    assert all(result.value["choices"] for result in results)
    assert second.books.sends == 20
    assert [result.index for result in only_new] == list(range(50, 60))


def test_failed_rows_are_sent_again(run, tmp_path):
    """What failed for now is sent by the next run; what failed for good when that is asked for."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        impatient = Stack(ErrorClassifier())
        model = InfeModel(faults=Faults(script=[500, 400]))
        one = await once(asks(4), model, path, impatient, in_memory=1)
        two = await once(asks(4), InfeModel(), path, in_memory=1)
        three = await once(asks(4), InfeModel(), path, in_memory=1, retry_failed=True)
        return [[(r.ok, r.replayed) for r in sorted(each, key=lambda r: r.index)]
                for each in (one, two, three)]  # fmt: skip

    one, two, three = run(main)
    assert one == [(False, False), (False, False), (True, False), (True, False)]
    assert two == [(True, False), (False, True), (True, True), (True, True)]
    assert three == [(True, True), (True, False), (True, True), (True, True)]


def test_a_changed_row_is_refused(run, tmp_path):
    """A row that has a result already must be the same row; what was done is safe."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        await once(asks(5), InfeModel(), path)
        changed = asks(5)
        changed[3]["messages"][0]["content"] = "another"
        with pytest.raises(errors.JournalMismatch, match="'row-4'"):
            await once(changed, InfeModel(), path)
        return await once(asks(5), InfeModel(), path)

    assert all(result.replayed for result in run(main))


def test_two_rows_of_one_id(run, tmp_path):
    """A second row with the id of another ends the run, and says which it is."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        rows = [each | {"custom_id": "same"} for each in asks(2)]
        with pytest.raises(errors.RowError, match="row 2 has the id of another row: 'same'"):
            await once(rows, InfeModel(), path)

    run(main)


def test_stopping_lets_what_is_under_way_come_to_its_end(run):
    """After stop() nothing is sent, what was sent ends, and what waits is left."""
    model = InfeModel(latency=2.0)
    stack = batch(requests_per_minute=60, concurrency=20)
    at_stop = []

    async def main():
        results = run_batch(asks(200), stack.around(InProcessInfe(model)))
        seen = []
        async for result in results:
            seen.append(result)
            if len(seen) == 5:
                at_stop.append(model.books.sends)
                results.stop()
        return seen

    seen = run(main)
    assert model.books.sends == at_stop[0]
    assert len(seen) == model.books.sends
    assert stack.statistics().in_flight == 0


def test_stopping_does_not_wait_for_a_retry(run):
    """A call that backs off when the run stops is left for the next one."""
    server = FakeServer(default=503, latency=0.5)

    async def main():
        results = run_batch(range(10), batch().around(server))
        async with anyio.create_task_group() as group:
            group.start_soon(stop_after, results, 1.0)
            with anyio.fail_after(3):
                return await results_of(results)

    assert run(main) == []


async def stop_after(results: BatchRun, seconds: float) -> None:
    """Stop a run after a while."""
    await anyio.sleep(seconds)
    results.stop()


def test_a_run_that_was_stopped_before_it_began(run):
    """There is nothing to iterate over then, and nothing was opened."""

    async def main():
        results = run_batch(range(10), FakeServer())
        results.stop()
        assert await results_of(results) == []
        async with run_batch(range(10), FakeServer()):
            pass

    run(main)


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "aclose"])
def test_leaving_early_lets_go_of_everything(run, how):
    """However an iteration is left, the calls under way are cancelled and their slots come home."""
    transport = InProcessInfe(InfeModel(latency=1.0))
    stack = batch(concurrency=4)

    async def main():
        with anyio.move_on_after(1.5 if how == "cancel" else 100):
            try:
                async with run_batch(asks(100), stack.around(transport)) as results:
                    async for _ in results:
                        if how == "break":
                            break
                        if how == "raise":
                            raise KeyError
                        if how == "aclose":
                            await results.aclose()
                            break
            except KeyError:
                pass
        await anyio.sleep(0.01)

    run(main)
    statistics = stack.statistics()
    assert (statistics.in_flight, statistics.waiting) == (0, 0)
    assert transport.cancelled == 4
    assert transport.model.books.sends <= 8


def test_a_run_that_is_dropped_is_cancelled(run):
    """An iteration that is broken off without a close ends when it is collected."""
    transport = InProcessInfe(InfeModel(latency=1.0))
    stack = batch(concurrency=4)

    async def main():
        async for _ in run_batch(asks(100), stack.around(transport)):
            break
        gc.collect()
        await anyio.sleep(0.5)
        return stack.statistics().in_flight

    assert run(main) == 0


def test_an_input_that_raises(run):
    """What the rows' iterator raises is raised, after the results of the rows before it."""

    def rows():
        yield from range(3)
        raise LookupError("the input breaks off")

    async def slow_rows():
        for row in rows():
            yield row

    async def main(source):
        seen = []
        with pytest.raises(LookupError, match="breaks off"):
            await collect(run_batch(source, FakeServer(latency=1.0)), seen)
        return sorted(result.index for result in seen)

    assert run(lambda: main(rows())) == [0, 1, 2]
    assert run(lambda: main(slow_rows())) == [0, 1, 2]


def test_a_stack_that_is_drained_stops_the_run(run):
    """Whoever drains the stack ends its batches as well, without failing their rows."""
    stack = batch(concurrency=4)

    async def main():
        seen = []
        send = stack.around(InProcessInfe(InfeModel(latency=1.0)))
        async for result in run_batch(asks(100), send, in_memory=8):
            if not seen:
                await stack.drain(0)
            seen.append(result)
        return seen

    seen = run(main)
    assert all(result.ok for result in seen)
    assert 1 <= len(seen) <= 8


def test_a_value_that_has_no_form_in_json(run, tmp_path):
    """With a journal a value must be JSON; that is told at the first one, with what to do."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        with pytest.raises(errors.ConfigurationError, match="record="):
            await once(asks(1), InfeModel(), path, record=lambda _: object())

    run(main)


def test_a_deadline_for_each_row(run):
    """A row that is not done in time fails, for now; a plain function can keep no deadline."""

    async def main():
        send = batch(requests_per_minute=60).around(InProcessInfe(InfeModel()))
        late = await results_of(run_batch(asks(10), send, deadline=3.0))
        plain = await results_of(run_batch([1], FakeServer(), deadline=3.0))
        return late, plain

    late, plain = run(main)
    assert 0 < sum(result.ok for result in late) < 10
    failures = [result.failure for result in late if not result.ok]
    assert {failure.error for failure in failures} == {"DeadlineExceeded"}
    assert not any(failure.permanent for failure in failures)
    assert "Deadline layer" in plain[0].failure.message


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"rows": 5}, "iterable"),
        ({"send": 5}, "stack.around"),
        ({"in_memory": 0}, "in_memory"),
        ({"deadline": -1}, "deadline"),
        ({"request": 5}, "hook"),
    ],
)
def test_what_cannot_work_is_told_at_once(arguments, told):
    """A wrong argument is refused before anything is opened."""
    given = {"rows": [], "send": FakeServer()} | arguments
    with pytest.raises(errors.ConfigurationError, match=told):
        run_batch(given.pop("rows"), given.pop("send"), **given)


def test_an_id_is_a_text(run):
    """An id of another kind ends the run with a word on it."""

    async def main():
        with pytest.raises(errors.ConfigurationError, match="an id is a text"):
            await results_of(run_batch([1], FakeServer(), row_id=lambda row: row))

    run(main)


@settings(max_examples=60)
@given(
    st.integers(0, 60),
    st.integers(1, 12),
    st.booleans(),
    st.lists(st.sampled_from(["ok", 400, 500, 429, "stop"]), max_size=60),
    st.sampled_from(["asyncio", "trio"]),
)
def test_any_run_gives_each_row_one_result(number, in_memory, ordered, script, backend):
    """Whatever the server answers, each row ends at most once; without a stop, exactly once."""
    server = FakeServer(script=[each for each in script if each != "stop"], latency=0.3)
    stop_at = script.index("stop") if "stop" in script else None

    async def main():
        seen = []
        send = batch().around(server)
        results = run_batch(
            range(number), send, in_memory=in_memory, ordered=ordered, keep_going=True
        )
        async for result in results:
            seen.append(result.index)
            if len(seen) == stop_at:
                results.stop()
        return seen

    seen = run_virtually(main, backend)
    assert len(set(seen)) == len(seen)
    if stop_at is None or stop_at >= number:
        assert sorted(seen) == list(range(number))
    if ordered:
        assert seen == sorted(seen)


def hostile(depth):
    """A body that nests too deeply for Python to copy."""
    body: list = []
    for _ in range(depth):
        body = [body]
    return {"error": {"message": "x", "param": body}}


@pytest.mark.parametrize("body", [hostile(900), {"x": {1, 2}}, {"x": object()}])
def test_an_odd_body_of_an_error_ends_nothing(run, tmp_path, body):
    """Whatever an exception carries, its row fails, is recorded, and the others go on."""
    path = tmp_path / "j"

    class Odd(Exception):
        def __init__(self):
            super().__init__("odd")
            self.body = body

    server = FakeServer(script=["ok", Odd(), "ok"])

    async def main():
        path.unlink(missing_ok=True)
        journal = Journal(path, threaded=False)
        with anyio.fail_after(60):
            results = await results_of(run_batch(range(3), server, journal=journal, in_memory=1))
        journal.close()
        return [result.ok for result in results]

    assert run(main) == [True, False, True]
    assert sum(recorded_at(path).kinds.values()) == 3


def test_a_cancelled_future_fails_its_row_alone():
    """A transport whose own future was cancelled has failed; nobody cancelled the run."""

    async def send(payload):
        if payload % 2:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return payload

    async def main():
        return await results_of(run_batch(range(20), send, ordered=True))

    results = run_virtually(main, "asyncio")
    assert [result.ok for result in results] == [True, False] * 10
    assert results[1].failure.error == "CancelledError"


def test_an_engine_that_is_cancelled_from_outside_says_so():
    """An iteration whose tasks somebody else cancelled does not end as if it were complete."""

    async def iterate():
        seen = []
        async for result in run_batch(range(1_000), FakeServer(latency=1.0), in_memory=4):
            seen.append(result)
            if len(seen) == 8:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

    async def main():
        with pytest.raises(errors.BatchError, match="ended from outside"):
            await iterate()

    run_virtually(main, "asyncio")


@pytest.mark.parametrize("at_once", [True, False])
def test_closing_from_another_task(run, tmp_path, at_once):
    """Whoever iterates comes to an end when another task closes the run, however early."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        journal = Journal(path, threaded=False)
        server = FakeServer(latency=1.0)
        results = run_batch(range(100), server, journal=journal, in_memory=4)
        with anyio.fail_after(4):
            async with anyio.create_task_group() as group:
                group.start_soon(results_of, results)
                if not at_once:
                    await anyio.sleep(1.5)
                else:
                    await anyio.lowlevel.checkpoint()
                await results.aclose()
        journal.close()
        Journal(path, threaded=False).close()

    run(main)


def test_a_second_reason_is_told_where_there_was_none(run):
    """A wait that is too long is told of also where the run is being stopped."""
    server = FakeServer(["ok"] * 4, default=(429, {"retry-after": "3600"}), latency=1.0)

    async def iterate():
        seen = []
        results = run_batch(range(100), batch(concurrency=4).around(server))
        async for result in results:
            seen.append(result)
            if len(seen) == 4:
                await anyio.sleep(0.5)
                results.stop()

    async def main():
        with pytest.raises(errors.BatchPaused):
            await iterate()

    run(main)


def test_passing_over_rows_lets_others_run(run, tmp_path, monkeypatch):
    """A million rows that are done and not handed out do not hold up the loop."""
    path, ticks = tmp_path / "j", []
    monkeypatch.setattr(engine, "YIELD", 16)

    async def main():
        path.unlink(missing_ok=True)
        await once(asks(128), InfeModel(), path)
        ticks.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            assert await once(asks(128), InfeModel(), path, replay=False) == []
            group.cancel_scope.cancel()

    async def tick():
        while True:
            ticks.append(1)
            await anyio.lowlevel.checkpoint()

    run(main)
    assert len(ticks) >= 5


def test_a_mended_row_that_had_failed_for_good(run, tmp_path):
    """A bad request that was mended is another request, and is sent without being asked for."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        model = InfeModel(faults=Faults(script=[400]))
        assert not (await once(asks(1), model, path))[0].ok
        mended = [asks(1)[0] | {"max_tokens": 5}]
        return (await once(asks(1), InfeModel(), path))[0], (await once(mended, InfeModel(), path))[
            0
        ]

    same, mended = run(main)
    assert (same.ok, same.replayed) == (False, True)
    assert (mended.ok, mended.replayed) == (True, False)


def test_a_model_of_an_odd_name(run, tmp_path):
    """A name that a record could be cut at does not make a journal unreadable."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        rows = [each | {"model": name} for each in asks(2) for name in ("other", "value")]
        model = InfeModel(models=["other", "value"], latency=2.0)
        await once(rows, model, path)
        return await once(rows, model, path)

    assert all(result.replayed for result in run(main))


class Reply:
    """An SDK's object."""

    def __init__(self, payload):
        self.payload = payload

    def model_dump(self, mode):
        """Its form in JSON."""
        return {"payload": self.payload, "mode": mode}


@pytest.mark.parametrize(
    "record",
    [
        None,
        lambda _: {"t": (1, 2), 3: "a number as a key", "nan": float("nan"), "deep": [{"x": (1,)}]},
        Reply,
        lambda _: [Reply(1), True, 1.0, 10**30, "\ud800"],
        lambda _: (),
        lambda _: None,
    ],
)
def test_live_and_replayed_are_the_same_value(run, tmp_path, record):
    """What a first run hands out, and one that goes on, is equal, in every type too."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        model = InfeModel(faults=Faults(script=[400]))
        return [await once(asks(4), model, path, record=record) for _ in range(2)]

    first, second = run(main)
    assert [result.replayed for result in (*first, *second)] == [False] * 4 + [True] * 4
    again = {result.id: result for result in second}
    for result in first:
        other = again[result.id]
        assert repr(result.value) == repr(other.value)  # tells 1, 1.0 and True apart
        assert result.failure == other.failure
        for name in ("attempts", "seconds", "sent_for", "usage", "status", "request_ids"):
            assert getattr(result, name) == getattr(other, name)


def test_a_body_that_an_exception_carries(run, tmp_path):
    """It is handed out as it will be replayed."""
    path = tmp_path / "j"

    class Odd(Exception):
        body = {"t": (1, 2), "nan": float("nan")}  # noqa: RUF012

    async def send(_):
        raise Odd

    async def main():
        path.unlink(missing_ok=True)
        journal = Journal(path, threaded=False)
        found = await results_of(run_batch([1], send, journal=journal))
        journal.close()
        return found[0].failure.body

    assert run(main) == {"t": [1, 2], "nan": None}
