"""Decompresses a complete body for the classifier, with a limit on the decompressed size.

One megabyte can decompress to gigabytes (a decompression bomb). httpx decompresses each part at
once, however large the result. So the classifier's copy is decompressed here, where each format's
decoder is asked for a limited number of bytes. The caller's copy stays compressed until the caller
reads it.

How each format keeps the limit:

1. gzip and deflate: zlib takes the limit as an argument.
2. brotli: the decoder returns its output in pieces, and no more pieces are taken above the limit.
   Versions before 1.2 return everything at once, so with them nothing is decompressed.
3. zstd: a file object is read up to the limit.

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
"""Bytes that brotli is asked for at a time. It may return up to twice as many."""

MOST_CODINGS = 5
"""A body with more nested codings is rejected. Honest servers apply one."""


def decompressed(raw: bytes, encoding: str, limit: int) -> bytes | None:
    """Return a body with its content encoding undone, if it is no longer than `limit` bytes.

    Args:
        raw: the complete body, as it came over the wire.
        encoding: the value of ``Content-Encoding``. A coding that is unknown, or whose package is
            not installed, is skipped, as in httpx.
        limit: bytes, above 0. It limits the output of each coding, so nested codings cannot exceed
            it in between.

    Returns:
        The decompressed body. Empty bytes if it is longer than `limit`, is not in the format of
        `encoding`, or has more than `MOST_CODINGS` codings. None if the installed package cannot
        limit its output; then nothing was decompressed.
    """
    codings = [coding.strip().lower() for coding in encoding.split(",")]
    if len(codings) > MOST_CODINGS:
        return b""
    for coding in reversed(codings):
        decode = _DECODERS.get(coding)
        if decode is None:
            continue
        try:
            decoded = decode(raw, limit + 1)  # one byte more shows that the body is too long
        except ImportError:
            continue
        except Exception:  # each format raises its own errors, and the body is untrusted
            return b""
        if decoded is None:
            return None
        raw = decoded
        if len(raw) > limit:
            return b""
    return raw


def _gzip(raw: bytes, limit: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, limit)


def _deflate(raw: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(raw, limit)
    except zlib.error:  # some servers omit the zlib header
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, limit)


def _brotli(raw: bytes, limit: int) -> bytes | None:
    brotli = _first_of("brotli", "brotlicffi")
    decoder = brotli.Decompressor()
    process = getattr(decoder, "process", None) or decoder.decompress
    found = bytearray()
    try:
        part = process(raw, output_buffer_limit=PART)
        while part and len(found) < limit:  # each call returns a piece; empty once all is out
            found += part
            part = process(b"", output_buffer_limit=PART)
    except TypeError:  # before version 1.2 there is no output_buffer_limit
        return None
    return bytes(found)


def _zstd(raw: bytes, limit: int) -> bytes:
    zstd = _first_of("compression.zstd", "backports.zstd", "zstandard")
    with zstd.open(io.BytesIO(raw)) as file:
        return bytes(file.read(limit))


def _first_of(*names: str) -> Any:
    """Import and return the first of these modules that is installed.

    Raises:
        ImportError: none of them is installed.
    """
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"none of {names} is installed")


_DECODERS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
"""The decoder of each coding that httpx knows."""
