"""The input's lines: from a file or stdin, compressed or not, each with its number.

Lines end at LF alone: a text may hold U+2028, at which ``str.splitlines`` would cut a record apart.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from ...errors import BatchError
from ..forms import BOM
from ..request import LONGEST

STDIN = "-"

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f; pzstd begins its files with one

_PIECE = 1024
"""Bytes that are unpacked at once: 1 KiB of zstd can hold 32 MiB."""


class NumberedLine(NamedTuple):
    """A line that is not blank: its number from 1, and its bytes; None if it is too long."""

    number: int
    content: bytes | None


def is_stream(path: str) -> bool:
    """Whether an input can be read but once: stdin, a pipe, a shell's ``<(...)``."""
    place = Path(path)
    return path == STDIN or (place.exists() and not place.is_file() and not place.is_dir())


@contextmanager
def opened(path: str) -> Iterator[io.BufferedReader]:
    """Open a file, or stdin for ``-``, unpacking gzip and zstd by what they begin with.

    Raises:
        BatchError: it cannot be opened, or nothing here unpacks it.
    """
    if path == STDIN:
        # A reader of our own: at the end Python locks that of `sys.stdin`, where a thread may be.
        try:
            stdin = open(0, "rb", closefd=False)  # noqa: SIM115
        except OSError as error:
            raise BatchError(f"stdin cannot be read: {error.strerror}") from None
        yield unpacked(stdin, "stdin")
        return
    with open_file(path) as file, unpacked(file, path) as plain:
        yield plain


def open_file(path: str) -> io.BufferedReader:
    """Open a file to be read.

    Raises:
        BatchError: it cannot be opened.
    """
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        raise BatchError(
            f"{path} is a folder: give one file, or cat {path}/*.jsonl | resilient-infe run -"
        ) from None
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {error.strerror}") from None


def numbered(file: BinaryIO, name: str, longest: int = LONGEST) -> Iterator[NumberedLine]:
    """Yield the lines that are not blank.

    Args:
        file: opened in binary mode.
        name: the file's name.
        longest: bytes of a line, from 1; of a longer one the content is None.

    Raises:
        BatchError: the file breaks off, or is no archive after all.
    """
    number = 0
    try:
        while line := file.readline(longest):
            number += 1
            too_long = line[-1:] != b"\n" and len(line) == longest
            if too_long:
                _skip_rest(file, longest)
            elif line.startswith(BOM):  # also inside, where files were put together
                line = line.removeprefix(BOM)
            if too_long or line.strip():
                yield NumberedLine(number, None if too_long else line)
    except Exception as error:
        raise broken_off(error, name, f"line {number}") from None


def broken_off(error: Exception, name: str, place: str) -> Exception:
    """Return the error for a file that cannot be read to its end; another one as it is.

    Each package of zstd has an error of its own, and none may be there to import it from.
    """
    known = isinstance(error, OSError | EOFError | zlib.error)
    if not known and type(error).__name__ != "ZstdError":
        return error
    return BatchError(
        f"{name} breaks off after {place} ({error}): get the whole file and run the same again"
    )


def _skip_rest(file: BinaryIO, longest: int) -> None:
    while (part := file.readline(longest)) and part[-1:] != b"\n":
        pass


def unpacked(file: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return what reads a file unpacked, if it begins as gzip or zstd does.

    Raises:
        BatchError: nothing here unpacks it.
    """
    start = file.peek(4)[:4]
    # A file that is cut inside its first bytes is packed as well: no request begins like this.
    if start and _GZIP.startswith(start[:2]):
        return cast("io.BufferedReader", gzip.GzipFile(fileobj=file))
    if start and (_ZSTD.startswith(start) or (start[1:] == _SKIPPABLE and start[0] >> 4 == 5)):
        return _unpacked_zstd(file, name)
    return file


def _unpacked_zstd(file: io.BufferedReader, name: str) -> io.BufferedReader:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # from Python 3.14 on
    except ImportError:
        pass
    else:
        return cast("io.BufferedReader", zstd.ZstdFile(file))
    try:
        import zstandard  # an optional package
    except ImportError:
        raise BatchError(
            f"{name} is packed with zstd: pip install 'resilient-infe[zstd]', or unpack it first"
        ) from None
    return io.BufferedReader(_Parts(_parts(file, zstandard.ZstdDecompressor().decompressobj)))


def _parts(file: io.BufferedReader, begin: Callable[[], Any]) -> Iterator[bytes]:
    """Yield what the frames of a zstd file hold.

    The `stream_reader` of `zstandard` takes a frame that breaks off for a whole one.

    Args:
        file: at the start of a frame.
        begin: makes what unpacks one frame.

    Raises:
        EOFError: the last frame breaks off.
        ZstdError: the file holds something else than frames, or has changed.
    """
    frame = begin()
    while packed := file.read1(_PIECE):
        while packed:
            if frame.eof:
                frame = begin()
            yield frame.decompress(packed)
            packed = frame.unused_data
    if not frame.eof:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


class _Parts(io.RawIOBase):
    """A file of parts that come one after another."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._part:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._part = memoryview(part)
        size = min(len(buffer), len(self._part))
        buffer[:size], self._part = self._part[:size], self._part[size:]
        return size
