"""What an allowance reports of itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.verdict import Dimension
from .gate import Gate
from .rates import Rates, per_minute


@dataclass(frozen=True, slots=True)
class AllowanceStatistics:
    """A snapshot; None means that no limit is kept in that dimension.

    Attributes:
        requests_per_minute, tokens_per_minute: the limits that are kept.
        requests_left, tokens_left: what could be sent at once; negative in debt.
        waiting: reservations in the queue.
        outstanding: reservations granted and not yet settled.
        gate: seconds until the gate opens, 0 when open.
        gate_reason: why it closed last.
        learned: the limit that was learned, per minute; None while none is.
        learned_dimension: what that counts.
        pace: units of it per minute that are aimed at now, or None where nothing is learned.
        evidence: what that rests on, in words.
    """

    requests_per_minute: float | None
    tokens_per_minute: float | None
    requests_left: float | None
    tokens_left: float | None
    waiting: int
    outstanding: int
    gate: float
    gate_reason: str | None
    learned: float | None
    learned_dimension: Dimension
    pace: float | None
    evidence: str


def snapshot(
    rates: Rates, gate: Gate, now: float, *, waiting: int, outstanding: int
) -> AllowanceStatistics:
    """Return the statistics of an allowance that is made of these."""
    requests, tokens, learner = rates.requests, rates.tokens, rates.learner
    return AllowanceStatistics(
        per_minute(requests),
        per_minute(tokens),
        requests_left=None if requests is None else requests.level(now),
        tokens_left=None if tokens is None else tokens.level(now),
        waiting=waiting,
        outstanding=outstanding,
        gate=gate.left(now),
        gate_reason=gate.reason,
        learned=learner.limit,
        learned_dimension=learner.dimension,
        pace=learner.pace,
        evidence=learner.evidence,
    )
