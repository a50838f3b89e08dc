"""The tables of a journal, as docs/batch.md describes them, and how a connection to one is made.

A group of results is one statement, ``INSERT INTO inbox VALUES (...), (...)``: a trigger hands each
line on to `rows` and `replies`. So the thread that writes gives up the interpreter once a group
instead of once a row: to take it back from a busy event loop can cost 5 ms each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import JournalDamaged, JournalError
from .rows import COLUMNS

VERSION = 2
"""Of the form; 1 was a file of JSON lines."""

APPLICATION = 0x496E6665
"""``PRAGMA application_id``, by which the `file` command knows a journal: the letters Infe."""

MAGIC = b"SQLite format 3\0"
"""How every database of SQLite begins."""

SHORTEST = 512
"""Bytes of the smallest database. SQLite takes less for an empty one, and would write over it."""

LINES = b'{"crc":"'
"""How a journal of the first form begins."""

CHANGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
"""Errors that mean that a file is not what was written."""

SHORT_READ = sqlite3.SQLITE_IOERR | 2 << 8
"""The error for a database that is cut off."""

PAGE = 4096
"""Bytes of a page."""

CHECKPOINT = 4_000
"""Pages in the write-ahead log before they are copied into the database: 16 MB."""

PATIENT = 30.0
"""Seconds for which SQLite itself waits for a lock: only where there is no write-ahead log does
somebody who reads hold up a run."""

WIDTH = len(COLUMNS) + 3
"""Values of one line of the inbox."""

_NAMES = ", ".join(COLUMNS)
_NEW = ", ".join(f"new.{name}" for name in COLUMNS)
_EXCLUDED = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])

TABLES = [
    """CREATE TABLE state (
  name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL)""",
    """CREATE TABLE runs (
  run INTEGER PRIMARY KEY, began REAL NOT NULL, about TEXT NOT NULL,
  ended REAL, why TEXT, said TEXT, outcome TEXT)""",
    """CREATE TABLE samples (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, sample TEXT NOT NULL)""",
    """CREATE TABLE events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL)""",
    """CREATE TABLE rows (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, row INTEGER NOT NULL, kind TEXT NOT NULL,
  permanent INTEGER NOT NULL, digest TEXT, at REAL NOT NULL, attempts INTEGER NOT NULL,
  seconds REAL NOT NULL, sent_for REAL NOT NULL, status INTEGER, requests TEXT NOT NULL,
  usage TEXT, failure TEXT, crc INTEGER NOT NULL)""",
    """CREATE TABLE replies (
  seq INTEGER PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL)""",
    """CREATE TABLE counts (
  kind TEXT, permanent INTEGER, rows INTEGER NOT NULL, PRIMARY KEY (kind, permanent)
) WITHOUT ROWID""",
    """CREATE TRIGGER count_new AFTER INSERT ON rows BEGIN
  INSERT INTO counts VALUES (new.kind, new.permanent, 1)
    ON CONFLICT DO UPDATE SET rows = rows + 1;
END""",
    """CREATE TRIGGER count_again AFTER UPDATE ON rows BEGIN
  UPDATE counts SET rows = rows - 1 WHERE kind = old.kind AND permanent = old.permanent;
  INSERT INTO counts VALUES (new.kind, new.permanent, 1)
    ON CONFLICT DO UPDATE SET rows = rows + 1;
END""",
    "CREATE VIEW results AS SELECT rows.*, value FROM rows LEFT JOIN replies USING (seq)",
    f"""CREATE VIEW inbox AS
  SELECT {_NAMES}, rows.crc, value, replies.crc AS value_crc
  FROM rows JOIN replies USING (seq)""",  # noqa: S608  # no values
    # The first value stands. Of failures the last one does.
    f"""CREATE TRIGGER take_in INSTEAD OF INSERT ON inbox WHEN new.id IS NOT NULL BEGIN
  INSERT INTO rows ({_NAMES}, crc)
    VALUES ({_NEW}, new.crc)
    ON CONFLICT (id) DO UPDATE SET {_EXCLUDED}, crc = excluded.crc WHERE kind <> 'ok';
  INSERT OR IGNORE INTO replies SELECT seq, new.value, new.value_crc FROM rows
    WHERE id = new.id AND new.value IS NOT NULL;
END""",  # noqa: S608  # no values
]
"""In this order, so that each table's first page is the same one in every journal."""

_ONE = f"({', '.join('?' * WIDTH)})"


def insertion(number: int) -> str:
    """Return the statement that takes in a number of lines."""
    return f"INSERT INTO inbox VALUES {', '.join([_ONE] * number)}"  # noqa: S608  # no values


def connected(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection to a file that exists.

    Args:
        path: of the file.
        mode: ``"rw"`` or ``"ro"``.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=PATIENT
    )
    try:
        db.execute(f"PRAGMA page_size = {PAGE}")  # of a file that is empty
    except sqlite3.Error:
        db.close()
        raise
    return db


def create(db: sqlite3.Connection) -> None:
    """Make the tables, all at once or none."""
    db.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


def is_empty(db: sqlite3.Connection) -> bool:
    """Return whether nothing was ever committed."""
    return db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def check_form(db: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's database, and a journal whose tables are not as they were made.

    Raises:
        JournalDamaged: it is one of these.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    found = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    if application == APPLICATION and version > VERSION:
        raise OtherForm(
            f"{path} was written by another version of this library: finish the batch with that "
            f"one, or give another --journal"
        )
    if TABLES[0] not in found and TABLES[4] not in found:
        raise OtherForm(f"{path} is no journal, and is left as it is: give a journal's own path")
    if found[: len(TABLES)] != TABLES or application != APPLICATION:
        raise JournalDamaged(damage(path, "its tables have changed"))


class OtherForm(JournalDamaged):
    """A file is not a journal, or not one of this version: it is never repaired."""


def damage(path: Path, what: str) -> str:
    """Return the message for a journal that was changed since it was written."""
    return (
        f"{path}: {what}, which no run does. Nothing was touched. Bring the file back from a "
        f"backup, or go on with --salvage: the rows of the damaged parts are then sent again, and "
        f"the damaged file is kept (for more of it, see `.recover` of the sqlite3 program)"
    )


def no_database(path: Path) -> JournalError:
    """Return why a file is no journal."""
    # SQLite has no lock on what it does not know, so the file may be opened here.
    with path.open("rb") as file:
        start = file.read(len(LINES))
    if start == LINES:
        return OtherForm(
            f"{path} is in the form of an earlier version, lines of JSON: finish the batch with "
            f"that version, or give another --journal to begin anew"
        )
    if start == MAGIC[: len(LINES)]:
        return JournalDamaged(damage(path, "its first page has changed"))
    hint = (
        ""
        if path.stat().st_size < SHORTEST
        else (". If it was one, --salvage finds what can be read of it")
    )
    return OtherForm(f"{path} is no journal, and is left as it is: give a journal's own path{hint}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what SQLite's errors mean.

    Raises:
        JournalDamaged: what was written has changed, or it is no journal.
        JournalError: it cannot be read.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_NOTADB:
            raise no_database(path) from None
        if code & 0xFF in CHANGED or code == SHORT_READ:
            raise JournalDamaged(damage(path, f"it has changed ({error})")) from None
        raise JournalError(f"the journal {path} cannot be opened: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # JSON that is none any more
        raise JournalDamaged(damage(path, f"a record has changed ({error})")) from None
