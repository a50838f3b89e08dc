"""Buffers results for the iterating caller, in completion order or in row order."""

from __future__ import annotations

from collections import deque
from typing import Generic

from .result import Result as _Result
from .result import Row, Value


class Outbox(Generic[Row, Value]):
    """Keeps results until the caller takes them.

    Args:
        ordered: return results in row order. A result then waits until every row before it has a
            result or is skipped.

    State: results not yet taken, and rows skipped before it was their turn. The engine must bound
    the number of results.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: deque[_Result[Row, Value]] = deque()
        # By row index; None marks a row that has no result. Used only if `ordered`.
        self._out_of_order: dict[int, _Result[Row, Value] | None] = {}
        self._next_index = 0

    @property
    def is_blocked(self) -> bool:
        """Whether there are results, and all of them wait for a row before them."""
        return bool(self._out_of_order) and not self._ready

    def put(self, result: _Result[Row, Value]) -> None:
        """Add a result."""
        if not self._ordered:
            self._ready.append(result)
        else:
            self._store(result.index, result)

    def skip(self, index: int) -> None:
        """Record that this row has no result."""
        if self._ordered:
            self._store(index, None)

    def take(self) -> _Result[Row, Value] | None:
        """Remove and return the next result, or return None if none is ready."""
        return self._ready.popleft() if self._ready else None

    def _store(self, index: int, result: _Result[Row, Value] | None) -> None:
        """Store a row's result, then move every result whose turn has come to `_ready`."""
        self._out_of_order[index] = result
        while self._next_index in self._out_of_order:
            first = self._out_of_order.pop(self._next_index)
            self._next_index += 1
            if first is not None:
                self._ready.append(first)
