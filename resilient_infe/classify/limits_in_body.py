"""What the body of a 429 says about the limit, if the headers say nothing.

There is no standard. Three forms are read: numbers next to the error's code; headers that a gateway
has copied into the body (OpenRouter's ``error.metadata.headers``); and the violations of a
``google.rpc.QuotaFailure``, whose ids are words such as ``GenerateRequestsPerMinutePerProject``. As
with headers, a value that cannot be read with certainty is ignored, and nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..core.verdict import DAY, MINUTE, Dimension, Limit
from .error_body import MOST_DETAILS, first_of
from .headers import limits
from .values import number, reset_of

DIMENSIONS: dict[str, Dimension] = {
    "requests": "requests", "requests_per_minute": "requests", "rpm": "requests",
    "tokens": "tokens", "tokens_per_minute": "tokens", "tpm": "tokens",
    "input_tokens": "input_tokens", "input_tokens_per_minute": "input_tokens",
    "itpm": "input_tokens",
    "output_tokens": "output_tokens", "output_tokens_per_minute": "output_tokens",
    "otpm": "output_tokens",
}  # fmt: skip
"""The names that bodies use for the dimension of a limit."""

_COUNTED: dict[str, Dimension] = {"Request": "requests", "Token": "tokens"}
"""The words of a quota's id for what it counts."""

_PERIODS = {"PerSecond": 1.0, "PerMinute": MINUTE, "PerHour": 60 * MINUTE, "PerDay": DAY}
"""The words of a quota's id for its period, in seconds."""

OF_A_DAY: dict[str, Dimension] = {
    "requests_per_day": "requests", "rpd": "requests", "tokens_per_day": "tokens", "tpd": "tokens",
}  # fmt: skip
"""The same for limits of a day."""

DIMENSION_FIELDS = ("limit_type", "dimension", "metric", "unit", "type")
"""The fields of an error that may hold such a name, in this order."""


def limits_in_body(content: Any, wall: float | None = None) -> tuple[Limit, ...]:
    """Return the limits that the decoded body of a 429 states.

    Args:
        content: the body, decoded from JSON; anything.
        wall: seconds since 1970, for resets that are given as an instant; None ignores those.
    """
    content = first_of(content)
    error = content.get("error") if isinstance(content, Mapping) else None
    if not isinstance(error, Mapping):
        return ()
    return (
        tuple(_of_error(error, wall))
        or tuple(_of_metadata(error.get("metadata"), wall))
        or tuple(_of_violations(error.get("details")))
    )


def _of_error(error: Mapping[Any, Any], wall: float | None) -> Iterator[Limit]:
    for window, names in ((None, DIMENSIONS), (DAY, OF_A_DAY)):
        for name, dimension in names.items():
            if "_per_" in name and (limit := number(error.get(name))):
                yield Limit(dimension, limit, window=window)
    told = [_name(error.get(field)) for field in DIMENSION_FIELDS]
    stated = next((name for name in told if name in DIMENSIONS or name in OF_A_DAY), "")
    limit = number(error.get("limit"))
    if stated and limit:
        dimension = DIMENSIONS.get(stated) or OF_A_DAY[stated]
        remaining, reset = number(error.get("remaining")), _reset(error.get("reset"), wall)
        window = number(error.get("window")) or number(error.get("window_seconds")) or None
        window = DAY if stated in OF_A_DAY else window
        yield Limit(dimension, limit, remaining, reset, window, number(error.get("requested")))


def _of_metadata(metadata: Any, wall: float | None) -> Iterator[Limit]:
    headers = metadata.get("headers") if isinstance(metadata, Mapping) else None
    if isinstance(headers, Mapping):
        yield from limits(headers, wall)


def _of_violations(details: Any) -> Iterator[Limit]:
    for detail in details[:MOST_DETAILS] if isinstance(details, list) else ():
        violations = detail.get("violations") if isinstance(detail, Mapping) else None
        for each in violations[:MOST_DETAILS] if isinstance(violations, list) else ():
            if isinstance(each, Mapping) and isinstance(each.get("quotaId"), str):
                yield from _of_quota(each["quotaId"], number(each.get("quotaValue")))


def _of_quota(name: str, limit: float | None) -> Iterator[Limit]:
    counted: list[Dimension] = [dimension for word, dimension in _COUNTED.items() if word in name]
    windows = [seconds for word, seconds in _PERIODS.items() if word in name]
    if limit and len(counted) == len(windows) == 1:
        yield Limit(counted[0], limit, window=windows[0])


def _reset(value: Any, wall: float | None) -> float | None:
    stated = number(value, most=1e13)
    return None if stated is None else reset_of(f"{stated:f}", wall)


def _name(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""
