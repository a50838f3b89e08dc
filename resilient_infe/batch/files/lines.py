"""The input's lines: from a file or stdin, compressed or not, each with its number.

Lines end at LF alone: a text may hold U+2028, at which ``str.splitlines`` would cut a record apart.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ...errors import BatchError

LONGEST = 16 * 1024 * 1024
"""Bytes of a line; a request with some images fits, a file without line breaks does not."""

STDIN = "-"

_GZIP, _ZSTD, _BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"


class NumberedLine(NamedTuple):
    """A line that is not blank: its number from 1, and its bytes; None if it is too long."""

    number: int
    content: bytes | None


def is_stream(path: str) -> bool:
    """Whether an input can be read but once: stdin, a pipe, a shell's ``<(...)``."""
    return path == STDIN or (Path(path).exists() and not Path(path).is_file())


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file, or stdin for ``-``, unpacking gzip and zstd by what they begin with.

    Raises:
        BatchError: it cannot be opened, or nothing here unpacks it.
    """
    if path == STDIN:
        # A reader of our own: at the end Python locks that of `sys.stdin`, where a thread may be.
        yield _unpacked(open(0, "rb", closefd=False), "stdin")  # noqa: SIM115
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {error.strerror}") from None
    with file, _unpacked(file, path) as plain:
        yield plain


def numbered(file: BinaryIO, name: str) -> Iterator[NumberedLine]:
    """Yield the lines that are not blank.

    Raises:
        BatchError: the file breaks off, or is no archive after all.
    """
    number = 0
    try:
        while line := file.readline(LONGEST):
            number += 1
            too_long = line[-1:] != b"\n" and len(line) == LONGEST
            if too_long:
                _skip_rest(file)
            elif number == 1:
                line = line.removeprefix(_BOM)
            if too_long or line.strip():
                yield NumberedLine(number, None if too_long else line)
    except (OSError, EOFError, zlib.error) as error:
        raise BatchError(f"{name} breaks off after line {number}: {error}") from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise BatchError(f"{name} breaks off after line {number}: {error}") from None


def _skip_rest(file: BinaryIO) -> None:
    while (part := file.readline(LONGEST)) and part[-1:] != b"\n":
        pass


def _unpacked(file: io.BufferedReader, name: str) -> BinaryIO:
    start = file.peek(4)[:4]
    if start[:2] == _GZIP:
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if start == _ZSTD:
        return _unpacked_zstd(file, name)
    return file


def _unpacked_zstd(file: io.BufferedReader, name: str) -> BinaryIO:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # from Python 3.14 on
    except ImportError:
        pass
    else:
        return cast("BinaryIO", zstd.ZstdFile(file))
    try:
        import zstandard  # an optional package
    except ImportError:
        raise BatchError(
            f"{name} is packed with zstd: pip install 'resilient-infe[zstd]', or unpack it first"
        ) from None
    return cast("BinaryIO", io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)))
