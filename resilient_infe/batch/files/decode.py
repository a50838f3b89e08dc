"""JSON from outside: one value, or one sentence about what is wrong with it."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from typing import Any

from ...adapters.http.masking import printable
from ...errors import RowError
from ..forms import TO_UTF8
from ..plain import DEEPEST


def decoded(content: bytes | None, longest: int, *, checked: bool = False) -> Any:
    """Return the value on a line.

    Args:
        content: the line, or None if it is too long.
        longest: bytes that a line may have.
        checked: whether the same line was decoded before.

    Raises:
        RowError: it is not JSON, or JSON that cannot be sent.
    """
    if content is None:
        raise RowError(too_long(longest))
    try:
        if checked:
            return _plain.decode(content.decode())
        value = decoder.decode(content.decode())
    except RowError:
        raise
    except json.JSONDecodeError as error:
        raise RowError(_not_json(error)) from None
    except (ValueError, RecursionError) as error:
        raise RowError(unreadable(error)) from None
    check_depth(value, content.count(b"{") + content.count(b"["))
    return value


def check_depth(value: Any, brackets: int) -> None:
    """Refuse a value that is nested so deeply that a part of its way might not carry it.

    Args:
        value: was decoded.
        brackets: that its text has; few of them need no looking at.

    Raises:
        RowError: it is nested over `DEEPEST` levels deep.
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST if brackets > DEEPEST else 0):
        level = [each for outer in level for each in _within(outer)]
    if brackets > DEEPEST and level:
        raise RowError(f"it is nested over {DEEPEST} levels deep")


def _within(value: Any) -> Any:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def _not_json(error: json.JSONDecodeError) -> str:
    told, rest = f"it is not JSON: {error.msg}", error.doc[error.pos :].strip()
    if rest == ",":
        return "it ends with a comma: lines of JSON have none between them"
    if error.doc.startswith("{'"):
        told = "it is not JSON, whose texts stand in double quotes (Python: json.dumps)"
    return f"{told} at character {error.pos + 1}"


def too_long(longest: int) -> str:
    """Return the message for a row that is too long."""
    size = f"{longest // 2**20} MiB" if longest >= 2**20 else f"{longest:,} bytes"
    return f"it is longer than {size}: is a line break missing? Else give a larger --max-line"


def unreadable(error: Exception) -> str:
    """Return the message for what the decoder raises besides an error of syntax."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start + 1}: {TO_UTF8}"
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    return (
        f"a number in it has over {sys.get_int_max_str_digits():,} digits: put it in quotes, as a "
        f"text"
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RowError(f"the key {printable(repr(name))} stands twice in an object: keep one")
    return found


def _no_number(word: str) -> None:
    raise RowError(f"{word} is not JSON: write null, or leave it out")


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise RowError(f"the number {printable(digits)[:20]} is too large")
    return found


decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
)
"""Refuses what Python's decoder lets through, and no server takes: NaN, and a key twice."""

_plain = json.JSONDecoder()
"""Takes half the time of `decoder`, which calls Python for each object."""
