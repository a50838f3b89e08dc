"""The command line: run a batch over a file, look at how it stands, and serve the stand-in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from ..core.ids import safe_name
from ..errors import ResilienceError
from ..version import __version__

COMMANDS = {
    "run": "send a file of requests, and write one of results",
    "status": "tell where a run stands, by its journal",
    "ctl": "change a run while it goes on: its limits, or pause, resume and drain it",
    "report": "draw how a run went, as one HTML page",
    "serve": "serve an Infe stand-in on 127.0.0.1",
    "completion": "print a script that completes all of this in a shell",
}
"""What each command does; the module of its name adds its options with ``add_COMMAND``."""

TOO_MANY = {
    "run": "it takes one INPUT; --output (-o) says where the results go",
    "status": "it takes one JOURNAL",
    "ctl": "it takes one JOURNAL",
    "report": "it takes one JOURNAL; --output (-o) says where the page goes",
    "serve": "it takes options alone; --port says where",
    "completion": "it takes one SHELL",
}
"""What each command takes besides its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: those of the command line, or None for the process's own.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if any("\0" in each for each in given):
        sys.stderr.write("resilient-infe: an argument contains a NUL character: take it out\n")
        return 2
    try:
        options = _options(given)
        return int(options.run(options))
    except BrokenPipeError:
        return 141
    except (ResilienceError, OSError) as error:
        sys.stderr.write(f"resilient-infe: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: the usage of `run` is longer than a screen.

    Attributes:
        commands: the action that holds the parser of each command.
    """

    commands: Any

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where more is said, and exit."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _options(given: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line; exit with a message if it cannot be meant."""
    parser = _parser(given)
    if not given:
        parser.error(f"give a command: {', '.join(COMMANDS)}")
    known = [*COMMANDS, "-h", "--help", "--version"]
    if given[0] not in known and given[0].startswith("-"):
        option = given[0].partition("=")[0]
        parser.error(f"there is no option {safe_name(option)}{_hint(option, known)}")
    if given[0] not in known:  # it is not quoted, as it may be a key
        hint = (
            _hint(given[0], known) or ": to send a file, resilient-infe run FILE -o results.jsonl"
        )
        parser.error(f"there is no such command{hint}")
    options, rest = parser.parse_known_args(given)
    if rest:
        _refuse(given[0], parser.commands.choices[given[0]], rest)
    return options


def _refuse(name: str, command: argparse.ArgumentParser, rest: Sequence[str]) -> NoReturn:
    """Say which argument is unknown. No value is quoted, which may be a key."""
    options = [each for action in command._actions for each in action.option_strings]  # noqa: SLF001
    unknown = next((each for each in rest if each.startswith("-")), None)
    if unknown is None:
        command.error(f"there is one argument too many: {TOO_MANY[name]}")
    option = unknown.partition("=")[0]
    command.error(f"there is no option {safe_name(option)}{_hint(option, options)}")


def _hint(given: str, known: Sequence[str]) -> str:
    """Return the known name that is nearest, as a question; empty if none is near."""
    initials = {f"--{''.join(word[0] for word in each[2:].split('-'))}": each
        for each in known if each.count("-") > 3}  # fmt: skip
    near = get_close_matches(given, known, 1)
    found = initials.get(given) or next(iter(near), None)
    return "" if found is None else f": do you mean {found}?"


def _parser(given: Sequence[str], commands: Collection[str] | None = None) -> Parser:
    """Return the parser.

    Args:
        given: the command line.
        commands: the commands whose options it knows; None for the one that is given, because to
            load the others takes time.
    """
    if commands is None:
        commands = given[:1]
    parser = Parser(prog="resilient-infe", description=__doc__)
    parser.add_argument("--version", action="version", version=f"resilient-infe {__version__}")
    parser.set_defaults(whole=lambda: _parser((), COMMANDS))
    found = parser.commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, told in COMMANDS.items():
        # A shortened --config would be taken here, and missed where the file is read.
        command = found.add_parser(name, help=told, description=told, allow_abbrev=False)
        if name in commands:
            add_options = getattr(import_module(f".{name}", __name__), f"add_{name}")
            add_options(command, given[1:])
    return parser
