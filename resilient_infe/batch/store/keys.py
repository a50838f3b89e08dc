"""Which ids were seen, in about 12 bytes each.

A run of millions of rows must tell a duplicate id from a new one. A `set` of hashes costs about 70
bytes a row. Here hashes of 64 bits stand one after another in up to 16,384 strings of bytes: 14
bits of a hash choose the string, which is searched in C. With ten million ids each has 5 KB, and a
search takes 1 us.
"""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b
from sys import getsizeof

LENGTH = 8
"""Bytes of a hash; two of a million share one in one run of 10^7."""

PLACES = 1 << 14
"""Strings at most. Each is made when it is needed, and takes about 100 bytes besides its hashes."""


def key_of(row_id: str) -> bytes:
    """Return the hash of an id."""
    return blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=LENGTH).digest()


class SeenIds:
    """A set of ids, of which only their hashes are kept.

    That a hash is found across two others is as unlikely as that two ids share one.

    State: its own; it only grows.
    """

    __slots__ = ("_keys", "_used")

    def __init__(self) -> None:
        self._keys: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._used = 0

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self._used

    def __contains__(self, row_id: str) -> bool:
        """Return whether an id was added."""
        key = key_of(row_id)
        return key in self._keys.get(_place(key), b"")

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return getsizeof(self._keys) + sum(map(getsizeof, self._keys.values()))

    def add(self, row_id: str) -> bool:
        """Add an id; return whether it is new."""
        key = key_of(row_id)
        keys = self._keys[_place(key)]
        if key in keys:
            return False
        keys += key
        self._used += 1
        return True


def _place(key: bytes) -> int:
    return (key[0] << 8 | key[1]) % PLACES
