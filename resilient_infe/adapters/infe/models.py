"""The API's list of models, fetched once to suggest a name after a ``model_not_found``."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...errors import ModelNotFoundError
from ..http.masking import printable

LIST_TIMEOUT = 3.0
"""Seconds. A better error message is not worth a longer wait."""

SUGGESTIONS = 3
"""Model ids that the advice names at most."""


class ModelList:
    """The ids that ``GET /v1/models`` lists.

    Args:
        fetch: returns the decoded response of ``GET /v1/models``.

    State: per transport. The list is fetched at most once, even if that fails.
    """

    __slots__ = ("_fetch", "_ids", "_lock")

    def __init__(self, fetch: Callable[[], Awaitable[Any]]) -> None:
        self._fetch = fetch
        self._ids: list[str] | None = None
        self._lock = anyio.Lock()

    async def explain(self, error: ModelNotFoundError, asked: object) -> None:
        """Put the ids that are most similar to `asked` into the error's advice, if there are any.

        Args:
            error: the error to explain.
            asked: the model that the request named.
        """
        async with self._lock:
            if self._ids is None:
                self._ids = []  # not None any more, even if the fetch is cancelled
                self._ids = await self._list()
        if asked in self._ids:
            return  # the model exists, so the cause is another
        near = difflib.get_close_matches(str(asked), self._ids, SUGGESTIONS, cutoff=0.3)
        if near:
            names = " or ".join(printable(name) for name in near)
            error.advice = f"did you mean {names}?"

    async def _list(self) -> list[str]:
        try:
            with anyio.fail_after(LIST_TIMEOUT):
                content = await self._fetch()
        except Exception:  # without the list the error keeps its own advice
            return []
        rows = content.get("data") if isinstance(content, dict) else None
        ids = [row.get("id") for row in rows or () if isinstance(row, dict)]
        return [name for name in ids if isinstance(name, str)][:10_000]
