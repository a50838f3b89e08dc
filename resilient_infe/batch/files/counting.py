"""Counts the tokens of rows with a user's function, and says which row it failed for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...adapters.http.masking import printable
from ...core.bounds import shown
from ...rate.estimate import estimate_tokens, valid_count
from ..request import Request


class RowCount:
    """Returns the tokens of a row's payload. If the function fails, the built-in estimate is used.

    Args:
        count: the user's function, which takes the body of a request.
        say: is told of the first failure.

    State: the ids of the rows under way, and whether a failure was told.
    """

    def __init__(self, count: Callable[[Any], float], say: Callable[[str], None]) -> None:
        self._count, self._say = count, say
        self._rows: dict[int, str] = {}
        self._told = count is estimate_tokens  # which does not fail

    def began(self, request: Request) -> None:
        """Note a row whose payload may be counted."""
        if self._count is not estimate_tokens:
            self._rows[id(request.body)] = request.custom_id

    def ended(self, request: Request) -> None:
        """Note that a row has its result."""
        self._rows.pop(id(request.body), None)

    def __call__(self, payload: Mapping[str, Any]) -> float:
        """Return the tokens of the body in a payload."""
        body = payload["body"]
        try:
            found: Any = self._count(body)
        except Exception as error:  # a user's function may raise anything
            problem = f"raised {type(error).__name__} ({printable(str(error))})"
        else:
            tokens = valid_count(found)
            if tokens is not None:
                return tokens
            problem = f"returned {printable(shown(found))}, not a number of tokens,"
        if not self._told:
            self._told = True
            row = printable(self._rows.get(id(body), "?"))
            self._say(
                f"--estimate {name_of(self._count)} {problem} for row {row}: the built-in estimate "
                f"is used where it fails (said once)"
            )
        return estimate_tokens(body)


def name_of(count: Callable[[Any], float]) -> str:
    """Return the name of a user's function, as ``--estimate`` takes it."""
    where = count if hasattr(count, "__qualname__") else type(count)
    return printable(f"{where.__module__}:{where.__qualname__}")
