"""The command: what a run prints, writes and returns, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from served import served

from resilient_infe.cli import main
from resilient_infe.testing import Faults

pytestmark = pytest.mark.network


@pytest.fixture
def infe():
    """A stand-in without limits."""
    with served() as (url, model):
        yield url, model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with some requests in it, and no key around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_API_KEY", raising=False)
    write("in.jsonl", 20)
    return tmp_path


def write(name, rows):
    """Write so many requests."""
    lines = (json.dumps({"custom_id": f"r{n}", "prompt": f"number {n}"}) for n in range(rows))
    Path(name).write_text("\n".join(lines))


def run(url, *more, source="in.jsonl", out="out.jsonl"):
    """Run the command; returns its exit code."""
    fixed = ["--base-url", url, "--model", "infe-pulse", "--requests-per-minute", "none"]
    return main(["run", source, "-o", out, *fixed, *more])


def ids(name="out.jsonl"):
    """The ids in an output."""
    return [json.loads(line)["custom_id"] for line in Path(name).read_text().splitlines()]


def lines_of(name):
    """The lines of a file."""
    return Path(name).read_text().splitlines()


def exists(name):
    """Whether there is such a file."""
    return Path(name).exists()


def listed():
    """The files that are there."""
    return sorted(path.name for path in Path().iterdir())


ALL = [f"r{n}" for n in range(20)]


def test_a_file_of_requests_becomes_a_file_of_results(infe, capsys):
    """Every row is answered; what is printed says where, and what to do next; stdout is empty."""
    url, model = infe
    assert run(url) == 0
    assert sorted(ids()) == sorted(ALL)
    assert model.books.answered == 20
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "20 rows have a result" in shown.err
    assert "results: out.jsonl" in shown.err
    assert "resilient-infe report out.jsonl.journal" in shown.err
    assert not exists("out.errors.jsonl")
    assert main(["status", "out.jsonl.journal"]) == 0
    assert "there is nothing left to do" in capsys.readouterr().out
    assert main(["report", "out.jsonl.journal"]) == 0
    assert Path("report.html").stat().st_size > 5_000


def test_the_same_again_sends_nothing(infe, capsys):
    """A second run writes the same output from the journal alone, also where the first is gone."""
    url, model = infe
    assert run(url, "--quiet") == 0
    first = sorted(Path("out.jsonl").read_text().splitlines())
    Path("out.jsonl").unlink()
    assert run(url, "--ordered") == 0
    assert model.books.sends == 20
    assert ids() == ALL
    assert sorted(Path("out.jsonl").read_text().splitlines()) == first
    assert "20 of 20 rows have a result, 0 to send" in capsys.readouterr().err


def test_failures_have_a_file_of_their_own(capsys):
    """Failed rows are in --errors, the exit code is 1, and the next run sends them again."""
    with served(faults=Faults(script=[400, 200, 500])) as (url, model):
        assert run(url, "--max-attempts", "1", "--concurrency", "1") == 1
        assert len(ids()) == 18
        assert len(ids("out.errors.jsonl")) == 2
        assert "failures: out.errors.jsonl" in capsys.readouterr().err
        assert main(["status", "out.jsonl.journal"]) == 0
        assert "failed: 1 invalid, 1 server_error; 1 of them for good" in capsys.readouterr().out
        assert run(url) == 1
        assert model.books.sends == 21
        assert len(ids("out.errors.jsonl")) == 1
        assert run(url, "--retry-failed") == 0
        assert sorted(ids()) == sorted(ALL)
        assert not exists("out.errors.jsonl")


def test_bad_lines(infe, capsys):
    """Nothing is sent while a line is bad; without it the rest goes on."""
    url, model = infe
    with Path("in.jsonl").open("a") as file:
        file.write('\noops\n{"custom_id": "r3", "prompt": "again"}\n')
    assert run(url) == 2
    shown = capsys.readouterr().err
    assert "line 21: it is not JSON" in shown
    assert "line 22: the custom_id 'r3' was used before" in shown
    assert "--skip-bad" in shown
    assert model.books.sends == 0
    assert not exists("out.jsonl.journal")
    assert run(url, "--skip-bad") == 1
    assert sorted(ids()) == sorted(ALL)
    errors = [json.loads(line)["error"] for line in lines_of("out.errors.jsonl")]
    assert [each["line"] for each in errors] == [21, 22]
    assert "2 bad lines skipped" in capsys.readouterr().err


def test_a_key_that_is_not_accepted(capsys):
    """The run pauses at once with the advice, and goes on with the right key, from a file."""
    with served(api_keys=["right"]) as (url, model):
        Path("key").write_text("wrong\n")
        assert run(url, "--api-key-file", "key", "--concurrency", "2") == 3
        shown = capsys.readouterr().err
        assert "paused: 401" in shown
        assert "check the key" in shown
        assert "run the same again" in shown
        assert "wrong" not in shown
        assert b"wrong" not in Path("out.jsonl.journal").read_bytes()
        assert model.books.sends <= 4
        assert main(["status", "out.jsonl.journal"]) == 0
        assert "paused" in capsys.readouterr().out
        Path("key").write_text("right\n")
        assert run(url, "--api-key-file", "key") == 0
        assert sorted(ids()) == sorted(ALL)


def test_a_model_that_is_unknown(capsys):
    """The command is said again, with the model to be put right; the rows are sent by it."""
    write("in.jsonl", 60)
    with served() as (url, _):
        assert run(url, "--model=infe-pulze") == 3
        shown = capsys.readouterr().err
        assert "to go on, run it with another --model (or --base-url):\n" in shown
        assert "run the same again" not in shown
        assert "infe-pulze" not in shown.partition("another --model")[2].partition("\npaused")[0]
        assert run(url) == 0
        assert len(ids()) == 60


def test_a_single_row_of_a_model_that_is_unknown(capsys):
    """It failed for good, so the option that sends it again is named too."""
    write("in.jsonl", 1)
    with served() as (url, _):
        assert run(url, "--model", "infe-pulze") == 1
        shown = capsys.readouterr().err
        assert "if --model is wrong, give another one and add --retry-failed" in shown
        assert run(url, "--retry-failed") == 0
        assert "1 row has a result" in capsys.readouterr().err


def test_rows_name_a_model_that_is_unknown(capsys):
    """There is no option to put right, but the rows."""
    lines = (json.dumps({"prompt": str(n), "model": "infe-pulze"}) for n in range(60))
    Path("in.jsonl").write_text("\n".join(lines))
    with served() as (url, _):
        command = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url]
        assert main(command) == 3
        assert "mend `model` in the rows (or --base-url)" in capsys.readouterr().err


def test_an_estimate_that_fails_later_is_told_with_its_row(infe, capsys):
    """The run goes on with the built-in one, and no traceback is shown."""
    Path("late_count.py").write_text(
        "def count(body):\n    if '7' in body['messages'][0]['content']: raise ValueError('no')\n"
        "    return 5\n"
    )
    url, _ = infe
    assert run(url, "--tokens-per-minute", "600000", "--estimate", "late_count:count") == 0
    shown = capsys.readouterr().err
    assert "--estimate late_count:count raised ValueError (no) for row r7: the built-in" in shown
    assert "Traceback" not in shown


def test_a_dry_run_sends_nothing(infe, capsys):
    """It checks every line, and says how many calls, tokens and minutes a run would take."""
    url, model = infe
    write("in.jsonl", 1_200)
    assert main(["run", "in.jsonl", "--base-url", url, "--model", "m", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "1,200 requests, 0 bad lines" in shown
    assert "m: 1,200 to send" in shown
    assert "at 600 requests a minute it would take 2 min" in shown
    rates = ["--requests-per-minute", "60", "--tokens-per-minute", "1000"]
    assert run(url, "--dry-run", *rates, "--limit", "600") == 0
    assert "at these limits it takes at least 2 h 36 min" in capsys.readouterr().out
    assert model.books.sends == 0
    assert listed() == ["in.jsonl"]
    with Path("in.jsonl").open("a") as file:
        file.write("\n5\n")
    assert run(url, "--dry-run") == 1
    assert "line 1201: it is a number" in capsys.readouterr().out


def test_a_limit_of_rows(infe, capsys):
    """--limit sends so many that are not done, and says how many are left."""
    url, model = infe
    assert run(url, "--limit", "8") == 0
    assert "12 rows are left" in capsys.readouterr().err
    assert (len(ids()), model.books.sends) == (8, 8)
    assert run(url, "--limit", "8") == 0
    assert (len(ids()), model.books.sends) == (16, 16)
    assert run(url) == 0
    assert (sorted(ids()), model.books.sends) == (sorted(ALL), 20)


def test_stdin_and_stdout(infe):
    """- reads from stdin and writes to stdout, and nothing else is written there."""
    url, _ = infe
    command = [sys.executable, "-m", "resilient_infe", "run", "-", "-o", "-", "--journal", "j",
               "--base-url", url, "--model", "infe-pulse", "--quiet",
               "--requests-per-minute", "none"]  # fmt: skip
    given = Path("in.jsonl").read_bytes()
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    rows = [json.loads(line)["custom_id"] for line in done.stdout.splitlines()]
    assert sorted(rows) == sorted(ALL)
    given += b'\n{"custom_id": "r3", "prompt": "again"}\n'
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"line 21: the custom_id 'r3' was used before" in done.stderr


def test_options_from_a_file(infe, capsys):
    """A TOML file has the same names; the command line wins; a wrong name or value is told."""
    url, _ = infe
    Path("run.toml").write_text(
        f'[run]\ninput = "in.jsonl"\noutput = "a.jsonl"\nbase-url = "{url}"\n'
        'model = "infe-pulse"\nordered = true\nrequests-per-minute = "none"\n'
        "concurrency = 4\nquiet = true\n"
    )
    assert main(["run", "--config", "run.toml"]) == 0
    assert ids("a.jsonl") == ALL
    assert main(["run", "--config", "run.toml", "-o", "b.jsonl", "--limit", "3"]) == 0
    assert len(ids("b.jsonl")) == 3
    for line, told in (
        ("speed = 5", "unknown option 'speed'; valid options: api-key-file"),
        ("concurrency = 0", "concurrency: 0 is not a whole number of at least 1"),
        ("concurrency = 'many'", "concurrency: many is not a whole number of at least 1"),
        ("tokens-per-row = 1e3", "tokens-per-row: 1000.0 is not a whole number of at least 1"),
        ("deadline = 'soon'", "deadline: soon is not a number above 0"),
        ("requests-per-minute = 'all'", "all is not a number above 0; or give auto, or none"),
        ("ordered = 1", "ordered must be true or false"),
        ("limit = [1]", "limit must be a string or a number"),
        ("limit =", "is not valid TOML"),
        ("limit = " + "[" * 2_000 + "]" * 2_000, "is nested too deeply"),
        ("a." * 10_000 + "a = 1", "over 16,384 bytes"),
        ('input = "a\\u0000b"', "input contains a NUL character"),
    ):
        Path("bad.toml").write_text(line)
        assert main(["run", "--config", "bad.toml"]) == 2
        assert told in capsys.readouterr().err
    assert main(["run", "--config", "nowhere.toml"]) == 2
    assert "nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "which file (or - for stdin)?"),
        (["run", "in.jsonl"], "--output"),
        (["run", "in.jsonl", "-o", "-"], "--journal"),
        (["run", "in.jsonl", "-o", "out.jsonl"], "no API key: set INFE_API_KEY"),
        (["run", "in.jsonl", "-o", "o", "--api-key-file", "nowhere"], "give the path of a file"),
        (["run", "in.jsonl", "-o", "o", "--base-url", "http://u:pw@127.0.0.1/v1"], "credentials"),
        (["run", "in.jsonl", "-o", "o", "--base-url", "http://h/v1?key=pw", "--dry-run"], "query"),
        (["run", "a\0b", "-o", "o"], "NUL character"),
        (["run", "in.jsonl", "-o", "a\0b"], "NUL character"),
        (["run", "--config", "a\0b"], "NUL character"),
        (["status", "a\0b"], "NUL character"),
        (["report", "taken", "-o", "a\0b"], "NUL character"),
        (["run", "nowhere", "-o", "o", "--base-url", "http://localhost:1/v1"], "cannot be read"),
        (["run", "in.jsonl", "-o", "in.jsonl"], "the same file"),
        (["run", "in.jsonl", "-o", "x", "--journal", "x"], "the same file"),
        (["run", "in.jsonl", "-o", "no/such/folder"], "no folder"),
        (["run", "in.jsonl", "-o", "taken"], "taken exists and no journal belongs to it"),
        (["run", "in.jsonl", "-o", "x", "--journal", "taken", "--base-url",
          "http://localhost:1/v1"], "is no journal"),
        (["run", "in.jsonl", "-o", "x", "--base-url", "infe.io"], "base_url"),
        (["status", "nowhere"], "cannot be read"),
        (["status", "taken"], "no journal"),
        (["report", "nowhere"], "cannot be read"),
        (["report", "taken", "-o", "r.html"], "no journal"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(arguments, told, capsys, monkeypatch):
    """One sentence that says what to give, exit code 2, and nothing is left behind."""
    if "infe.io" in arguments:
        monkeypatch.setenv("INFE_API_KEY", "k")
    Path("taken").write_text("somebody's\n")
    before = listed()
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.startswith("resilient-infe: ")
    assert "Traceback" not in shown
    assert listed() == before
    assert Path("taken").read_text() == "somebody's\n"


@pytest.mark.parametrize("option", ["--api-key-file", "--api-key"])
def test_a_key_in_place_of_a_path_is_not_quoted(option, capsys):
    """The message says what to give, and does not show the key."""
    for key in ("infe_live_CANARY0123456789", "Bearer infe_live_CANARY", "x" * 5_000 + "CANARY"):
        assert main(["run", "in.jsonl", "-o", "o", option, key]) == 2
        shown = capsys.readouterr().err
        assert "--api-key-file" in shown
        assert "CANARY" not in shown


def test_a_report_never_replaces_its_journal(infe, capsys):
    """The one file that must not be lost is not written over."""
    assert run(infe[0], "--quiet") == 0
    assert main(["report", "out.jsonl.journal", "-o", "out.jsonl.journal"]) == 2
    assert "would replace the journal" in capsys.readouterr().err
    assert main(["report", "out.jsonl.journal", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")


def test_json_log(infe, capsys):
    """Progress, events and messages are one JSON object a line."""
    assert run(infe[0], "--json-log") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0]["event"] == "progress"
    assert (lines[0]["done"], lines[0]["rows"]) == (20, 20)
    said = [(line["level"], line["message"]) for line in lines if line["event"] == "message"]
    assert ("info", "results: out.jsonl") in said
    times = [datetime.fromisoformat(line["ts"]) for line in lines]
    assert times == sorted(times)
    assert {each.utcoffset() for each in times} == {timedelta(0)}


def test_status_as_json(infe, capsys):
    """The same as the words, for programs."""
    assert run(infe[0], "--quiet", "--limit", "5") == 0
    assert main(["status", "out.jsonl.journal", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["rows"], told["to_send"], told["ended"]) == (5, 20, 15, "finished")


def test_another_input_does_not_replace_the_results(infe, capsys):
    """Results of rows that are not in the input are not written over, whatever the input is."""
    url, model = infe
    assert run(url) == 0
    before = Path("out.jsonl").read_text()
    Path("other.jsonl").write_text('{"custom_id": "x", "prompt": "y"}\n')
    assert run(url, source="other.jsonl") == 2
    assert "has the results of 20 rows that are not in other.jsonl" in capsys.readouterr().err
    command = [sys.executable, "-m", "resilient_infe", "run", "-", "-o", "out.jsonl",
               "--base-url", url, "--model", "infe-pulse"]  # fmt: skip
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "20 rows that are not in -" in done.stderr
    assert Path("out.jsonl").read_text() == before
    assert model.books.sends == 20
    write("in.jsonl", 25)  # more rows are welcome
    assert run(url) == 0
    assert len(ids()) == 25


def test_an_input_that_can_be_read_but_once(infe):
    """A pipe with a name is read once, as stdin is, and every row of it is sent."""
    url, _ = infe
    os.mkfifo("pipe")
    text = Path("in.jsonl").read_text()
    writer = threading.Thread(target=lambda: Path("pipe").write_text(text))
    writer.start()
    assert run(url, source="pipe") == 0
    writer.join()
    assert sorted(ids()) == sorted(ALL)


@pytest.mark.parametrize("pack", ["gzip", "zstd"])
def test_an_input_that_breaks_off(infe, capsys, pack):
    """It is refused before anything is sent, and the whole file is then read as any other."""
    url, model = infe
    rows = Path("in.jsonl").read_bytes()
    head = b"\x28\xb5\x2f\xfd\x00\x58" + (len(rows) << 3).to_bytes(3, "little")
    packed = gzip.compress(rows) if pack == "gzip" else head + rows + b"\x01\x00\x00"
    Path("in.jsonl").write_bytes(packed[:-3])  # for zstd, at the edge of a block
    assert run(url) == 2
    assert "in.jsonl breaks off after line 19" in capsys.readouterr().err
    assert (model.books.answered, exists("out.jsonl")) == (0, False)
    Path("in.jsonl").write_bytes(packed)
    assert run(url) == 0
    assert sorted(ids()) == sorted(ALL)


def test_an_output_through_a_link(infe):
    """A link stays one, also when a run goes on; what is no file is written to as it is."""
    Path("real").mkdir()
    Path("out.jsonl").symlink_to(Path("real/out.jsonl"))
    assert run(infe[0], "--limit", "5") == 0
    assert run(infe[0]) == 0
    assert Path("out.jsonl").is_symlink()
    assert len(ids("real/out.jsonl")) == 20
    assert run(infe[0], "--journal", "j", "--errors", "e", out="/dev/null") == 0
    assert run(infe[0], "--journal", "j", "--errors", "e", out="/dev/null") == 0
    assert not Path("/dev/null").is_file()


def test_a_fresh_start_leaves_nothing_old(infe):
    """--overwrite replaces the failures of before as well."""
    Path("out.jsonl").write_text("old\n")
    Path("out.errors.jsonl").write_text("old\n")
    assert run(infe[0]) == 2
    assert run(infe[0], "--overwrite") == 0
    assert len(ids()) == 20
    assert not exists("out.errors.jsonl")


def test_an_output_that_cannot_be_made(infe, capsys):
    """It is told before anything is sent."""
    Path("out.jsonl").mkdir()
    assert run(infe[0]) == 2
    assert "out.jsonl cannot be written" in capsys.readouterr().err
    assert infe[1].books.sends == 0


def test_a_reader_of_stderr_that_goes_away():
    """The run goes on when nobody reads its progress any more."""
    with served(latency=0.01) as (url, model):
        write("in.jsonl", 1_500)
        with started(url, "--json-log", "--requests-per-minute", "60000") as process:
            wait_for(lambda: model.books.sends > 5)
            process.stderr.close()
            process.wait(30)
        assert process.returncode == 0
    assert len(ids()) == 1_500


def test_a_shortened_option_is_none(capsys):
    """--conf is not taken for --config, whose file would be missed."""
    with pytest.raises(SystemExit):
        main(["run", "--conf", "run.toml"])
    assert "--conf" in capsys.readouterr().err


def test_a_paused_run_that_had_done_nothing(infe):
    """The run after it writes straight into its output, which can be read while it goes on."""
    with served(api_keys=["right"]) as (url, _):
        assert run(url) == 3
    url, _ = infe
    with started(url, "--requests-per-minute", "600", "--quiet") as process:
        wait_for(lambda: exists("out.jsonl") and len(lines_of("out.jsonl")) > 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert 2 < len(ids()) < 20


def started(url, *more):
    """Start the command as a process of its own, and wait until it sends."""
    command = [sys.executable, "-m", "resilient_infe", "run", "in.jsonl", "-o", "out.jsonl",
               "--base-url", url, "--model", "infe-pulse", *more]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(happened):
    """Wait until something happened in another process."""
    for _ in range(1_000):
        if happened():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_under_way_end(number):
    """The calls that were sent end and are kept; the rest waits for the same command."""
    with served(latency=0.4) as (url, model):
        write("in.jsonl", 200)
        with started(url, "--concurrency", "8", "--requests-per-minute", "1200") as process:
            wait_for(lambda: model.books.sends >= 6)
            process.send_signal(number)
            shown = process.communicate(timeout=20)[1]
        assert process.returncode == 128 + number
        assert "stopping: what is under way comes to its end" in shown
        assert "to go on, run the same again:\n  python -m resilient_infe run in.jsonl" in shown
        sent = model.books.sends
        assert len(ids()) == sent < 100
        assert run(url, "--quiet") == 0
        assert model.books.sends == 200
        assert len(set(ids())) == 200


def test_a_second_signal_stops_at_once():
    """Whoever does not want to wait need not."""
    with served(latency=30.0) as (url, model):
        with started(url, "--requests-per-minute", "none") as process:
            wait_for(lambda: model.books.sends >= 5)
            process.send_signal(signal.SIGINT)
            assert "stopping" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
        assert process.returncode == 130


def test_a_pipe_that_nobody_writes_to():
    """Ctrl-C ends a run that waits for its input."""
    with served() as (url, _):
        command = [sys.executable, "-m", "resilient_infe", "run", "-", "-o", "out.jsonl",
                   "--base-url", url, "--model", "infe-pulse"]  # fmt: skip
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            process.stdin.write('{"prompt": "one"}\n')
            process.stdin.flush()
            wait_for(lambda: exists("out.jsonl") and Path("out.jsonl").stat().st_size)
            process.send_signal(signal.SIGINT)
            process.stderr.readline()
            wait_for(lambda: process.poll() is not None)
        assert process.returncode == 130
    assert ids() == ["line-1"]


def test_what_is_said_of_failures(capsys):
    """The advice fits: what the same command would send again is told, and what it would not."""
    with served(faults=Faults(script=[400])) as (url, _):
        assert run(url, "--concurrency", "1") == 1
        shown = capsys.readouterr().err
        assert "1 failed for good: mend those rows, or add --retry-failed" in shown
        assert "once more" not in shown
        assert run(url) == 1
        shown = capsys.readouterr().err
        assert "19 of 20 rows have a result, 1 failed, 0 to send" in shown


def test_a_server_that_cannot_be_reached(capsys):
    """The line that says what is waited for names the base URL, and not the server's failures."""
    write("in.jsonl", 100)
    url = "http://127.0.0.1:9/v1"
    with started(url, "--requests-per-minute", "none") as process:
        lines = (process.stderr.readline() for _ in range(30))
        assert any("cannot be reached (is the base URL right?)" in line for line in lines)
        process.kill()


