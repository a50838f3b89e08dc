"""``ctl``: a run in a process of its own is changed while it goes on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from served import served

from resilient_infe.batch.control.address import beside
from resilient_infe.batch.report import history_of, page
from resilient_infe.cli import main
from resilient_infe.cli.ctl import in_lines
from resilient_infe.cli.watch import view

pytestmark = pytest.mark.network

JOURNAL = Path("out.jsonl.journal")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, without a key around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_API_KEY", raising=False)


def started(url, rows, *more):
    """Start a run in a process of its own, which takes orders when this returns."""
    lines = (json.dumps({"custom_id": f"r{n}", "prompt": f"number {n}"}) for n in range(rows))
    Path("in.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "resilient_infe", "run", "in.jsonl", "-o", "out.jsonl",
               "--base-url", url, "--model", "infe-pulse", *more]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: beside(JOURNAL).exists())
    return process


def wait_for(happened):
    """Wait until something happened in another process."""
    for _ in range(2_000):
        if happened():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")


def ctl(capsys, *given):
    """Give an order; returns what it prints, as lines."""
    code = main(["ctl", "out.jsonl", *given])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out.splitlines()


def results():
    """How often each row has a result."""
    lines = Path("out.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["custom_id"] for line in lines)


def test_a_run_is_changed_under_load_and_loses_nothing(capsys):
    """By the server's books: limits hold at once, a pause is one, and each row is sent once."""
    with (
        served(latency=0.05) as (url, model),
        started(url, 900, "--rpm", "6000", "--concurrency", "40", "--quiet") as process,
    ):
        books = model.books
        wait_for(lambda: books.sends >= 100)
        shown = ctl(capsys, "--rpm", "30000", "--concurrency", "4")
        assert "changed: requests per minute: 6,000 to 30,000" in shown
        assert "changed: concurrency: 40 to 4" in shown
        time.sleep(0.3)
        books.peak_in_flight = 0
        wait_for(lambda: books.sends >= 200)
        assert books.peak_in_flight <= 4

        assert "the run is paused" in ctl(capsys, "--pause")
        time.sleep(0.3)
        before = books.sends
        assert books.answered == before
        time.sleep(0.3)
        assert books.sends == before
        assert main(["status", "out.jsonl"]) == 0
        assert "a run is paused: `resilient-infe ctl" in capsys.readouterr().out
        assert any(line.startswith("paused ") for line in view(str(JOURNAL)))

        assert "the run is running" in ctl(capsys, "--resume", "--concurrency", "64")
        assert not any(line.startswith("paused ") for line in view(str(JOURNAL)))
        wait_for(lambda: books.sends >= before + 100)
        sent = books.sends
        ctl(capsys, "--rpm", "60")  # all of it was sent within the last minute
        time.sleep(0.3)
        late = books.sends
        time.sleep(0.5)
        assert books.sends == late
        assert late - sent <= 300
        ctl(capsys, "--rpm", "none")
        assert process.wait(30) == 0
        process.stderr.close()
        assert set(books.answers.values()) == {1}
    assert results() == Counter({f"r{n}": 1 for n in range(900)})
    assert not beside(JOURNAL).exists()
    told = [each["name"] for _, each in history_of(JOURNAL).steering]
    assert told.count("limits.configured") == 4
    assert "requests per minute: 6,000 to 30,000" in page(history_of(JOURNAL))
    assert main(["status", "out.jsonl", "--json"]) == 0
    standing = json.loads(capsys.readouterr().out)
    assert standing["steered"][-1]["what"] == "requests per minute: 60 to no limit"
    assert not standing["paused"]


def test_a_drained_run_says_how_to_go_on(capsys):
    """It is a pause that the same command goes on from; nothing is sent twice."""
    with served(latency=0.1) as (url, model):
        with started(url, 300, "--rpm", "6000", "--concurrency", "8") as process:
            wait_for(lambda: model.books.sends >= 30)
            assert "the run is draining" in ctl(capsys, "--drain")
            shown = process.communicate(timeout=30)[1]
            assert process.returncode == 3
        assert "paused: told to end early" in shown
        assert "to go on, run the same again" in shown
        sent = model.books.sends
        assert len(results()) == sent < 300
        with started(url, 300, "--rpm", "none", "--quiet") as process:
            assert process.wait(30) == 0
            process.stderr.close()
        assert set(model.books.answers.values()) == {1}
    assert results() == Counter({f"r{n}": 1 for n in range(300)})


