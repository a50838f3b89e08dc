"""``status``: where a run stands, by its journal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..adapters.http.masking import printable
from ..batch.progress import failures_in_words, have_result, pace_in_words, spent_in_words
from ..batch.spending import read_spent, total_of
from ..batch.steered import in_words, is_paused, steered_in
from ..batch.store import Recorded, is_in_use
from ..batch.store.recorded import reading
from ..batch.store.schema import is_empty
from ..batch.store.summary import KindOfFailure, failures_in, runs_in, seconds_of
from ..errors import JournalError
from .watch import watch

MOST_STEERED = 5
"""Changes that are shown, the last ones."""


def add_status(parser: argparse.ArgumentParser, _: Sequence[str]) -> None:
    """Add the options of ``status``."""
    parser.set_defaults(run=_status)
    parser.add_argument("journal", metavar="JOURNAL", help="or the output that it belongs to")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as JSON")
    form.add_argument("--watch", action="store_true",
        help="show how a run goes that is under way, until it ends")  # fmt: skip


def _status(options: argparse.Namespace) -> int:
    path = journal_at(options.journal)
    if options.watch:
        watch(path)
    standing = standing_of(path)
    print(json.dumps(standing, indent=2) if options.json else in_lines(standing))
    return 0


def journal_at(path: str) -> str:
    """Return the journal that is meant: the file itself, or that of the output it is.

    Raises:
        JournalError: there is no such file.
    """
    beside = Path(f"{path}.journal")
    if beside.is_file() and not path.endswith(".journal"):
        return str(beside)
    if not Path(path).exists():
        raise JournalError(f"{path} cannot be read: No such file or directory")
    return path


def standing_of(path: str) -> dict[str, Any]:
    """Return where a run stands.

    Raises:
        JournalError: it is no journal, or damaged.
    """
    try:
        with reading(path) as db:
            recorded = Recorded() if is_empty(db) else Recorded.read(db, Path(path))
            runs = [] if is_empty(db) else runs_in(db)
            failures = failures_in(db) if recorded.failed else []
        running = is_in_use(path)
        paused, steered = _steered(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from None
    about, end = recorded.about, recorded.end
    rows = about.get("rows")
    ended = recorded.done + recorded.failed
    return {
        "journal": path,
        "input": about.get("input"),
        "rows": rows,
        "done": recorded.done,
        "failed": recorded.failed,
        "failed_for_good": recorded.permanent,
        "to_send": None if rows is None else max(0, rows - ended),
        "kinds": {kind: n for kind, n in sorted(recorded.kinds.items()) if n},
        "failures": [asdict(each) for each in failures],
        "errors": about.get("errors") if recorded.failed else None,
        "runs": recorded.runs,
        "seconds": round(seconds_of(runs), 3),
        "spent": {name: asdict(each) for name, each in recorded.spent.items()},
        "base_url": (recorded.settings or {}).get("base_url"),
        "version": about.get("version"),
        "running": running,
        "ended": "running" if running else "killed" if end is None else end["why"],
        "said": None if end is None or running else end.get("said"),
        "paused": running and paused,
        "steered": steered,
        "last": _time(recorded.last),
    }


def _steered(path: str) -> tuple[bool, list[dict[str, str]]]:
    """Return whether the last run was paused, and what was changed last: when, and what."""
    with reading(path) as db:
        if is_empty(db):
            return False, []
        told = [
            {"at": _time(each["when"]), "what": printable(what)}
            for each in steered_in(db, MOST_STEERED)
            for what in in_words(each)
        ]
        return is_paused(db), told[-MOST_STEERED:]


def in_lines(standing: dict[str, Any]) -> str:
    """Return a standing in words."""
    lines = [f"{standing['journal']}: {have_result(standing['done'], standing['rows'])}"]
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in standing["kinds"].items() if kind != "ok")
    if standing["failed"]:
        lines.append(f"failed: {kinds}; {standing['failed_for_good']:,} of them for good")
        failures = [KindOfFailure(**each) for each in standing["failures"]]
        lines += [f"  {line}" for line in failures_in_words(failures)]
    if standing["errors"]:
        lines.append(f"failures: {standing['errors']}")
    if standing["seconds"]:
        ended = standing["done"] + standing["failed"]
        lines.append(f"under way for {pace_in_words(ended, standing['seconds'])}")
    spent = spent_in_words(total_of(read_spent(standing["spent"]).values()))
    if spent is not None:
        lines.append(f"spent: {spent}")
    if standing["input"]:
        lines.append(f"input: {standing['input']}")
    lines.append(
        f"{_how(standing)}; last written to at {standing['last']}; runs: {standing['runs']}"
    )
    lines += [f"steered at {each['at']}: {each['what']}" for each in standing["steered"]]
    if standing["said"]:
        lines.append(standing["said"])
    if not standing["running"]:
        lines.append(_what_next(standing))
    return "\n".join(lines)


def _how(standing: dict[str, Any]) -> str:
    if standing["paused"]:
        return f"a run is paused: `resilient-infe ctl {standing['journal']} --resume` lets it go on"
    words = {
        "running": "a run is under way",
        "killed": "the last run was killed, or could not write how it ended",
        "finished": "the last run came to the end of what it was to send",
        "stopped": "the last run was stopped",
        "BatchPaused": "the last run is paused",
    }
    return words.get(standing["ended"], f"the last run ended by {standing['ended']}")


def _what_next(standing: dict[str, Any]) -> str:
    again = standing["failed"] - standing["failed_for_good"]
    if standing["ended"] == "finished" and not standing["to_send"] and not again:
        if standing["failed_for_good"]:
            return "what failed for good is sent again by the same command with --retry-failed"
        return "there is nothing left to do"
    if standing["ended"] == "BatchPaused":
        return "do what is said there, then run the same command again to go on"
    return "run the same command again to go on"


def _time(at: float) -> str:
    shown: str = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return shown
