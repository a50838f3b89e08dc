"""Rows that are refused each time and would fill all lanes: the others go on meanwhile."""

from __future__ import annotations

import anyio
import pytest

from resilient_infe import aio, presets
from resilient_infe.batch import Journal, Monitor, run_batch
from resilient_infe.errors import RateLimitError

LANES = 8


class Server:
    """Refuses the rows up to a number each time.

    Attributes:
        sends: how often each row was sent.
        most: requests in flight at the same time, at most.
    """

    def __init__(self, refused, hint=None):
        self.refused = refused
        self.hint = hint
        self.sends = {}
        self.now = self.most = 0

    async def __call__(self, row):
        """Answer after half a second; refuse after a twentieth."""
        self.sends[row["n"]] = self.sends.get(row["n"], 0) + 1
        self.now += 1
        self.most = max(self.most, self.now)
        refused = row["n"] < self.refused
        try:
            await anyio.sleep(0.05 if refused else 0.5)
        finally:
            self.now -= 1
        if refused:
            raise RateLimitError("no", status=429, retry_after=self.hint)
        return {"row": row["n"]}


def rows(number):
    """So many rows of one model."""
    return [{"custom_id": f"r{n}", "model": "m", "n": n} for n in range(number)]


async def go(server, number, path=None, until=None, **options):
    """Run a batch; returns its results, and when the last one passed that is in it."""
    journal = None if path is None else Journal(path, threaded=False)
    stack = presets.batch(requests_per_minute=600, concurrency=4, listeners=[Monitor()])
    options = {"in_memory": LANES, "journal": journal} | options
    clock = aio.current().now
    began, passed, seen = clock(), 0.0, []
    with anyio.move_on_after(until or 40_000.0):
        async with run_batch(rows(number), stack.around(server), **options) as run:
            async for result in run:
                seen.append(result)
                passed = clock() - began if result.ok else passed
    if journal is not None:
        journal.close()
    return seen, passed


@pytest.mark.parametrize("hint", [None, 1.0, 60.0])
def test_as_many_refused_rows_as_lanes_hold_up_no_other(run, hint):
    """Others end in minutes, rather than after all refused rows; each of those ends too."""
    server = Server(LANES, hint)
    seen, passed = run(lambda: go(server, 150))
    assert sum(result.ok for result in seen) == 150 - LANES
    assert passed < 200.0
    assert len(seen) == 150
    assert all(server.sends[n] <= 20 for n in range(LANES))
    assert all(result.attempts == server.sends[result.index] for result in seen)


def test_the_order_of_results_is_kept(run):
    """What passes waits for the refused rows before it, which are asked on meanwhile."""
    seen, _ = run(lambda: go(Server(LANES), 40, ordered=True))
    assert [result.index for result in seen] == list(range(40))


@pytest.mark.parametrize("lanes", [2, 3, 4, 8])
def test_results_in_order_wait_only_for_a_backoff(run, lanes):
    """A row that all results wait for goes on when its backoff is over, however few the lanes."""

    class Slow(Server):
        async def __call__(self, row):
            """Refuse the first row once; take five seconds over the others."""
            if row["n"] == 0 and 0 in self.sends:
                self.refused = 0
            await super().__call__(row)
            await anyio.sleep(5.0)

    _, passed = run(lambda: go(Slow(1), 2 * lanes, ordered=True, in_memory=lanes))
    assert passed < 100.0


def test_a_row_with_a_deadline_goes_on_when_its_backoff_is_over(run):
    """One 429 in the middle of many is no reason to let the deadline pass without another try."""

    class Often(Server):
        async def __call__(self, row):
            """Refuse each third row once."""
            self.refused = 0 if row["n"] in self.sends or row["n"] % 3 else 10_000
            return await super().__call__(row)

    seen, _ = run(lambda: go(Often(0), 150, deadline=60.0))
    assert len(seen) == 150
    assert all(result.ok for result in seen)


def test_a_run_that_is_left_loses_no_row_at_rest(run, tmp_path):
    """The next run sends every row that has no result."""
    path = tmp_path / "j"

    async def main():
        path.unlink(missing_ok=True)
        first, _ = await go(Server(LANES), 50, path, until=20.0)
        second, _ = await go(Server(0), 50, path)
        return first, second

    first, second = run(main)
    assert 0 < len(first) < 50
    assert sorted(result.index for result in second) == list(range(50))
    assert all(result.ok for result in second)


def test_a_stop_cuts_rows_at_rest(run):
    """It ends with what is under way."""

    async def main():
        stack = presets.batch(requests_per_minute=600, concurrency=4)
        batch = run_batch(rows(300), stack.around(Server(LANES)), in_memory=LANES)
        began, passed = aio.current().now(), 0
        async for result in batch:
            passed += result.ok
            if passed == 30:
                batch.stop()
        return aio.current().now() - began

    assert run(main) < 20.0


def test_a_single_lane_sends_one_row_at_a_time(run):
    """A row that waits keeps it, so that no two are sent at once."""
    server = Server(1)
    seen, _ = run(lambda: go(server, 5, in_memory=1))
    assert len(seen) == 5
    assert server.most == 1


def test_rows_are_bounded(run):
    """No more rows than five times the lanes are taken while none passes."""
    server = Server(1_000)
    run(lambda: go(server, 1_000, until=4_000.0))
    assert max(server.sends) < 5 * LANES


@pytest.mark.parametrize("number", [120, 121])
def test_a_run_ends_though_rows_rested(run, number):
    """Each row that rests adds a lane, and each of the lanes ends, however few rows are left."""
    sends = set()

    async def server(row):
        n = row["n"]
        again, _ = n in sends, sends.add(n)
        await anyio.sleep(0.1)
        if n < 8 and not again:
            raise RateLimitError("no", status=429)
        return {}

    async def main():
        sends.clear()
        began = aio.current().now()
        seen, _ = await go(server, number, in_memory=2)
        return len(seen), aio.current().now() - began

    ended, seconds = run(main)
    assert ended == number
    assert seconds < 1_000.0
