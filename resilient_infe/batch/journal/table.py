"""Which rows were seen and what came of them, in at most 32 bytes a row.

A run of millions of rows must tell a duplicate id from a new one, and a row that is done from one
that is not, without keeping the ids. A `set` of hashes costs about 70 bytes a row; this is an open
hash table over two arrays of 64-bit words.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

TAKEN = 1 << 63
"""The row was taken from the input in this run."""

CHECKED = 1 << 62
"""The row was seen when the input was checked, before the run."""

FAILED = 1 << 61
"""What is recorded last is a failure."""

PERMANENT = 1 << 60
"""It is a failure that sending again would not mend."""

KIND = 56
"""Where four bits begin that tell the kind of a failure."""

OFFSET = (1 << KIND) - 1
"""Where in the journal the record stands, plus one; 0 where there is none."""

FULL = 0.7
"""The share of slots in use at which the table grows; from here on probing gets slow."""

GROWTH = 1.4
"""At least half of the slots stay in use: 16 bytes a slot are 32 a row at most."""

SMALLEST = 1024
"""Slots at the start."""


def key_of(row_id: str) -> int:
    """Return the 64 bits that stand for an id; two of a million share them in one run of 10^7."""
    digest = blake2b(row_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class RowTable:
    """A word of flags and an offset for each key.

    State: its own; it only grows.
    """

    __slots__ = ("_keys", "_slots", "_used", "_words")

    def __init__(self) -> None:
        """Start empty."""
        self._used = 0
        self._slots = 0
        self._keys: array[int] = array("Q")
        self._words: array[int] = array("Q")
        self._make(SMALLEST)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return self._used

    @property
    def size(self) -> int:
        """Bytes that the arrays hold."""
        return 16 * self._slots

    def get(self, key: int) -> int:
        """Return the word of a key, 0 if it was never seen."""
        return self._words[self._find(key)]

    def mark(self, key: int, flag: int) -> int:
        """Set a flag of a key, which is added where it is new; returns the word as it was."""
        slot = self._place(key)
        word = self._words[slot]
        self._words[slot] = word | flag
        return word

    def count(self, ones: int, zeros: int) -> int:
        """Return how many words have any of the bits `ones` and none of the bits `zeros`."""
        return sum(1 for word in self._words if word & ones and not word & zeros)

    def record(self, key: int, offset: int, flags: int = 0) -> int:
        """Note where a key's record stands; returns the word as it was.

        A success is final: what is recorded after it changes nothing.

        Args:
            key: of the row.
            offset: of the record in the journal, from 0.
            flags: `FAILED`, `PERMANENT` and the kind, or none.
        """
        slot = self._place(key)
        word = self._words[slot]
        if not word & OFFSET or word & FAILED:
            self._words[slot] = (word & (TAKEN | CHECKED)) | flags | (offset + 1)
        return word

    def _place(self, key: int) -> int:
        """Return the slot of a key, which is added where it is new."""
        slot = self._find(key)
        if self._keys[slot]:
            return slot
        if self._used + 1 > self._slots * FULL:
            self._grow()
            slot = self._find(key)
        self._keys[slot] = key
        self._used += 1
        return slot

    def _find(self, key: int) -> int:
        """Return the slot where a key stands, or would stand."""
        keys, slots = self._keys, self._slots
        slot = key % slots
        while (found := keys[slot]) and found != key:
            slot += 1
            if slot == slots:
                slot = 0
        return slot

    def _grow(self) -> None:
        keys, words = self._keys, self._words
        self._make(int(self._slots * GROWTH) | 1)
        for key, word in zip(keys, words, strict=True):
            if key:
                slot = self._find(key)
                self._keys[slot] = key
                self._words[slot] = word

    def _make(self, slots: int) -> None:
        self._slots = slots
        self._keys = array("Q", bytes(8 * slots))
        self._words = array("Q", bytes(8 * slots))
