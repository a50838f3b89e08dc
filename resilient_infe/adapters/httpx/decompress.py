"""Decompresses bodies in small pieces: to classify a complete body, and to find bombs.

httpx decompresses each part of a body at once, however large the result, and httpx2 collects all
pieces. So each body is decompressed here first, a piece at a time, and is not handed over if it is
a bomb (see `adapters/http/bomb.py`). The caller's copy stays compressed until the caller reads it.

How each format keeps a piece small:

1. gzip and deflate: zlib takes the limit as an argument. Like httpx, what follows the first member
   of a gzip body is passed over.
2. brotli: the decoder is asked for its output piece by piece. Versions before 1.2 return all that
   their input makes at once, so they are fed `FEW` bytes at a time.
3. zstd: the modules of Python 3.14 and `backports` take the limit as an argument, and `zstandard`
   writes its output piece by piece.

Sources: RFC 9110 section 8.4 (Content-Encoding); RFC 1950 to 1952, 7932 and 8878 for the formats.
"""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Callable
from typing import Any

from ..http.bomb import BOMB, DecompressionBomb, is_bomb

PIECE = 512 * 1024
"""Bytes that a decoder is asked for at a time. Brotli may return up to twice as many."""

FEW = 8
"""Bytes that are fed at a time to a decoder of brotli that returns all at once. The shortest block
of brotli has about ten, and makes at most 16 MiB.
"""

MOST_CODINGS = 5
"""A body with more nested codings is rejected. Honest servers apply one."""

Sink = Callable[[bytes], object]
Feed = Callable[[bytes], object]


class Unpacker:
    """Decompresses the parts of one body.

    Args:
        encoding: the value of ``Content-Encoding``. A coding that is unknown, or whose package is
            not installed, is passed over, as in httpx.
        sink: takes each piece that was decompressed; what it raises ends the decompression.

    Raises:
        DecompressionBomb: the body has more than `MOST_CODINGS` codings.

    Attributes:
        active: whether there is a coding to undo.

    State: per body.
    """

    def __init__(self, encoding: str, sink: Sink) -> None:
        codings = [coding.strip().lower() for coding in encoding.split(",")]
        if len(codings) > MOST_CODINGS:
            raise DecompressionBomb(f"the response has over {MOST_CODINGS} content codings")
        self._sink = sink
        self._packed = self._unpacked = 0
        self.active = False
        feed: Feed = self._take
        for coding in codings:  # the last that was applied is undone first, and feeds the others
            decoder = _DECODERS.get(coding)
            if decoder is None:
                continue
            try:
                feed = decoder(feed)
            except ImportError:
                continue
            self.active = True
        self._feed = feed

    def feed(self, part: bytes) -> None:
        """Decompress the next part of the body.

        Raises:
            DecompressionBomb: the body is a bomb.
            Exception: the decoder's own, if the body is not in the format that its header says.
        """
        self._packed += len(part)
        self._feed(part)

    def _take(self, piece: bytes) -> None:
        self._unpacked += len(piece)
        if self.active and is_bomb(self._unpacked, self._packed):
            raise DecompressionBomb(BOMB)
        self._sink(piece)


def unpacker_for(encoding: str) -> Unpacker | None:
    """Return the `Unpacker` that looks for a bomb in a body that is handed over open.

    Args:
        encoding: the value of ``Content-Encoding``.

    Returns:
        The unpacker; None if the body is not packed.

    Raises:
        DecompressionBomb: the body has too many codings.
    """
    if encoding == "identity":
        return None
    unpacker = Unpacker(encoding, len)
    return unpacker if unpacker.active else None


def decompressed(raw: bytes, encoding: str, limit: int) -> bytes:
    """Return a body with its content encoding undone, if it is no longer than `limit` bytes.

    Args:
        raw: the complete body, as it came over the wire.
        encoding: the value of ``Content-Encoding``; see `Unpacker`.
        limit: bytes, above 0.

    Returns:
        The decompressed body. Empty bytes if it is longer than `limit`, or is not in the format of
        `encoding`.

    Raises:
        DecompressionBomb: it is a bomb, or has too many codings.
    """
    if encoding == "identity":
        return raw if len(raw) <= limit else b""
    pieces: list[bytes] = []
    size = 0

    def take(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        else:
            pieces.clear()  # it is unpacked on, to see whether it is a bomb

    try:
        Unpacker(encoding, take).feed(raw)
    except DecompressionBomb:
        pieces.clear()  # else they live as long as the exception
        raise
    except Exception:  # each format raises its own errors, and the body is untrusted
        return b""
    return b"".join(pieces) if size <= limit else b""


def _gzip(sink: Sink) -> Feed:
    return _zlib(sink, zlib.decompressobj(zlib.MAX_WBITS | 16))


def _zlib(sink: Sink, decoder: Any) -> Feed:
    def feed(data: bytes) -> None:
        while data:
            sink(decoder.decompress(data, PIECE))
            data = decoder.unconsumed_tail

    return feed


def _deflate(sink: Sink) -> Feed:
    first, inner = True, _zlib(sink, zlib.decompressobj())

    def feed(data: bytes) -> None:
        nonlocal first, inner
        began, first = first, False
        try:
            inner(data)
        except zlib.error:
            if not began:
                raise
            inner = _zlib(sink, zlib.decompressobj(-zlib.MAX_WBITS))  # some servers omit the header
            inner(data)

    return feed


def _brotli(sink: Sink) -> Feed:
    decoder = _first_of("brotli", "brotlicffi").Decompressor()
    process = getattr(decoder, "process", None) or decoder.decompress
    try:
        process(b"", output_buffer_limit=PIECE)
    except TypeError:  # before version 1.2 there is no output_buffer_limit
        return _brotli_at_once(sink, process)

    def feed(data: bytes) -> None:
        piece = process(data, output_buffer_limit=PIECE)
        while piece:  # empty once all is out
            sink(piece)
            piece = process(b"", output_buffer_limit=PIECE)

    return feed


def _brotli_at_once(sink: Sink, process: Callable[[bytes], bytes]) -> Feed:
    def feed(data: bytes) -> None:
        for start in range(0, len(data), FEW):
            sink(process(data[start : start + FEW]))

    return feed


def _zstd(sink: Sink) -> Feed:
    zstd = _first_of("compression.zstd", "backports.zstd", "zstandard")
    if zstd.__name__ == "zstandard":
        return _zstandard(sink, zstd)
    decoder = zstd.ZstdDecompressor()

    def feed(data: bytes) -> None:
        nonlocal decoder
        while data or not decoder.needs_input:
            sink(decoder.decompress(data, PIECE))
            data = b""
            if decoder.eof:  # another frame may follow
                data, decoder = decoder.unused_data, zstd.ZstdDecompressor()

    return feed


def _zstandard(sink: Sink, zstd: Any) -> Feed:
    class Writer:
        def write(self, piece: Any) -> int:
            sink(bytes(piece))
            return len(piece)

    options = {"write_size": PIECE, "write_return_read": True, "closefd": False}
    decoder = zstd.ZstdDecompressor()
    feed: Feed = decoder.stream_writer(Writer(), **options).write
    return feed


def _first_of(*names: str) -> Any:
    """Import and return the first of these modules that is installed.

    Raises:
        ImportError: none of them is installed.
    """
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise ImportError(f"none of {names} is installed")


_DECODERS: dict[str, Callable[[Sink], Feed]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
"""The decoder of each coding that httpx knows: it feeds what it decompresses to a sink."""