def test_a_forgotten_model(infe, capsys):
    """Where no line is a request, the last word is not to skip them all."""
    Path("in.jsonl").write_text('{"prompt": "x"}\n' * 30)
    assert main(["run", "in.jsonl", "-o", "out.jsonl", "--base-url", infe[0]]) == 2
    shown = capsys.readouterr().err
    assert "give --model infe-pulse" in shown
    assert "line 1: it names no" in shown
    assert "and 29 more such lines: 2, 3, 4, 5, 6 ...)" in shown
    assert "no line of in.jsonl is a request" in shown
    assert "--skip-bad" not in shown


def test_no_key_was_given(capsys):
    """A server on this machine that wants a key after all: the pause says that none was given."""
    with served(api_keys=["right"]) as (url, _):
        assert run(url) == 3
    assert "no key was given: set INFE_API_KEY" in capsys.readouterr().err


def test_the_output_stands_for_its_journal(infe, capsys):
    """Status and report take the output's name, too; salvage says where the old file is."""
    assert run(infe[0], "--quiet") == 0
    assert main(["status", "out.jsonl"]) == 0
    assert "out.jsonl.journal: 20 of 20 rows" in capsys.readouterr().out
    assert main(["report", "out.jsonl"]) == 0
    raw = Path("out.jsonl.journal").read_bytes()
    Path("out.jsonl.journal").write_bytes(raw.replace(b"r7", b"x7", 1))
    assert run(infe[0]) == 2
    assert "--salvage" in capsys.readouterr().err
    assert run(infe[0], "--salvage") == 0
    assert "the damaged journal is kept as out.jsonl.journal.damaged" in capsys.readouterr().err
    assert len(ids()) == 20


