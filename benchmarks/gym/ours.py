"""Our own sender: the `Allowance` that ships, with the learner in it, driven as its layer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_infe import Allowance, Kind, Limit, Verdict
from resilient_infe.core.verdict import OK, Usage
from resilient_infe.rate.reservation import Reservation
from resilient_infe.rate.settlement import learn, settle

from .servers import Answer

LONGEST_HINT = 300.0
"""Seconds: what `RateLimiter` follows by default."""


class Ours:
    """Sends when the allowance lets it, and tells it what came back."""

    def __init__(
        self,
        allowance: Allowance | None = None,
        learner: Callable[[float | None, float | None], Any] | None = None,
    ) -> None:
        """Know nothing, unless an allowance is given; `learner` makes another way of learning."""
        self.allowance = Allowance() if allowance is None else allowance
        if learner is not None:
            rates = self.allowance._rates  # noqa: SLF001 - it is not to be given by users
            declared = [rates.bucket(each) for each in ("requests", "tokens")]
            rates.learner = learner(*(each and each.limit for each in declared))
        self._next: Reservation | None = None

    def ready_at(self, now: float, cost: float) -> float:
        """Reserve for the next call, and return when it is granted."""
        if self._next is None:
            self._next = self.allowance.reserve(now, cost)
        if self._next.granted:
            return now
        due = self.allowance.due
        assert due is not None
        return due

    def sent(self, now: float, cost: float) -> Reservation:
        """Take the reservation that was granted."""
        list(self.allowance.poll(now))
        reservation, self._next = self._next, None
        assert reservation is not None
        assert reservation.granted, "not granted at the promised instant"
        return reservation

    def answered(self, now: float, ticket: Reservation, answer: Answer) -> None:
        """Settle, and learn."""
        verdict = _verdict(answer, answer.tokens)
        settle(self.allowance, ticket, verdict, now, unsent=False)
        list(learn(self.allowance, ticket, verdict, now, LONGEST_HINT))


def _verdict(answer: Answer, tokens: float) -> Verdict:
    limits: tuple[Limit, ...] = ()
    if answer.limit is not None:
        limits = (Limit("requests", answer.limit, answer.remaining, answer.reset),)
    if not answer.accepted:
        return Verdict(Kind.RATE_LIMITED, retry_after=answer.retry_after, limits=limits)
    if not limits and not tokens:
        return OK
    usage = Usage(0, int(tokens), int(tokens)) if tokens else None
    return Verdict(Kind.OK, limits=limits, usage=usage)
