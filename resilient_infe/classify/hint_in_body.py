"""When to ask again, as the body of an error says it where the headers do not.

Servers differ in how they write it. Three forms are read: a number of seconds or milliseconds
beside the error's code; the ``retryDelay`` of a ``google.rpc.RetryInfo``; and headers that a
gateway has copied into the body. A field that one vendor alone uses is a row of the rules. As with
headers, a value that cannot be read with certainty is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .error_body import MOST_DETAILS, error_object, first_of
from .headers import retry_after
from .values import LONGEST_WAIT, reset_of

SECONDS = ("retry_after", "retryAfter", "retry-after", "retry_after_seconds", "retryAfterSeconds",
           "resets_in_seconds", "retry_in_seconds")  # fmt: skip
"""Fields with a number of seconds, a duration or an instant."""

MILLISECONDS = ("retry_after_ms", "retryAfterMs", "retry-after-ms")
"""Fields with a number of milliseconds."""


def hint_in_body(content: Any, wall: float | None, fields: Iterable[str] = ()) -> float | None:
    """Return the wait in seconds that the decoded body of an error asks for, above 0, or None.

    Args:
        content: the body, decoded from JSON; anything.
        wall: seconds since 1970, for an instant; None ignores those.
        fields: names of more fields with a number of seconds.
    """
    found = (each for each in _waits(first_of(content), wall, fields) if each)
    return next(found, None)


def _waits(content: Any, wall: float | None, fields: Iterable[str]) -> Iterator[float | None]:
    if not isinstance(content, dict):
        return
    error = error_object(content)
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for place in (error, metadata, content):
        for name in MILLISECONDS:
            wait = _wait(place.get(name), wall)
            yield None if wait is None else wait / 1000.0
        for name in (*SECONDS, *fields):
            yield _wait(place.get(name), wall)
    details = error.get("details")
    for each in details[:MOST_DETAILS] if isinstance(details, list) else ():
        if isinstance(each, dict):
            yield _wait(each.get("retryDelay"), wall)
    headers = metadata.get("headers")
    if isinstance(headers, dict):
        yield retry_after(headers, wall)


def _wait(value: Any, wall: float | None) -> float | None:
    if isinstance(value, dict):  # google.protobuf.Duration, as some gateways write it
        value = value.get("seconds")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return min(value, LONGEST_WAIT) if 0 < value < float("inf") else None
    return reset_of(value if isinstance(value, str) else str(min(value, 10**18)), wall)
