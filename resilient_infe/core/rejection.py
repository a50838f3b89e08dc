"""What a 429 is about: a rate, calls in progress, or a rate that grew too fast.

Only the structured code and type count, never the message.
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
"""Too many calls are in progress: fewer at once help, slower does not."""

REJECTED = Kind.RATE_LIMITED
"""The kind, by a name that costs less than the enum's own look-up."""

STEEP = frozenset(
    ("burst_rate_limit_exceeded", "limit_burst_rate", "ramp_rate_exceeded", "slow_down")
)
"""The rate grew too fast: it says nothing about how much is allowed in the end."""


def is_crowded(verdict: Verdict) -> bool:
    """Whether a request was rejected because too many are in progress."""
    return verdict.kind is REJECTED and _named(verdict, CROWDED)


def is_steep(verdict: Verdict) -> bool:
    """Whether a request was rejected because the rate grew too fast."""
    return verdict.kind is REJECTED and _named(verdict, STEEP)


def _named(verdict: Verdict, codes: frozenset[str]) -> bool:
    return verdict.code in codes or verdict.error in codes
