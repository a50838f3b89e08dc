"""``report``: how a run went, as one page that needs no network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..batch.report import history_of, page
from ..errors import BatchError, JournalError
from .status import journal_at


def add_report(parser: argparse.ArgumentParser, _: Sequence[str]) -> None:
    """Add the options of ``report``."""
    parser.set_defaults(run=_report)
    parser.add_argument("journal", metavar="JOURNAL", help="or the output that it belongs to")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE",
        help="report.html; - is stdout")  # fmt: skip


def _report(options: argparse.Namespace) -> int:
    try:
        options.journal = journal_at(options.journal)
        text = page(history_of(options.journal))
    except OSError as error:
        raise JournalError(f"{options.journal} cannot be read: {error.strerror}") from None
    if options.output == "-":
        sys.stdout.write(text)
        return 0
    if Path(options.output).resolve() == Path(options.journal).resolve():
        raise BatchError("the report would replace the journal: give another --output")
    try:
        Path(options.output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BatchError(f"{options.output} cannot be written: {error.strerror}") from None
    sys.stderr.write(f"{options.output}\n")
    return 0
