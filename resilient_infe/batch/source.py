"""Where rows come from: any iterable or async iterable, one row at a time, for many workers."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Generic

import anyio

from ..errors import ConfigurationError
from .result import Row


class Source(Generic[Row]):
    """Hands out rows with their numbers, in order, and none twice.

    Args:
        rows: an iterable, or an async iterable; of unknown length, if need be.

    Raises:
        ConfigurationError: it is neither, or one row rather than many.

    State: the iterator; `taken` rows were handed out, and `over` says that there are no more.
    """

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row]) -> None:
        """Begin to iterate."""
        self.taken = 0
        self.over = False
        self._plain: Iterator[Row] | None = None
        self._slow: AsyncIterator[Row] | None = None
        if isinstance(rows, AsyncIterable):
            self._slow = aiter(rows)
        else:
            self._plain = _iterator(rows)
        self._lock = anyio.Lock()

    def ready(self) -> tuple[int, Row] | None:
        """Return a row's number from 0 and the row, if that needs no waiting."""
        return None if self.over or self._plain is None else self._next_plain(self._plain)

    async def next(self) -> tuple[int, Row] | None:
        """Return a row's number from 0 and the row, or None where there are no more."""
        if self._slow is None:
            return self.ready()
        async with self._lock:  # an async iterator may be asked by one task at a time
            return None if self.over else await self._next_slow(self._slow)

    async def _next_slow(self, rows: AsyncIterator[Row]) -> tuple[int, Row] | None:
        try:
            row = await anext(rows)
        except StopAsyncIteration:
            self.over = True
            return None
        return self._numbered(row)

    def _next_plain(self, rows: Iterator[Row]) -> tuple[int, Row] | None:
        try:
            row = next(rows)
        except StopIteration:
            self.over = True
            return None
        return self._numbered(row)

    def _numbered(self, row: Row) -> tuple[int, Row]:
        self.taken += 1
        return self.taken - 1, row


def _iterator(rows: Iterable[Row]) -> Iterator[Row]:
    if isinstance(rows, str | bytes | Mapping):
        raise ConfigurationError(
            f"rows is a {type(rows).__name__}, whose parts would be sent one by one: give a list "
            f"of rows (a file of requests is read by `resilient-infe run`)"
        )
    try:
        return iter(rows)
    except TypeError:
        raise ConfigurationError(
            f"rows is an iterable or an async iterable; got {type(rows).__name__}"
        ) from None
