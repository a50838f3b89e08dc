"""Bodies from outside, decoded from JSON: bounded, never raising, and at little cost."""

from __future__ import annotations

import json
import re
from typing import Any

LONGEST_BODY = 64 * 1024
"""Bytes of an error body that are looked at."""

_decode = json.JSONDecoder().raw_decode
"""What `json.loads` comes down to, at a third of its cost for a small body."""


LONG_BODY = 4 * 1024
"""Bytes from which an answer's end is looked for: below them to decode it all costs less."""

BLANKS = " \t\n\r"
"""What may stand between the parts of JSON (RFC 8259 section 2)."""

_USAGE = re.compile(r'(?<=[{, \t\n\r])"usage"')
_DOUBTFUL = ('"error"', "\\u00", "}{", "}\n{", "}\r\n{", "} {")
"""An error, or its letters written as escapes, or a second object behind the first."""


def ending(body: Any, most: int, least: int = LONG_BODY) -> dict[str, Any] | None:
    """Return the end of an answer, from its usage on, as an object; None where that is not enough.

    Whoever asked decodes the answer, and to do so here as well would cost it twice: milliseconds,
    where it holds embeddings. What follows the last ``"usage"`` is decoded as the rest of an
    object. Only if that one ends where the answer does was the name one of the outermost object's;
    inside of a text its quotes would be escaped. What comes before is taken for JSON, as braces are
    in pairs, so that nothing is cut off. Where they are not, or an error may be, None is returned.

    Args:
        body: bytes; for anything else the result is None.
        most: bytes of a body that are looked at.
        least: bytes from which that is worth the while; a short one is decoded whole sooner.
    """
    if type(body) is not bytes or not least <= len(body) <= most or body[:1] != b"{":
        return None
    try:
        text = body.decode("utf-8", "surrogatepass")
        start = text.rfind('"usage"')
        if _USAGE.match(text, max(start, 0)) is None or any(map(text.__contains__, _DOUBTFUL)):
            return None
        if text.count("{") != text.count("}"):
            return None
        rest = "{" + text[start:]
        content, end = _decode(rest)
    except (ValueError, RecursionError):
        return None
    return None if rest[end:].strip(BLANKS) else content


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
        # Most are UTF-8 and hold one value; json.loads finds the others out, at some cost.
        text: Any = body.decode("utf-8", "surrogatepass") if type(body) is bytes else body
        content, end = _decode(text)
        if end == len(text):
            return content
    except RecursionError:
        return None
    except (ValueError, TypeError):
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
