"""Which limit a 429 is about: a rate, the calls in progress, or a rate that grew too fast.

Only the error's structured ``code`` and ``type`` are read, never its message.
"""

from __future__ import annotations

from .verdict import Kind, Verdict

CROWDED = frozenset(
    (
        "concurrency_limit_exceeded",
        "concurrency_limit_reached",
        "concurrent_request_limit_exceeded",
        "concurrent_requests_limit_exceeded",
        "max_concurrency_exceeded",
        "too_many_concurrent_requests",
    )
)
"""Codes for too many calls in progress: the remedy is fewer at once, not a lower rate."""

REJECTED = Kind.RATE_LIMITED
"""A module-level name for the kind: an attribute look-up on the enum costs more."""

STEEP = frozenset(
    ("burst_rate_limit_exceeded", "limit_burst_rate", "ramp_rate_exceeded", "slow_down")
)
"""Codes for a rate that grew too fast: they say nothing about the limit itself."""


def is_refusal(verdict: Verdict) -> bool:
    """Whether it is a 429 that may be about the request alone: no code says otherwise.

    That too many in flight would explain it does not exclude this: such a 429 is a suspicion.
    """
    return verdict.kind is REJECTED and not _named(verdict, CROWDED | STEEP)


def too_large(verdict: Verdict) -> str | None:
    """Return why a 429 says that the request can never pass, or None if it does not say so.

    There are two ways to say it: more was requested than the limit is, or the limit on tokens is
    untouched, and no other limit is used up.
    """
    for each in verdict.limits:
        if each.limit is not None and each.requested is not None and each.requested > each.limit:
            return (
                f"the server counted {each.requested:,.0f} {each.dimension} in this request, and "
                f"its limit is {each.limit:,.0f}"
            )
    untouched = [
        each
        for each in verdict.limits
        if each.dimension != "requests" and each.limit is not None and each.remaining == each.limit
    ]
    used_up = any(each.remaining is not None and each.remaining < 1 for each in verdict.limits)
    if not untouched or used_up:
        return None
    return f"refused although all {untouched[0].limit:,.0f} tokens of the limit remain"


def is_crowded(verdict: Verdict) -> bool:
    """Whether the server rejected a request because too many calls are in progress."""
    return verdict.crowded or (verdict.kind is REJECTED and _named(verdict, CROWDED))


def is_bare(verdict: Verdict) -> bool:
    """Whether it is a 503 or 429 that says neither when to ask again nor which limit was met."""
    return (
        verdict.status in (429, 503)
        and verdict.kind in (REJECTED, Kind.OVERLOADED)
        and verdict.retry_after is None
        and not verdict.limits
        and not is_crowded(verdict)
        and not is_steep(verdict)
    )


def is_steep(verdict: Verdict) -> bool:
    """Whether the server rejected a request because the rate grew too fast."""
    return verdict.kind is REJECTED and _named(verdict, STEEP)


def _named(verdict: Verdict, codes: frozenset[str]) -> bool:
    return verdict.code in codes or verdict.error in codes
