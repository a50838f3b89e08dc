"""The workers of a batch: the row that each is on, and how it can be cut."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic

import anyio
from anyio.abc import TaskGroup

from ..core.call import Call
from ..core.verdict import SUCCESS
from ..errors import Refused
from .brake import Brake
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
        sends, request_ids: attempts of its earlier calls, which were cut, and what the server named
            them.
    """

    index: int
    row: Row
    row_id: str
    digest: str | None
    call: Call[Any]
    sends: int = 0
    request_ids: tuple[str, ...] = ()

    def renew(self) -> None:
        """Make it ready to be sent once more: a call is sent once."""
        call = self.call
        self.sends += call.sends
        self.request_ids += call.server_request_ids
        self.call = Call(
            call.payload,
            call.request_id,
            call.partition,
            emit=call.emit,
            priority=call.priority,
            tenant=call.tenant,
        )


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

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Say meanwhile that it waits for a row, or until its row may be sent."""
        self.asks = True
        try:
            yield
        finally:
            self.asks = False

    def waits(self) -> bool:
        """Whether it waits for a row, or its call for something: nothing is lost if it is cut."""
        if self.trial is None or self.row is None:
            return self.asks
        call = self.row.call
        # What is under way was sent as often as attempts were begun, and is not judged yet, or has
        # passed.
        failed = call.verdict is not None and call.verdict.kind is not SUCCESS
        return call.sends != call.attempt or failed

    def backs_off(self) -> bool:
        """Whether its call is between two attempts, and does not queue for the next one yet."""
        call = None if self.row is None else self.row.call
        return call is not None and call.sends == call.attempt

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


class Lanes:
    """All workers of a run.

    Args:
        number: of lanes at the start.

    Attributes:
        number: the same; `widen` raises it, and `add` does not change it.
        brake: holds back what they would send.

    State: one run.
    """

    __slots__ = ("_context", "_lanes", "_start", "brake", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.brake = Brake()
        self._context = copy_context()
        self._start: Callable[[Lane], object] = lambda _: None  # until they are started
        self._lanes = [Lane() for _ in range(number)]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._lanes)

    @property
    def ask(self) -> bool:
        """Whether any of them waits for a row, or until its row may be sent."""
        return any(lane.asks for lane in self._lanes)

    def start(self, group: TaskGroup, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """Start all of them in a group of tasks."""
        # `add` is called while a row waits for its retry. The new lane must not run in the context
        # of that retry.
        self._context = copy_context()
        self._start = lambda lane: group.start_soon(work, lane)
        for lane in self._lanes:
            self._start(lane)

    def add(self) -> None:
        """Start one more."""
        self._lanes.append(Lane())
        self._context.run(self._start, self._lanes[-1])

    def widen(self, number: int) -> None:
        """Have so many, if that is more than there are now."""
        more, self.number = max(0, number - self.number), max(number, self.number)
        with contextlib.suppress(RuntimeError):  # the run comes to its end, and starts no more
            for _ in range(more):
                self.add()

    def hold(self) -> None:
        """Cut those whose call waits to be sent; they keep the row. One that backs off goes on."""
        for lane in self._lanes:
            if lane.trial is not None and lane.waits() and not lane.backs_off():
                lane.send_later()

    def cut_if_held(self, trial: Trial) -> None:
        """Cut those whose row is of a partition that is held, and waits; they keep it."""
        for lane in self._lanes if trial.state == "held" else ():
            if lane.trial is trial and lane.waits():
                lane.send_later()

    def end(self) -> None:
        """Cut those that wait."""
        for lane in self._lanes:
            if lane.waits():
                lane.end()

    def cancel(self) -> None:
        """Cut all of them."""
        for lane in self._lanes:
            lane.scope.cancel()
