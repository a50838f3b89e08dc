"""A packed body: unpacked as its header says, and never to more than the bound."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from types import ModuleType

import pytest
import zstandard

from resilient_infe.adapters.httpx.decompress import decompressed

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


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "zstd", "gzip, gzip", ", ".join(["gzip"] * 6)]
)
def test_what_is_not_packed_is_returned_empty(encoding):
    """A body that is not what its header says, or has too many codings, is not an answer."""
    assert decompressed(BODY, encoding, MIB) == b""


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
    """A package that cannot bound what it returns."""

    class Decompressor:
        """Unpacks all at once."""

        def process(self, data: bytes) -> bytes:
            """Must not be called so."""
            raise AssertionError(data)


@pytest.mark.parametrize(("size", "found"), [(2 * MIB, 2 * MIB), (9 * MIB, 0)])
def test_brotli_is_asked_for_a_part_at_a_time(monkeypatch, size, found):
    """Parts are put together up to the bound."""
    monkeypatch.setitem(sys.modules, "brotli", Brotli("brotli"))
    assert len(decompressed(bytes(size), "br", 4 * MIB)) == found


def test_a_brotli_that_cannot_be_bounded_is_not_used(monkeypatch):
    """With a version before 1.2 the body is not looked at."""
    monkeypatch.setitem(sys.modules, "brotli", OldBrotli("brotli"))
    assert decompressed(BODY, "br", MIB) is None


def test_a_coding_without_its_package_is_passed_over(monkeypatch):
    """The body is looked at as it came, as the client will hand it over."""
    for name in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, name, None)
    assert decompressed(BODY, "br", MIB) == BODY
