"""Which calls wait behind the others: those that are refused again, or are too large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.call import Call
from ..core.queue import ages
from ..core.rejection import is_refusal, too_large
from ..core.verdict import Verdict
from .allowance import Allowance
from .costs import Costs
from .refusals import Refusals
from .reservation import Reservation

BEHIND_SECONDS = 300.0
"""A request that waits for all others waits for what the limit admits in so long, at most; and in
the queue of the limit no longer than that.

Then it is the oldest. If it is larger than the whole limit, the others wait until a window of a
minute is empty. So they lose a sixth of their time to such requests at most."""

LAST = 2**62
"""An age behind that of every other call."""

BEHIND_CALLS = 1_000
"""The same in calls, if no limit of requests is known."""


def behind_others(allowance: Allowance) -> int:
    """Return a place behind all calls so far and those of the next five minutes."""
    return next(ages) + int(allowance.admits_within(BEHIND_SECONDS) or BEHIND_CALLS)


def too_small_for(costs: Costs, limits: Iterable[Allowance]) -> Allowance | None:
    """Return a limit that allows less in a whole minute than one request costs, or None."""
    return next((each for each in limits if each.oversized(costs)), None)


def count_refusal(
    call: Call[Any],
    limits: tuple[Allowance, ...],
    reservation: Reservation,
    verdict: Verdict,
    now: float,
) -> Refusals | None:
    """Note a 429 of a call, and let it wait behind the others from its second one on.

    Args:
        call: the call.
        limits: the limits that it took from, first that of its partition.
        reservation: what it took from that one.
        verdict: what the reply means.
        now: the loop time, in seconds.

    Returns:
        The refusals of the call; None if this is none.
    """
    if not is_refusal(verdict):
        return None
    allowance, state, tokens = limits[0], call.state, reservation.tokens
    own = state.refusals
    if not isinstance(own, Refusals):
        own = state.refusals = Refusals()
    own.add(reservation.granted_at, tokens, now, allowance.others)
    reason, too_small = too_large(verdict), too_small_for(reservation.costs, limits)
    if reason is None and too_small is not None:
        reason = (
            f"estimated at {tokens:,.0f} tokens, which is more than the limit of a whole minute "
            f"({too_small}), and refused when nothing else was sent"
        )
    if reason is not None:
        own.final, own.for_good = reason, True
    if own.parked:
        state.place, state.behind = behind_others(allowance), True
    elif own.times > 1:
        state.place = next(ages)
    return own
