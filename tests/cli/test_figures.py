"""What a person wants to know of a run: at its end, in `status`, and while it goes on."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import anyio
import pytest
from served import served

from resilient_infe import presets
from resilient_infe.batch import Journal, per_million, run_batch
from resilient_infe.batch.sample import Tally, live_of, sample_of
from resilient_infe.cli import main
from resilient_infe.cli.watch import WIDTH, _live_lines, view, watch
from resilient_infe.testing import Faults, InfeModel, InProcessInfe, run_virtually


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with some requests in it, and no key around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_API_KEY", raising=False)
    rows = (json.dumps({"custom_id": f"r{n}", "prompt": f"number {n}"}) for n in range(20))
    Path("in.jsonl").write_text("\n".join(rows))
    return tmp_path


PRICES = ("--price-in", "2", "--price-out", "8")


def run(url, *more):
    """Run the command; returns its exit code."""
    fixed = ["--base-url", url, "--model", "infe-pulse", "--rpm", "none"]
    return main(["run", "in.jsonl", "-o", "out.jsonl", *fixed, *more])


@pytest.mark.network
def test_the_end_of_a_run_and_status_say_the_same(capsys):
    """Time, pace, tokens and money, each kind of failure with its reason and advice, and where."""
    with served(faults=Faults(script=[400, 200, 500, 400])) as (url, _):
        assert run(url, "--max-attempts", "1", "--concurrency", "1", *PRICES) == 1
        shown = capsys.readouterr().err
        assert "took " in shown
        assert "/s" in shown
        assert re.search(r"spent \d+ tokens in, \d+ out, \$0\.0", shown)
        failed = re.search(
            r"2 invalid, mostly 400 \S+: .* \| fix the request.* \(row r\d+\)", shown
        )[0]
        assert "1 server_error, mostly 500 api_error" in shown
        assert main(["status", "out.jsonl"]) == 0
        status = capsys.readouterr().out
        assert failed in status
        assert "failures: out.errors.jsonl" in status
        assert "spent: " in status
        assert "under way for " in status
        assert run(url, *PRICES) == 1
        assert "all runs together have spent" in capsys.readouterr().err
    assert main(["status", "out.jsonl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["spent"]["infe-pulse"]["calls"] == 18
    assert told["spent"]["infe-pulse"]["dollars"] > 0
    assert told["failures"][0]["row"] in ("r0", "r3")
    assert told["seconds"] > 0
    assert told["base_url"].startswith("http://127.0.0.1")


@pytest.mark.network
@pytest.mark.parametrize("bound", [("--max-tokens", "100"), ("--max-cost", "0.0005", *PRICES)])
def test_a_bound_pauses_the_run(bound, capsys):
    """The exit code is that of a pause, and the next run goes on with a larger bound."""
    with served(latency=0.01) as (url, model):
        assert run(url, "--concurrency", "1", *bound) == 3
        shown = capsys.readouterr().err
        assert "paused:" in shown
        assert "raise --max-cost or --max-tokens" in shown
        sent = model.books.sends
        assert 0 < sent < 20
        assert run(url, *bound) == 3
        assert model.books.sends == sent
        assert main(["status", "out.jsonl"]) == 0
        assert "the last run is paused" in capsys.readouterr().out
        assert run(url, *PRICES, "--max-cost", "50") == 0
        assert model.books.sends == 20


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--max-cost", "5"), "--max-cost needs prices"),
        (("--price-in", "5"), "give --price-in and --price-out"),
        (("--price-cached", "5"), "give --price-in and --price-out"),
        (("--max-cost", "nan"), "is not a number above 0"),
        (("--price-in", "-1", "--price-out", "1"), "is not a number of at least 0"),
        (("--max-tokens", "0"), "is not a whole number of at least 1"),
    ],
)
def test_a_bound_that_cannot_be_kept(given, told, capsys):
    """It is refused before anything is sent."""
    try:
        assert run("http://127.0.0.1:9/v1", *given) == 2
    except SystemExit as stop:
        assert stop.code == 2  # noqa: PT017  # an option is refused so
    assert told in capsys.readouterr().err


def rows(number):
    """So many rows of two models."""
    return [
        {"custom_id": f"r{n}", "model": "infe-titan" if n % 2 else "infe-pulse",
         "messages": [{"role": "user", "content": "hi"}]}
        for n in range(number)
    ]  # fmt: skip


def watched(seconds=5.0, number=400):
    """Return the view of a run after some seconds, and after its end; the journal is ``j``."""

    async def main():
        model = InfeModel(
            requests_per_minute=1_200, latency=0.2,
            faults=Faults(rates={500: 0.1, 400: 0.05}),
        )  # fmt: skip
        stack = presets.batch(requests_per_minute=900, tokens_per_minute=1e6, concurrency=16)
        kept = Journal("j", {"base_url": "http://h/v1"}, threaded=False)
        kept.about = {"rows": number}
        views = []

        async def look():
            await anyio.sleep(seconds)
            views.append(view("j"))

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            send = stack.around(InProcessInfe(model))
            async for _ in run_batch(rows(number), send, journal=kept, price=per_million(2, 8)):
                pass
        kept.close()
        return views[0]

    return run_virtually(main)


def test_the_live_view():
    """Limits and what is used, queue, slots, circuit, 429s and the last reasons, in 80 columns."""
    lines = watched()
    text = "\n".join(lines)
    assert all(len(line) <= WIDTH for line in lines)
    for words in ("of 400 (", "in flight", "in the queue", "429s", "infe-titan", "infe-pulse",
                  "900 requests/minute", "of 900 requests/min", "of 16 in use", "circuit closed",
                  "again     row r", "tokens in", "$"):  # fmt: skip
        assert words in text


def test_of_many_models_the_busiest_are_shown(run):
    """The journal and the screen have room for some, and no number stops the run."""

    async def main():
        stack, server = (
            presets.batch(requests_per_minute=600, account={"requests_per_minute": 6_000}),
            InfeModel(),
        )
        for number in range(20):
            await stack.around(InProcessInfe(server))(
                {"model": "infe-pulse", "messages": []}, partition=f"m{number}"
            )
        figures = stack.statistics()
        return live_of(sample_of(Tally(), figures, None), figures, None)

    live = run(main)
    assert (len(live["limits"]), live["models"]) == (8, 20)
    assert len(json.dumps(live)) < 4_000
    lines = list(_live_lines(live | {"at": 1e12}))
    assert "          and 12 more models" in lines
    assert any(line.startswith("account   6,000 requests/minute") for line in lines)
    live["used"] = {name: [["requests", 60.0, None, None]] for name in live["used"]}
    assert not any(line.startswith("used") for line in _live_lines(live | {"at": 1e12}))


def test_watching_ends_with_the_run(capsys):
    """What is not under way is not waited for; then it is told how it ended."""
    watched(number=20, seconds=0.1)
    watch("j", sleep=lambda seconds: pytest.fail("nobody runs"))
    assert main(["status", "j", "--watch"]) == 0
    assert "rows have a result" in capsys.readouterr().out


def test_watching_shows_what_changes(capsys):
    """It looks once a second while somebody writes, and ends by itself."""

    async def main():
        kept = Journal("j", threaded=False)
        kept.start(pytest.fail)
        looks = []

        def sleep(seconds):
            looks.append(seconds)
            kept.show_live({"ok": len(looks), "failed": 0, "seconds": 1.0, "waits": "a\x1b[31mb"})
            if len(looks) == 3:
                kept.stop(why="finished")
                kept.close()

        watch("j", sleep)
        assert looks == [1.0] * 3

    run_virtually(main)
    shown = capsys.readouterr().out
    assert shown.count("rows      0") == 3
    assert "\x1b" not in shown


def test_a_paused_run_is_seen_as_such():
    """It was told so from another terminal."""

    async def main():
        kept = Journal("j", threaded=False)
        kept.start(pytest.fail)
        kept.show_live({"ok": 0, "failed": 0, "seconds": 1.0})
        assert not any(line.startswith("paused") for line in view("j"))
        kept.tell("event", name="batch.paused", when=1.0)
        assert any(line.startswith("paused") for line in view("j"))
        kept.close()

    run_virtually(main)


def test_a_journal_that_has_nothing_yet():
    """A run that has just begun is watched too."""
    sqlite3.connect("j").close()
    Path("j").touch()
    assert view("j") == ["j: the run begins"]
