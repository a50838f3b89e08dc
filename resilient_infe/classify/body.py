"""Decodes bodies from outside as JSON: limited in size, never raising, and fast."""

from __future__ import annotations

import json
import re
from typing import Any

LONGEST_BODY = 64 * 1024
"""Bytes of an error body; a longer one is not decoded."""

_decode = json.JSONDecoder().raw_decode
"""The core of `json.loads`, at a third of its cost for a small body."""

LONG_BODY = 4 * 1024
"""Bytes from which `ending` is tried; decoding all of a shorter body costs less."""

BLANKS = " \t\n\r"
"""The characters that may stand between the parts of JSON (RFC 8259 section 2)."""

_USAGE = re.compile(r'(?<=[{, \t\n\r])"usage"')
_NEEDS_WHOLE = ('"error"', "\\u00", "}{", "}\n{", "}\r\n{", "} {")
"""Signs that the end is not enough: the name ``error``, an escape that can be one of its letters,
or a second object after the first.
"""


def ending(body: Any, most: int, least: int = LONG_BODY) -> dict[str, Any] | None:
    """Return the end of an answer, from its usage on, as an object, or None if that is not enough.

    The caller decodes the answer itself. Decoding it here too would double that cost: milliseconds,
    if it holds embeddings. So only the text from the last ``"usage"`` on is decoded, as if an
    object began there. If that object ends where the body ends, ``"usage"`` is a name in the
    outermost object. (It cannot be text: inside a text its quotes would be escaped.)

    The part before it is not decoded. An equal number of opening and closing braces is taken as a
    sign that nothing was cut off. If the numbers differ, or if the body may hold an error, the
    result is None.

    Args:
        body: bytes; for anything else the result is None.
        most: bytes; for a longer body the result is None.
        least: bytes from which this is worth it; for a shorter body the result is None.
    """
    if type(body) is not bytes or not least <= len(body) <= most or body[:1] != b"{":
        return None
    try:
        text = body.decode("utf-8", "surrogatepass")
        start = text.rfind('"usage"')
        if _USAGE.match(text, max(start, 0)) is None or any(map(text.__contains__, _NEEDS_WHOLE)):
            return None
        if text.count("{") != text.count("}"):
            return None
        rest = "{" + text[start:]
        content, end = _decode(rest)
    except (ValueError, RecursionError):
        return None
    return None if rest[end:].strip(BLANKS) else content


def decoded(body: Any, most: int = LONGEST_BODY) -> Any:
    """Return a body decoded from JSON, or None if it cannot be decoded.

    Args:
        body: bytes or text; anything else counts as decoded and is returned as it is.
        most: bytes or characters; a longer body gives None.
    """
    if not isinstance(body, (bytes, bytearray, str)):
        return body
    if len(body) > most:
        return None
    try:
        # The fast way, for UTF-8 with exactly one value. Other encodings, blanks around the value,
        # and errors are left to json.loads below, which costs more.
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
