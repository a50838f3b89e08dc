"""The options of `run` are written once: every place that has them says the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import resilient_infe
from resilient_infe import presets
from resilient_infe.batch import kinds
from resilient_infe.batch.files.option import options_table
from resilient_infe.batch.files.options import OPTIONS
from resilient_infe.cli import COMMANDS, _parser, main
from resilient_infe.cli.completion import SHELLS
from resilient_infe.cli.options import options_for
from resilient_infe.cli.run import run_options

DOCS = Path(resilient_infe.__file__).parent.parent / "docs"

OF_KIND = {
    kinds.count: 7, kinds.positive: 7.5, kinds.from_zero: 7.5, kinds.rate: 7.5,
    kinds.weight: 0.5, kinds.size: 70,
}  # fmt: skip
"""A value of each kind; an option of no kind takes a text."""

OF_FIELD = {"estimate": "math:isnan", "base_url": "http://h/v1", "api_key_file": "key",
            "shared": "redis://h:1/0"}  # fmt: skip
"""Texts that must be more than any text."""

OWN = [each for each in options_for("run")
       if each.field not in ("input", "output", "config", "api_key", "dry_run")]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in a folder of its own, without the variables of the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFE_BASE_URL", raising=False)
    monkeypatch.delenv("INFE_SHARED", raising=False)
    Path("key").write_text("sk-test")
    return tmp_path


def told(field, *more):
    """Return the value of a field that a command line comes to."""
    given = ["run", "in", "-o", "out", *more]
    return getattr(run_options(_parser(given).parse_args(given)), field)


@pytest.mark.parametrize("option", OWN, ids=lambda each: each.field)
def test_a_command_and_a_file_say_the_same(option):
    """An option is taken by each of its names; a file comes before the default."""
    flag = option.unit is None
    value = OF_FIELD.get(option.field, OF_KIND.get(option.kind, "x"))
    value = not option.default if flag else value
    assert told(option.field) != value
    for name in option.names:
        assert told(option.field, name if flag else f"{name}={value}") == value
    for name in option.in_tables:
        Path("run.toml").write_text(f"{name} = {'true' if flag else repr(value)}")
        assert told(option.field, "--config", "run.toml") == value
        Path("run.toml").write_text(f"{name} = false" if flag else "quiet = false")
        assert told(option.field, "--config=run.toml") == told(option.field)


def test_what_is_said_last_is_the_command(monkeypatch):
    """The command comes before the file, the file before the environment."""
    field = "base_url"
    assert told(field) == "https://api.infe.io/v1"
    monkeypatch.setenv("INFE_BASE_URL", "")
    assert told(field) == "https://api.infe.io/v1"
    monkeypatch.setenv("INFE_BASE_URL", "http://environment/v1")
    assert told(field) == "http://environment/v1"
    Path("run.toml").write_text('base-url = "http://file/v1"')
    assert told(field, "--config", "run.toml") == "http://file/v1"
    assert told(field, "--config", "run.toml", "--base-url", "http://h/v1") == "http://h/v1"


def test_a_proxy_that_is_none():
    """The environment's is used unless one is named, or the server is on this machine."""
    assert told("trust_env")
    assert not told("trust_env", "--proxy", "none")
    assert not told("trust_env", "--base-url", "http://127.0.0.1:80/v1")


def test_the_preset_gets_what_is_its_own():
    """Each option that is an argument of the preset has its default, and no limit is left out."""
    arguments = inspect.signature(presets.batch).parameters
    of_preset = {each.field: each.default for each in OPTIONS if each.preset}
    assert of_preset == {name: arguments[name].default for name in of_preset}
    limits = {name for name in arguments if name.endswith(("_minute", "_day", "_weight"))}
    assert limits < set(of_preset)


def test_the_page_has_the_table():
    """docs/batch.md lists the options to the letter."""
    assert f"\n\n{options_table(options_for('run'))}\n\n" in (DOCS / "batch.md").read_text()


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ("modell = 'm'", "do you mean model?"),
        ("max_lin = '1MiB'", "do you mean max-line?"),
        ("[runn]\nmodel = 'm'", "there is no table [runn]; do you mean [run]?"),
        ("[limit.infe-pulse]\nrpm = 5", "there is no table [limit]; do you mean [limits]?"),
        ("[acount]\nrpm = 5", "do you mean [account]?"),
        ("[x.y]\na = 5", "there is no table [x]; it may be run or limits or account"),
        ("rpm = 5\nrequests-per-minute = 6", "requests-per-minute is there twice"),
        ("max-line = '1MiB'\nmax_line = '2MiB'", "max-line is there twice"),
        ("follow-headers = true", "unknown option 'follow-headers'"),
        ("[run.account]\nrpm = 5\n[account]\nrpm = 6", "account stands outside of [run]"),
        ("config = 'other.toml'", "unknown option 'config'"),
        ("model = 'm'\n[run]\nquiet = true", "model stands outside of [run]: move it there"),
    ],
)
def test_a_slip_in_a_file_is_told(toml, hint, capsys):
    """What is unknown names what is nearest; nothing in a file is passed over."""
    Path("run.toml").write_text(toml)
    assert main(["run", "in", "-o", "out", "--config", "run.toml"]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_every_option(shell, capsys):
    """The script has each command and each option, but for those that are not to be seen."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    names = [name.lstrip("-") for each in options_for("run") if each.help for name in each.names]
    assert all(name in script for name in names)


def test_bash_takes_the_script(capsys):
    """The shell itself completes an option, and the path of a file."""
    assert main(["completion", "bash"]) == 0
    Path("script").write_text(capsys.readouterr().out)
    for words, found in (("run --rp", "--rpm"), ("run -o scr", "script"), ("stat", "status")):
        line = f"COMP_WORDS=(x {words}); COMP_CWORD={len(words.split())}; _shtab_resilient_infe"
        command = ["bash", "-c", f"source ./script; {line}; echo ${{COMPREPLY[@]}}"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        assert shown.stdout.split() == [found]


def test_completion_without_its_package(capsys, monkeypatch):
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'resilient-infe[cli]'" in capsys.readouterr().err
