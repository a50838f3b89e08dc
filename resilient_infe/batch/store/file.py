"""A journal: what came of each row of a batch, safe on the disk before anybody is told.

One run at a time writes to it. Others may read it meanwhile: `status`, `report`, or any program
that reads SQLite.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from ... import aio
from ...errors import JournalDamaged, JournalError, JournalMismatch, JournalWriteFailed
from ..plain import to_json
from ..result import Result
from . import wal
from .keys import SeenIds
from .lock import Lock, Names, is_shared
from .recorded import SAVE, Recorded, saved
from .rows import COLUMNS, OK, Ended, Entry, crc_of, result_of, text_or_bytes
from .salvage import finish, salvage, sync_folder
from .schema import (
    CHECKPOINT,
    SHORTEST,
    check_form,
    connected,
    create,
    damage,
    explained,
    is_empty,
    no_database,
)
from .writer import Done, InlineWriter, Note, ThreadWriter, write

LOGGED = "PRAGMA journal_mode = WAL"

_FIND = f"SELECT seq, crc, {', '.join(COLUMNS)} FROM rows WHERE id = ?"  # noqa: S608  # no values
_VALUE = "SELECT CAST(value AS BLOB), crc FROM replies WHERE seq = ?"


class Journal:
    """An open journal, and what it holds.

    Args:
        path: of the file, which is made if it is not there.
        settings: what must be the same in every run, such as the base URL; small and JSON.
        library: the version that writes it.
        repair: leave out what is damaged, and send those rows again.
        threaded: False to write in the caller's thread, in virtual time.
        wall: reads the seconds since 1970.

    Attributes:
        recorded: what earlier runs recorded, in figures.
        resumed: whether an earlier run recorded anything in it.
        about: what the next run is about, such as its input: recorded when it starts.
        salvaged: where the damaged file is kept, if it was repaired.
        taken: the ids of the rows that were taken from the input in this run.
        wall: reads the seconds since 1970.

    Raises:
        JournalInUse: another run writes to it.
        JournalMismatch: it was begun with other settings.
        JournalDamaged: what was safe has changed, or it is not a journal.
        JournalError: it cannot be opened.

    State: the file, and one beside it that is locked; one run at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any] | None = None,
        *,
        library: str = "",
        repair: bool = False,
        threaded: bool = True,
        wall: Callable[[], float] = aio.wall_time,
    ) -> None:
        """Lock the file, and read what it holds in figures."""
        self.path = Path(path)
        self.settings = json.loads(json.dumps(dict(settings or {})))
        self.about: dict[str, Any] = {}
        self.taken = SeenIds()
        self.salvaged: Path | None = None
        self._library = library
        self._threaded = threaded
        self.wall = wall
        self._used = False
        self.resumed = True  # until it is known: what cannot be read is never removed
        self._writer: InlineWriter | ThreadWriter | None = None
        self._reader: sqlite3.Connection | None = None
        self._db: sqlite3.Connection | None = None
        _make(self.path)
        self._lock = Lock(self.path)
        try:
            finish(self.path)
            if 0 < self.path.stat().st_size < SHORTEST:
                raise no_database(self.path)
            if repair and _is_damaged(self.path):
                self.salvaged = salvage(self.path)
            self._db = _opened(self.path)
            with explained(self.path):
                self.recorded = Recorded.read(self._db, self.path)
            self.resumed = bool(self.recorded.runs or self.recorded.kinds)
            self._check_settings()
        except BaseException:
            self._let_go()
            raise

    def find(self, row_id: str) -> Entry | None:
        """Return what earlier runs recorded of a row, or None.

        Raises:
            JournalDamaged: the record has changed since it was written.
        """
        found = self._find(row_id)
        return None if found is None else found[2]

    def result(
        self, row_id: str, index: int, row: Any, digest: str | None
    ) -> tuple[Result[Any, Any], bool]:
        """Return the recorded result of a row, and whether its request is still the same.

        Args:
            row_id: of a row that `find` knows.
            index: of the row now.
            row: as it is given now.
            digest: of its request now.

        Raises:
            JournalMismatch: the row has a value, and its request was another one then.
            JournalDamaged: the record has changed since it was written.
        """
        found = self._find(row_id)
        assert found is not None
        seq, crc, entry = found
        same = not entry.has_changed(digest)
        # A row that failed may have been fixed; a value that was paid for belongs to its request.
        if entry.kind == OK and not same:
            raise JournalMismatch(
                f"the input has changed: row {row_id!r} is not the one that {self.path} has the "
                f"result of (another --model or --url makes it another one, too). Put the old row "
                f"back, give the new one another id, or give another --journal to begin anew"
            )
        value = None
        if entry.kind == OK:
            with explained(self.path):
                value = _value(self._reading(), seq, crc)
            if value is None:
                raise JournalDamaged(damage(self.path, f"the value of row {row_id!r} has changed"))
        with explained(self.path):
            return result_of(entry, value, index, row), same

    def start(
        self,
        failed: Callable[[JournalWriteFailed], None],
        spent: Callable[[], Mapping[str, Any] | None] = lambda: None,
    ) -> None:
        """Begin to write, from inside the event loop.

        Args:
            failed: called if the disk takes no more.
            spent: returns what the batch has spent, if that has changed: kept with each group.

        Raises:
            JournalError: it was written to before: what it knows of its rows is of before that.
        """
        if self._used or self._db is None:
            raise JournalError(f"{self.path}: a journal is opened anew for every run")
        self._used = True
        self._names = Names(self.path)

        def also() -> list[Note]:
            news = spent()
            return [] if news is None else [Note(SAVE, saved("spent", news))]

        self._also = also
        if self._threaded:
            self._writer = ThreadWriter(self._db, aio.current(), failed, self._names.check, also)
        else:
            self._writer = InlineWriter(self._db, self._names.check, also)
        about = _json({"pid": os.getpid(), "version": self._library} | self.about)
        sql = "INSERT INTO runs (began, about) VALUES (?, ?)"
        self._note(sql, round(self.wall(), 3), about)

    def put(self, result: Result[Any, Any], digest: str | None, done: Done) -> None:
        """Record a result; `done` runs in the loop once it is safe."""
        self._open_writer().put(Ended(result, digest, round(self.wall(), 3)), done)

    def tell(self, kind: str, **fields: Any) -> None:
        """Record a ``"sample"`` or an ``"event"`` of the run; what it believes of limits apart."""
        self._believe(fields.pop("beliefs", None))
        sql = f"INSERT INTO {kind}s (at, {kind}) VALUES (?, ?)"  # noqa: S608  # one of two
        self._note(sql, round(self.wall(), 3), _json(fields))

    def show_live(self, live: Mapping[str, Any]) -> None:
        """Record how the run goes now, in place of what it was before."""
        self._note(SAVE, *saved("live", {"at": round(self.wall(), 3)} | dict(live)))

    def stop(self, **fields: Any) -> None:
        """Write what is queued, and how the run ended.

        Raises:
            JournalWriteFailed: the disk took no more.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        assert self._db is not None
        self._writer = InlineWriter(self._db, self._names.check, self._also)
        self._believe(fields.pop("beliefs", None))
        why, said = fields.pop("why", None), fields.pop("said", None)
        sql = """UPDATE runs SET ended = ?, why = ?, said = ?, outcome = ?
            WHERE run = (SELECT max(run) FROM runs)"""
        try:
            self._note(sql, round(self.wall(), 3), why, said, _json(fields))
        finally:
            self._writer = None

    def close(self) -> None:
        """Let go of the file; one that no run wrote to is not left behind."""
        writer, self._writer = self._writer, None
        try:
            with contextlib.suppress(JournalWriteFailed):
                if writer is not None:
                    writer.close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        opened = self._db is not None
        for db in (self._reader, self._db):
            if db is not None:
                with contextlib.suppress(sqlite3.Error):  # a full disk: the log stays, and is read
                    db.close()
        self._db = self._reader = None
        if opened and not self._used and not self.resumed:
            self.path.unlink(missing_ok=True)
        self._lock.release()

    def _find(self, row_id: str) -> tuple[int, int, Entry] | None:
        if not self.recorded.kinds:
            return None  # what this run records is in `taken`
        with explained(self.path):
            found = self._reading().execute(_FIND, (text_or_bytes(row_id),)).fetchone()
        if found is None:
            return None
        seq, crc, *columns = found
        entry = Entry(*columns)
        if crc_of(entry) != crc:
            raise JournalDamaged(damage(self.path, f"the record of row {row_id!r} has changed"))
        return seq, crc, entry

    def _reading(self) -> sqlite3.Connection:
        """Return a connection of the loop's own: the other is the thread's while a run goes on."""
        if self._reader is None:
            if self._db is None:
                raise JournalError(f"{self.path}: this journal is closed")
            self._reader = connected(self.path, "ro")
        return self._reader

    def _note(self, sql: str, *values: Any) -> None:
        self._open_writer().put(Note(sql, values), None)

    def _believe(self, beliefs: Any) -> None:
        if beliefs:
            self._note(SAVE, *saved("beliefs", beliefs))

    def _open_writer(self) -> InlineWriter | ThreadWriter:
        if self._writer is None:
            raise JournalError(f"{self.path}: this journal is not being written to")
        return self._writer

    def _check_settings(self) -> None:
        then = self.recorded.settings
        if then is None:  # it is new, or a salvage could not read them
            assert self._db is not None
            settings, library = saved("settings", self.settings), saved("library", self._library)
            write(self._db, [Note(SAVE, settings), Note(SAVE, library)])
            return
        changed = sorted(
            name for name in {*then, *self.settings} if then.get(name) != self.settings.get(name)
        )
        if changed:
            name = changed[0]
            raise JournalMismatch(
                f"{self.path} was begun with {name} = {then.get(name)!r}, and this run has "
                f"{self.settings.get(name)!r}: run it with the same, or give another --journal"
            )


def _value(db: sqlite3.Connection, seq: int, crc: int) -> bytes | None:
    """Return a value as it was written, or None if it is not that any more."""
    stored = db.execute(_VALUE, (seq,)).fetchone()
    return None if stored is None or crc32(stored[0], crc) != stored[1] else stored[0]


def _json(value: Any) -> str:
    return to_json(value).decode("ascii")


def _make(path: Path) -> None:
    """Make an empty file that its owner alone can read, where there is none.

    Raises:
        JournalError: it cannot be made, or something else has its name.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            sync_folder(path.parent)
        if path.is_symlink() or not path.is_file():
            what = "it is a link" if path.is_symlink() else "it is not a file"
            raise JournalError(f"the journal {path} cannot be opened: {what}")
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be opened: {error.strerror}") from None


