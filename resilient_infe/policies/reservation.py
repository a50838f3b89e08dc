"""One attempt's leave to send, from the queue to its settlement; and what an allowance tells."""

from __future__ import annotations

from .learner import Ticket
from .queue import Waiter


class Reservation(Waiter):
    """What one attempt may spend: granted at once or waited for, then settled or refunded once.

    Attributes:
        tokens: the estimated cost that is charged.
        granted_at: when it was granted: the moment of sending, as far as a limit cares. This and
            what follows is there once it is granted.
        ordinal: how many requests had been granted by then, this one included.
        total_tokens: how many tokens had been granted by then, its own included.
        open: True from its grant until it is settled or refunded.

    `Allowance.take` makes one without calling the constructor, which would cost more than the rest
    of it: what is only needed while waiting (`place`, `gone`, `wake`) is then not there.
    """

    __slots__ = ("granted_at", "open", "ordinal", "ticket", "tokens", "total_tokens")

    granted_at: float
    ordinal: int
    ticket: Ticket | None
    total_tokens: float

    def __init__(self, place: int, tokens: float) -> None:
        """Start ungranted."""
        # Waiter's own fields are set here too: a call upwards costs more than all of them.
        self.place = place
        self.granted = self.gone = self.open = False
        self.wake = None
        self.tokens = tokens
