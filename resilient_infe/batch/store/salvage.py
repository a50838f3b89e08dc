"""Makes a journal anew from one that is damaged, without what cannot be read.

The new one is written beside the old one as ``NAME.rebuilding``, and named ``NAME.rebuilt`` once it
is whole and safe. From then on it is the journal: whatever stops the rest, the next run puts it in
its place. Until then the old one is. The old one is kept under another name.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from ...errors import JournalDamaged, JournalError
from .recorded import SAVE
from .rows import OK, Entry, crc_of
from .schema import (
    APPLICATION,
    PAGE,
    SHORTEST,
    OtherForm,
    check_form,
    connected,
    create,
    insertion,
)

COPIED = ("samples", "events", "runs")
"""Tables that are copied as they are, as far as they can be read."""

MARK = 68
"""Where a database has the number of its application."""


def finish(path: Path) -> None:
    """Put a journal in its place that was made anew by a run that was stopped then."""
    rebuilt = _beside(path, "rebuilt")
    if not os.path.lexists(rebuilt):
        return
    # What belongs to the old one must be gone before the new one has its name.
    for end in ("-wal", "-shm", "-journal"):
        _beside(path, end).unlink(missing_ok=True)
    sync_folder(path.parent)
    rebuilt.replace(path)
    sync_folder(path.parent)


def salvage(path: Path) -> Path:
    """Leave out a journal's damaged parts; returns where the damaged file is kept.

    That is ``NAME.damaged``, or ``NAME.damaged.2`` and so on where another file has the name.

    Args:
        path: of the journal, which nobody else writes to.

    Raises:
        JournalDamaged: it is another kind of file, or nothing of it can be read.
        JournalError: the files cannot be written.
    """
    new, copy = _beside(path, "rebuilding"), _beside(path, "copy")
    try:
        _write_anew(path, copy, new)
        kept = _kept(path)
        sync_folder(path.parent)  # the old one has its second name before it loses the first
        new.replace(_beside(path, "rebuilt"))
        sync_folder(path.parent)
        finish(path)
    except (OSError, sqlite3.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise JournalError(
            f"the journal {path} cannot be repaired ({what}), and nothing is lost: make room on "
            f"the disk, or see who may write there, then run the same again"
        ) from error
    finally:
        for each in (new, copy, _beside(copy, "-wal"), _beside(copy, "-shm")):
            each.unlink(missing_ok=True)
    return kept


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are safe on the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_anew(path: Path, copy: Path, new: Path) -> None:
    db = _created(new)
    try:
        db.execute("BEGIN")
        _copy_whole(path, copy, db)
        db.execute("COMMIT")
    finally:
        db.close()
    with new.open("r+b") as file:
        os.fsync(file.fileno())


def _created(path: Path) -> sqlite3.Connection:
    """Make an empty journal, which counts only once it is whole."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    db = connected(path, "rw")
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    create(db)
    return db


def _copy_whole(path: Path, copy: Path, new: sqlite3.Connection) -> None:
    """Copy what is whole; where the first page is damaged, from a copy with a fresh one."""
    old, first = _readable(path), path
    if old is None:
        first = copy
        _copy_with_first_page(path, copy)
        old = _readable(copy)
    if old is None:
        raise _lost(path)
    try:
        found = _copy_rows(old, new)
        if not found and first is copy:
            raise _lost(path)
        for name, text, crc in _all(old, "state", "rowid"):
            if crc32(f"{name}={text}".encode()) == crc:
                new.execute(SAVE, (name, text, crc))
        for table in COPIED:
            for row in _all(old, table, "run" if table == "runs" else "seq"):
                marks = ", ".join("?" * len(row))
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
    finally:
        old.close()


def _lost(path: Path) -> JournalDamaged:
    """Return why nothing is made of a file of which nothing can be read."""
    with path.open("rb") as file:
        mark = file.read(SHORTEST)[MARK : MARK + 4]
    if mark == APPLICATION.to_bytes(4, "big"):
        return JournalDamaged(
            f"{path} is left as it is: no row of it can be read. Bring it back from a backup, or "
            f"give another --journal to begin anew"
        )
    return OtherForm(f"{path} is no journal, and is left as it is: no row of it can be read")


