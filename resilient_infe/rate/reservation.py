"""One attempt's leave to send, from the queue to its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.queue import Waiter

if TYPE_CHECKING:
    from .learning.learner import Ticket


class Reservation(Waiter):
    """What one attempt may spend: granted at once or waited for, then settled or refunded once.

    Attributes:
        tokens: the estimated cost that is charged.
        open: True from its grant until it is settled or refunded.
        granted_at: when it was granted, which is when its request is sent, as far as a limit cares.
        ordinal: how many requests had been granted by then, this one included.
        total_tokens: how many tokens had been granted by then, its own included.
        ticket: what the learner knows the request by; None while the learner rests.
    """

    __slots__ = ("granted_at", "open", "ordinal", "ticket", "tokens", "total_tokens")

    granted_at: float
    ordinal: int
    total_tokens: float
    ticket: Ticket | None

    def __init__(self, place: int, tokens: float) -> None:
        """Start ungranted."""
        # All that `Waiter` sets, too: one is made for each send, and to ask it costs as much again.
        self.place = place
        self.granted = self.gone = self.open = False
        self.wake = None
        self.tokens = tokens
