"""Single values from outside, as numbers: read with distrust, never raising.

A value may be negative, NaN, in the year 9999, bytes, or a megabyte long. A value that cannot be
read with certainty is None. How long a wait is too long is decided by the layers.

Sources: RFC 9110 section 10.2.3 (Retry-After) and 5.6.7 (HTTP-date); RFC 3339; Go's
``time.Duration``.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import Any

LONGEST_VALUE = 128
"""Characters; no valid value is longer, except a number, which is cut there."""

LONGEST_DIGITS = 8 * 1024
"""Characters of a number; a longer one is not a value."""

LONGEST_WAIT = 9_999_999_999.0
"""Seconds: the largest number of ten digits, which a longer number counts as."""

SINCE_1970 = 1e9
"""A reset from this number on is an instant: seconds since 1970, or from 1e11 on milliseconds."""

LARGEST_NUMBER = 1e12
"""A number from here on, in a header or a body, is not a count."""

MOST_REMEMBERED = 4096
"""Texts whose parsed value is cached: servers send the same few thousand again and again."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?(e-[0-9]{1,3})?", re.ASCII)
"""Also as ``str()`` of a float writes a short time: ``5e-05``."""

_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|us|µs|μs|Âµs|Î¼s|\udcb5s|ns|m|s)")
"""A micro sign is either of two letters. HTTP libraries may read its UTF-8 as Latin-1, or keep the
byte of a sign in Latin-1 as a surrogate."""

_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "ns": 1e-9}

_LONG_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)

_COUNT = re.compile(r"[0-9]{1,12}(\.[0-9]+)?", re.ASCII)

_MONTH = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = r"[0-2]\d:[0-5]\d:[0-6]\d"
_HTTP_DATE = re.compile(
    rf"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d {_MONTH} \d{{4}} {_TIME} GMT"
    rf"|(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, \d\d-{_MONTH}-\d\d {_TIME} GMT"
    rf"|(Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} [ \d]\d {_TIME} \d{{4}}",
    re.ASCII,
)
"""The three forms of RFC 9110. Anything else is not a date that a hint may be made of."""


def text(value: object) -> str | None:
    """Return the value of a header as text, or None if it cannot be a valid one."""
    if isinstance(value, bytes):
        value = value[: LONGEST_DIGITS + 1].decode("latin-1")
    if not isinstance(value, str) or len(value) > LONGEST_DIGITS:
        return None
    if len(value) <= LONGEST_VALUE:
        return value.strip(" \t")
    return value[:LONGEST_VALUE].rstrip(".") if _LONG_NUMBER.fullmatch(value) else None


def seconds(value: object) -> float | None:
    """Return a plain number of seconds, from 0 to `LONGEST_WAIT`, or None."""
    cleaned = text(value)
    if not cleaned or not _SECONDS.fullmatch(cleaned):
        return None
    return min(float(cleaned), LONGEST_WAIT)


def http_date(value: object) -> float | None:
    """Return an HTTP-date as seconds since 1970, or None."""
    cleaned = text(value)
    if not cleaned or not _HTTP_DATE.fullmatch(cleaned):
        return None
    from email.utils import parsedate_to_datetime  # slow to load, rarely needed

    try:
        return parsedate_to_datetime(cleaned).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def rfc3339(value: str | None) -> float | None:
    """Return an RFC 3339 instant as seconds since 1970, or None."""
    try:
        parsed = datetime.fromisoformat(value or "")
        return parsed.timestamp() if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


def duration(value: object) -> float | None:
    """Return a time in seconds: plain seconds or a Go duration (``6m0s``), or None."""
    found = plain_duration(text(value))
    return None if found is None else min(found, LONGEST_WAIT)


def reset_of(value: object, start: float | None) -> float | None:
    """Return the seconds until a reset, 0 or more, or None.

    There are three forms: a number of seconds or a Go duration; seconds or milliseconds since 1970;
    and an instant of RFC 3339 or an HTTP-date.

    Args:
        value: the header's value.
        start: seconds since 1970 at which the server wrote it; None ignores instants.
    """
    cleaned = text(value)
    wait = plain_duration(cleaned)
    if wait is not None and wait < SINCE_1970:
        return wait
    if wait is None:
        instant = rfc3339(cleaned) or http_date(cleaned)
    else:
        instant = wait if wait < 100 * SINCE_1970 else wait / 1000
    if instant is None or start is None:
        return None
    return min(max(0.0, instant - start), LONGEST_WAIT)


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def plain_duration(cleaned: str | None) -> float | None:
    """Return what `duration` returns, without a limit."""
    cleaned = (cleaned or "").strip(" \t")
    if not cleaned:
        return None
    if _SECONDS.fullmatch(cleaned):
        return min(float(cleaned), 1e18)
    total, end = 0.0, 0
    for part in _GO_PART.finditer(cleaned):
        if part.start() != end:
            return None
        total += float(part[1]) * _GO_UNITS.get(part[2], 1e-6)
        end = part.end()
    return min(total, 1e18) if end == len(cleaned) else None


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def count(value: str | None) -> float | None:
    """Return a count, or None; a server may send -1 for "unknown"."""
    return float(value) if value and _COUNT.fullmatch(value) else None


def number(value: Any, most: float = LARGEST_NUMBER) -> float | None:
    """Return a number of a body, or in its text, from 0 and below `most`; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > LONGEST_VALUE or not value.isascii()):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < most else None