def _readable(path: Path) -> sqlite3.Connection | None:
    """Return a connection to a journal whose tables can be found."""
    db = connected(path, "rw")
    try:
        db.execute("PRAGMA query_only = ON")
        check_form(db, path)
    except OtherForm as error:
        db.close()
        if "another version" in str(error):
            raise
        return None
    except (sqlite3.Error, JournalDamaged):
        db.close()
        return None
    return db


def _copy_with_first_page(path: Path, copy: Path) -> None:
    """Copy a journal, its first page taken from a new one: that says where the tables are."""
    shutil.copyfile(path, copy)
    size = copy.stat().st_size // PAGE
    copy.with_name(copy.name + "-wal").unlink(missing_ok=True)
    if _beside(path, "-wal").exists():
        shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
    template = _beside(copy, "-shm")  # a name that is removed with the others
    _created(template).close()
    page = bytearray(template.read_bytes()[:PAGE])
    template.unlink()
    page[18:20] = b"\2\2"  # with a write-ahead log
    page[28:32] = size.to_bytes(4, "big")
    page[92:96] = page[24:28]  # the size counts
    page[32:40] = bytes(8)  # no free pages
    with copy.open("r+b") as file:
        file.write(page)


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    number = 0
    for seq, *columns, crc in _all(old, "rows", "seq"):
        entry = Entry(*columns)
        if crc_of(entry) != crc:
            continue
        value = None
        if entry.kind == OK:
            value = _one(old, "SELECT CAST(value AS BLOB), crc FROM replies WHERE seq = ?", seq)
            if value is None or crc32(value[0], crc) != value[1]:
                continue
        text, value_crc = (None, None) if value is None else (value[0].decode("ascii"), value[1])
        new.execute(insertion(1), (*entry, crc, text, value_crc))
        number += 1
    return number


def _all(db: sqlite3.Connection, table: str, key: str) -> Iterator[Any]:
    """Yield every row of a table that can be read; around damaged pages each is asked for alone."""
    last = 0
    try:
        for row in db.execute(f"SELECT {key}, * FROM {table} ORDER BY {key}"):  # noqa: S608
            last = row[0]
            yield row[1:]
        return
    except sqlite3.DatabaseError:
        pass
    for number in range(last + 1, _most(db) + 1):
        row = _one(db, f"SELECT * FROM {table} WHERE {key} = ?", number)  # noqa: S608
        if row is not None:
            yield row


def _one(db: sqlite3.Connection, sql: str, number: int) -> Any:
    try:
        return db.execute(sql, (number,)).fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return None


def _most(db: sqlite3.Connection) -> int:
    """Return a number that no row of a table is above: a row takes 30 bytes at least."""
    return int(db.execute("PRAGMA page_count").fetchone()[0]) * PAGE // 30


def _kept(path: Path) -> Path:
    """Give a file a second name that no other file has; returns it. Its log goes with it."""
    kept, number = _beside(path, "damaged"), 1
    while os.path.lexists(kept):
        if not kept.is_symlink() and filecmp.cmp(path, kept, shallow=False):
            break  # a run that was killed has come this far
        number += 1
        kept = _beside(path, f"damaged.{number}")
    else:
        _link(path, kept)
    log = _beside(path, "-wal")
    if log.exists():
        _beside(kept, "-wal").unlink(missing_ok=True)
        _link(log, _beside(kept, "-wal"))
    return kept


def _link(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # not every file system has hard links
        part = _beside(path, "rebuilding-kept")
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(fd, "wb") as out, path.open("rb") as file:
                shutil.copyfileobj(file, out)
                out.flush()
                os.fsync(out.fileno())
            part.replace(name)
        finally:
            part.unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    dot = "" if end.startswith("-") or not end else "."
    return path.with_name(f"{path.name}{dot}{end}")
