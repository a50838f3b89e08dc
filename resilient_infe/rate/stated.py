"""Applies the limits that a response stated, in its headers or its body.

A stated limit can change three things:

1. The limit. It becomes the limit if none was declared, and lowers a declared one.
2. The level of the bucket. It is lowered to what remained when the server handled the request,
   minus what was granted since, plus what has refilled since.
3. The gate. If nothing remains of a fixed window, the gate closes until the window ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..core.verdict import DAY, Dimension, Limit
from .change import Change
from .costs import Costs
from .gate import Gate, GateClosed
from .rates import Place, Rates
from .window import window_of

RESET_TRUSTED = 300.0
"""Seconds; a reset that is further away, as for a daily quota, does not close the gate."""


def follow(
    limits: tuple[Limit, ...],
    rates: Rates,
    gate: Gate,
    *,
    sent_at: float,
    after: Costs,
    now: float,
) -> list[Change | GateClosed]:
    """Apply the limits that a response stated, and return each change made.

    Args:
        limits: the limits that the response stated.
        rates: the windows, which get the limits and the levels.
        gate: the gate, which closes if nothing remains of a window.
        sent_at: the loop time at which the request of the response was granted.
        after: what was granted after that request.
        now: the loop time, in seconds.
    """
    if rates.are_as_expected(limits, after, now - sent_at, now):
        return []
    tightest = _tightest(limits, rates)
    changes: list[Change | GateClosed] = []
    for (dimension, place), limit in tightest.items():
        change = rates.adopt(limit, now)
        changes += [change] if change is not None else []
        other: Place = "short" if place == "main" else "main"
        if place != "day" and (dimension, other) not in tightest:
            rates.forget(dimension, other, now)
    for limit in limits:
        _hold_to_remaining(limit, rates, after, now - sent_at, now)
        reset = window_reset(limit, rates)
        reason = f"no {limit.dimension.replace('_', ' ')} remain"
        if reset is not None and gate.close(now + reset, sent_at, now, reason):
            changes.append(GateClosed(reset, reason))
    rates.note_followed(limits)
    return changes


def _tightest(limits: Iterable[Limit], rates: Rates) -> dict[tuple[Dimension, Place], Limit]:
    """Return, for each window, the stated limit that allows the fewest units per second.

    Those that are not plausible are left out; see `Rates.is_plausible`.
    """
    found: dict[tuple[Dimension, Place], Limit] = {}
    for limit in limits:
        key = limit.dimension, rates.place_of(limit)
        known = found.get(key)
        if rates.is_plausible(limit) and (known is None or _rate(limit) < _rate(known)):
            found[key] = limit
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
    bucket = rates.window_for(stated) or rates.bucket(stated.dimension)
    remaining, reset, limit = stated.remaining, stated.reset, stated.limit
    if bucket is None or remaining is None or not 0 <= remaining < 1 or not bucket.paced:
        return None
    if reset is None or not 0 < reset <= RESET_TRUSTED:
        return None
    if limit is not None and limit > 0:
        until_full = limit * bucket.period * rates.share / bucket.limit
        if math.isclose(reset, until_full, rel_tol=0.1):
            return None
    return reset


def _hold_to_remaining(stated: Limit, rates: Rates, after: Costs, age: float, now: float) -> None:
    """Lower the bucket to what remains on the server; of a day, believe what remains.

    Args:
        stated: the limit, with what remained when the server handled the request.
        rates: the windows.
        after: what was granted after that request.
        age: the seconds since that request was granted; the server has refilled since then too.
        now: the loop time, in seconds.
    """
    window, remaining = rates.window_for(stated), stated.remaining
    if window is None or remaining is None or not 0 <= remaining < math.inf:
        return
    left = remaining - after[window.index]
    if window.paced:
        window.lower_to(left + age * window.rate, now)
    elif stated.limit is not None or remaining < 1:
        reset = DAY if stated.reset is None else min(stated.reset, DAY)
        window.restate(left * rates.share, now + reset, now)


def _rate(stated: Limit) -> float:
    return (stated.limit or 0.0) / window_of(stated)