def _opened(path: Path) -> sqlite3.Connection:
    """Return a connection to write by, the tables made and found whole."""
    commits = wal.commits(path)
    with explained(path):
        db = connected(path, "rw")
        try:
            if is_empty(db):
                _set_mode(db, path)
                create(db)
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                check_form(db, path)
                _set_mode(db, path)
                wal.check(db, path, commits)
                _check_index(db, path)
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        except BaseException:
            db.close()
            raise
    return db


def _check_index(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a journal whose index of ids has changed: rows would be missed, and sent again."""
    db.execute("PRAGMA cache_size = -50000")  # KiB: ids in no order are looked up all over it
    found = db.execute("PRAGMA integrity_check(rows)").fetchone()[0]
    db.execute("PRAGMA cache_size = -2000")
    db.execute("PRAGMA shrink_memory")
    if found != "ok":
        raise JournalDamaged(damage(path, f"it has changed ({found})"))


def _set_mode(db: sqlite3.Connection, path: Path) -> None:
    """Keep a write-ahead log, where the file system can: it is memory that processes share.

    Where other machines may see the file, or no memory can be shared, a rollback journal is kept.
    """
    if not is_shared(path):
        with contextlib.suppress(sqlite3.OperationalError):
            if db.execute(LOGGED).fetchone()[0] == "wal":
                return
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA locking_mode = NORMAL")
    is_empty(db)  # the lock is changed by the next access


def _is_damaged(path: Path) -> bool:
    """Whether anything of a journal has changed since it was written."""
    try:
        db = _opened(path)
    except JournalDamaged:
        return True
    try:
        with explained(path):
            Recorded.read(db, path)
            for seq, crc, *columns in db.execute(_FIND.partition(" WHERE")[0]):
                entry = Entry(*columns)
                if crc_of(entry) != crc or (entry.kind == OK and _value(db, seq, crc) is None):
                    return True
    except JournalDamaged:
        return True
    finally:
        db.close()
    return False
