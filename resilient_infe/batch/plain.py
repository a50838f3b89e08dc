"""Values from outside as one line of plain JSON, whatever is in them.

A reply may hold a lone surrogate, a line separator, NaN or a number without end. What is written is
ASCII, without NaN and without a line break, so that any reader takes it for one line and one value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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


def digest_source(value: Any) -> bytes | None:
    """Return what identifies a request, the same however its keys are ordered; None if nothing."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        try:
            return to_json(value)
        except ConfigurationError:
            return None


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
