"""Tells a write-ahead log that a crash cut off from one that has changed since.

SQLite takes the first frame that is not whole for the end of its log, and drops the rest. After a
crash that is right: only the last transaction was not safe yet. But if two transactions or more
follow, they were safe, and something has changed the log since: that is refused.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

from ...errors import JournalDamaged
from .schema import damage

HEADER = 32

FRAME = struct.Struct(">II8s8s")
"""What a frame begins with: the page, the database's size after a commit, the salt, a checksum."""


def commits(path: Path) -> list[int]:
    """Return the numbers, from 1, of the frames in a journal's log that end a transaction."""
    found: list[int] = []
    try:
        file = path.with_name(f"{path.name}-wal").open("rb")
    except FileNotFoundError:
        return found
    with file:
        head = file.read(HEADER)
        size, salt = int.from_bytes(head[8:12], "big"), head[16:24]
        number = 0
        while size and len(frame := file.read(FRAME.size)) == FRAME.size:
            _, after, of, _ = FRAME.unpack(frame)
            number += 1
            if after and of == salt:  # another is left over from before the log was begun anew
                found.append(number)
            file.seek(size, 1)
    return found


def check(db: sqlite3.Connection, path: Path, found: list[int]) -> None:
    """Refuse a log in which something changed.

    Args:
        db: a connection, which has read the log by now.
        path: of the journal.
        found: what `commits` returned before.

    Raises:
        JournalDamaged: two transactions or more follow what SQLite takes for the end.
    """
    if not found:
        return
    _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if frames >= 0 and sum(number > frames for number in found) > 1:
        raise JournalDamaged(damage(path, "its write-ahead log has changed"))
