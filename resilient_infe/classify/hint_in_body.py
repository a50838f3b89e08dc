"""When to ask again, as the body of an error says it where the headers do not.

Servers differ in where and how they write it. The error, and the objects in it and beside it, are
searched for a field whose name says so, however its words are joined: ``retry_after``,
``retryAfterMs``, the ``retryDelay`` of a ``google.rpc.RetryInfo``, ``resets_at``; and for headers
that a gateway has copied into the body. A field that one vendor alone uses is a row of the rules.
As with headers, a value that cannot be read with certainty is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from .error_body import MOST_DETAILS, MOST_FIELDS, error_object, first_of, plain_name
from .headers import retry_after
from .values import LONGEST_WAIT, reset_of

DEEPEST = 3
"""Objects inside of objects that are searched."""

MOST_OBJECTS = 64
"""Objects that are searched."""

_NAME = re.compile(
    r"(retry|tryagain|resets?)(after|in|delay|at)(?P<ms>ms|millis|milliseconds)?(s|secs?|seconds)?"
)
"""The plain name of a field with a number of seconds or milliseconds, a duration or an instant."""


def hint_in_body(content: Any, wall: float | None, fields: Iterable[str] = ()) -> float | None:
    """Return the wait in seconds that the decoded body of an error asks for, above 0, or None.

    Args:
        content: the body, decoded from JSON; anything.
        wall: seconds since 1970, for an instant; None ignores those.
        fields: names of more fields with a number of seconds.
    """
    content = first_of(content)
    if not isinstance(content, dict):
        return None
    others = frozenset(map(plain_name, fields))
    found = (each for each in _waits(content, wall, others) if each)
    return next(found, None)


def _waits(
    content: dict[Any, Any], wall: float | None, others: Collection[str]
) -> Iterator[float | None]:
    for place in _objects(content):
        stated = []
        for name in islice(place, MOST_FIELDS):
            plain = plain_name(name)
            match = _NAME.fullmatch(plain)
            if match is not None or plain in others:
                stated.append((match is not None and bool(match["ms"]), place[name]))
            elif plain.endswith("headers") and isinstance(place[name], dict):
                yield retry_after(place[name], wall)
        for is_fine, value in sorted(stated, key=_coarseness):
            wait = _wait(value, wall)
            yield wait / 1000.0 if wait is not None and is_fine else wait


def _coarseness(stated: tuple[bool, Any]) -> bool:
    return not stated[0]  # milliseconds first


def _objects(content: dict[Any, Any]) -> Iterator[dict[Any, Any]]:
    """Yield the error, the body, and the objects in them, the outer ones first."""
    found = [(error_object(content), 0), (content, 0)]
    for place, depth in islice(found, MOST_OBJECTS):  # the loop appends what each object holds
        yield place
        if depth == DEEPEST:
            continue
        for each in islice(place.values(), MOST_FIELDS):
            listed = each[:MOST_DETAILS] if isinstance(each, list) else [each]
            found += [(inner, depth + 1) for inner in listed if isinstance(inner, dict)]


def _wait(value: Any, wall: float | None) -> float | None:
    if isinstance(value, dict):  # google.protobuf.Duration, as some gateways write it
        whole, nanos = value.get("seconds"), value.get("nanos")
        rest = nanos / 1e9 if type(nanos) is int and 0 < nanos < 10**9 else 0.0
        wait = None if isinstance(whole, dict) else _wait(whole, None)
        return (wait or 0.0) + rest or None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return min(value, LONGEST_WAIT) if 0 < value < float("inf") else None
    return reset_of(value if isinstance(value, str) else str(min(value, 10**18)), wall)
