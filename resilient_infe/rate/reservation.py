"""The permission of one attempt to send, from the queue to the settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.queue import Waiter

if TYPE_CHECKING:
    from .costs import Costs
    from .learning.learner import Ticket
    from .window import Taken


class Reservation(Waiter):
    """One request and its tokens, charged to an `Allowance` for one attempt.

    It is granted, at once or after a wait, and then settled or refunded exactly once. A waiting one
    may also be cancelled.

    Attributes:
        costs: the estimated costs, in the order of `DIMENSIONS`.
        tokens: the tokens that are reserved: the estimate, calibrated when it is granted.
        open: True from the grant until the reservation is settled or refunded.
        granted_at: the loop time of the grant; for the limits, the request is sent at that time.
        ordinal: the number of requests granted up to and including this one.
        total_tokens: the number of tokens granted up to and including this one.
        ticket: the learner's record of the request; None while the learner is inactive.
        taken: what was taken from each window.
        full_until: when a day's limit has room for it, if it was refused because of that.
    """

    # Defaults, also of what `Waiter.__init__` sets: one is made for each attempt, and few wait.
    granted = gone = open = False
    wake = None
    ticket: Ticket | None = None
    granted_at: float
    ordinal: int
    total_tokens: float
    taken: list[Taken]
    full_until: float

    def __init__(self, place: int, costs: Costs) -> None:
        self.place = place
        self.costs = costs
        self.tokens = costs[1]

    @property
    def estimate(self) -> float:
        """The estimated cost in tokens."""
        return self.costs[1]