def test_an_empty_input(infe, capsys):
    """It is no error, and it is said."""
    Path("in.jsonl").write_text("\n\n")
    assert run(infe[0]) == 0
    assert "there is nothing in in.jsonl" in capsys.readouterr().err


def test_a_run_after_one_in_which_all_failed():
    """With nothing to take over, the output can be read at once, and is there after a Ctrl-C."""
    with served(faults=Faults(rates={500: 1.0})) as (url, _):
        assert run(url, "--max-attempts", "1", "--limit", "10", "--keep-going") == 1
    with served() as (url, _):
        with started(url, "--requests-per-minute", "600", "--quiet") as process:
            wait_for(lambda: exists("out.jsonl") and len(lines_of("out.jsonl")) > 2)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
        assert 2 < len(ids()) < 20
        assert run(url) == 0
        assert sorted(ids()) == sorted(ALL)
        assert not exists("out.errors.jsonl")


def test_an_output_that_is_full(infe, capsys):
    """What is under way ends and is kept in the journal; another output then has all of it."""
    url, model = infe
    files = ["--journal", "j", "--errors", "e"]
    assert run(url, *files, out="/dev/full") == 2
    shown = capsys.readouterr().err
    assert "/dev/full cannot be written (No space left on device)" in shown
    assert "safe in the journal" in shown
    assert run(url, *files) == 0
    assert sorted(ids()) == sorted(ALL)
    assert model.books.sends == 20


