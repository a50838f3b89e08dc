"""Which items travel in one request, and what becomes of a request that is refused.

Items join the open parcel until it is full, or until its first item has waited `max_wait`. So an
item waits for `max_wait` at most, and under load it does not wait at all.

A server refuses a whole request for either of two reasons, and seldom says for which: there is too
much in it, or one item cannot be right. Both are found by halves. Until a part is accepted, the
parts are sent one after the other: the first half of what was refused, and after a bad item the
largest part that is left. If the request itself is wrong, all parts are refused, and more than
``2 * log2(n) + 2`` of them show it. Once a part was accepted, the rest goes at once, and a part
that is refused is halved again. So `b` bad items among `n` cost about ``2 * b * log2(n)`` requests,
and each of them alone gets the error.

If parts were accepted and no item was bad, the request was too large. Later ones are then as large
as the largest part that was accepted, and twice as large again after a number of full ones, which
doubles each time that this fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..core import bounds
from ..core.queue import Waiter
from ..core.verdict import Kind, Verdict

TOO_LARGE = 413
"""The status that says that a request is too large (RFC 9110 section 15.5.14)."""

FIRST_PATIENCE = 16
"""Full requests after which a larger one is tried."""

MOST_PATIENCE = 1_024
"""The same after many tries that failed: one refused request for each 1,024 is no cost."""


class Entry(Waiter):
    """One item, and the call that waits for it. State: per item.

    Attributes:
        item: what the caller gave.
        tokens: its estimated cost.
        parcel: where it travels; None before it joins and after it has its outcome.
        value: its answer.
        error: why it has none; None if it has one.
        trace: where `error` was raised.
    """

    __slots__ = ("error", "item", "parcel", "tokens", "trace", "value")

    def __init__(self, item: Any, tokens: float) -> None:
        super().__init__(0)
        self.item, self.tokens = item, tokens
        self.parcel: Parcel | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.trace: TracebackType | None = None

    def end(self) -> None:
        """Let the caller go on: the item has its answer or its error."""
        self.parcel, self.granted = None, True
        if self.wake is not None:
            self.wake()


class Family:
    """The parts that one request became. State: per request.

    Attributes:
        accepted: the items of the largest part that was accepted.
        refused: the parts that were refused.
        bad: the single items that were refused.
        parts: the parts that have not ended.
        kept: those of them that are not sent before another part has ended.
        most_refused: the refused parts, with none accepted, that show that all would be.
    """

    __slots__ = ("accepted", "bad", "kept", "most_refused", "parts", "refused")

    def __init__(self, size: int) -> None:
        self.accepted = self.refused = self.bad = 0
        self.parts, self.kept = 1, list[Parcel]()
        self.most_refused = 2 * math.ceil(math.log2(max(1, size))) + 2

    def next(self, *, deeper: bool) -> list[Parcel]:
        """Return the parts to send when one has ended: all if one was accepted, else one.

        Args:
            deeper: whether that is the last one, a half of what was refused; else it is the first
                one, the largest, which is far from the items that were found bad.
        """
        if not self.accepted:
            return [self.kept.pop(-1 if deeper else 0)] if self.kept else []
        kept, self.kept = self.kept, []
        return kept


class Parcel:
    """The items of one request, in order. State: per request.

    Attributes:
        entries: its items; one that is withdrawn before the parcel is sent leaves.
        tokens: what they cost together.
        sent: whether it is on its way, so that its items are fixed.
        waiting: the items whose callers still wait.
        family: what it is a part of.
        cancel: cancels its request.
    """

    __slots__ = ("cancel", "entries", "family", "sent", "tokens", "waiting")

    def __init__(self, entries: Iterable[Entry] = (), family: Family | None = None) -> None:
        self.entries: dict[Entry, None] = {}
        self.tokens, self.sent, self.waiting = 0.0, False, 0
        self.family = family
        self.cancel: Callable[[], None] = _nothing
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """Let an item join."""
        self.entries[entry] = None
        self.tokens += entry.tokens
        self.waiting += 1
        entry.parcel = self

    def send(self) -> list[Any]:
        """Fix the items, and return them."""
        self.sent = True
        self.family = self.family or Family(len(self))
        return [entry.item for entry in self.entries]

    def fail(self, error: BaseException) -> None:
        """End each item with an error."""
        for entry in self.entries:
            if not entry.gone:
                entry.error, entry.trace = error, error.__traceback__
                entry.end()

    def cut(self, size: int) -> list[Parcel]:
        """Return its items in parts of `size`, without those that nobody waits for."""
        entries = [entry for entry in self.entries if not entry.gone]
        starts = range(0, len(entries), size)
        return [Parcel(entries[start : start + size], self.family) for start in starts]


@dataclass(frozen=True, slots=True)
class BatchedStatistics:
    """What a `Batched` has done so far.

    Attributes:
        items: the items that were asked for.
        requests: the requests that were sent.
        refused: those that were refused, and divided.
        waiting: the items that wait for their request to be sent.
        in_flight: the requests under way.
        most: the most items in a request: `max_items`, or fewer if the server accepts fewer.
    """

    items: int
    requests: int
    refused: int
    waiting: int
    in_flight: int
    most: int


class Packing:
    """Packs items into parcels.

    Args:
        max_items: the most items in a request, from 1.
        max_tokens: the most tokens in a request, above 0; one item alone may have more.
        max_wait: seconds that an item waits for others, 0 or more.

    Raises:
        ConfigurationError: a value is out of its range.

    Attributes:
        due: the instant at which the open parcel is to be sent; None if it is empty.
        most: the most items in a request, by what the server has accepted.

    State: shared by all calls of one `Batched`.
    """

    def __init__(self, max_items: int, max_tokens: float, max_wait: float) -> None:
        self.max_items = self.most = bounds.whole(max_items, 1, "max_items")
        self.max_tokens = bounds.positive(max_tokens, "max_tokens")
        self.max_wait = bounds.at_least(max_wait, 0.0, "max_wait, in seconds,")
        self.due: float | None = None
        self.items = self.requests = self.refused = self.in_flight = 0
        self._open = Parcel()
        self._patience = self._left = FIRST_PATIENCE

    @property
    def busy(self) -> bool:
        """Whether an item waits, or a request is under way."""
        return bool(self._open.entries) or self.in_flight > 0

    def abandon(self) -> None:
        """Forget the items that wait, because their loop was closed."""
        self._open, self.due, self.in_flight = Parcel(), None, 0

    def rebase(self, seconds: float) -> None:
        """Add `seconds` to the stored instant, because the clock has changed."""
        if self.due is not None:
            self.due += seconds

    def add(self, entry: Entry, now: float) -> list[Parcel]:
        """Let an item join the open parcel; return the parcels that are full by that."""
        self.items += 1
        full: list[Parcel] = []
        if self._open.entries and self._open.tokens + entry.tokens > self.max_tokens:
            full += self.take()
        if not self._open.entries:
            self.due = now + self.max_wait
        self._open.add(entry)
        if len(self._open) >= self.most or self._open.tokens >= self.max_tokens:
            full += self.take()
        return full

    def take(self) -> list[Parcel]:
        """Close the open parcel; return it, or nothing if it is empty."""
        parcel, self._open, self.due = self._open, Parcel(), None
        return [parcel] if parcel.entries else []

    def withdraw(self, entry: Entry) -> Parcel | None:
        """Take out an item whose caller has gone.

        Returns:
            The parcel that is on its way for nobody by that, or None.
        """
        entry.gone = True
        parcel, entry.parcel = entry.parcel, None
        if parcel is None:
            return None
        parcel.waiting -= 1
        if parcel.sent:
            return None if parcel.waiting else parcel
        del parcel.entries[entry]
        parcel.tokens -= entry.tokens
        if not self._open.entries:
            self.due = None
        return None

    def accepted(self, parcel: Parcel) -> list[Parcel]:
        """Note that a parcel was accepted; return what is to be sent now."""
        family, size = _family_of(parcel), len(parcel)
        family.accepted = max(family.accepted, size)
        if size >= self.most and self.most < self.max_items:
            self._left -= 1
            if self._left <= 0:
                self.most, self._left = min(self.max_items, 2 * self.most), self._patience
        return self._ended(family)

    def rejected(self, parcel: Parcel, *, too_large: bool) -> tuple[list[Parcel], list[Parcel]]:
        """Note that a parcel was refused; return what is to be sent now, and what is given up.

        Args:
            parcel: the parcel.
            too_large: whether the server said that there is too much in it.
        """
        family, size = _family_of(parcel), len(parcel)
        family.refused += 1
        self.refused += 1
        if size == 1:
            family.bad += 1
        if not family.accepted and family.refused > family.most_refused:
            return [], self.given_up(parcel)
        if size == 1:
            return self._ended(family), [parcel]
        half = (size + 1) // 2
        if too_large and family.accepted:
            half = min(half, family.accepted)
        parts = parcel.cut(half)
        family.parts += len(parts)
        family.kept += reversed(parts)
        return self._ended(family, deeper=True), []

    def lost(self, parcel: Parcel) -> list[Parcel]:
        """Note that a parcel has ended in another way; return what is to be sent now."""
        return self._ended(_family_of(parcel))

    def given_up(self, parcel: Parcel) -> list[Parcel]:
        """Return a parcel and the parts that would have been sent after it."""
        family = _family_of(parcel)
        given_up, family.kept = [parcel, *family.kept], []
        return given_up

    def statistics(self) -> BatchedStatistics:
        """Return a snapshot."""
        return BatchedStatistics(
            self.items,
            self.requests,
            self.refused,
            len(self._open),
            self.in_flight,
            self.most,
        )

    def _ended(self, family: Family, *, deeper: bool = False) -> list[Parcel]:
        """Note the end of a part; after the last one, learn whether the request was too large."""
        family.parts -= 1
        if not family.parts and family.refused and family.accepted and not family.bad:
            self._patience = min(MOST_PATIENCE, 2 * self._patience)
            self.most, self._left = min(self.most, family.accepted), self._patience
        return family.next(deeper=deeper)


def _nothing() -> None:
    pass


def _family_of(parcel: Parcel) -> Family:
    assert parcel.family is not None
    return parcel.family


def is_divisible(verdict: Verdict) -> bool:
    """Whether parts of a refused request may be accepted."""
    return verdict.kind is Kind.INVALID
