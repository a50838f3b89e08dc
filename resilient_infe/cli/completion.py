"""``completion``: a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from ..errors import ConfigurationError

SHELLS = ("bash", "zsh", "tcsh")

FILES = {"INPUT", "FILE", "JOURNAL"}
"""What the value of an option is called where it is a file."""


def add_completion(parser: argparse.ArgumentParser, _: Sequence[str]) -> None:
    """Add the options of ``completion``."""
    parser.set_defaults(run=_completion)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS)}")


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab  # an optional package
    except ImportError:
        raise ConfigurationError(
            "completion needs the package shtab: pip install 'resilient-infe[cli]'"
        ) from None
    parser: argparse.ArgumentParser = options.whole()
    for action in _actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's way to be told
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for each in action.choices.values():
                yield from _actions(each)
