"""Values from outside as one line of plain JSON, whatever is in them.

A reply may hold a lone surrogate, a line separator, NaN or a number without end. What is written is
ASCII, without NaN and without a line break, so that any reader takes it for one line and one value.
"""

from __future__ import annotations

import json
import marshal
import math
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NoReturn

from ..errors import ConfigurationError

DEEPEST = 200
"""Levels of a value that are written; no reply of the API has over a dozen."""

_NUL, _LF, _CR, _I, _N = b"\0\n\rIN"
"""Bytes as numbers: to look for one of these takes a tenth of the time that a text takes."""

_BLANKS = bytes.maketrans(b"\n\r", b"  ")

_encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))

_decode = json.JSONDecoder().raw_decode
"""`json.loads` of what begins with its value, without finding out its encoding first."""


class NumberTooLong(ConfigurationError):
    """An integer has more digits than Python reads back from a text."""


def to_json(value: Any) -> bytes:
    """Return a value as JSON in ASCII, on one line.

    NaN, infinities and integers that have too many digits to be read back become null.

    Args:
        value: made of dicts, lists, texts, numbers and None, or an SDK's object (``model_dump``).

    Raises:
        ConfigurationError: JSON has no form for it.
    """
    try:
        return _encoder.encode(value).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        return _written(_plain(value, 0, _null))


def as_read_back(value: Any) -> tuple[Any, bytes]:
    """Return a value as it is read back from JSON, and the JSON.

    So a value is the same, in type too, when it is new and when a later run replays it: a tuple is
    a list, a number as a key is a text, NaN is None, and an SDK's object is a dict.

    Raises:
        ConfigurationError: JSON has no form for it.
        NumberTooLong: an integer in it could not be read back.
    """
    try:
        written = _encoder.encode(value)
        return _decode(written)[0], written.encode("ascii")
    except (TypeError, ValueError, RecursionError):  # it is written a little deeper than it is read
        encoded = _written(_plain(value, 0, _too_long))
        return json.loads(encoded), encoded


def one_line(raw: bytes) -> bytes | None:
    """Return JSON that was decoded without an error as `to_json` would, if it stands so already.

    Line breaks can stand only between its parts; in a text, JSON allows none.
    """
    if not raw.isascii() or _NUL in raw:
        return None
    if (_N in raw and b"NaN" in raw) or (_I in raw and b"Infinity" in raw):
        return None
    return raw.translate(_BLANKS) if _LF in raw or _CR in raw else raw


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


def _plain(value: Any, depth: int, long: Callable[[int], Any]) -> Any:
    """Return a value as JSON has it.

    Args:
        value: of any type.
        depth: levels around it.
        long: returns what stands for an integer that has too many digits.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return _number(value, long)
    if depth > DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {_key(name, long): _plain(item, depth + 1, long) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1, long) for item in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return _plain(dump(mode="json"), depth + 1, long)
    raise ConfigurationError(
        f"a {type(value).__name__} has no form in JSON: with a journal, let record= return texts, "
        f"numbers, lists and dicts"
    )


def _key(name: Any, long: Callable[[int], Any]) -> str:
    """Return a key as the encoder writes it, and one that it refuses as a text."""
    if isinstance(name, str):
        return name
    if isinstance(name, int) and not _is_printable(name):
        return f"{long(name)}"
    try:
        return str(next(iter(json.loads(_encoder.encode({name: 0})))))
    except (TypeError, ValueError):
        return str(name)


def _number(value: int | float, long: Callable[[int], Any]) -> Any:  # noqa: PYI041  # mypy sees it
    if isinstance(value, int):
        return value if _is_printable(value) else long(value)
    return value if math.isfinite(value) else None


def _is_printable(number: int) -> bool:
    try:
        str(int(number))
    except ValueError:
        return False
    return True


def _null(_: int) -> None:
    return None


def _too_long(number: int) -> NoReturn:
    raise NumberTooLong(
        f"an integer of {number.bit_length():,} bits has over {sys.get_int_max_str_digits():,} "
        f"digits, which Python does not read back from JSON: let record= return it as a text, as "
        f"by hex()"
    )
