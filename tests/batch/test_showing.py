"""A run of Python code shows how far it is, by rich, tqdm or a function."""

from __future__ import annotations

import gc
import io
import logging

import anyio
import pytest
from fakes import FakeServer
from rich.console import Console
from rich.progress import Progress as RichBars

from resilient_infe import presets
from resilient_infe.batch import per_million, run_batch
from resilient_infe.errors import ConfigurationError


def send_to(server):
    """A batch's stack around a server, without a monitor of its own."""
    return presets.batch(requests_per_minute=600, concurrency=4).around(server)


class Bar:
    """Stands for a bar of tqdm. State: what was drawn."""

    def __init__(self):
        self.n = self.total = None
        self.words, self.drawn = "", []

    def set_postfix_str(self, s, refresh):
        """Keep the words."""
        self.words = s

    def refresh(self):
        """Draw."""
        self.drawn.append((self.n, self.total, self.words))


async def go(shows, rows=40, server=None):
    """Send so many rows."""
    async for _ in run_batch(range(rows), send_to(server or FakeServer(latency=0.1)),
                             progress=shows):  # fmt: skip
        pass


def test_a_function_sees_the_run_and_its_end(run):
    """It gets a progress twice a second, and the last one has all rows."""

    async def main():
        seen = []
        await go(seen.append, server=FakeServer(script=[429, 500], latency=0.1))
        return seen

    seen = run(main)
    assert len(seen) > 3
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert (seen[-1].done, seen[-1].rows) == (40, 40)
    assert (seen[-1].retries, seen[-1].rejected) == (2, 1)  # no monitor was given
    assert seen[-1].elapsed > 3.0


def test_tqdm(run):
    """A bar has the rows, their number, and the line in words."""

    async def main():
        bar = Bar()
        await go(bar)
        return bar.drawn

    drawn = run(main)
    assert drawn[-1][:2] == (40, 40)
    assert "40/40 (100%)" in drawn[-1][2]


def test_rich(run):
    """A bar of rich's likewise; what looks like its markup is text."""

    async def main():
        out = io.StringIO()
        with RichBars(console=Console(file=out, width=200), auto_refresh=False) as bars:
            await go(bars)
        (task,) = bars.tasks
        assert (task.completed, task.total) == (40, 40)
        return out.getvalue()

    assert "40/40 (100%)" in run(main)


def test_rich_by_its_name(run, capsys):
    """The bar is made, and the terminal is given back."""

    async def main():
        await go("rich", rows=3)

    run(main)
    assert "3/3 (100%)" in " ".join(capsys.readouterr().out.split())


def test_a_function_that_fails_holds_up_no_row(run, caplog):
    """It is logged once."""

    def broken(progress):
        raise ValueError("no")

    async def main():
        caplog.clear()
        with caplog.at_level(logging.ERROR, "resilient_infe"):
            await go(broken)
        return [each for each in caplog.records if "progress=" in each.getMessage()]

    assert len(run(main)) == 1


def test_a_run_that_is_left_early_shows_its_end_once(run):
    """Nothing is shown after that."""

    async def main():
        seen = []
        rows = run_batch(range(400), send_to(FakeServer(latency=0.1)), progress=seen.append)
        async with rows as results:
            async for result in results:
                if result.index == 20:
                    break
        number = len(seen)
        await anyio.sleep(5)
        assert len(seen) == number
        assert 0 < seen[-1].done < 400

    run(main)


def test_a_run_that_is_dropped_is_not_kept_by_its_bar(run):
    """It is cancelled, as without one."""
    server = FakeServer(latency=0.1)

    async def main():
        server.payloads.clear()
        results = run_batch(range(4_000), send_to(server), progress=lambda progress: None)
        await anext(aiter(results))
        del results
        gc.collect()
        await anyio.sleep(1)
        sent = len(server.payloads)
        await anyio.sleep(30)
        assert len(server.payloads) == sent < 4_000

    run(main)


@pytest.mark.parametrize("wrong", ["bar", 5, True, Bar, ["rich"], anyio.sleep])
def test_what_cannot_show(wrong):
    """It is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="progress"):
        run_batch([], FakeServer(), progress=wrong)


def test_how_far_it_is_can_be_asked_for(run):
    """Before the first result, and with the money that is spent."""

    async def server(payload):
        return {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}

    async def main():
        results = run_batch(range(10), server, price=per_million(2.0, 8.0))
        assert results.progress().done == 0
        async for _ in results:
            pass
        return results.progress()

    progress = run(main)
    assert (progress.done, progress.tokens, progress.in_flight) == (10, 150, None)
    assert progress.cost == pytest.approx(10 * (10 * 2.0 + 5 * 8.0) / 1e6)