def test_tokens_are_counted_as_told(infe, capsys):
    """Each row costs what --tokens-per-row says, or what a function of the user's own returns."""
    url, _ = infe
    Path("own_tokens.py").write_text("def count(body):\n    return 3 * len(body['messages'])\n")
    for told, shown in (
        (["--tokens-per-row", "50"], "about 1.0k tokens (by your own count)"),
        (["--estimate", "own_tokens:count"], "about 60 tokens (by your own count)"),
        ([], "(characters / 4, and the output that is asked for)"),
    ):
        assert run(url, "--dry-run", *told) == 0
        assert shown in capsys.readouterr().out
    assert run(url, "--tokens-per-minute", "600000", "--estimate", "own_tokens:count") == 0
    assert sorted(ids()) == sorted(ALL)


@pytest.mark.parametrize(
    ("source", "named", "told"),
    [
        ("", "nothing", "takes MODULE:FUNCTION"),
        ("", "no_such_module:f", "cannot be imported: ModuleNotFoundError"),
        ("oops(", "MODULE:f", "cannot be imported: SyntaxError"),
        ("1 / 0", "MODULE:f", "cannot be imported: ZeroDivisionError"),
        ("", "MODULE:f", "has no attribute 'f'"),
        ("f = 5", "MODULE:f", "must be a function of a request's body; got 5"),
        ("async def f(body): ...", "MODULE:f", "must not be async"),
        ("def f(): ...", "MODULE:f", "does not take that"),
        ("def f(body): raise KeyError('x')", "MODULE:f", "raised KeyError for line 1: 'x'"),
        ("def f(body): return -5", "MODULE:f", "for line 1 it returned -5"),
        ("def f(body): return '9'", "MODULE:f", "for line 1 it returned '9'"),
        ("def f(body): return float('nan')", "MODULE:f", "for line 1 it returned nan"),
    ],
)
def test_a_counter_that_cannot_be_used_is_told(infe, capsys, source, named, told, request):
    """Nothing is sent, and the message says what the module or the function did."""
    url, model = infe
    module = f"counter_{abs(hash(request.node.name))}"
    Path(f"{module}.py").write_text(source)
    assert run(url, "--estimate", named.replace("MODULE", module)) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.startswith("resilient-infe: ")
    assert model.books.sends == 0


def test_two_ways_to_count_are_refused(infe, capsys):
    """Only one of them can be meant."""
    assert run(infe[0], "--estimate", "a:b", "--tokens-per-row", "5") == 2
    assert "not both" in capsys.readouterr().err


def test_a_run_loads_no_log(infe):
    """Its display says what happens; to import structlog takes as long as 400 rows do."""
    command = ["run", "in.jsonl", "-o", "out.jsonl", "--base-url", infe[0], "--model", "infe-pulse"]
    code = f"import sys; from resilient_infe.cli import main; main({command}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(ids()) == 20
    assert not {"structlog", "rich"} & set(done.stdout.split())
