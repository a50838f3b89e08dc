"""Values from outside as one line of plain JSON, whatever is in them.

A reply may hold a lone surrogate, a line separator, NaN or a number without end. What is written is
ASCII, without NaN and without a line break, so that any reader takes it for one line and one value.
"""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Mapping
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from ..errors import ConfigurationError

DEEPEST = 200
"""Levels of a value that are written; no reply of the API has over a dozen."""

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def to_json(value: Any) -> bytes:
    """Return a value as JSON in ASCII, on one line; NaN and infinities become null.

    Args:
        value: made of dicts, lists, texts, numbers and None, or an SDK's object (``model_dump``).

    Raises:
        ConfigurationError: JSON has no form for it.
    """
    try:
        return _encoder.encode(value).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        return _written(_plain(value, 0))


def as_read_back(value: Any) -> tuple[Any, bytes]:
    """Return a value as it is read back from JSON, and the JSON.

    So a value is the same, in type too, when it is new and when a later run replays it: a tuple is
    a list, a number as a key is a text, NaN is None, and an SDK's object is a dict.

    Raises:
        ConfigurationError: JSON has no form for it.
    """
    encoded = to_json(value)
    try:
        return json.loads(encoded), encoded
    except RecursionError:  # it can be written a little deeper than it can be read
        encoded = _written(_plain(value, 0))
        return json.loads(encoded), encoded


def one_line(raw: bytes) -> bytes | None:
    """Return JSON that was decoded without an error as `to_json` would, if it stands so already.

    Line breaks can stand only between its parts; in a text, JSON allows none.
    """
    if not raw.isascii() or b"NaN" in raw or b"Infinity" in raw or b"\0" in raw:
        return None
    return raw.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in raw or b"\r" in raw else raw


def text(value: str | None) -> bytes:
    """Return a text as JSON, or null: what `to_json` makes of it, at a tenth of the cost."""
    return b"null" if value is None else _quoted(value).encode("ascii")


def digest_of(value: Any) -> str | None:
    """Return what a value is known again by, or None where there is nothing to go by.

    It depends on the order of keys and not on white space. Marshal's second form, which no Python
    changes any more, takes a sixth of the time that JSON takes.
    """
    try:
        source = marshal.dumps(value, 2)
    except ValueError:
        try:
            source = to_json(value)
        except ConfigurationError:
            return None
    return blake2b(source, digest_size=8).hexdigest()


def _written(value: Any) -> bytes:
    try:
        return _encoder.encode(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"this cannot be written as JSON: {error}") from None


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return value if _is_printable(value) else None
    if depth > DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return _plain(dump(mode="json"), depth + 1)
    raise ConfigurationError(
        f"a {type(value).__name__} has no form in JSON: with a journal, let record= return texts, "
        f"numbers, lists and dicts"
    )


def _is_printable(number: float) -> bool:
    """Whether JSON has a form for a number; beyond some length Python prints no integer."""
    return number.bit_length() < 10_000 if isinstance(number, int) else math.isfinite(number)
