"""What response headers say about waiting, about limits, and about the request's id.

Every value comes from outside and is read with distrust; see `values`. Which headers state a limit
is decided by their names; see `names`.

Sources: RFC 9110 section 10.2.3 (Retry-After); OpenAI's "Rate limits in headers"; Anthropic's
"Response headers"; draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from ..core.ids import clean_id
from ..core.verdict import DAY, Limit
from .names import LONGEST_LIST, REQUEST_IDS, Group, Names, read_names
from .structured import structured_limits
from .values import (
    LONGEST_VALUE,
    MOST_REMEMBERED,
    SINCE_1970,
    count,
    duration,
    http_date,
    plain_duration,
    reset_of,
    seconds,
    text,
)

__all__ = [
    "LOOKED_UP_LOWER", "Lowered", "duration", "header", "hidden_hint", "http_date", "limits",
    "longest_reset", "lowered", "names_of", "parse_retry_after", "request_id", "retry_after",
    "seconds", "text",
]  # fmt: skip

OVER_A_MINUTE = 66.0
"""Seconds: a reset of what was used that is further away is not one of a minute's limit."""

LOOKED_UP_LOWER = frozenset(("Lowered", "CIMultiDict", "CIMultiDictProxy"))
"""Names of header classes (ours, aiohttp's) whose `get` finds a lower-case name directly.

They are compared by name, so that aiohttp need not be imported.
"""


