"""The API key: checked when the transport is made, and never shown in a message or a log."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ...classify.headers import Lowered
from ...errors import ConfigurationError

VARIABLE = "INFE_API_KEY"

MASK = "***"
"""Replaces the key in a text."""

SHORTEST_MASKED = 8
"""Characters. A shorter key is a test's, and could be an ordinary word of the text."""


class ApiKey:
    """A key that does not appear in any repr, log, pickle or exception.

    Args:
        value: the key, or None for the environment variable ``INFE_API_KEY``.

    Raises:
        ConfigurationError: there is no key, or it is malformed. The message does not quote it.
    """

    __slots__ = ("_header",)

    def __init__(self, value: str | None = None) -> None:
        if value is None:
            value = os.environ.get(VARIABLE)
            if value is None:
                raise ConfigurationError(f"no API key: pass api_key=, or set {VARIABLE}")
        self._header = f"Bearer {_checked(value)}"

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return self._header

    def masked(self, text: str) -> str:
        """Return `text` with the key masked. Some servers quote the key in their errors."""
        key = self._header.removeprefix("Bearer ")
        if len(key) < SHORTEST_MASKED:
            return text
        return text.replace(key, MASK).replace(json.dumps(key)[1:-1], MASK)

    def masked_json(self, content: Any) -> Any:
        """Return a decoded JSON value with the key masked; None if it is nested too deeply.

        JSON can write any character as an escape, so the key need not appear literally in the
        server's text. Therefore the value is encoded again, in which each character has one form,
        and the key is replaced there.
        """
        try:
            written = json.dumps(content)
            masked = self.masked(written)
            return content if masked == written else json.loads(masked)
        except (RecursionError, ValueError):
            return None

    def masked_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return a response's headers with the key masked."""
        return Lowered.of((name, self.masked(value)) for name, value in headers.items())

    def __repr__(self) -> str:
        """Return a fixed text without the key."""
        return "ApiKey('***')"

    def __reduce__(self) -> str:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("an API key is not pickled: pass it to each process separately")


def _checked(value: object) -> str:
    """Return the key if it has none of the usual mistakes, for which a server sends a bare 401.

    Raises:
        ConfigurationError: it has one; the message says which.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"the API key must be a text; got {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"the API key is empty: pass api_key=, or set {VARIABLE}")
    if value != value.strip():
        where = "a newline" if value.strip("\r\n") != value else "a space"
        raise ConfigurationError(
            f"the API key has {where} at its start or end: strip it (a key read from a file often "
            f"ends with a newline)"
        )
    if value.lower().startswith("bearer "):
        raise ConfigurationError("pass the API key without `Bearer`: the transport adds it")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            "the API key contains a space, a control character or a character outside ASCII: was "
            "something else copied with it?"
        )
    return value
