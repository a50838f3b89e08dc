"""What the rate limiter says of a call: its events, and its refusals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.call import Call
from ..core.priority import standing_of
from ..errors import SHORTEST_HINT, DayUsedUp, DeadlineExceeded
from ..events import RateGateClosed, RateLimitChanged, RateMaybeShared, RateWaiting
from ..shared.shares import RedisShares
from .account import Account
from .allowance import Allowance
from .change import Change
from .days import utc
from .gate import GateClosed
from .processes import Suspicion


def report(call: Call[Any], changes: Iterable[GateClosed | Change | Suspicion]) -> None:
    """Make the changes that a call brought about, and emit an event for each."""
    for change in changes:
        if call.emit is None:
            continue
        if isinstance(change, GateClosed):
            call.emit(RateGateClosed(call.request_id, call.partition, change.delay, change.reason))
        elif isinstance(change, Suspicion):
            call.emit(RateMaybeShared(call.partition, change.reason))
        else:
            changed = change.dimension, change.old, change.new, change.reason
            call.emit(RateLimitChanged(call.partition, *changed))


def report_wait(
    call: Call[Any], allowance: Allowance, account: Account | None, shared: RedisShares | None
) -> None:
    """Tell other processes, and emit to those who want routine events, that a call waits."""
    if shared is not None:
        shared.hasten(allowance, allowance.waiting)
    if call.emit is None or not call.emit.routine:
        return
    now, due = call.runtime.now(), allowance.due or 0.0
    scope, reason = None, allowance.waits_for(now)
    if account is not None and account.is_awaited and due <= now:
        scope, reason, due = "account", "the limit of the account", account.due or now
    delay, waiting = max(0.0, due - now), allowance.waiting
    call.emit(
        RateWaiting(call.request_id, call.partition, delay, reason, waiting, scope, call.priority)
    )


def day_used_up(call: Call[Any], allowance: Allowance, until: float, wall: float) -> DayUsedUp:
    """Return the refusal of a call for which a day has no room before `until`.

    Args:
        call: the call.
        allowance: the limit.
        until: a loop time, in seconds.
        wall: seconds since 1970 now.
    """
    wait = max(SHORTEST_HINT, until - call.runtime.now())
    refusal = DayUsedUp(
        f"the limit of a day is used up ({allowance}): there is room again {utc(wall + wait)}",
        retry_after=wait,
    )
    return call.refuse(refusal)


def check_deadline(
    call: Call[Any], deadline: float, allowance: Allowance, account: Account | None, now: float
) -> None:
    """Refuse a call that cannot be sent before its deadline.

    Raises:
        DeadlineExceeded: it is so.
    """
    # A retry joins ahead of younger calls, so only the gate is certain to delay it.
    again = call.state.readmitted
    standing = standing_of(call.priority, call.tenant)
    earliest = max(now, allowance.gate.until if again else allowance.not_before(now, standing))
    if account is not None and not again:
        earliest = max(earliest, account.allowance.not_before(now, standing))
    if now >= deadline or earliest >= deadline:
        refusal = DeadlineExceeded(
            f"{allowance.waits_for(now)}: this call could be sent in {earliest - now:.3g} s at "
            f"the earliest, but its deadline is in {max(0.0, deadline - now):.3g} s",
            retry_after=(earliest - now) or None,
        )
        raise call.refuse(refusal)
