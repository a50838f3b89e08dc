"""Follows the limits that a response stated, in its headers or otherwise.

A stated limit is adopted where none was declared and lowers a declared one. What remained when the
request arrived, less what was granted after it, plus what has come in since, bounds what may be
sent at once. Where nothing remains of a window, the gate closes until its reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.verdict import Dimension, Limit
from .change import Change
from .gate import Gate, GateClosed
from .rates import Rates


def follow(
    limits: Iterable[Limit],
    rates: Rates,
    gate: Gate,
    *,
    sent_at: float,
    after: Mapping[Dimension, float],
    now: float,
) -> list[Change | GateClosed]:
    """Follow what was stated; returns what changed by it.

    Args:
        limits: as the response stated them.
        rates: follow the limits and what remains.
        gate: closes where nothing remains.
        sent_at: when the request was granted that the response answers.
        after: units of each dimension that were granted after that request.
        now: the instant.
    """
    limits = tuple(limits)
    if rates.are_as_expected(limits, after, now - sent_at, now):
        return []
    rates.saw(limits)
    tightest = rates.tightest(limits)
    changes: list[Change | GateClosed] = []
    for limit in limits:
        if tightest.get(limit.dimension) is limit:
            change = rates.adopt(limit, now)
            changes += [change] if change is not None else []
        rates.hold_to_remaining(limit, after[limit.dimension], now - sent_at, now)
        reset = rates.window_reset(limit)
        reason = f"no {limit.dimension} remain"
        if reset is not None and gate.close(now + reset, sent_at, now, reason):
            changes.append(GateClosed(reset, reason))
    return changes
