"""What an attempt's outcome does to its allowance: the last two columns of the table of kinds."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from ..core.rejection import is_crowded, is_steep
from ..core.verdict import Kind, Verdict
from .allowance import Allowance
from .change import Change
from .gate import GateClosed
from .reservation import Reservation


class Settlement(Enum):
    """What becomes of a reservation: the table's last column."""

    USAGE = "settled to the real usage"
    ESTIMATE = "stays at the estimate"
    TOKENS_BACK = "tokens back, request spent"
    ALL_BACK = "all back"


USAGE, ESTIMATE, TOKENS_BACK, ALL_BACK = Settlement  # a look-up in the enum costs ten times as much

SETTLEMENTS: dict[Kind, Settlement] = {
    Kind.OK: USAGE,
    Kind.RATE_LIMITED: TOKENS_BACK,
    Kind.OVERLOADED: TOKENS_BACK,
    Kind.SERVER_ERROR: ESTIMATE,
    Kind.TRANSIENT: ESTIMATE,
    Kind.TIMEOUT: ESTIMATE,
    Kind.QUOTA: TOKENS_BACK,
    Kind.AUTH: TOKENS_BACK,
    Kind.FORBIDDEN: TOKENS_BACK,
    Kind.NOT_FOUND: TOKENS_BACK,
    Kind.INVALID: TOKENS_BACK,
    Kind.CANCELLED: ESTIMATE,
    Kind.REFUSED: ALL_BACK,
    Kind.UNKNOWN: ESTIMATE,
}
"""Only what was never sent comes back whole: refunding timed-out attempts gave 23 % 429s."""


def settle(
    allowance: Allowance,
    reservation: Reservation,
    verdict: Verdict | None,
    now: float,
    *,
    unsent: bool,
) -> None:
    """End a reservation as the table says.

    Args:
        allowance: whose reservation it is.
        reservation: granted, and not ended yet.
        verdict: what the attempt meant; None where nothing judged it.
        now: the instant.
        unsent: whether the attempt was certainly not sent, where there is no verdict.
    """
    usage = None
    if verdict is None:
        settlement = ALL_BACK if unsent else ESTIMATE
    else:
        settlement = SETTLEMENTS[verdict.kind] if verdict.sent else ALL_BACK
        usage = verdict.usage
    if settlement is USAGE:
        allowance.settle(reservation, now, None if usage is None else usage.total_tokens)
    elif settlement is ESTIMATE:
        allowance.settle(reservation, now)
    else:
        allowance.refund(reservation, now, request=settlement is ALL_BACK)


def learn(
    allowance: Allowance, reservation: Reservation, verdict: Verdict, now: float, max_hint: float
) -> Iterator[GateClosed | Change]:
    """Follow an outcome's hint and the limits that it states; yields what changed by it.

    Args:
        allowance: whose reservation it is.
        reservation: the attempt's; one sent before the last correction corrects nothing again.
        verdict: what the attempt meant.
        now: the instant.
        max_hint: seconds; a longer hint shuts the gate for only so long.
    """
    hint = verdict.retry_after
    if verdict.kind is Kind.RATE_LIMITED and not is_crowded(verdict):
        steep = is_steep(verdict)
        change = allowance.rejected(reservation, now, hint or 0.0, steep=steep)
        if change is not None:
            yield change
    if hint is not None and verdict.kind in (Kind.RATE_LIMITED, Kind.OVERLOADED):
        delay = min(hint, max_hint)
        reason = f"the server asked for it ({verdict.kind})"
        if allowance.close_gate(reservation, now + delay, now, reason):
            yield GateClosed(delay, reason)
    yield from allowance.observe(verdict.limits, reservation, now)
