"""A packed body: unpacked as its header says, and never to more than the bound."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from types import ModuleType

import pytest
import zstandard

from resilient_infe.adapters.http.bomb import LARGEST_UNSUSPICIOUS, DecompressionBomb, is_bomb
from resilient_infe.adapters.httpx.decompress import Unpacker, decompressed, unpacker_for

BODY = b'{"usage": {"total_tokens": 7}}'
MIB = 1024 * 1024


def deflated(data: bytes, bits: int) -> bytes:
    """Return data deflated, with the header that `bits` stand for."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "DEFLATE ": lambda data: deflated(data, -zlib.MAX_WBITS),
    "zstd": zstandard.compress,
    "gzip, zstd": lambda data: zstandard.compress(gzip.compress(data)),
    "identity": bytes,
    "x-unknown": bytes,
}


@pytest.mark.parametrize("encoding", PACKERS)
def test_what_the_header_says_is_undone(encoding):
    """Each coding is undone, in the reverse of the order in which it was applied."""
    assert decompressed(PACKERS[encoding](BODY), encoding, MIB) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "gzip, zstd", "zstd, gzip"])
def test_a_bomb_is_never_unpacked(encoding):
    """A body that unpacks to 16 MiB takes little more than the bound, and is returned empty."""
    bomb = bytes(16 * MIB)
    for coding in encoding.split(", "):
        bomb = PACKERS[coding](bomb)
    tracemalloc.start()
    try:
        assert decompressed(bomb, encoding, MIB) == b""
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "gzip, gzip"])
def test_what_is_not_packed_is_returned_empty(encoding):
    """A body that is not what its header says is not an answer."""
    assert decompressed(BODY, encoding, MIB) == b""


def test_too_many_codings_are_refused():
    """The client would undo them all, whatever they unpack to."""
    with pytest.raises(DecompressionBomb, match="over 5 content codings"):
        decompressed(BODY, ", ".join(["gzip"] * 6), MIB)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "DEFLATE ", "zstd", "gzip, zstd"])
def test_parts_may_be_cut_anywhere(encoding):
    """What the parts of a body unpack to does not depend on where they are cut."""
    packed, found = PACKERS[encoding](BODY * 50), []
    unpacker = Unpacker(encoding, found.append)
    for start in range(0, len(packed), 3):
        unpacker.feed(packed[start : start + 3])
    assert b"".join(found) == BODY * 50


def test_what_is_not_packed_needs_no_unpacker():
    """Without a coding, or with one that nobody can undo, there is nothing to look for."""
    assert unpacker_for("identity") is None
    assert unpacker_for("x-unknown") is None
    assert unpacker_for("gzip") is not None


def test_several_frames_of_zstd_are_one_body():
    """A second frame is unpacked like the first, with either package."""
    assert decompressed(zstandard.compress(BODY) * 2, "zstd", MIB) == BODY * 2


class Zstd(ModuleType):
    """The standard library's module of Python 3.14, on the package of earlier ones."""

    class ZstdDecompressor:
        """One frame, in pieces."""

        def __init__(self):
            self._one = zstandard.ZstdDecompressor().decompressobj()
            self._out = b""
            self.needs_input, self.eof, self.unused_data = True, False, b""

        def decompress(self, data: bytes, limit: int) -> bytes:
            """Return the next piece."""
            self._out += self._one.decompress(data) if data else b""
            piece, self._out = self._out[:limit], self._out[limit:]
            self.needs_input, self.eof = not self._out, self._one.eof and not self._out
            self.unused_data = self._one.unused_data
            return piece


def test_the_standard_librarys_zstd(monkeypatch):
    """It is asked for a piece at a time, and for each frame."""
    monkeypatch.setitem(sys.modules, "compression.zstd", Zstd("compression.zstd"))
    body = zstandard.compress(bytes(2 * MIB)) + zstandard.compress(BODY)
    assert decompressed(body, "zstd", 4 * MIB) == bytes(2 * MIB) + BODY


def test_a_bomb_is_told_from_a_long_body():
    """It unpacks to more than any body may, and to more than 50 times its size."""
    assert not is_bomb(LARGEST_UNSUSPICIOUS, 1)
    assert is_bomb(LARGEST_UNSUSPICIOUS + 1, 1)
    assert not is_bomb(10 * LARGEST_UNSUSPICIOUS, LARGEST_UNSUSPICIOUS)
    with pytest.raises(DecompressionBomb, match="over 32 MiB and over 50 times its size"):
        decompressed(gzip.compress(bytes(LARGEST_UNSUSPICIOUS + 1), 1), "gzip", MIB)


class Brotli(ModuleType):
    """A package that returns what it is given, in parts of at most the limit."""

    class Decompressor:
        """Hands out one byte more at each call."""

        left = b""

        def process(self, data: bytes, *, output_buffer_limit: int) -> bytes:
            """Return the next part."""
            self.left += data
            part, self.left = self.left[:output_buffer_limit], self.left[output_buffer_limit:]
            return part


class OldBrotli(ModuleType):
    """A package that cannot bound what it returns: a MiB for each byte that it is given."""

    class Decompressor:
        """Unpacks all at once."""

        def process(self, data: bytes) -> bytes:
            """Return all of it; a decoder of brotli that is asked for little returns little."""
            assert len(data) <= 8
            return bytes(len(data) * MIB)


@pytest.mark.parametrize(("size", "found"), [(2 * MIB, 2 * MIB), (9 * MIB, 0)])
def test_brotli_is_asked_for_a_part_at_a_time(monkeypatch, size, found):
    """Parts are put together up to the bound."""
    monkeypatch.setitem(sys.modules, "brotli", Brotli("brotli"))
    assert len(decompressed(bytes(size), "br", 4 * MIB)) == found


def test_a_brotli_that_cannot_be_bounded_is_fed_little(monkeypatch):
    """A version before 1.2 gets a few bytes at a time, so that a bomb is noticed in time."""
    monkeypatch.setitem(sys.modules, "brotli", OldBrotli("brotli"))
    assert decompressed(bytes(20), "br", 40 * MIB) == bytes(20 * MIB)
    fed = []
    with pytest.raises(DecompressionBomb, match="over 32 MiB"):
        Unpacker("br", lambda piece: fed.append(len(piece))).feed(bytes(1_000))
    assert sum(fed) <= LARGEST_UNSUSPICIOUS


def test_a_coding_without_its_package_is_passed_over(monkeypatch):
    """The body is looked at as it came, as the client will hand it over."""
    for name in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, name, None)
    assert decompressed(BODY, "br", MIB) == BODY
