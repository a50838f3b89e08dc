"""The API key: checked when the transport is made, and never shown in a message or a log."""

from __future__ import annotations

import os

from ...errors import ConfigurationError
from ..http.masking import KeyMask

VARIABLE = "INFE_API_KEY"


class ApiKey:
    """A key that does not appear in any repr, log, pickle or exception.

    Args:
        value: the key, or None for the environment variable ``INFE_API_KEY``.

    Raises:
        ConfigurationError: there is no key, or it is malformed. The message does not quote it.

    Attributes:
        mask: masks the key in what a server sends.
    """

    __slots__ = ("_header", "mask")

    def __init__(self, value: str | None = None) -> None:
        if value is None:
            value = os.environ.get(VARIABLE)
            if value is None:
                raise ConfigurationError(f"no API key: pass api_key=, or set {VARIABLE}")
        self._header = f"Bearer {_checked(value)}"
        self.mask = KeyMask(value)

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return self._header

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
