"""One worker of a batch: the row that it is on, and how it can be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

import anyio

from ..core.call import Call
from ..core.verdict import SUCCESS
from ..errors import Refused
from .result import Row
from .trial import Trial


@dataclass(slots=True, eq=False)
class Taken(Generic[Row]):
    """A row that is to be sent.

    Attributes:
        index: of the row in the input, from 0.
        row: as it was given.
        row_id: its id.
        digest: what its request is known by, or None.
        call: sends it.
    """

    index: int
    row: Row
    row_id: str
    digest: str | None
    call: Call[Any]

    def renew(self) -> None:
        """Make it ready to be sent once more: a call is sent once."""
        call = self.call
        self.call = Call(call.payload, call.request_id, call.partition)


class Withdrawn(Refused):
    """A call was granted what it waited for, and was cut in the same moment: it is not sent."""


def _withdraw(call: Call[Any]) -> None:
    raise call.refuse(Withdrawn("the row waits for others, or for another run"))


class Lane:
    """One worker of a run.

    Attributes:
        index: of the row that it is on, or -1.
        row: what it is to send, or None. It stays if the lane is cut.
        trial: of the partition whose row is being sent, or None.
        asks: whether it waits for a row, or until its row may be sent.
        cut: whether its call was cut, to be sent later.
        scope: cuts what it does.

    State: one run.
    """

    __slots__ = ("asks", "cut", "index", "row", "scope", "trial")

    def __init__(self) -> None:
        self.index = -1
        self.row: Taken[Any] | None = None
        self.trial: Trial | None = None
        self.asks = self.cut = False
        self.scope = anyio.CancelScope()

    def waits(self) -> bool:
        """Whether it waits for a row, or its call for something: nothing is lost if it is cut."""
        if self.trial is None or self.row is None:
            return self.asks
        call = self.row.call
        # What is under way was sent as often as attempts were begun, and is not judged yet, or has
        # passed.
        failed = call.verdict is not None and call.verdict.kind is not SUCCESS
        return call.sends != call.attempt or failed

    def end(self) -> None:
        """Cut it, while it waits. What is granted to it in this moment is not used any more."""
        if self.trial is not None and self.row is not None and not self.row.call.sends:
            self.row.call.state.on_send = _withdraw
        self.scope.cancel()

    def send_later(self) -> None:
        """Cut its call, and keep its row."""
        self.cut = True
        self.end()

    def renew(self) -> None:
        """Make it ready to go on after it was cut."""
        self.cut = False
        self.scope = anyio.CancelScope()
