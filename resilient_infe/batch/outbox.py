"""Results on their way to whoever iterates: as they complete, or in the order of their rows."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic

from .result import Result as _Result
from .result import Row, Value

_GAP: Any = None


class Outbox(Generic[Row, Value]):
    """Keeps results until they are taken.

    Args:
        ordered: hand out a result only after those of all rows before it.

    State: the results that nobody took yet; how many that may be is for others to bound.
    """

    def __init__(self, *, ordered: bool) -> None:
        """Start empty."""
        self._ordered = ordered
        self._ready: deque[_Result[Row, Value]] = deque()
        self._early: dict[int, _Result[Row, Value] | None] = {}
        self._next = 0

    def put(self, result: _Result[Row, Value]) -> None:
        """Add a result."""
        if not self._ordered:
            self._ready.append(result)
        else:
            self._arrive(result.index, result)

    def skip(self, index: int) -> None:
        """Expect no result of a row."""
        if self._ordered:
            self._arrive(index, _GAP)

    def take(self) -> _Result[Row, Value] | None:
        """Return the next result, or None where there is none yet."""
        return self._ready.popleft() if self._ready else None

    def _arrive(self, index: int, result: _Result[Row, Value] | None) -> None:
        self._early[index] = result
        while self._next in self._early:
            first = self._early.pop(self._next)
            self._next += 1
            if first is not None:
                self._ready.append(first)
