"""The command line: run a batch over a file, look at how it stands, and serve the stand-in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import ResilienceError
from ..version import __version__
from .config import read_config

COMMANDS = {
    "run": "send a file of requests, and write one of results",
    "status": "tell where a run stands, by its journal",
    "report": "draw how a run went, as one HTML page",
    "serve": "serve an Infe stand-in on 127.0.0.1",
}
"""What each command does; the module of its name adds its options with ``add_COMMAND``."""


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
        options = _parser(given).parse_args(given)
        return int(options.run(options))
    except BrokenPipeError:
        return 141
    except (ResilienceError, OSError) as error:
        sys.stderr.write(f"resilient-infe: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the module of the command that was given is loaded."""
    parser = argparse.ArgumentParser(prog="resilient-infe", description=__doc__)
    parser.add_argument("--version", action="version", version=f"resilient-infe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, told in COMMANDS.items():
        # A shortened --config would be taken here, and missed where the file is read.
        command = commands.add_parser(name, help=told, description=told, allow_abbrev=False)
        if list(given[:1]) == [name]:
            add_options = getattr(import_module(f".{name}", __name__), f"add_{name}")
            if name == "run":
                add_options(command, read_config(given))
            else:
                add_options(command)
    return parser