class Lowered(dict[str, Any]):
    """Headers as a dict with lower-case names."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[Any, Any]]) -> Lowered:
        """Return headers from pairs of a name and a value; repeated headers are joined."""
        return cls._joined([(str(name).lower(), value) for name, value in pairs])

    @classmethod
    def of_raw(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Lowered:
        """Return headers from pairs of bytes, as they come over the network."""
        return cls._joined(
            [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in pairs]
        )

    @classmethod
    def _joined(cls, pairs: list[tuple[str, Any]]) -> Lowered:
        made = cls(pairs)
        if len(made) < len(pairs):
            made.clear()
            for name, value in pairs:
                known = made.get(name, value)  # a header that is repeated unchanged counts once
                made[name] = value if known == value else f"{known}, {value}"
        return made


def lowered(headers: Any) -> Any:
    """Return headers with lower-case names; an object that is not a mapping comes back as it is."""
    if type(headers) is Lowered:
        return headers
    try:
        return Lowered.of(headers.items())
    except Exception:  # an object from outside may have only a `get`
        return headers


def header(headers: Any, name: str) -> str | None:
    """Return the text of header `name` (lower case), or None; `headers` may be any mapping."""
    try:
        value = headers.get(name)
        if type(value) is str and len(value) <= LONGEST_VALUE:  # the usual case
            return value.strip(" \t")
        return text(value)
    except Exception:  # a mapping from outside may raise anything
        return None


def parse_retry_after(
    value: object, date: object = None, wall: float | None = None
) -> float | None:
    """Return the seconds that a ``Retry-After`` asks to wait, finite and 0 or more, or None.

    Args:
        value: the header's value: a number of seconds, or an HTTP-date.
        date: the ``Date`` of the same response. The wait is counted from it, so that it does not
            matter if our clock is wrong.
        wall: seconds since 1970 by our own clock, used if there is no ``Date``.
    """
    number = seconds(value)
    if number is not None:
        return number
    until = http_date(value)
    start = http_date(date)
    start = wall if start is None else start
    return None if until is None or start is None else max(0.0, until - start)


def retry_after(headers: Any, wall: float | None = None, prefix: str = "") -> float | None:
    """Return the wait in seconds that a response's headers ask for, above 0, or None.

    The cases, in this order:

    1. ``retry-after-ms`` above 0: it is finer than the other.
    2. ``retry-after`` above 0, or a date in the future.
    3. Anything else is not a hint, also a 0 or a date in the past.

    Args:
        headers: anything with ``get``.
        wall: seconds since 1970, for a date in a response without ``Date``.
        prefix: what stands before both names, where a proxy renames an upstream's headers.
    """
    headers = lowered(headers)
    milliseconds = seconds(header(headers, f"{prefix}retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000.0
    value, date = header(headers, f"{prefix}retry-after"), header(headers, "date")
    return parse_retry_after(value, date, wall) or None


def hidden_hint(headers: Any, names: Names) -> float | None:
    """Return the wait in seconds that a header of another name asks for, above 0, or None.

    Such as ``x-retry-after`` or ``x-rate-limit-retry-after-seconds``. Arguments as for `limits`.
    """
    for name in names.waits:
        wait = seconds(header(headers, name))
        if wait:
            return wait / 1000.0 if name.endswith("-ms") else wait
    return None


def names_of(headers: Any) -> Names:
    """Return what the names of headers promise; see `read_names`."""
    if type(headers) is Lowered:
        names = "\n".join(headers)
    elif type(headers).__name__ in LOOKED_UP_LOWER:
        names = "\n".join(headers).lower()
    else:
        names = _USUAL  # an object that has only a `get` cannot list its names
    return read_names(names) if len(names) <= LONGEST_LIST else read_names.__wrapped__(names)


_USUAL = "\n".join(
    (
        *REQUEST_IDS,
        "ratelimit",
        "ratelimit-policy",
        *(
            f"x-ratelimit-{field}-{counted}"
            for counted in ("requests", "tokens")
            for field in ("limit", "remaining", "reset")
        ),
    )
)


def request_id(headers: Any, ids: tuple[str, ...]) -> str | None:
    """Return the server's id of the request if it is safe to log, or None.

    Args:
        headers: anything with ``get``.
        ids: the names of the headers that may hold it.
    """
    for name in ids:
        found = clean_id(header(headers, name))
        if found is not None:
            return found
    return None


def limits(
    headers: Any, wall: float | None = None, names: Names | None = None
) -> tuple[Limit, ...]:
    """Return every rate limit that a response's headers state, in any of the known dialects.

    Args:
        headers: anything with ``get``.
        wall: seconds since 1970, for a reset that is an instant in a response without ``Date``.
        names: what `names_of` returns for the headers, if the caller has it.
    """
    if names is None:
        headers = lowered(headers) if type(headers).__name__ not in LOOKED_UP_LOWER else headers
        names = names_of(headers)
    groups, structured, *_ = names
    found = []
    for group in groups:
        stated = _of_group(headers, group, wall, structured)
        if stated is not None:
            found.append(stated)
    if structured:
        found += structured_limits(
            header(headers, "ratelimit"), header(headers, "ratelimit-policy")
        )
    return tuple(found)


def longest_reset(stated: tuple[Limit, ...]) -> float | None:
    """Return the longest reset among the limits that have nothing left, in seconds, or None.

    A request needs all limits at once, so the one that resets last decides. A reset that is stated
    alone, without a limit and without what remains of it, counts too.
    """
    resets = [
        limit.reset
        for limit in stated
        if limit.reset and (limit.limit is None if limit.remaining is None else limit.remaining < 1)
    ]
    return max(resets, default=None)


def _of_group(headers: Any, group: Group, wall: float | None, structured: bool) -> Limit | None:
    """Return the limit that a group of headers states, or None.

    There are three cases in which its number is left out, so that it only says what remains and
    when to ask again:

    1. A period of over a day: a quota, and not a rate.
    2. What was used comes back as slowly as of a day's limit, and yet within a minute: it may be a
       window of a minute that is about to end.
    3. Neither the unit nor the period is stated, nor a reset from which the period may be read.
    """
    dimension, usual, counts, window, *names = group
    limit_text, remaining_text, value = _texts(headers, names)
    limit, stated = _quota(limit_text)
    remaining, reset = _left(remaining_text), plain_duration(value)
    if value and (reset is None or reset >= SINCE_1970):
        date = http_date(header(headers, "date"))
        reset = reset_of(value, wall if date is None else date)
    if limit is None and remaining is None and not reset:
        return None
    window = window or stated
    if window is None and _is_daily(limit, remaining, reset):
        if (reset or 0.0) > OVER_A_MINUTE:
            window = DAY
        elif usual and remaining:
            return None
    if (window or 0.0) > DAY:
        return Limit(dimension, None, remaining, reset) if remaining == 0 else None
    if not counts and window is None and (structured or not _may_tell(remaining, reset)):
        limit = None
    if limit is None and remaining is None and not reset:
        return None
    return Limit(dimension, limit or None, remaining, reset, window)


def _texts(headers: Any, names: list[str | None]) -> list[str | None]:
    """Return the text of each header, or None."""
    found: list[Any] = []
    try:
        found += map(headers.get, names)
        are_short = len("".join(found)) <= LONGEST_VALUE
    except Exception:  # one is missing, or no text; a mapping from outside may raise anything
        are_short = False
    if are_short:  # the usual case
        return found
    return [None if name is None else header(headers, name) for name in names]


def _may_tell(remaining: float | None, reset: float | None) -> bool:
    """Whether a reset may say which period a limit has: of a longer one, if nothing remains."""
    return bool(reset) and (remaining == 0 or (reset or 0.0) <= OVER_A_MINUTE)


def _is_daily(limit: float | None, remaining: float | None, reset: float | None) -> bool:
    """Whether the whole limit takes a day to come back, as far as what was used says."""
    if not (limit and reset) or remaining is None:
        return False
    used = (limit - remaining) * DAY
    return used > 0 and 0.8 * used <= reset * limit <= 1.2 * used


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _quota(value: str | None) -> tuple[float | None, float | None]:
    """Return the limit and the window of ``100`` or ``5, 5;w=1, 100;w=60``."""
    value = (value or "").strip(" \t")
    if "," not in value and ";" not in value:
        return count(value), None
    limit, window = count(_first(value)), None
    for part in value.split(","):
        quota, *parameters = part.split(";")
        if count(quota.strip()) == limit:
            stated = [each.strip()[2:] for each in parameters if each.strip().startswith("w=")]
            window = window or next(filter(None, map(count, stated)), None)
    return limit, window


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _left(value: str | None) -> float | None:
    return count(_first(value))


def _first(value: str | None) -> str | None:
    return None if value is None else value.partition(",")[0].partition(";")[0].strip()