def test_a_run_that_was_killed_leaves_a_socket_and_no_harm(capsys):
    """It is said that nobody runs, and the next run replaces it."""
    with served(latency=0.1) as (url, model):
        with started(url, 200, "--rpm", "600", "--quiet") as process:
            wait_for(lambda: model.books.sends >= 5)
            ctl(capsys, "--pause")
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            process.stderr.close()
        assert beside(JOURNAL).exists()
        assert main(["ctl", "out.jsonl", "--resume"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        with started(url, 200, "--rpm", "none", "--quiet") as process:
            assert process.wait(30) == 0
            process.stderr.close()
    assert results() == Counter({f"r{n}": 1 for n in range(200)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--rpm", "auto"], "give a number, or none"),
        (["--rpm", "0"], "not a number above 0"),
        (["--rpm", "10/x"], "no period"),
        (["--concurrency", "2.5"], "not a whole number"),
        (["--pause", "--resume"], "not allowed with"),
        (["--pausee"], "do you mean --pause?"),
        (["--model", "m"], "without a limit"),
        (["--account"], "without a limit"),
        (["--account", "--concurrency", "5"], "takes limits of the rate"),
        (["--account", "--rpm", "5", "--model", "m"], "takes limits of the rate"),
        ([], "no run of out.jsonl.journal is under way"),
        (["more"], "it takes one JOURNAL"),
    ],
)
def test_what_cannot_be_ordered_is_one_line(capsys, given, message):
    """It says what to give instead."""
    JOURNAL.touch()
    try:
        code = main(["ctl", "out.jsonl", *given])
    except SystemExit as exit_:
        code = exit_.code
    shown = capsys.readouterr().err
    assert code == 2
    assert message in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("reply", [{}, {"state": 1, "models": 5, "account": None, "changes": []}])
def test_a_run_of_another_version(capsys, monkeypatch, reply):
    """Whose replies have another form: one line."""
    JOURNAL.touch()
    monkeypatch.setattr("resilient_infe.cli.ctl.ask", lambda *_: reply)
    assert main(["ctl", str(JOURNAL)]) == 2
    assert "another version" in capsys.readouterr().err


def test_a_store_that_is_not_there(capsys):
    """One line."""
    assert main(["ctl", "nothing"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_system_without_unix_sockets(capsys, monkeypatch):
    """One line."""
    JOURNAL.touch()
    monkeypatch.delattr(socket, "AF_UNIX")
    assert main(["ctl", str(JOURNAL)]) == 2
    assert "this system has none" in capsys.readouterr().err


def test_what_is_set_in_words():
    """Each model has a line; what a run replies cannot move the cursor."""
    limit = {"dimension": "output_tokens", "period": 86_400.0, "limit": 5e6, "spent": 2}
    model = {"limits": [limit], "learned": None, "in_flight": 3, "waiting": 200}
    learned = {"per_minute": 612.3456, "dimension": "requests"}
    reply = {
        "state": "running",
        "models": {
            "": {**model, "limits": []},
            "a\x1b[31m": {**model, "concurrency": 8},
            "b": {**model, "limits": [], "learned": learned},
        },
        "account": {"limits": [{**limit, "period": 2.0, "limit": 1e9}], "learned": None},
        "changes": [],
    }
    assert in_lines(reply) == [
        "the run is running",
        "a limit to be learned; 3 under way, 200 wait",
        "a\\x1b[31m: 5,000,000 output tokens/day, 2 of it spent, 8 at once; 3 under way, 200 wait",
        "b: 612 requests/min (learned); 3 under way, 200 wait",
        "the account: no limit",
    ]
