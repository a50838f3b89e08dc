"""Which ids were seen, in at most 16 bytes each.

A run of millions of rows must tell a duplicate id from a new one. A `set` of hashes costs about 70
bytes a row; this is an open hash table over one array of 64-bit words.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

FULL = 0.7
"""The share of slots in use at which the table grows; above it, probing gets slow."""

GROWTH = 1.4
"""At least half of the slots stay in use, and a slot takes 8 bytes."""

SMALLEST = 1024
"""Slots at the start."""


def key_of(row_id: str) -> int:
    """Return the 64 bits that stand for an id; two of a million share them in one run of 10^7."""
    digest = blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1  # 0 stands for an empty slot


class SeenIds:
    """A set of ids, of which only their keys are kept.

    State: its own; it only grows.
    """

    __slots__ = ("_keys", "_used")

    def __init__(self) -> None:
        self._used = 0
        self._keys: array[int] = array("Q", bytes(8 * SMALLEST))

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self._used

    def __contains__(self, row_id: str) -> bool:
        """Return whether an id was added."""
        return self._keys[self._find(key_of(row_id))] != 0

    @property
    def size(self) -> int:
        """Bytes that the array holds."""
        return 8 * len(self._keys)

    def add(self, row_id: str) -> bool:
        """Add an id; return whether it is new."""
        key = key_of(row_id)
        slot = self._find(key)
        if self._keys[slot]:
            return False
        if self._used + 1 > len(self._keys) * FULL:
            self._grow()
            slot = self._find(key)
        self._keys[slot] = key
        self._used += 1
        return True

    def _find(self, key: int) -> int:
        """Return the slot where a key stands, or would stand."""
        keys, slots = self._keys, len(self._keys)
        slot = key % slots
        while (found := keys[slot]) and found != key:
            slot += 1
            if slot == slots:
                slot = 0
        return slot

    def _grow(self) -> None:
        old = self._keys
        self._keys = array("Q", bytes(8 * (int(len(old) * GROWTH) | 1)))
        for key in old:
            if key:
                self._keys[self._find(key)] = key
