"""The statistics of an allowance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.verdict import Dimension
from .gate import Gate
from .line import Line
from .rates import Rates
from .window import per_minute


@dataclass(frozen=True, slots=True)
class WindowStatistics:
    """A snapshot of one limit.

    Attributes:
        dimension: what it counts.
        period: the seconds over which it is kept.
        limit: units per period.
        spent: what the last period has cost, with what is reserved.
    """

    dimension: Dimension
    period: float
    limit: float
    spent: float


@dataclass(frozen=True, slots=True)
class AllowanceStatistics:
    """A snapshot of an allowance.

    Attributes:
        requests_per_minute, tokens_per_minute: the limit in each dimension, declared or stated by
            the server; None without one.
        requests_left, tokens_left: the units that can be sent at once; negative in debt; None
            without a limit in that dimension.
        waiting: the number of reservations in the queue.
        outstanding: the number of reservations granted, and not yet settled or refunded.
        gate: the seconds until the gate opens; 0 if it is open.
        gate_reason: a short text on why the gate closed last; None if it never closed.
        learned: the learned limit, in units per minute; None while there is none.
        learned_dimension: the unit of `learned` and `pace`: requests or tokens.
        pace: the rate that the learner currently aims at, in units per minute; None while the
            learner is inactive.
        evidence: a short text on what the learned limit is based on, and whether others seem to
            use it too.
        waiting_by_class: the reservations in the queue by priority; empty until a call has one.
        limits: every limit that is kept, those of a day included.
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
    waiting_by_class: Mapping[str, int] = field(default_factory=dict)
    limits: tuple[WindowStatistics, ...] = ()


def snapshot(
    rates: Rates, gate: Gate, line: Line, now: float, outstanding: int
) -> AllowanceStatistics:
    """Return the statistics of an allowance.

    Args:
        rates: its buckets and its learner.
        gate: its gate.
        line: the reservations that wait for it.
        now: the loop time, in seconds.
        outstanding: the number of reservations granted and not yet ended.
    """
    requests, tokens, learner = rates.requests, rates.tokens, rates.learner
    return AllowanceStatistics(
        per_minute(requests),
        per_minute(tokens),
        requests_left=None if requests is None else requests.level(now),
        tokens_left=None if tokens is None else tokens.level(now),
        waiting=line.queue.live,
        outstanding=outstanding,
        gate=gate.left(now),
        gate_reason=gate.reason,
        learned=learner.limit,
        learned_dimension=learner.dimension,
        pace=learner.pace,
        evidence="; ".join(filter(None, (learner.evidence, rates.falls.reason(now)))),
        waiting_by_class=line.by_class,
        limits=tuple(
            WindowStatistics(each.dimension, each.period, each.limit, each.ledger.spent(now))
            for each in rates.windows
        ),
    )
