"""What the outcome of an attempt does to its allowance.

`docs/kinds.md` has this for each kind of outcome, in the last two columns of its table.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from ..core.rejection import is_crowded, is_steep
from ..core.verdict import SUCCESS, Kind, Verdict
from .allowance import Allowance
from .change import Change
from .gate import FIRST_QUESTION, GateClosed
from .processes import Suspicion
from .refusals import Refusals
from .reservation import Reservation


class Settlement(Enum):
    """What happens to a reservation when its attempt ends: the last column of the table."""

    USAGE = "settled to the real usage"
    ESTIMATE = "stays at the estimate"
    TOKENS_BACK = "tokens back, request spent"
    ALL_BACK = "all back"


USAGE, ESTIMATE, TOKENS_BACK, ALL_BACK = Settlement  # an enum look-up costs ten times as much

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
    Kind.MALFORMED: USAGE,
    Kind.CANCELLED: ESTIMATE,
    Kind.REFUSED: ALL_BACK,
    Kind.UNKNOWN: ESTIMATE,
}
"""What happens for each kind of outcome.

Only a request that was never sent is refunded in full. With refunds for timed-out attempts too,
23 % of the answers were 429s."""


def settle(
    allowance: Allowance,
    reservation: Reservation,
    verdict: Verdict | None,
    now: float,
    *,
    unsent: bool,
) -> None:
    """Settle or refund a reservation, as `SETTLEMENTS` says.

    Args:
        allowance: the allowance that granted the reservation.
        reservation: a reservation that is granted and not ended yet.
        verdict: the verdict on the attempt; None if there is none.
        now: the loop time, in seconds.
        unsent: whether the attempt was certainly not sent; used only without a verdict.
    """
    if verdict is None:
        settlement = ALL_BACK if unsent else ESTIMATE
    else:
        settlement = SETTLEMENTS[verdict.kind] if verdict.sent else ALL_BACK
    if verdict is not None and settlement is USAGE:
        allowance.settle(reservation, now, verdict.usage)
    elif settlement is ESTIMATE:
        allowance.settle(reservation, now)
    else:
        allowance.refund(reservation, now, request=settlement is ALL_BACK)


def learn(
    allowance: Allowance,
    reservation: Reservation,
    verdict: Verdict,
    now: float,
    max_hint: float,
    own: Refusals | None = None,
) -> Iterator[GateClosed | Change | Suspicion]:
    """Apply what an outcome tells of the server's limit; yield each change made.

    Args:
        allowance: the allowance that granted the reservation.
        reservation: the reservation of the attempt. If it was granted before the gate last closed,
            the outcome does not close the gate again.
        verdict: the verdict on the attempt.
        now: the loop time, in seconds.
        max_hint: the longest time that a hint closes the gate, in seconds; longer hints are cut.
        own: the 429s of this call, of which this is one more; None if it is no rate limit's 429.
    """
    sent_at = reservation.granted_at
    if verdict.kind is SUCCESS or verdict.kind is Kind.MALFORMED:
        allowance.let_in(reservation, now)
    else:
        allowance.gate.not_let_in(sent_at)
        if verdict.kind is Kind.RATE_LIMITED:
            allowance.uncount(reservation)
        # A suspect, and the head that is tried between samples, are refused for what they are.
        if own is not None and (allowance.line.tries(reservation) or own.certain):
            allowance.says_nothing(reservation)
        else:
            yield from _teach(allowance, reservation, verdict, now, max_hint, own)
        if own is None or not own.suspect:
            yield from _ask_to_wait(allowance, reservation, verdict, now, max_hint)
        else:  # it is about this call, so it stops nobody
            allowance.gate.ask_another(sent_at, now)
        if own is not None:
            allowance.line.note_refused(reservation, now, asks=allowance.asks)
    if verdict.limits:
        refused = verdict.kind is Kind.RATE_LIMITED
        yield from allowance.observe(verdict.limits, reservation, now, refused=refused)


def _teach(
    allowance: Allowance,
    reservation: Reservation,
    verdict: Verdict,
    now: float,
    max_hint: float,
    own: Refusals | None,
) -> Iterator[Change | Suspicion]:
    # A stop tells when to ask again, and nothing of the limit. So a call that was sent into a stop
    # does not count, unless the stop is so short that the pace explains it.
    limited = verdict.kind is Kind.RATE_LIMITED and not is_crowded(verdict)
    # That there were too many calls in flight may be a guess: it may as well have been the burst.
    guessed = verdict.kind is Kind.RATE_LIMITED and verdict.crowded
    if (limited or guessed) and allowance.refused(reservation, now):
        return  # it shows how much the server bears at once, and nothing of the limit
    if reservation.ticket is None and own is not None and own.times > 1:
        return  # at rest, one call says but once that the declared limit is too high
    hint = min(verdict.retry_after or 0.0, max_hint)
    gate, sent_at = allowance.gate, reservation.granted_at
    told = gate.asked(sent_at) or (hint > 1.0 and gate.told(sent_at, now))
    if limited and (reservation.ticket is not None or not told):  # the learner knows its stops
        yield from allowance.rejected(reservation, now, hint, steep=is_steep(verdict))


def _ask_to_wait(
    allowance: Allowance, reservation: Reservation, verdict: Verdict, now: float, max_hint: float
) -> Iterator[GateClosed]:
    hint = min(verdict.retry_after or 0.0, max_hint)
    if not hint and allowance.gate.asked(reservation.granted_at):
        hint = FIRST_QUESTION  # a refused question is no reason to open, whatever it is told
    if hint and verdict.kind in (Kind.RATE_LIMITED, Kind.OVERLOADED):
        reason = f"the server asked for it ({verdict.kind})"
        closed = allowance.told_to_wait(reservation, hint, now, reason)
        if closed is not None:
            yield closed
