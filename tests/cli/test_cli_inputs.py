"""The command's inputs and the values of its options: what is read, and what of the rest."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import threading
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from resilient_infe.batch.kinds import rate, size
from resilient_infe.batch.progress import NO_LIMIT
from resilient_infe.cli import main
from resilient_infe.cli.display import JsonLines
from resilient_infe.events import CircuitClosed, CircuitOpened
from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, with a key around and no proxy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFE_API_KEY", "sk-test")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def listed():
    """The names of the files that are there."""
    return sorted(path.name for path in Path().iterdir())


def dry(name, *more, model="infe-pulse"):
    """Look at an input."""
    return main(["run", name, "--dry-run", "--model", model, *more])


@pytest.mark.parametrize(
    ("name", "content", "more"),
    [
        ("in.json", b'["a", {"prompt": "b"}]', ()),
        ("in.csv", b"prompt,x\na,1\nb,2\n", ()),
        ("in.CSV", b"id;review\n1;a\n2;b\n", ("--prompt-column", "review", "--id-column", "id")),
        ("in.tsv", b"prompt\tx\na\t1\nb\t2\n", ()),
        ("in.jsonl", b'{"q": "a"}\n{"q": "b"}\n', ("--prompt-column", "q")),
        ("in.jsonl", b'\xef\xbb\xbf"a"\r\n\r\n"b"', ()),
    ],
)
def test_forms_that_are_read(name, content, more, capsys):
    """Each is an input of two requests."""
    Path(name).write_bytes(content)
    assert dry(name, *more) == 0
    assert f"{name}: 2 requests, 0 bad lines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PAR1\x15", "is Parquet"),
        ('{"prompt": "x"}\n'.encode("utf-16"), "is UTF-16"),
        (b"PK\x03\x04", "packed with zip"),
        (b"What is up?\nHow are you?\n" * 50, "no JSON on any"),
        (b'{"recordId": "a", "modelInput": {}}\n' * 50, "Bedrock's"),
        (b'{"custom_id": "a", "params": {}}\n' * 50, "Anthropic's"),
        (b'{"custom_id": "a", "response": {}, "error": null}\n' * 50, "a result, not a request"),
        ('"café"\n'.encode("cp1252") * 50, "not UTF-8 at byte 5: convert the file, as by iconv"),
    ],
)
def test_other_forms_get_one_line(content, told, capsys):
    """It is not said again for each row, nothing is sent, and nothing is left behind."""
    Path("in.jsonl").write_bytes(content)
    assert main(["run", "in.jsonl", "-o", "out.jsonl", "--model", "m"]) == 2
    shown = capsys.readouterr().err
    assert shown.count(told) == 1
    assert len(shown.splitlines()) <= 2
    assert listed() == ["in.jsonl"]


def test_what_is_no_file(capsys, monkeypatch):
    """A folder, a file that is not there, a closed stdin."""
    Path("some").mkdir()
    assert main(["run", "some", "-o", "out.jsonl"]) == 2
    assert "some is a folder: give one file, or cat some/*.jsonl" in capsys.readouterr().err
    assert main(["run", "nowhere", "-o", "out.jsonl"]) == 2
    assert "nowhere cannot be read: No such file" in capsys.readouterr().err
    assert listed() == ["some"]

    def closed(*_, **__):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr("builtins.open", closed)
    assert dry("-") == 2
    assert "stdin cannot be read: Bad file descriptor" in capsys.readouterr().err


def test_long_lines(capsys):
    """--max-line decides what is too long, and the message names it."""
    Path("in.jsonl").write_text(json.dumps("x" * 2_000_000))
    assert dry("in.jsonl", "--max-line", "1MiB") == 1
    assert "longer than 1 MiB: is a line break missing?" in capsys.readouterr().out
    assert dry("in.jsonl", "--max-line", "3MiB") == 0


def test_a_row_of_a_table_is_not_called_a_line(capsys, monkeypatch):
    """A row of CSV may take many lines, so messages count rows."""
    Path("in.csv").write_text('custom_id,prompt\na,"x\ny"\na,b\n')
    assert dry("in.csv") == 1
    assert "row 2: the custom_id 'a' was used before" in capsys.readouterr().out
    Path("uncounted.py").write_text("def count(body): raise ValueError")
    monkeypatch.syspath_prepend(".")
    assert dry("in.csv", "--estimate", "uncounted:count") == 2
    assert "ValueError for row 1" in capsys.readouterr().err


def test_a_dry_run_says_what_it_could_not_estimate(capsys):
    """Rows without a text that counts are not passed over in silence."""
    Path("in.jsonl").write_text('{"messages": [{}]}\n"hi"\n{"messages": [null]}\n')
    assert dry("in.jsonl") == 0
    assert "2 of them could not be estimated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "per_minute"),
    [("600", 600), ("10/s", 600), ("10 / sec", 600), ("600/min", 600), ("36000/h", 600),
     ("0.5/s", 30), ("14400/day", 10), ("1e3", 1000), ("none", NO_LIMIT * 1e6), ("auto", None)],
)  # fmt: skip
def test_limits(text, per_minute):
    """A limit is one a minute, or has its period."""
    assert rate(text) == (per_minute if per_minute is None else pytest.approx(per_minute))


@pytest.mark.parametrize("text", ["", "/s", "10/", "10/fortnight", "10/s/s", "nan/s", "-1/s", "0",
                                  "inf", "1e308/s", "1_0x", "auto/s", "10//s"])  # fmt: skip
def test_limits_that_cannot_be(text):
    """The message says what a limit looks like."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"600, 10/s|or give auto, or none"):
        rate(text)


