"""The file that makes a batch survive: what came of each row, safe before it is told to anybody.

Append-only, one JSON object a line. One run at a time may write to it (`flock`); another may read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ... import aio
from ...errors import (
    ConfigurationError,
    JournalDamaged,
    JournalError,
    JournalInUse,
    JournalMismatch,
    JournalWriteFailed,
)
from ..result import Result
from .record import VERSION, content_of, head_of, note, result_of, sealed, unsealed
from .recorded import Recorded
from .recovery import Tail, salvage, sync_folder, whole_lines
from .table import OFFSET
from .writer import Done, InlineWriter, ThreadWriter

CHUNK = 64 * 1024


class Journal:
    """An open journal, and what it knows.

    Args:
        path: of the file, which is made if it is not there.
        settings: what must be the same in every run, such as the base URL; small and JSON.
        library: the version that writes it.
        repair: leave out damaged lines, whose rows are then sent again.
        threaded: False to write in the caller's thread, in virtual time.
        wall: reads the seconds since 1970.

    Attributes:
        recorded: what it tells of earlier runs.
        table: of the rows that it tells of.
        resumed: whether anything of a run was recorded in it before.
        about: what the next run is about, such as its input: recorded when it starts.
        salvaged: where the damaged file is kept, if it was repaired.

    Raises:
        JournalInUse: another run writes to it.
        JournalMismatch: it was begun with other settings.
        JournalDamaged: what was safe has changed, or it is no journal.
        JournalError: it cannot be opened.

    State: the file; one run at a time.
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
        """Open and lock the file, and read it."""
        self.path = Path(path)
        self.settings = json.loads(json.dumps(dict(settings or {})))
        self.recorded = Recorded()
        self.table = self.recorded.table
        self._library = library
        self.about: dict[str, Any] = {}
        self.resumed = False
        self.salvaged: Path | None = None
        self._threaded = threaded
        self._wall = wall
        self._used = False
        self._writer: InlineWriter | ThreadWriter | None = None
        self._fd = _opened(self.path)
        try:
            _lock(self._fd, self.path)
            if repair and _is_damaged(self.path):
                self._repair()
            self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def result(
        self, word: int, index: int, row: Any, digest: str | None
    ) -> tuple[Result[Any, Any], bool]:
        """Return what was recorded of a row, and whether its request is still the same.

        Args:
            word: what the table says of it, with an offset.
            index: of the row now.
            row: as it is given now.
            digest: of its request now.

        Raises:
            JournalMismatch: the row has a value, and its request was another one then.
            JournalDamaged: the record cannot be read any more.
        """
        line = self._line((word & OFFSET) - 1)
        content = unsealed(line)
        if content is None:
            raise JournalDamaged(f"{self.path}: a record has changed while the run went on")
        result = result_of(content, index, row)
        recorded = head_of(content).get("digest")
        same = digest is None or recorded is None or recorded == digest
        # A row that failed may have been mended; a value that was paid for belongs to its request.
        if result.ok and not same:
            raise JournalMismatch(
                f"the input has changed: row {result.id!r} is not the one that {self.path} has the "
                f"result of (another --model or --url makes it another one, too). Put the old row "
                f"back, give the new one another id, or give another --journal to begin anew"
            )
        return result, same

    def start(self, failed: Callable[[JournalWriteFailed], None]) -> None:
        """Begin to write, from inside the event loop; `failed` is told if that ends.

        Raises:
            JournalError: it was written to before: what it knows of its rows is of before that.
        """
        if self._used:
            raise JournalError(f"{self.path}: a journal is opened anew for every run")
        self._used = True
        if self._threaded:
            self._writer = ThreadWriter(self._fd, self._end, aio.current(), failed)
        else:
            self._writer = InlineWriter(self._fd, self._end)
        self.tell("run", pid=os.getpid(), **self.about)

    def put(self, result: Result[Any, Any], digest: str | None, done: Done) -> None:
        """Record a result; `done` runs in the loop once it is safe."""
        writer = self._open_writer()
        content = content_of(result, digest, self._wall(), writer.durable)
        writer.put(sealed(content), done)

    def tell(self, kind: str, **fields: Any) -> None:
        """Record something else about the run."""
        writer = self._open_writer()
        at = round(self._wall(), 3)
        writer.put(sealed(note(kind, at=at, durable=writer.durable, **fields)), None)

    def stop(self, **fields: Any) -> None:
        """Write what is queued, and how the run ended.

        Raises:
            JournalWriteFailed: the disk took no more.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        end = note("end", at=round(self._wall(), 3), durable=writer.durable, **fields)
        InlineWriter(self._fd, writer.durable).put(sealed(end), None)
        self._end = writer.durable + len(sealed(end))

    def close(self) -> None:
        """Let go of the file; one that no run wrote to is not left behind."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if not self._used and not self.resumed:
                self.path.unlink(missing_ok=True)
            with contextlib.suppress(JournalWriteFailed):
                if self._writer is not None:
                    self._writer.close()
            os.close(fd)

    def _open_writer(self) -> InlineWriter | ThreadWriter:
        if self._writer is None:
            raise JournalError(f"{self.path}: this journal is not being written to")
        return self._writer

    def _read(self) -> None:
        tail = Tail()
        with open(self._fd, "rb", closefd=False) as file:
            file.seek(0)
            lines = whole_lines(file, str(self.path), tail)
            header = next(lines, None)
            if header is not None:
                self._check_settings(header.content)
            for line in lines:
                self.recorded.take_in(line.offset, head_of(line.content))
                self.resumed = True  # a salvage may have left out the line that a run began with
        self._end = tail.end
        if tail.torn:
            os.ftruncate(self._fd, tail.end)
        if header is None:
            self._begin()

    def _begin(self) -> None:
        first = note(
            "journal",
            version=VERSION,
            library=self._library,
            at=round(self._wall(), 3),
            settings=self.settings,
        )
        InlineWriter(self._fd, 0).put(sealed(first), None)
        self._end = len(sealed(first))
        sync_folder(self.path.parent)

    def _check_settings(self, content: bytes) -> None:
        then = json.loads(content).get("settings", {})
        changed = sorted(
            name for name in {*then, *self.settings} if then.get(name) != self.settings.get(name)
        )
        if changed:
            name = changed[0]
            raise JournalMismatch(
                f"{self.path} was begun with {name} = {then.get(name)!r}, and this run has "
                f"{self.settings.get(name)!r}: run it with the same, or give another --journal"
            )

    def _repair(self) -> None:
        self.salvaged = salvage(self.path)
        damaged, self._fd = self._fd, _opened(self.path)
        os.close(damaged)
        _lock(self._fd, self.path)

    def _line(self, offset: int) -> bytes:
        parts: list[bytes] = []
        while chunk := os.pread(self._fd, CHUNK, offset):
            head, newline, _ = chunk.partition(b"\n")
            parts.append(head)
            if newline:
                parts.append(newline)
                break
            offset += len(chunk)
        return b"".join(parts)


def records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield what a journal tells, values left out, also while a run writes to it.

    Raises:
        JournalDamaged: what was safe has changed, or it is no journal.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for line in whole_lines(file, str(path), Tail(), size):
            yield head_of(line.content)


def is_in_use(path: str | os.PathLike[str]) -> bool:
    """Whether a run writes to a journal."""
    import fcntl

    with Path(path).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        what = "it is a link" if path.is_symlink() else error.strerror
        raise JournalError(f"the journal {path} cannot be opened: {what}") from None


def _lock(fd: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:
        raise ConfigurationError("a journal needs a system that has flock, like Linux") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise JournalInUse(
            f"another run writes to {path}: wait for it, stop it, or give another --journal"
        ) from None


def _is_damaged(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            for _ in whole_lines(file, str(path), Tail()):
                pass
        except JournalDamaged:
            return True
    return False
