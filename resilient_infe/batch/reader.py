"""Rows of a Python program, read as the command reads the rows of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core import bounds
from ..errors import ConfigurationError, RowError
from .request import CHAT, Defaults, request_of

VERSION = "/v1"
"""What the URLs of Batch lines begin with; a transport's base URL has it already."""


def reader_for(
    send: Callable[[Any], Any], request: Callable[[Any], Any] | None, model: str | None
) -> Callable[[Any], Any] | None:
    """Return what makes the payload of a row; None if the row is the payload.

    Rows are read only for a transport of bodies, such as `InfeTransport`. A function of the user's
    takes what the user gives.

    Args:
        send: what sends a payload.
        request: the user's hook, or None.
        model: for rows that name none, or None.

    Raises:
        ConfigurationError: `model` has no use.
    """
    found = getattr(send, "posts_bodies_to", None)
    endpoint = found if isinstance(found, str) else None
    if model is not None:
        bounds.instance(model, str, "model", "text")
        if request is not None or endpoint is None:
            raise ConfigurationError(
                "model= is for rows that stack.around(InfeTransport(...)) sends as they are: here "
                "let request= name it"
            )
    return _Reader(endpoint, model) if request is None and endpoint is not None else request


class _Reader:
    """Makes the body of a row: of a text, a prompt, a body or a line of OpenAI's Batch."""

    def __init__(self, endpoint: str, model: str | None) -> None:
        self._url = VERSION + endpoint
        self._defaults = Defaults(model, self._url)

    def __call__(self, row: Any) -> Any:
        """Return the body of a row.

        Raises:
            RowError: it is not a request, or one for another endpoint.
        """
        if isinstance(row, Mapping) and not self._is_form(row):
            return self._body(row)
        if not isinstance(row, str | Mapping):
            return row  # of a type of the user's own; the transport decides
        value = row if isinstance(row, str) else dict(row)
        found = request_of(value, "row", 0, self._defaults)
        if VERSION + found.url.removeprefix(VERSION) != self._url:
            raise RowError(
                f"its url is {found.url!r}, and this transport posts to {self._url!r}: give each "
                f"its own InfeTransport(path=...)"
            )
        return found.body

    def _is_form(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is not simply a body."""
        return "body" in row or (self._url == CHAT and "messages" not in row)

    def _body(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        model = self._defaults.model
        if "custom_id" not in row and (model is None or "model" in row):
            return row
        rest = {name: each for name, each in row.items() if name != "custom_id"}
        return rest if model is None else {"model": model} | rest
