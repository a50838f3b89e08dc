"""Applies the limits that a response stated, in its headers or its body.

A stated limit can change three things:

1. The limit. It becomes the limit if none was declared, and lowers a declared one.
2. The level of the bucket. It is lowered to what remained when the server handled the request,
   minus what was granted since, plus what has refilled since.
3. The gate. If nothing remains of a fixed window, the gate closes until the window ends.
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
    """Apply the limits that a response stated, and return each change made.

    Args:
        limits: the limits that the response stated.
        rates: the buckets, which get the limits and the levels.
        gate: the gate, which closes if nothing remains of a window.
        sent_at: the loop time at which the request of the response was granted.
        after: the units of each dimension that were granted after that request.
        now: the loop time, in seconds.
    """
    limits = tuple(limits)
    if rates.are_as_expected(limits, after, now - sent_at, now):
        return []
    rates.note_followed(limits)
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
