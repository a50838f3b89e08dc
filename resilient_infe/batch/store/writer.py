"""Gets results onto the disk: one thread, and one transaction for all that came in meanwhile.

An fsync takes as long for a hundred rows as for one, and would stall the event loop. So the loop
gathers results while the thread waits for the disk; when it hears that a group is safe, it hands
over what has gathered since. Nothing waits for a timer, and an idle writer takes a row at once.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from ...aio import Runtime
from ...errors import JournalWriteFailed
from .rows import Ended, Line, packed
from .schema import WIDTH, insertion

Done = Callable[[], None]

MOST = 256
"""Lines of one statement at most."""

NOTHING: Line = (None,) * WIDTH
"""A line that is left out: statements are made for 1, 2, 4 ... lines, so that few are compiled."""


class Note(NamedTuple):
    """A statement about the run itself."""

    sql: str
    values: tuple[Any, ...]


Item = Ended | Note

Group = list[tuple[Item, Done | None]]


def write(db: sqlite3.Connection, items: list[Item]) -> None:
    """Write results and notes, all or none.

    Raises:
        JournalWriteFailed: the disk takes no more.
    """
    notes = [each for each in items if isinstance(each, Note)]
    try:
        # All at once: with other code between two of them, each would cost three times as much.
        lines = [packed(each) for each in items if isinstance(each, Ended)]
        if notes or len(lines) > MOST:
            db.execute("BEGIN IMMEDIATE")
        for start in range(0, len(lines), MOST):
            part = lines[start : start + MOST]
            size = 1 << (len(part) - 1).bit_length()
            part += [NOTHING] * (size - len(part))
            db.execute(insertion(size), list(chain.from_iterable(part)))
        for sql, values in notes:
            db.execute(sql, values)
        if db.in_transaction:
            db.execute("COMMIT")
    except Exception as error:  # whatever it is, nobody else is told of it
        with contextlib.suppress(sqlite3.Error):
            if db.in_transaction:
                db.execute("ROLLBACK")
        raise JournalWriteFailed(
            f"the journal cannot be written ({error}): make room on the disk, then run the same "
            f"again; every row that was reported is safe"
        ) from error


class InlineWriter:
    """Writes at once, in the caller's thread: for virtual time, where there is no other.

    Args:
        db: a connection.
        check: raises `JournalWriteFailed` where the files are not the journal's any more.
        also: returns what else is written with each group.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        check: Callable[[], None],
        also: Callable[[], list[Note]] = list,
    ) -> None:
        self._db = db
        self._check = check
        self._also = also

    def put(self, item: Item, done: Done | None) -> None:
        """Write a result or a note, and wait for the disk."""
        write(self._db, [item, *self._also()])
        self._check()
        if done is not None:
            done()

    def close(self) -> None:
        """There is nothing left to write."""


class ThreadWriter:
    """Writes in a thread of its own.

    Args:
        db: a connection, which nobody else uses meanwhile.
        runtime: the event loop that results come from.
        failed: called in the loop when the disk takes no more.
        check, also: as for `InlineWriter`; called once a group.

    State: what has gathered. After a failure nothing is written any more: it cannot be asked a
    second time whether the disk kept what it was given.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        runtime: Runtime,
        failed: Callable[[JournalWriteFailed], None],
        check: Callable[[], None],
        also: Callable[[], list[Note]] = list,
    ) -> None:
        """Start the thread."""
        self._db = db
        self._check = check
        self._also = also
        self._call_soon = runtime.call_soon
        self._failed = failed
        self._error: JournalWriteFailed | None = None
        self._gathered: Group = []
        self._busy = False  # a group was handed over, or is about to be
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, item: Item, done: Done | None) -> None:
        """Queue a result or a note; `done` runs in the loop once it is safe, or never."""
        self._gathered.append((item, done))
        if not self._busy:
            self._busy = True
            # Not at once: what else comes in this turn of the loop belongs to the same group.
            self._call_soon(self._hand_over)

    def close(self) -> None:
        """Write what is queued and end the thread.

        Raises:
            JournalWriteFailed: the disk took no more.
        """
        self._hand_over()
        self._groups.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        """In the loop: give the thread what has gathered."""
        group, self._gathered = self._gathered, []
        self._busy = bool(group)
        if group:
            group += [(note, None) for note in self._also()]
            self._groups.put(group)

    def _end(self, group: Group) -> None:
        """In the loop: report what is safe, and go on."""
        for _, done in group:
            if done is not None:
                done()
        self._hand_over()

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            if self._error is not None:
                continue
            try:
                write(self._db, [item for item, _ in group])
                self._check()
            except JournalWriteFailed as error:
                self._error = error
                self._call_soon(partial(self._failed, error))
            else:
                self._call_soon(partial(self._end, group))
