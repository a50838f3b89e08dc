"""The command line: what it prints and what it refuses."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from resilient_infe.cli import main

pytestmark = pytest.mark.network


def test_serve_prints_its_address_and_stops_by_itself():
    """`serve --port 0 --for` prints one address and ends."""
    command = [sys.executable, "-m", "resilient_infe", "serve", "--port", "0", "--for", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("http://127.0.0.1:")
    assert done.stdout.endswith("/v1\n")


def test_serve_takes_every_switch():
    """All switches of the stand-in can be given on the command line."""
    assert main(["serve", "--for", "0.01", "--requests-per-minute", "600", "--tokens-per-minute",
                 "9000", "--style", "sliding", "--burst", "2", "--concurrency", "5", "--headers",
                 "--retry-after", "exact", "--charge-rejected", "--error", "500=0.1", "--break",
                 "cut=0.1", "--outage", "1:2", "--hang", "3:4", "--latency", "0.1",
                 "--seconds-per-token", "0.01", "--output-tokens", "5", "--model", "m",
                 "--api-key", "k", "--seed", "3"]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--error", "oops=0.1"], "STATUS=SHARE"),
        (["serve", "--break", "bent=0.1"], "use one of"),
        (["serve", "--error", "200=0.1"], "STATUS=SHARE"),
    ],
)
def test_what_cannot_be_is_told(arguments, told, capsys):
    """A wrong value ends with code 2 and a sentence that says what to give."""
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_a_port_in_use_is_told(capsys):
    """A port that another program has is one sentence, not a traceback."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["serve", "--port", str(other.getsockname()[1]), "--for", "0.1"]) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("odd", ["--port=99999", "--latency=-1", "--for=0", "--concurrency=0",
                                 "--requests-per-minute=many", "--error=500", "--error=500=2",
                                 "--outage=9:5",
                                 "--requests-per-minute=0"])  # fmt: skip
def test_values_out_of_range_are_told(odd, capsys):
    """A value out of its range is refused before anything starts."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", odd])
    assert ended.value.code == 2
    assert odd.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "give a command: run, status, ctl, report, serve"),
        (["runn", "in.jsonl"], "there is no such command: do you mean run?"),
        (["in.jsonl"], "to send a file, resilient-infe run FILE -o results.jsonl"),
        (["--verison"], "there is no option --verison: do you mean --version?"),
        (["run", "a", "b"], "it takes one INPUT; --output (-o) says where the results go"),
        (["run", "a", "--modell", "m"], "there is no option --modell: do you mean --model?"),
        (["run", "a", "--requests-per-minut=5"], "do you mean --requests-per-minute?"),
        (["run", "a", "--rmp", "5"], "do you mean --rpm?"),
        (["run", "a", "-q"], "there is no option -q; see resilient-infe run --help"),
        (["run", "a", "--concurrency", "x"], "x is not a whole number of at least 1"),
        (["report", "a", "b"], "it takes one JOURNAL; --output (-o) says where the page goes"),
        (["status", "a", "b"], "it takes one JOURNAL"),
        (["status"], "required: JOURNAL"),
        (["serve", "8000"], "--port says where"),
        (["serve", "--prot", "8000"], "do you mean --port?"),
        (["serve", "--\x1b[31m"], "there is no option --__31m"),
    ],
)
def test_a_slip_is_told_in_one_line(given, told, capsys):
    """It names what is nearest, and where more is said."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
    assert "--help" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "given",
    [
        ["run", "a", "--apikey=sk-1"],
        ["run", "a", "--apikey", "sk-1"],
        ["run", "a", "sk-1"],
        ["sk-1"],
        ["--key=sk-1"],
    ],
)
def test_a_key_in_the_wrong_place_is_not_quoted(given, capsys):
    """Whatever is unknown may be one."""
    with pytest.raises(SystemExit):
        main(given)
    assert "sk-1" not in capsys.readouterr().err
