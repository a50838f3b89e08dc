"""Which models there are: asked for once, to explain a ``model_not_found``."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...errors import ModelNotFoundError
from .replies import printable

LIST_TIMEOUT = 3.0
"""Seconds that the list may take; an error message is not worth more."""

SUGGESTIONS = 3


class ModelList:
    """The ids that ``GET /v1/models`` lists.

    Args:
        fetch: gets the decoded list.

    State: per transport; the list is asked for at most once, whatever comes of it.
    """

    __slots__ = ("_fetch", "_ids", "_lock")

    def __init__(self, fetch: Callable[[], Awaitable[Any]]) -> None:
        """Ask for nothing yet."""
        self._fetch = fetch
        self._ids: list[str] | None = None
        self._lock = anyio.Lock()

    async def explain(self, error: ModelNotFoundError, asked: object) -> None:
        """Name the nearest existing ids in the error's advice."""
        async with self._lock:
            if self._ids is None:
                self._ids = []  # asked for, whatever comes of it
                self._ids = await self._list()
        if asked in self._ids:
            return  # it exists: something else is wrong
        near = difflib.get_close_matches(str(asked), self._ids, SUGGESTIONS, cutoff=0.3)
        if near:
            names = " or ".join(printable(name) for name in near)
            error.advice = f"did you mean {names}?"

    async def _list(self) -> list[str]:
        try:
            with anyio.fail_after(LIST_TIMEOUT):
                content = await self._fetch()
        except Exception:  # the list is a courtesy: without it the error stands as it is
            return []
        rows = content.get("data") if isinstance(content, dict) else None
        ids = [row.get("id") for row in rows or () if isinstance(row, dict)]
        return [name for name in ids if isinstance(name, str)][:10_000]
