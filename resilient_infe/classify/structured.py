"""Reads ``RateLimit`` and ``RateLimit-Policy``, in the forms of every draft.

From draft 8 on both are lists of structured fields, joined by name: ``"burst";q=100;w=60`` and
``"burst";r=50;t=30``. In draft 7 the state is ``limit=100, remaining=50, reset=30`` and the policy
``100;w=60``.

Source: draft-ietf-httpapi-ratelimit-headers; RFC 9651 for structured fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.verdict import Dimension, Limit
from .values import number


def structured_limits(state: str | None, policy: str | None) -> Iterator[Limit]:
    """Yield the limits that the two headers state; each may be None."""
    policies, states = _items(policy), _items(state)
    older = dict(name.split("=", 1) for name in states if "=" in name)
    if older:
        quota = next(iter(policies.values()), {})
        limit = older.get("limit") if quota.get("w") else None  # its period may be any
        yield _limit("requests", limit, quota.get("w"), older)
        return
    for name in {**policies, **states}:
        quota, left = policies.get(name, {}), states.get(name, {})
        dimension = _counted(name.lower())
        given = {"remaining": left.get("r"), "reset": left.get("t")}
        yield _limit(dimension, quota.get("q", name), quota.get("w"), given)


def _counted(name: str) -> Dimension:
    if "token" not in name:
        return "requests"
    if "input" in name:
        return "input_tokens"
    return "output_tokens" if "output" in name else "tokens"


def _limit(dimension: Dimension, limit: Any, window: Any, left: dict[str, Any]) -> Limit:
    remaining, reset = _number(left.get("remaining")), _number(left.get("reset"))
    return Limit(dimension, _number(limit) or None, remaining, reset, _number(window) or None)


def _number(value: Any) -> float | None:
    return None if value is None else number(str(value))


def _items(value: str | None) -> dict[str, dict[str, Any]]:
    """Return the items of a list and their parameters."""
    if not value:
        return {}
    try:
        import http_sf  # an optional package

        parsed: Any = http_sf.parse(value.encode("ascii"), tltype="list")
        return {str(name): dict(parameters) for name, parameters in parsed}
    except Exception:  # http-sf is missing, or the value is not a structured field
        return dict(map(_item, value.split(",")))


def _item(part: str) -> tuple[str, dict[str, str]]:
    name, *parameters = part.split(";")
    pairs = (each.partition("=") for each in parameters)
    return name.strip(' "'), {key.strip(): value.strip() for key, _, value in pairs}