def test_sizes():
    """Units of 1024 and of 1000, or none."""
    sizes = {"64MiB": 2**26, "64 MiB": 2**26, "1k": 1024, "1KB": 1000, "65536": 65_536, "0.5m":
             2**19, "2GiB": 2**31, "10b": 10}  # fmt: skip
    assert {text: size(text) for text in sizes} == sizes
    for text in ("", "MiB", "0", "-1", "1e99", "nan", "5 lines", "inf", "0.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="give one like 64MiB"):
            size(text)


def test_short_forms_of_limits(capsys):
    """--rpm and --tpm are the long ones, also in a file of options."""
    Path("in.jsonl").write_text('"hi"\n' * 600)
    assert dry("in.jsonl", "--rpm", "1/s") == 0
    assert "at these limits it takes at least 10 min" in capsys.readouterr().out
    assert dry("in.jsonl", "--tpm", "257/s") == 0
    assert "at these limits it takes at least 10 min" in capsys.readouterr().out
    Path("run.toml").write_text('input = "in.jsonl"\nrpm = "1/s"\nmax-line = "64MiB"\n')
    assert main(["run", "--config", "run.toml", "--dry-run", "--model", "m"]) == 0
    assert "at these limits it takes at least 10 min" in capsys.readouterr().out


def test_lines_of_a_log(capsys):
    """Each has the time in UTC, a level and an event's name, and is valid JSON."""
    log = JsonLines()
    log.say("results: out")
    log.say("no room", logging.ERROR)
    log(CircuitOpened("m", "closed", "503"))
    log(CircuitClosed("m", "half_open", "a probe passed"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["info", "error", "warning", "warning"]
    assert [line["event"] for line in lines[1:3]] == ["message", "circuit.opened"]
    assert all(line["ts"].endswith("Z") and datetime.fromisoformat(line["ts"]) for line in lines)
    assert all(list(line)[:3] == ["ts", "level", "event"] for line in lines)


@contextmanager
def served():
    """Serve a stand-in from a thread; yields its URL."""
    ready, over, found = threading.Event(), threading.Event(), []

    async def serve():
        async with InfeServer(InfeModel(latency=0.0)).running() as url:
            found.append(url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


@pytest.mark.network
def test_a_table_becomes_a_file_of_results(capsys, monkeypatch):
    """Its ids are kept; a proxy of the environment's is not asked for this machine."""
    Path("in.csv").write_text("id,review\n7,good\n8,bad\n9\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with served() as url:
        command = ["run", "in.csv", "-o", "out.jsonl", "--model", "infe-pulse", "--base-url", url,
                   "--prompt-column", "review", "--id-column", "id", "--quiet"]  # fmt: skip
        assert main(command) == 2
        assert "row 3: its cells are 1 and the columns 2" in capsys.readouterr().err
        assert main([*command, "--skip-bad"]) == 1
    found = [json.loads(line)["custom_id"] for line in Path("out.jsonl").read_text().splitlines()]
    assert sorted(found) == ["7", "8"]


@pytest.mark.network
def test_a_proxy_that_does_not_answer(capsys, monkeypatch):
    """A run goes through the proxy that is named, by the option or by the environment."""
    Path("in.jsonl").write_text('"hi"\n')
    command = ["run", "in.jsonl", "-o", "out.jsonl", "--model", "m", "--base-url",
               "http://api.invalid/v1", "--max-attempts", "1"]  # fmt: skip
    assert main([*command, "--proxy", "http://u:secret@127.0.0.1:1"]) == 1
    monkeypatch.setenv("HTTP_PROXY", "http://u:secret@127.0.0.1:1")
    assert main(command) == 1
    shown = Path("out.errors.jsonl").read_text() + capsys.readouterr().err
    assert "127.0.0.1:1, which HTTP_PROXY names" in shown
    assert "secret" not in shown
    assert b"secret" not in Path("out.jsonl.journal").read_bytes()
    assert main([*command, "--proxy", "socks5://127.0.0.1:1"]) == 2
    assert "SOCKS" in capsys.readouterr().err


def test_stdin_is_read_in_its_turn(capsys, monkeypatch):
    """A dry run looks at stdin too; a file of that name has a path."""
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.BufferedReader(io.BytesIO(b'"a"\n')))
    assert dry("-") == 0
    assert "-: 1 request," in capsys.readouterr().out
