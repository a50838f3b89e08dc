"""A run that is steered: other limits, a pause, and an end that the next run goes on from."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest
from fakes import FakeServer

from resilient_infe import errors, presets
from resilient_infe.aio import current
from resilient_infe.batch import Journal, Monitor, run_batch
from resilient_infe.batch.progress import in_words as progress_in_words
from resilient_infe.batch.report import history_of, page
from resilient_infe.batch.steered import in_words, steered_in
from resilient_infe.batch.store.recorded import reading
from resilient_infe.testing import run_virtually


def rows(number):
    """So many rows."""
    return [{"custom_id": f"r{n}", "model": "m", "n": n} for n in range(number)]


def batch(**options):
    """A batch's stack."""
    options = {"requests_per_minute": 60_000, "listeners": [Monitor()], "log": False} | options
    return presets.batch(**options)


class Books:
    """A server that keeps books of each row, and may answer with a status."""

    def __init__(self, latency=0.5, statuses=()):
        self.latency, self.statuses = latency, list(statuses)
        self.sent, self.answered, self.in_flight, self.peak = [], Counter(), 0, 0

    async def __call__(self, payload):
        """Answer after the latency."""
        self.sent.append(current().now())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await anyio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        if self.statuses and (status := self.statuses.pop(0)):
            raise errors.InfeError("not now", status=status, retry_after=2.0)
        self.answered[payload["n"]] += 1
        return {"n": payload["n"]}


async def collect(batch_run, seen):
    """Add all results of a run to a list, also where it ends early."""
    async for result in batch_run:
        seen.append(result)  # what came before an error is kept


async def go(steer, number=100, server=None, path=None, stack=None, **options):
    """Run a batch beside a function that steers it; returns its results, and why it paused."""
    server = server or Books()
    journal = None if path is None else Journal(path, threaded=False)
    run = run_batch(rows(number), (stack or batch()).around(server), journal=journal, **options)
    seen, pause = [], None
    async with anyio.create_task_group() as group:
        group.start_soon(steer, run)
        try:
            await collect(run, seen)
        except errors.BatchPaused as error:
            pause = error
        group.cancel_scope.cancel()
    if journal is not None:
        journal.close()
    return seen, pause


def events_in(path):
    """What a journal has of steering."""
    with reading(path) as db:
        return steered_in(db, 100)


