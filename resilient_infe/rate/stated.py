"""Applies the limits that a response stated, in its headers or its body.

A stated limit can change three things:

1. The limit. It becomes the limit if none was declared, and lowers a declared one.
2. The level of the bucket. It is lowered to what remained when the server handled the request,
   minus what was granted since, plus what has refilled since.
3. The gate. If nothing remains of a fixed window, the gate closes until the window ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ..core.verdict import Dimension, Limit
from .change import Change
from .gate import Gate, GateClosed
from .rates import Rates, window_of

RESET_TRUSTED = 300.0
"""Seconds; a reset that is further away, as for a daily quota, does not close the gate."""


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
    tightest = _tightest(limits, rates)
    changes: list[Change | GateClosed] = []
    for limit in limits:
        if tightest.get(limit.dimension) is limit:
            change = rates.adopt(limit, now)
            changes += [change] if change is not None else []
        _hold_to_remaining(limit, rates, after[limit.dimension], now - sent_at, now)
        reset = window_reset(limit, rates)
        reason = f"no {limit.dimension} remain"
        if reset is not None and gate.close(now + reset, sent_at, now, reason):
            changes.append(GateClosed(reset, reason))
    return changes


def _tightest(limits: Iterable[Limit], rates: Rates) -> dict[Dimension, Limit]:
    """Return, for each dimension, the stated limit that allows the fewest units per second.

    Those that are not plausible are left out; see `Rates.is_plausible`.
    """
    found: dict[Dimension, Limit] = {}
    for limit in limits:
        known = found.get(limit.dimension)
        if rates.is_plausible(limit) and (known is None or _rate(limit) < _rate(known)):
            found[limit.dimension] = limit
    return found


def window_reset(stated: Limit, rates: Rates) -> float | None:
    """Return the seconds to close the gate because a fixed window is used up, or None.

    There are three cases. The examples have a limit of 600 a minute:

    1. A unit remains, or the reset is missing or too far away: None.
    2. The server counts in a token bucket. Its reset is the time until the bucket is full, but
       the next unit comes much sooner, so the gate stays open: None. The length of the reset
       shows this: the time to refill the whole limit, 600 / 10 a second = 60 s, within 10 %.
    3. The reset is another one, such as 12 s, or the response does not state the limit. Then
       the server counts in a fixed window, and the gate closes until it ends, for 12 s.

    A window that is used up just after its start looks like case 2: 429s then slow the sends.
    """
    bucket = rates.bucket(stated.dimension)
    remaining, reset, limit = stated.remaining, stated.reset, stated.limit
    if bucket is None or remaining is None or not 0 <= remaining < 1:
        return None
    if reset is None or not 0 < reset <= RESET_TRUSTED:
        return None
    if limit is not None and limit > 0:
        until_full = limit * bucket.period * rates.share / bucket.limit
        if math.isclose(reset, until_full, rel_tol=0.1):
            return None
    return reset


def _hold_to_remaining(stated: Limit, rates: Rates, since: float, age: float, now: float) -> None:
    """Lower the bucket to what remains on the server.

    Args:
        stated: the limit, with what remained when the server handled the request.
        rates: the buckets.
        since: the units granted after that request.
        age: the seconds since that request was granted; the server has refilled since then too.
        now: the loop time, in seconds.
    """
    bucket, remaining = rates.bucket(stated.dimension), stated.remaining
    if bucket is not None and remaining is not None and 0 <= remaining < math.inf:
        bucket.lower_to(remaining - since + age * bucket.rate, now)


def _rate(stated: Limit) -> float:
    return (stated.limit or 0.0) / window_of(stated)
