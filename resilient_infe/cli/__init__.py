"""The command line: run a batch over a file, look at how it stands, and serve the stand-in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__
from ..errors import ResilienceError
from .config import config_in
from .report import add_report
from .run import add_run
from .serve import add_demo, add_serve
from .status import add_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: those of the command line, or None for the process's own.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        config = config_in(given) if given[:1] == ["run"] else {}
        options = _parser(config).parse_args(given)
        return int(options.run(options))
    except BrokenPipeError:
        return 141
    except (ResilienceError, OSError) as error:
        sys.stderr.write(f"resilient-infe: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(config: Mapping[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resilient-infe", description=__doc__)
    parser.add_argument("--version", action="version", version=f"resilient-infe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, told: str) -> argparse.ArgumentParser:
        # A shortened --config would be taken here, and missed where the file is read.
        return commands.add_parser(name, help=told, description=told, allow_abbrev=False)

    add_run(command("run", "send a file of requests, and write one of results"), config)
    add_status(command("status", "tell where a run stands, by its journal"))
    add_report(command("report", "draw how a run went, as one HTML page"))
    add_serve(command("serve", "serve an Infe stand-in on 127.0.0.1"))
    add_demo(command("demo", "very many calls against the stand-in, three ways"))
    return parser