@pytest.mark.parametrize("rate", [600, 60_000])
def test_a_paused_run_sends_nothing_and_then_all(run, tmp_path, rate):
    """What is under way comes to its end, nothing is lost, and nothing is sent twice."""
    server, counts = Books(), []

    async def steer(batch_run):
        await anyio.sleep(0.7)
        batch_run.pause()
        assert batch_run.state == "paused"
        assert "paused, until it is told to resume" in progress_in_words(batch_run.progress())
        counts.append(len(server.sent))
        await anyio.sleep(600)
        counts.append(len(server.sent))
        assert server.in_flight == 0
        assert sum(server.answered.values()) == len(server.sent)
        batch_run.resume()
        assert "paused" not in progress_in_words(batch_run.progress())

    async def main():
        path = tmp_path / current().__class__.__name__
        stack = batch(requests_per_minute=rate, concurrency=10)
        seen, pause = await go(steer, 100, server, path, stack)
        assert pause is None
        return seen, events_in(path)

    seen, told = run(main)
    assert counts[0] == counts[1] > 0
    assert sorted(result.row["n"] for result in seen if result.ok) == list(range(100))
    assert set(server.answered.values()) == {1}
    assert len(server.sent) == 100
    assert [each["name"] for each in told] == ["batch.paused", "batch.resumed"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_row_between_two_attempts_waits_and_keeps_what_it_was_asked_for(run, status):
    """Its next attempt is after the pause, and not before its hint is over."""
    server, paused = Books(0.1, [status] * 3), []

    async def steer(batch_run):
        await anyio.sleep(0.5)
        batch_run.pause()
        paused.append(len(server.sent))
        await anyio.sleep(50)
        paused.append(len(server.sent))
        batch_run.resume()

    async def soon(batch_run):
        await anyio.sleep(0.5)
        batch_run.pause()
        batch_run.resume()

    async def main():
        seen, _ = await go(steer, 3, server)
        assert [result.attempts for result in seen] == [2, 2, 2]
        other = Books(0.1, [status] * 3)
        await go(soon, 3, other)
        return other.sent

    sent = run(main)
    assert paused == [3, 3]
    assert sent[3] - sent[0] >= 2.0


def test_a_pause_before_the_run_begins_and_after_it_has_ended(run):
    """The first holds all rows back; the second does nothing."""
    server = Books()

    async def steer(batch_run):
        await anyio.sleep(60)
        assert server.sent == []
        batch_run.resume()

    async def main():
        batch_run = run_batch(rows(5), batch().around(server))
        with pytest.raises(errors.ConfigurationError, match="not under way"):
            batch_run.configure(concurrency=5)
        batch_run.pause()
        assert batch_run.state == "paused"
        async with anyio.create_task_group() as group:
            group.start_soon(steer, batch_run)
            async for _ in batch_run:
                pass
        batch_run.pause()
        batch_run.resume()
        batch_run.drain()
        with pytest.raises(errors.ConfigurationError, match="not under way"):
            batch_run.configure(concurrency=5)

    run(main)
    assert len(server.sent) == 5


def test_a_drained_run_goes_on_where_it_was(run, tmp_path):
    """What is under way comes to its end; the next run sends the rest, and no row twice."""
    server = Books()

    async def steer(batch_run):
        await anyio.sleep(0.7)
        batch_run.drain()
        assert batch_run.state == "draining"

    async def nothing(_):
        pass

    async def main():
        path = tmp_path / current().__class__.__name__
        first, pause = await go(steer, 100, server, path, batch(concurrency=10))
        sent = len(server.sent)
        assert 0 < len(first) == sent < 100
        second, none = await go(nothing, 100, server, path)
        assert none is None
        return pause, second, events_in(path)

    pause, second, told = run(main)
    assert "left for the next run" in str(pause)
    assert len(second) == 100
    assert set(server.answered.values()) == {1}
    assert [(each["old"], each["new"]) for each in told] == [("running", "draining")]


@pytest.mark.parametrize("end", ["drain", "stop", "aclose"])
def test_a_paused_run_can_be_ended(run, tmp_path, end):
    """Rows that are held back are left for the next run."""
    server = Books(0.3, [503, 0, 503])

    async def steer(batch_run):
        await anyio.sleep(2)
        batch_run.pause()
        await anyio.sleep(50)
        if end == "aclose":
            await batch_run.aclose()
        else:
            getattr(batch_run, end)()

    async def main():
        path = tmp_path / current().__class__.__name__
        return await go(steer, 100, server, path, batch(requests_per_minute=600, concurrency=4))

    seen, pause = run(main)
    assert 0 < len(seen) < 100
    assert (pause is not None) == (end == "drain")


def test_the_consumer_leaves_a_paused_run(run):
    """A run that is dropped while it is paused leaves nothing behind."""

    async def main():
        async with run_batch(rows(50), batch(concurrency=5).around(Books())) as results:
            async for _ in results:
                results.pause()
                break

    run(main)


def test_a_plain_function_is_paused_too(run):
    """There is no queue in it: what was called comes to its end."""
    server = Books()

    async def steer(batch_run):
        await anyio.sleep(0.7)
        batch_run.pause()
        before = len(server.sent)
        await anyio.sleep(60)
        assert len(server.sent) == before
        with pytest.raises(errors.ConfigurationError, match="has limits to change"):
            batch_run.configure(concurrency=3)
        batch_run.resume()

    async def main():
        batch_run = run_batch(rows(50), server, in_memory=4)
        async with anyio.create_task_group() as group:
            group.start_soon(steer, batch_run)
            return [result async for result in batch_run]

    assert len(run(main)) == 50
    assert set(server.answered.values()) == {1}


def test_more_attempts_at_once_than_the_run_had_lanes_for(run, tmp_path):
    """The run takes more rows into memory, so that the new number is reached."""
    server = Books(10)

    async def steer(batch_run):
        await anyio.sleep(1)
        batch_run.configure(concurrency=60)
        await anyio.sleep(1)
        assert server.in_flight == 60

    async def main():
        path = tmp_path / current().__class__.__name__
        stack = batch(concurrency=4)
        seen, _ = await go(steer, 200, server, path, stack, in_memory=8)
        assert len(seen) == 200

    run(main)


def test_lanes_are_not_added_to_a_run_that_ends(run):
    """Whenever it is asked for more."""
    for when in (0.0, 0.5, 0.6):

        async def steer(batch_run, when=when):
            await anyio.sleep(when)
            batch_run.configure(concurrency=200, requests_per_minute=1e300)

        async def main(steer=steer):
            seen, _ = await go(steer, 3)
            assert len(seen) == 3

        run(main)


def test_a_huge_number_of_attempts_at_once_does_not_fill_the_memory(monkeypatch):
    """The slots have it, and the lanes are bounded."""
    monkeypatch.setattr("resilient_infe.batch.steering.MOST_LANES", 50)
    seen = []

    async def steer(batch_run):
        await anyio.sleep(0.1)
        batch_run.configure(concurrency=10**9)

    async def main():
        server = Books()
        await go(steer, 100, server, in_memory=5)
        seen.append(server.peak)

    run_virtually(main)
    assert 45 <= seen[0] <= 50


@pytest.mark.parametrize("monitored", [True, False])
def test_new_limits_are_recorded_and_shown(run, tmp_path, monitored):
    """Once, with or without a monitor: when, what, old and new."""

    async def steer(batch_run):
        await anyio.sleep(1)
        batch_run.configure(requests_per_minute=120, concurrency=3)
        batch_run.configure(requests_per_minute=120)
        batch_run.pause()
        await anyio.sleep(1)
        batch_run.resume()
        batch_run.configure(model="<b>m</b>", requests_per_minute=1_200)

    async def main():
        path = tmp_path / current().__class__.__name__
        stack = batch(requests_per_minute=60, listeners=[Monitor()] if monitored else [])
        await go(steer, 10, Books(), path, stack)
        return path

    path = run(main)
    told = events_in(path)
    assert [line for each in told for line in in_words(each)] == [
        "requests per minute: 60 to 120",
        "concurrency: 64 to 3",
        "paused",
        "resumed",
        "requests per minute of _b_m_/b_: 120 to 1,200",
    ]
    assert all(each["when"] > 1e9 for each in told)
    history = history_of(path)
    assert [each["name"] for _, each in history.steering] == [each["name"] for each in told]
    shown = page(history)
    assert "requests per minute: 60 to 120" in shown
    assert "<b>m" not in shown


def test_a_lower_limit_holds_by_the_servers_books(run, tmp_path):
    """No row is lost, and no minute has more than the new limit but for what was sent before."""
    server, changed = FakeServer(latency=0.3), []

    async def steer(batch_run):
        await anyio.sleep(3)
        batch_run.configure(requests_per_minute=60, concurrency=4)
        changed.append(current().now())
        server.peak = 0

    async def main():
        seen, _ = await go(steer, 200, server, None, batch(requests_per_minute=1_200))
        return len([result for result in seen if result.ok])

    assert run(main) == 200
    [since] = changed
    before = [each for each in server.sent if each <= since]
    after = [each for each in server.sent if each > since]
    assert len(before) > 40
    assert not [each for each in after if each < since + 50]
    assert all(sum(1 for x in after if end - 60 < x <= end) <= 60 for end in after)
    assert server.peak <= 4


def test_a_disk_that_takes_no_more_ends_the_run(run, tmp_path):
    """What was recorded is safe; who steers is not told by an exception of the journal."""

    async def steer(batch_run):
        await anyio.sleep(0.7)
        full.append(True)
        batch_run.pause()

    class Full(Journal):
        def tell(self, kind, **fields):
            if full:
                raise errors.JournalWriteFailed("no room")
            super().tell(kind, **fields)

    full = []

    async def main():
        full.clear()
        journal = Full(tmp_path / current().__class__.__name__, threaded=False)
        batch_run = run_batch(rows(50), batch(concurrency=5).around(Books()), journal=journal)
        async with anyio.create_task_group() as group:
            group.start_soon(steer, batch_run)
            with pytest.raises(errors.JournalWriteFailed):
                async for _ in batch_run:
                    pass
        full.clear()
        journal.close()

    run(main)
