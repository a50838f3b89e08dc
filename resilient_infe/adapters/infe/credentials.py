"""The API key: checked when it is given, shown to nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ...classify.headers import Lowered
from ...errors import ConfigurationError

VARIABLE = "INFE_API_KEY"

MASK = "***"
"""What stands in the key's place."""

SHORTEST_MASKED = 8
"""Letters of a key; a shorter one is a stand-in's, and may be a word of the message."""


class ApiKey:
    """A key that no repr, log, pickle or exception shows.

    Args:
        value: the key, or None for the environment variable ``INFE_API_KEY``.

    Raises:
        ConfigurationError: there is no key, or it cannot be one; the message does not quote it.
    """

    __slots__ = ("_header",)

    def __init__(self, value: str | None = None) -> None:
        """Check it for the mistakes that a server would answer with a bare 401."""
        if value is None:
            value = os.environ.get(VARIABLE)
            if value is None:
                raise ConfigurationError(f"no API key: pass api_key=, or set {VARIABLE}")
        self._header = f"Bearer {_checked(value)}"

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return self._header

    def masked(self, text: str) -> str:
        """Return a text from outside without the key, which some servers quote in their errors."""
        key = self._header.removeprefix("Bearer ")
        if len(key) < SHORTEST_MASKED:
            return text
        return text.replace(key, MASK).replace(json.dumps(key)[1:-1], MASK)

    def masked_json(self, content: Any) -> Any:
        """Return a value decoded from JSON without the key, or None where it is nested too deep.

        JSON may write any letter as an escape. So the key is looked for in the decoded value, which
        is written anew for that: each letter then has one form.
        """
        try:
            written = json.dumps(content)
            masked = self.masked(written)
            return content if masked == written else json.loads(masked)
        except (RecursionError, ValueError):
            return None

    def masked_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return a response's headers without the key."""
        return Lowered.of((name, self.masked(value)) for name, value in headers.items())

    def __repr__(self) -> str:
        """Show nothing."""
        return "ApiKey('***')"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("an API key is not pickled: give it to each process by itself")


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"the API key is text; got {type(value).__name__}")
    if not value.strip():
        raise ConfigurationError(f"the API key is empty: pass api_key=, or set {VARIABLE}")
    if value != value.strip():
        where = "a newline" if value.strip("\r\n") != value else "a space"
        raise ConfigurationError(
            f"the API key has {where} at its start or end: strip it (a file read with read() ends "
            f"with a newline)"
        )
    if value.lower().startswith("bearer "):
        raise ConfigurationError("give the API key without `Bearer`: it is added for you")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigurationError(
            "the API key has a space, a control character or a letter outside ASCII inside: was it "
            "copied with something else?"
        )
    return value
