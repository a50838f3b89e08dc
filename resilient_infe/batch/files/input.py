"""The input of a job: read twice, once to check it and once to send it, and the same both times.

A file is opened once, and read as far as it reached then. So one that is put in its place, or lines
that are added, are not read, and both are reported at the end. Bytes that change in place are found
by a checksum. Whatever was checked is therefore what was sent, or the run says that it was not.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import BatchError
from .lines import is_stream, open_file, opened, unpacked

MORE = ("was replaced", "grew")
"""What may happen to a file while it is read on as it was; there is more to send then."""

PIECE = 256 * 1024
"""Bytes that are read at once."""


class Input:
    """A file, or what can be read but once: stdin, a pipe.

    Args:
        path: of the file; ``-`` is stdin.

    State: the open file, from the first reading until `close`, and the checksum of that reading.
    """

    def __init__(self, path: str) -> None:
        """Open nothing yet: to open a pipe is to wait for who writes into it."""
        self.path = path
        self.is_stream = is_stream(path)
        self._file: io.BufferedReader | None = None
        self._begun: os.stat_result | None = None
        self._sum: int | None = None
        self._is_same = False

    @contextmanager
    def read(self) -> Iterator[io.BufferedReader]:
        """Read it from its beginning, unpacked.

        Raises:
            BatchError: it cannot be read; or, at the end of a later reading, it was not the same.
        """
        if self.is_stream:
            with opened(self.path) as plain:
                yield plain
            return
        if self._file is None or self._begun is None:
            self._file = open_file(self.path)
            self._begun = os.fstat(self._file.fileno())
        self._file.seek(0)
        self._is_same = False
        span = _Span(self._file, self._begun.st_size)
        yield unpacked(io.BufferedReader(span, PIECE), self.path)
        if self._sum is None:
            self._sum = span.sum
        elif span.left or span.sum != self._sum:
            raise self._changed("became shorter" if span.left else "changed")
        self._is_same = True

    def begin(self) -> None:
        """Check, before the second reading, that nothing has happened since the first.

        Raises:
            BatchError: the file was replaced, or changed.
        """
        self._is_same = False
        happened = self._happened()
        if happened is not None:
            raise self._changed(happened)

    def check_same(self) -> None:
        """Check that what was read is what was checked.

        A reading that came to its end has compared every byte. After one that did not, the file's
        size and time tell.

        Raises:
            BatchError: bytes of it changed, or are gone.
        """
        happened = None if self._is_same else self._happened()
        if happened is not None and happened not in MORE:
            raise self._changed(happened)

    def report_changes(self) -> None:
        """Say at the end that there is more to send than was sent.

        Raises:
            BatchError: lines were added to the file, or another file is in its place.
        """
        happened = self._happened()
        if happened in MORE:
            raise BatchError(
                f"{self.path} {happened} while it was read: the results are those of the file as "
                f"it was; run the same again for the rest"
            )

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _happened(self) -> str | None:
        """Return what has happened to the file since it was opened, or None."""
        then = self._begun
        if self._file is None or then is None:
            return None
        now = os.fstat(self._file.fileno())
        try:
            there = Path(self.path).stat()
        except OSError:  # it was removed or renamed, and is still open here
            there = now
        if (there.st_dev, there.st_ino) != (then.st_dev, then.st_ino):
            return "was replaced"
        if now.st_size != then.st_size:
            return "grew" if now.st_size > then.st_size else "became shorter"
        return "changed" if now.st_mtime_ns != then.st_mtime_ns else None

    def _changed(self, how: str) -> BatchError:
        return BatchError(
            f"{self.path} {how} after it was checked; the output is as it was: run the same again"
        )


class _Span(io.RawIOBase):
    """The first bytes of a file, with their checksum so far in `sum`; `left` are not read yet."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self.left = size
        self.sum = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        read = self._file.readinto1(memoryview(buffer)[: min(len(buffer), self.left)])
        self.left -= read
        self.sum = zlib.crc32(memoryview(buffer)[:read], self.sum)
        return read
