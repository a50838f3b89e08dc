"""Limits by model in a run's TOML file: what they do, what is said of them, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from served import served

from resilient_infe.batch.files.layers import most_in_flight, stack_for
from resilient_infe.batch.files.options import JobOptions
from resilient_infe.batch.progress import limits_in_words
from resilient_infe.batch.report.history import History
from resilient_infe.batch.report.page import page
from resilient_infe.cli import main

pytestmark = pytest.mark.network

MODELS = ["infe-pulse", "infe-titan", "infe-pulse", "odd\nname"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with rows of three models in it, and no key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_API_KEY", raising=False)
    lines = (json.dumps({"prompt": "x", "model": MODELS[n % 4]}) for n in range(8))
    Path("in.jsonl").write_text("\n".join(lines))


def forecast(toml, capsys, *more):
    """Return the exit code of a dry run with a file of options, and what it prints."""
    Path("run.toml").write_text(toml)
    code = main(["run", "in.jsonl", "--config", "run.toml", "--dry-run", *more])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_each_model_has_its_own_limit(capsys):
    """A forecast reckons with each, and says which one is whose."""
    code, told = forecast(
        "requests-per-minute = 600\n[limits.infe-titan]\nrequests-per-minute = 2\nconcurrency = 4\n"
        '[limits."odd\\nname"]\ntokens-per-minute = 90_000\n',
        capsys,
    )
    assert code == 0
    assert (
        "limits: infe-titan 2 requests/minute; odd_name 600 requests/minute and 90,000 "
        "tokens/minute; each other model 600 requests/minute" in told
    )
    assert "takes at least 60 s" in told


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("requests-per-day = 2", "at 600 requests a minute it would take 24 h 0 min"),
        ("requests-per-day = 2", "it pauses 1 time at the limit of a day"),
        ("rpm = 600\n[account]\nrequests-per-day = 2", "takes at least 3 days 0 h"),
        ("tokens-per-day = 400", "it pauses 2 times at the limit of a day"),
        ("requests-per-day = 400", "at 600 requests a minute it would take 0 s"),
        ('rpm = "none"', "no limit is declared: it takes as long as the server does"),
        ("[limits.infe-titan]\nrpm = 2", "limits: infe-titan 2 requests/minute;"),
        ("[limits.infe-titan]\nrequests-per-day = 2", "limits: infe-titan 2 requests/day;"),
        ("[limits.infe-titn]\nrequests-per-day = 2", "do you mean infe-titan?"),
        ("[account]\nrpm = 2\nrequests-per-minute = 2", "[account] has requests-per-minute twice"),
        ("requests-per-day = 1e-320", "it pauses 999,999,999 times"),
        ('rpm = 7\n[limits."*"]\nrpm = 6', "[limits.'*'] repeats requests-per-minute"),
        ("input-tokens-per-minute = 5", "the input or the output alone are not in this estimate"),
    ],
)
def test_limits_of_any_kind_are_forecast(toml, told, capsys):
    """A limit of a day, of a part of the tokens, or with its short name, is one like others."""
    assert told in forecast(toml, capsys)[1]


@pytest.mark.parametrize(
    ("toml", "number"),  # of three models, each of which has two rows or more
    [("requests-per-day = 2", 6), ("[account]\nrequests-per-day = 3", 3)],
)
def test_a_day_that_is_used_up(toml, number, capsys):
    """The run pauses and says until when; the next one has not forgotten what was spent."""
    Path("run.toml").write_text(toml)
    command = ["run", "in.jsonl", "-o", "o.jsonl", "--config", "run.toml"]
    with served(models=tuple(MODELS)) as (url, model):
        for _ in range(2):
            assert main([*command, "--base-url", url]) == 3
            told = capsys.readouterr().err
            assert "there is room again at 2" in told
            assert "UTC | run the same again at 2" in told
            assert model.books.sends == number
    assert main(["status", "o.jsonl"]) == 0
    assert "do what is said there, then run the same command again" in capsys.readouterr().out


def test_the_limit_of_an_account(capsys):
    """It counts all rows, and stands beside what is learned of each model."""
    code, told = forecast("[account]\nrequests-per-minute = 4", capsys)
    assert code == 0
    assert "limits: each other model learned; the account 4 requests/minute" in told
    assert "takes at least 2 min" in told


def test_the_star_is_what_stands_outside(capsys):
    """The command line wins over it, as over every option of the file."""
    star = '[limits."*"]\nrequests-per-minute = 4'
    assert "takes at least 60 s" in forecast(star, capsys)[1]
    assert "takes at least 30 s" in forecast(star, capsys, "--requests-per-minute", "8")[1]
    code, told = forecast(f"requests-per-minute = 5\n{star}", capsys)
    assert (code, "repeats requests-per-minute" in told) == (2, True)


def test_tables_of_limits_may_stand_in_the_table_of_the_run(capsys):
    """As all other options may."""
    for head in ("[run.limits.infe-titan]", "[run]\nordered = true\n[limits.infe-titan]"):
        toml = f"{head}\nrequests-per-minute = 2"
        assert "infe-titan 2 requests/minute; each other model learned" in forecast(toml, capsys)[1]


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[limits.infe-tittan]\nrequests-per-minute = 5", "do you mean infe-titan?"),
        ("[limits.a]\nrequest-per-minute = 5", "do you mean requests-per-minute?"),
        ("[limits.a]\nspeed = 5", "[limits.a] has no option 'speed': it may have concurrency"),
        ("[limits.a]\nordered = true", "has no option 'ordered'"),
        ("[limits]\nrequests-per-minute = 5", "name a model, as in [limits.infe-titan]"),
        ("[limits.gpt-4.1]\nrequests-per-minute = 5", "a name with a dot needs quotes"),
        ("[limits.a]\nrequests-per-minute = 0", "0 is not a number above 0"),
        ("[limits.a]\nrequests-per-minute = nan", "nan is not a number above 0"),
        ("[limits.a]\nrequests-per-minute = true", "must be a string or a number"),
        ("[limits.a]\nconcurrency = 1.5", "1.5 is not a whole number of at least 1"),
        ('[limits.""]\nconcurrency = 1', "names nothing"),
        ('[limits."a b"]\nconcurrency = 1\n[limits.a_b]\nconcurrency = 1', "'a_b' twice"),
        ('[limits."\\u001b[31m"]\nx = 1', "[limits.__31m] has no option 'x'"),
        ("limits = 5", "limits is a table for each model"),
        ("[[limits]]\na = 5", "limits is a table for each model"),
        ("account = 5", "account is a table"),
        ("[account]", "account names no limit"),
        ("[account]\nconcurrency = 5", "[account] has no option 'concurrency'"),
        ("request-per-minute = 5", "do you mean requests-per-minute?"),
    ],
)
def test_what_cannot_be_meant_is_refused(toml, told, capsys):
    """Before anything is sent, with what to write instead."""
    code, shown = forecast(toml, capsys)
    assert code == 2
    assert told in shown
    assert "\x1b" not in shown


def test_a_limit_that_no_row_needs_is_told(capsys):
    """One file of options may serve many inputs."""
    code, told = forecast("[limits.other]\nrequests-per-minute = 5", capsys)
    assert code == 0
    assert "[limits.other] is not used: no row to send asks for that model" in told


def test_a_run_keeps_the_limit_of_each_model(capsys):
    """And its start, its progress and its report say them."""
    Path("run.toml").write_text(
        'requests-per-minute = "none"\n[limits.infe-titan]\nrequests-per-minute = 600\n'
        "[account]\nrequests-per-minute = 6_000"
    )
    with served(models=tuple(MODELS)) as (url, _):
        command = ["run", "in.jsonl", "-o", "o.jsonl", "--config", "run.toml", "--base-url", url]
        assert main(command) == 0
    told = capsys.readouterr().err
    assert "limits: infe-titan 600 requests/minute; each other model without a limit; " in told
    assert "the account 6,000 requests/minute" in told
    assert main(["report", "o.jsonl", "-o", "-"]) == 0
    drawn = capsys.readouterr().out
    assert "<td>infe-titan</td><td>600</td><td>-</td>" in drawn
    assert "<td>all of the account</td><td>6,000</td><td>-</td>" in drawn


def test_a_report_has_a_table_only_where_limits_differ():
    """One limit is in the chart."""
    same = {"requests": 600.0, "tokens": None}
    history = History("x", limits={"a": same, "b": same})
    assert "limit of" not in page(history)
    history.limits["<b>"] = {"requests": 1e9, "tokens": 5.0}
    assert "<td>&lt;b&gt;</td><td>-</td><td>5</td>" in page(history)


def test_limits_in_words():
    """A limit of none, and one that is to be learned, have their own words."""
    assert limits_in_words({"requests_per_minute": 1_200.0, "tokens_per_minute": None}) == (
        "1,200 requests/minute"
    )
    assert limits_in_words({"requests_per_minute": None}) == "learned"
    assert limits_in_words({"requests_per_minute": 1e9}) == "without a limit"


def test_the_rows_in_memory_are_enough_for_all_models():
    """The slots of each model that is named can be filled."""
    fixed = {"input": "i", "output": "o", "errors": "e", "journal": "j"}
    for concurrency, most in (({"a": 4, "*": 64}, 68), (7, 7)):
        stack = stack_for(JobOptions(**fixed, concurrency=concurrency))
        assert most_in_flight(stack) == most
    layers = [{"layer": "ConcurrencyLimiter", "slots": 512}, {"layer": "ErrorClassifier"}]
    assert most_in_flight(stack_for(JobOptions(**fixed, stack={"layers": layers}))) == 512
    assert most_in_flight(stack_for(JobOptions(**fixed, stack={"layers": layers[1:]}))) == 0


def test_runs_that_share_a_limit_are_forecast_with_their_part(capsys):
    """Four rows of a model at 4 a minute take a minute; with two runs at once, twice as long."""
    assert "takes at least 60 s" in forecast("rpm = 4", capsys)[1]
    assert "takes at least 2 min" in forecast("rpm = 4\nprocesses = 2", capsys)[1]
    assert "takes at least 2 min" in forecast("rpm = 4", capsys, "--processes", "2")[1]
    code, told = forecast('rpm = "none"', capsys, "--processes", "1000")
    assert code == 0
    assert "no limit is declared" in told


@pytest.mark.parametrize("wrong", ["0", "1.5", "many"])
def test_an_odd_number_of_runs_is_refused(wrong, capsys):
    """As a number of processes it is no whole number from 1."""
    with pytest.raises(SystemExit):
        forecast("", capsys, "--processes", wrong)
    assert "--processes" in capsys.readouterr().err


STACK = """
[[stack.layers]]
layer = "Retry"
max_attempts = 4
wait_out_refusals = true
[[stack.layers]]
layer = "ConcurrencyLimiter"
slots = 3
[[stack.layers]]
layer = "RateLimiter"
requests_per_minute = 6_000
[[stack.layers]]
layer = "ErrorClassifier"
"""


def test_a_stack_of_ones_own(capsys):
    """A forecast describes the layers; a run has them."""
    code, told = forecast(STACK, capsys)
    assert code == 0
    assert "Stack of 4 layers" in told
    assert "up to 4 attempts" in told
    Path("run.toml").write_text(STACK)
    with served(models=tuple(MODELS)) as (url, model):
        command = ["run", "in.jsonl", "-o", "o.jsonl", "--config", "run.toml", "--base-url", url]
        assert main(command) == 0
    assert len(Path("o.jsonl").read_text().splitlines()) == 8
    assert model.books.peak_in_flight <= 3


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[stack]\nlayer = []", "stack has no key 'layer': do you mean layers?"),
        ("[[stack.layers]]\nlayer = 'Retyr'", "there is no layer 'Retyr': do you mean Retry?"),
        ("rpm = 5\n" + STACK, "[stack] names all layers, and requests-per-minute is of a layer"),
        ("[limits.a]\nrpm = 5\n" + STACK, "put what [limits] and [account] say into it"),
        ("[account]\nrpm = 5\n" + STACK, "put what [limits] and [account] say into it"),
        ("stack = 5", "stack is a table"),
        ("[stacks]\nlayers = []", "do you mean [stack]?"),
    ],
)
def test_a_stack_that_cannot_be_read(toml, told, capsys):
    """One line, before anything is sent."""
    code, shown = forecast(toml, capsys)
    assert code == 2
    assert told in shown
    assert shown.count("\n") == 1


def test_options_of_the_command_are_not_mixed_with_a_stack(capsys):
    """They would change layers that are not there."""
    code, shown = forecast(STACK, capsys, "--max-attempts", "3")
    assert code == 2
    assert "max-attempts" in shown
