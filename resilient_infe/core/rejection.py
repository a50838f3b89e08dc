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


def is_crowded(verdict: Verdict) -> bool:
    """Whether the server rejected a request because too many calls are in progress."""
    return verdict.kind is REJECTED and _named(verdict, CROWDED)


def is_steep(verdict: Verdict) -> bool:
    """Whether the server rejected a request because the rate grew too fast."""
    return verdict.kind is REJECTED and _named(verdict, STEEP)


def _named(verdict: Verdict, codes: frozenset[str]) -> bool:
    return verdict.code in codes or verdict.error in codes
