"""One attempt's leave to send, from the queue to its settlement."""

from __future__ import annotations

import math

from .queue import Waiter


class Reservation(Waiter):
    """What one attempt may spend: granted at once or waited for, then settled or refunded once.

    Attributes:
        tokens: the estimated cost that is charged.
        granted_at: when it was granted: the moment of sending, as far as a limit cares.
        ordinal: how many requests had been granted by then, this one included.
        total_tokens: how many tokens had been granted by then, its own included.
        closed: True once settled or refunded.
    """

    __slots__ = ("closed", "granted_at", "ordinal", "tokens", "total_tokens")

    def __init__(self, place: int, tokens: float) -> None:
        """Start ungranted."""
        super().__init__(place)
        self.tokens = tokens
        self.granted_at = -math.inf
        self.ordinal = 0
        self.total_tokens = 0.0
        self.closed = False
