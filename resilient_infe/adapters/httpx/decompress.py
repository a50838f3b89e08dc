"""Unpacks a body that came whole, with its size bounded before a byte of it exists.

A megabyte can unpack to gigabytes. httpx unpacks a part at once however large it becomes, so what
is only judged is unpacked here instead: each format's decoder is asked for a bounded number of
bytes. The caller's own copy stays packed until the caller reads it.

Sources: RFC 9110 section 8.4 (Content-Encoding); RFC 1950 to 1952, 7932 and 8878 for the formats.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import zlib
from collections.abc import Callable
from typing import Any

PART = 1024 * 1024
"""Bytes that brotli is asked for at once; it may return up to twice as many."""

MOST_CODINGS = 5
"""Codings one around the other that are undone; no honest server applies more than one."""


def decompressed(raw: bytes, encoding: str, most: int) -> bytes | None:
    """Return a body with its content encoding undone, at most `most` bytes of it.

    Args:
        raw: the whole body, as it came over the wire.
        encoding: the value of ``Content-Encoding``. A coding that is not known, or whose package is
            not installed, is passed over, as httpx does.
        most: bytes, above 0. A body that unpacks to more is returned empty: it is not an answer.

    Returns:
        The body; empty bytes where it is too long, or is not what `encoding` says; None where the
        installed package cannot bound what it unpacks, so that nothing was unpacked.
    """
    codings = [coding.strip().lower() for coding in encoding.split(",")]
    if len(codings) > MOST_CODINGS:
        return b""
    for coding in reversed(codings):
        unpack = _UNPACKERS.get(coding)
        if unpack is None:
            continue
        try:
            found = unpack(raw, most + 1)
        except ImportError:
            continue
        except Exception:  # each format has an error of its own, and the body is from outside
            return b""
        if found is None:
            return None
        raw = found
        if len(raw) > most:
            return b""
    return raw


def _gzip(raw: bytes, most: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, most)


def _deflate(raw: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, most)
    except zlib.error:  # some servers leave the zlib header out
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, most)


def _brotli(raw: bytes, most: int) -> bytes | None:
    brotli = _first_of("brotli", "brotlicffi")
    decoder = brotli.Decompressor()
    process = getattr(decoder, "process", None) or decoder.decompress
    found = bytearray()
    try:
        part = process(raw, output_buffer_limit=PART)
        while part and len(found) < most:
            found += part
            part = process(b"", output_buffer_limit=PART)
    except TypeError:  # before version 1.2 nothing bounds what a part unpacks to
        return None
    return bytes(found)


def _zstd(raw: bytes, most: int) -> bytes:
    zstd = _first_of("compression.zstd", "backports.zstd", "zstandard")
    with zstd.open(io.BytesIO(raw)) as file:
        return bytes(file.read(most))


def _first_of(*names: str) -> Any:
    """Return the first of these modules that is installed."""
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"none of {names} is installed")


_UNPACKERS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
"""What undoes each coding that httpx knows."""
