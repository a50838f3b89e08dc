"""Bodies from outside, decoded from JSON: bounded, never raising, and at little cost."""

from __future__ import annotations

import json
from typing import Any

LONGEST_BODY = 64 * 1024
"""Bytes of an error body that are looked at."""

_decode = json.JSONDecoder().raw_decode
"""What `json.loads` comes down to, at a third of its cost for a small body."""


_USAGE = '"usage"'
_ERROR = '"error"'


def ending(body: Any) -> dict[str, Any] | None:
    """Return the end of an answer, from its usage on, as an object; None where that is not enough.

    Whoever asked decodes the answer, and to do so here as well would cost it twice: milliseconds,
    where it holds embeddings. What follows the last ``"usage"`` is decoded as the rest of an
    object. Only if that one ends where the answer does was the name one of the outermost object's;
    inside of a text its quotes would be escaped. Where an error may be, all has to be decoded; what
    comes before is taken for JSON, since a body that is cut off lacks its end.

    Args:
        body: bytes; for anything else the result is None.
    """
    if type(body) is not bytes or body[:1] != b"{":
        return None
    try:
        text = body.decode("utf-8", "surrogatepass")
        start = text.rfind(_USAGE)
        if start < 0 or _ERROR in text:
            return None
        rest = "{" + text[start:]
        content, end = _decode(rest)
    except (ValueError, RecursionError):
        return None
    return content if end == len(rest) or rest[end:].isspace() else None


def decoded(body: Any, most: int = LONGEST_BODY) -> Any:
    """Return a body decoded from JSON, as it is if it already was, or None if it cannot be.

    Args:
        body: bytes, text, or something else, which is returned.
        most: bytes or characters of a body that are looked at; a longer one is None.
    """
    if not isinstance(body, (bytes, bytearray, str)):
        return body
    if len(body) > most:
        return None
    try:
        # Most are UTF-8 and hold one object; json.loads finds the others out, at some cost.
        if type(body) is bytes and body[:1] == b"{" and body[1:2] != b"\0":
            body = body.decode("utf-8", "surrogatepass")
        if type(body) is str and body[:1] == "{":
            content, end = _decode(body)
            if end == len(body):
                return content
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
