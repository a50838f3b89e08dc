"""The permission of one attempt to send, from the queue to the settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.queue import Waiter

if TYPE_CHECKING:
    from .learning.learner import Ticket
    from .window import Taken


class Reservation(Waiter):
    """One request and its tokens, charged to an `Allowance` for one attempt.

    It is granted, at once or after a wait, and then settled or refunded exactly once. A waiting one
    may also be cancelled.

    Attributes:
        estimate: the estimated cost in tokens.
        tokens: the cost that is reserved: the estimate, calibrated when it is granted.
        open: True from the grant until the reservation is settled or refunded.
        granted_at: the loop time of the grant; for the limits, the request is sent at that time.
        ordinal: the number of requests granted up to and including this one.
        total_tokens: the number of tokens granted up to and including this one.
        ticket: the learner's record of the request; None while the learner is inactive.
        in_requests, in_tokens: what was taken from the windows of requests and of tokens; None
            where there was none.
    """

    __slots__ = ("estimate", "granted_at", "in_requests", "in_tokens", "open", "ordinal", "ticket",
                 "tokens", "total_tokens")  # fmt: skip

    granted_at: float
    ordinal: int
    total_tokens: float
    ticket: Ticket | None

    def __init__(self, place: int, estimate: float) -> None:
        # Also sets what `Waiter.__init__` sets: one is made for each attempt, and the call to it
        # would double the cost. What only a queue reads, `join` sets.
        self.place = place
        self.granted = self.gone = self.open = False
        self.wake = None
        self.estimate = self.tokens = estimate
        self.in_requests: Taken | None = None
        self.in_tokens: Taken | None = None
