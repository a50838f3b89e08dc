"""One attempt's leave to send, from the queue to its settlement; and what an allowance tells."""

from __future__ import annotations

from dataclasses import dataclass

from .queue import Waiter


class Reservation(Waiter):
    """What one attempt may spend: granted at once or waited for, then settled or refunded once.

    Attributes:
        tokens: the estimated cost that is charged.
        granted_at: when it was granted: the moment of sending, as far as a limit cares. This and
            what follows is there once it is granted.
        ordinal: how many requests had been granted by then, this one included.
        total_tokens: how many tokens had been granted by then, its own included.
        closed: True once settled or refunded.

    `Allowance.take` makes one without calling the constructor, which would cost more than the rest
    of it: what is only needed while waiting (`place`, `gone`, `wake`) is then not there.
    """

    __slots__ = ("closed", "granted_at", "ordinal", "tokens", "total_tokens")

    granted_at: float
    ordinal: int
    total_tokens: float

    def __init__(self, place: int, tokens: float) -> None:
        """Start ungranted."""
        # Waiter's own fields are set here too: a call upwards costs more than all of them.
        self.place = place
        self.granted = self.gone = self.closed = False
        self.wake = None
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class AllowanceStatistics:
    """A snapshot; None means that no limit is kept in that dimension.

    Attributes:
        requests_per_minute, tokens_per_minute: the limits that are kept.
        requests_left, tokens_left: what could be sent at once; negative in debt.
        waiting: reservations in the queue.
        outstanding: reservations granted and not yet settled.
        gate: seconds until the gate opens, 0 when open.
        gate_reason: why it closed last.
        slowed: the share of the rate that is used, 1 unless bare 429s slowed it.
    """

    requests_per_minute: float | None
    tokens_per_minute: float | None
    requests_left: float | None
    tokens_left: float | None
    waiting: int
    outstanding: int
    gate: float
    gate_reason: str | None
    slowed: float
