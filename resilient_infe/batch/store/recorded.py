"""The counts of what a journal holds, for a run that resumes and for `status`."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from ...errors import JournalDamaged
from ..plain import to_json
from ..spending import Spent, read_spent
from .rows import OK
from .schema import check_form, connected, damage, explained, is_empty

SAVE = "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, \
crc = excluded.crc"


_SPENT = """SELECT count(usage), coalesce(sum(json_extract(usage, '$.prompt_tokens')), 0),
coalesce(sum(json_extract(usage, '$.completion_tokens')), 0),
coalesce(sum(json_extract(usage, '$.cached_tokens')), 0) FROM rows WHERE usage IS NOT NULL"""


def saved(name: str, value: Any) -> tuple[str, str, int]:
    """Return a row of `state`."""
    text = to_json(value).decode("ascii")
    return name, text, crc32(f"{name}={text}".encode())


class Recorded:
    """What was recorded until now.

    Attributes:
        settings: which were the same in every run, or None where they are not known any more.
        kinds: how many rows ended in each way, by what stands for each row.
        permanent: how many of the failed ones failed permanently.
        beliefs: what the last run had learned of limits.
        spent: what all runs have spent on each model.
        about: what the last run was about.
        runs: how often it was run.
        end: how the last run ended, or None if it runs or was killed.
        last: seconds since 1970 of the last record.

    State: none; read once.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] | None = None
        self.kinds: Counter[str] = Counter()
        self.permanent = 0
        self.beliefs: dict[str, Any] = {}
        self.spent: dict[str, Spent] = {}
        self.about: dict[str, Any] = {}
        self.runs = 0
        self.end: dict[str, Any] | None = None
        self.last = 0.0

    @property
    def done(self) -> int:
        """How many rows have a value."""
        return self.kinds[OK]

    @property
    def failed(self) -> int:
        """How many rows failed, permanently or not."""
        return sum(self.kinds.values()) - self.done

    @classmethod
    def read(cls, db: sqlite3.Connection, path: Path) -> Recorded:
        """Read them.

        Raises:
            JournalDamaged: they have changed since they were written.
        """
        recorded = cls()
        for kind, permanent, rows in db.execute("SELECT kind, permanent, rows FROM counts"):
            recorded.kinds[kind] += rows
            recorded.permanent += rows if permanent else 0
        counted = db.execute("SELECT count(*) FROM rows").fetchone()[0]
        if sum(recorded.kinds.values()) != counted:
            raise JournalDamaged(damage(path, "its counts have changed"))
        for name, text, crc in db.execute("SELECT name, value, crc FROM state"):
            if crc32(f"{name}={text}".encode()) != crc:
                raise JournalDamaged(damage(path, f"its {name} has changed"))
            if name in ("settings", "beliefs"):
                setattr(recorded, name, json.loads(text))
            elif name == "spent":
                recorded.spent = read_spent(json.loads(text))
        if counted and not recorded.spent:  # a salvage could not read it
            spent = Spent(*db.execute(_SPENT).fetchone())
            recorded.spent = {"": spent} if spent.calls else {}
        recorded._read_runs(db)
        return recorded

    def _read_runs(self, db: sqlite3.Connection) -> None:
        self.runs = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        for began, about, ended, why, said, outcome in db.execute(
            "SELECT began, about, ended, why, said, outcome FROM runs ORDER BY run DESC LIMIT 1"
        ):
            self.about = json.loads(about)
            self.last = ended or began
            if ended is not None:
                self.end = json.loads(outcome) | {"why": why, "said": said}
        for table in ("rows", "samples"):
            for (at,) in db.execute(f"SELECT at FROM {table} ORDER BY seq DESC LIMIT 1"):  # noqa: S608
                self.last = max(self.last, at)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Open a journal to read it, also while a run writes to it.

    Raises:
        JournalDamaged: it has changed since it was written, or it is no journal.
        JournalError: it cannot be read.
        OSError: there is no such file.
    """
    path = Path(path)
    path.stat()
    with explained(path):
        db = _opened(path)
        try:
            db.execute("BEGIN")  # all that is read is of one moment
            if not is_empty(db):
                check_form(db, path)
            yield db
        finally:
            db.close()


def _opened(path: Path) -> sqlite3.Connection:
    db = connected(path, "ro")
    try:
        is_empty(db)
    except sqlite3.Error as error:
        db.close()
        if not isinstance(error, sqlite3.OperationalError) or Path(f"{path}-wal").exists():
            raise
        # Nobody writes, and this user may not make the files by which others are kept informed.
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None
        )
    return db


def recorded_at(path: str | os.PathLike[str]) -> Recorded:
    """Return what a journal holds.

    Raises:
        JournalDamaged: it has changed since it was written, or it is no journal.
        JournalError: it cannot be read.
        OSError: the file cannot be read.
    """
    with reading(path) as db:
        return Recorded() if is_empty(db) else Recorded.read(db, Path(path))
