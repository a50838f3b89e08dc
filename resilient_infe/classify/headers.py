"""What response headers say about waiting and about limits: read with distrust, never raising.

Every value here comes from outside. It may be negative, NaN, in the year 9999, bytes, or a megabyte
long. A value that cannot be read with certainty is None. There is no maximum here: the layers
decide how long is too long.

Sources: RFC 9110 section 10.2.3 (Retry-After) and 5.6.7 (HTTP-date); OpenAI's "Rate limits in
headers"; Anthropic's "Response headers"; draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..core.verdict import Dimension, Limit

LONGEST_VALUE = 128
"""Characters; no valid value is longer."""

MOST_REMEMBERED = 4096
"""Texts whose parsed value is cached: servers send the same few thousand again and again."""

_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?", re.ASCII)
_GO_PART = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,9})?)(h|ms|us|ns|m|s)", re.ASCII)
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)


def text(value: object) -> str | None:
    """Return the value of a header as text, or None if it cannot be a valid one."""
    if isinstance(value, bytes):
        value = value[: LONGEST_VALUE + 1].decode("latin-1")
    if not isinstance(value, str) or len(value) > LONGEST_VALUE:
        return None
    return value.strip(" \t")


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
        return text(headers.get(name))
    except Exception:  # a mapping from outside may raise anything
        return None


def seconds(value: object) -> float | None:
    """Return a plain number of seconds, finite and 0 or more, or None."""
    cleaned = text(value)
    return float(cleaned) if cleaned and _SECONDS.fullmatch(cleaned) else None


def http_date(value: object) -> float | None:
    """Return an HTTP-date as seconds since 1970, or None; a date without a zone counts as UTC."""
    cleaned = text(value)
    if not cleaned or not cleaned.isascii():
        return None
    from email.utils import parsedate_to_datetime  # slow to load, rarely needed

    try:
        parsed = parsedate_to_datetime(cleaned)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
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


def retry_after(headers: Any, wall: float | None = None) -> float | None:
    """Return the wait in seconds that a response's headers ask for, above 0, or None.

    The cases, in this order:

    1. ``retry-after-ms`` above 0: it is finer than the other.
    2. ``retry-after`` above 0, or a date in the future.
    3. Anything else is not a hint, also a 0 or a date in the past.
    """
    headers = lowered(headers)
    milliseconds = seconds(header(headers, "retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000.0
    return parse_retry_after(header(headers, "retry-after"), header(headers, "date"), wall) or None


def duration(value: object) -> float | None:
    """Return a reset time in seconds: plain seconds or a Go duration (``6m0s``), or None."""
    return _duration(text(value))


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _duration(cleaned: str | None) -> float | None:
    if not cleaned:
        return None
    if _SECONDS.fullmatch(cleaned):
        return float(cleaned)
    total, end = 0.0, 0
    for part in _GO_PART.finditer(cleaned):
        if part.start() != end:
            return None
        total += float(part[1]) * _GO_UNITS[part[2]]
        end = part.end()
    return total if end == len(cleaned) else None


def limits(headers: Any, wall: float | None = None) -> tuple[Limit, ...]:
    """Return every rate limit that a response's headers state, in any of the known dialects.

    1. OpenAI's: ``x-ratelimit-limit-requests``, resets as durations.
    2. Anthropic's: ``anthropic-ratelimit-requests-limit``, resets as instants.
    3. The IETF draft's: ``RateLimit`` and ``RateLimit-Policy``; needs the optional package http-sf.
    """
    if type(headers).__name__ not in LOOKED_UP_LOWER:
        headers = lowered(headers)
    # An object that has only a `get` cannot list its names: try every dialect.
    names = "\nratelimit, anthropic-ratelimit"
    if type(headers).__name__ in LOOKED_UP_LOWER:
        names = "\n" + "\n".join(headers).lower()
    if "ratelimit" not in names:
        return ()  # the usual case
    found = _openai(headers)
    if "anthropic-ratelimit" in names:
        found += _anthropic(headers, wall)
    if "\nratelimit" in names:
        found += _structured(headers)
    return tuple(found)


def longest_reset(stated: tuple[Limit, ...]) -> float | None:
    """Return the longest reset among the limits that have nothing left, in seconds, or None.

    A request needs all limits at once, so the one that resets last decides.
    """
    resets = [
        limit.reset
        for limit in stated
        if limit.reset and limit.remaining is not None and limit.remaining < 1
    ]
    return max(resets, default=None)


_OPENAI: tuple[tuple[Dimension, str, str, str], ...] = (
    (
        "requests",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    (
        "tokens",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ),
)


def _openai(headers: Any) -> list[Limit]:
    found = []
    for dimension, limit_name, remaining_name, reset_name in _OPENAI:
        limit = _count(header(headers, limit_name))
        remaining = _count(header(headers, remaining_name))
        if limit is not None or remaining is not None:
            reset = _duration(header(headers, reset_name))
            found.append(Limit(dimension, limit or None, remaining, reset))
    return found


def _anthropic(headers: Any, wall: float | None) -> Iterator[Limit]:
    dimensions: tuple[Dimension, ...] = ("requests", "tokens")
    for dimension in dimensions:
        prefix = f"anthropic-ratelimit-{dimension}"
        limit = _count(header(headers, f"{prefix}-limit"))
        remaining = _count(header(headers, f"{prefix}-remaining"))
        if limit is None and remaining is None:
            continue
        start = http_date(header(headers, "date"))
        until = _rfc3339(header(headers, f"{prefix}-reset"))
        start = wall if start is None else start
        reset = None if until is None or start is None else max(0.0, until - start)
        yield Limit(dimension, limit or None, remaining, reset)


def _structured(headers: Any) -> Iterator[Limit]:
    """Read ``RateLimit`` and ``RateLimit-Policy``, if the optional package http-sf is installed."""
    state, policy = header(headers, "ratelimit"), header(headers, "ratelimit-policy")
    if not state and not policy:
        return
    policies, states = _items(policy), _items(state)
    for name in {**policies, **states}:
        quota, left = policies.get(name, {}), states.get(name, {})
        dimension: Dimension = "tokens" if "token" in name.lower() else "requests"
        yield Limit(
            dimension,
            _positive(quota.get("q")),
            _number(left.get("r")),
            _number(left.get("t")),
            _positive(quota.get("w")),
        )


def _items(value: str | None) -> dict[str, dict[str, Any]]:
    if not value:
        return {}
    try:
        import http_sf  # an optional package

        parsed: Any = http_sf.parse(value.encode("ascii"), tltype="list")
        return {str(name): dict(parameters) for name, parameters in parsed}
    except Exception:  # http-sf is missing, or the value is not ASCII or not a structured field
        return {}


def _rfc3339(value: str | None) -> float | None:
    try:
        parsed = datetime.fromisoformat(value or "")
        return parsed.timestamp() if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _count(value: str | None) -> float | None:
    """Return a count, or None; Azure sends -1 for "unknown"."""
    if not value or not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if number >= 0 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e12 else None


def _positive(value: Any) -> float | None:
    return _number(value) or None
