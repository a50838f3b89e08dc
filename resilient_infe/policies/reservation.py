"""One attempt's leave to send, from the queue to its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .queue import Waiter

if TYPE_CHECKING:
    from .learner import Ticket

Grant: TypeAlias = "tuple[float, float, int, float, Ticket | None]"
"""What was granted: a plain tuple, since nearly every attempt is granted at once and settled once,
and an object costs as much as all the rest of that.

The estimated tokens; the instant; how many requests and how many tokens had been granted by then,
its own included; and the learner's ticket."""


class Reservation(Waiter):
    """What one attempt may spend: granted at once or waited for, then settled or refunded once.

    Attributes:
        tokens: the estimated cost that is charged.
        grant: what was granted; there once it is.
        open: True from its grant until it is settled or refunded.
    """

    __slots__ = ("grant", "open", "tokens")

    grant: Grant

    def __init__(self, place: int, tokens: float) -> None:
        """Start ungranted."""
        super().__init__(place)
        self.open = False
        self.tokens = tokens

    @classmethod
    def of(cls, grant: Grant, place: int = 0) -> Reservation:
        """Return the reservation of what was granted at once."""
        reservation = cls(place, grant[0])
        reservation.grant = grant
        reservation.granted = reservation.open = True
        return reservation

    @property
    def granted_at(self) -> float:
        """When it was granted: the moment of sending, as far as a limit cares."""
        return self.grant[1]

    @property
    def ordinal(self) -> int:
        """How many requests had been granted by then, this one included."""
        return self.grant[2]

    @property
    def total_tokens(self) -> float:
        """How many tokens had been granted by then, its own included."""
        return self.grant[3]

    @property
    def ticket(self) -> Ticket | None:
        """What the learner knows it by; None where it rested."""
        return self.grant[4]
