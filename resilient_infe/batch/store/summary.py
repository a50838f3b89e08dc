"""What a journal tells of its runs and failures: for the end of a run, `status` and the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from .recorded import reading

LIVE = "live"
"""The name in `state` of how the run goes that writes to the journal, once a second."""


@dataclass(slots=True)
class Run:
    """One run: when it began and ended (seconds since 1970), why it ended, and what it was about.

    `end_reason` is "finished", "stopped", "running", or the name of the exception class that ended
    the run. The default means that there is no end record: the process was killed.
    """

    began: float
    ended: float
    about: dict[str, Any]
    end_reason: str = "killed"


@dataclass(frozen=True, slots=True)
class KindOfFailure:
    """The rows that failed in one way, and why most of them did.

    Attributes:
        kind: of the failures.
        rows: their number.
        status, code: those of the most frequent failure, or None.
        message, advice: those of its last row; advice may be None.
        row: the id of that row.
    """

    kind: str
    rows: int
    status: int | None
    code: str | None
    message: str
    advice: str | None
    row: str


def runs_in(db: Connection) -> list[Run]:
    """Return all runs, in time order. One that was killed ended with its last record."""
    found = db.execute("SELECT began, ended, why, about FROM runs ORDER BY run").fetchall()
    runs = []
    for number, (began, ended, why, about) in enumerate(found):
        run = Run(began, began if ended is None else ended, json.loads(about))
        if ended is None:
            later = found[number + 1][0] if number + 1 < len(found) else float("inf")
            for table in ("rows", "samples"):
                (last,) = db.execute(
                    f"SELECT max(at) FROM {table} WHERE at < ?",  # noqa: S608  # one of two
                    (later,),
                ).fetchone()
                run.ended = max(run.ended, last or began)
        else:
            run.end_reason = why
        runs.append(run)
    return runs


def seconds_of(runs: list[Run]) -> float:
    """Return for how long runs were under way; a clock that was set back does not count."""
    return sum(max(0.0, run.ended - run.began) for run in runs)


def failures_in(db: Connection) -> list[KindOfFailure]:
    """Return the failures by kind, the most frequent kind first."""
    groups: dict[str, list[Any]] = {}
    for kind, status, code, rows, seq in db.execute(
        "SELECT kind, status, coalesce(json_extract(failure, '$.code'), "
        "json_extract(failure, '$.error')) AS why, count(*) AS n, max(seq) FROM rows "
        "WHERE kind <> 'ok' GROUP BY kind, status, why ORDER BY n DESC"
    ):
        group = groups.setdefault(kind, [0, status, code, seq])
        group[0] += rows
    found = []
    for kind, (rows, status, code, seq) in groups.items():
        row, failure = db.execute("SELECT id, failure FROM rows WHERE seq = ?", (seq,)).fetchone()
        told = json.loads(failure)
        found.append(
            KindOfFailure(kind, rows, status, code, told["message"], told["advice"], as_text(row))
        )
    return sorted(found, key=lambda each: -each.rows)


def failures_at(path: str) -> list[KindOfFailure]:
    """Return the same for a journal.

    Raises:
        JournalError: it cannot be read.
    """
    with reading(path) as db:
        return failures_in(db)


def live_in(db: Connection) -> dict[str, Any] | None:
    """Return how the run goes that writes to the journal, or the last one did; None without one."""
    found = db.execute("SELECT value FROM state WHERE name = ?", (LIVE,)).fetchone()
    return None if found is None else dict(json.loads(found[0]))


def as_text(row_id: str | bytes) -> str:
    """Return the id of a row as text; one with a lone surrogate is kept as bytes."""
    return row_id if isinstance(row_id, str) else row_id.decode("utf-8", "replace")
