"""Stops sending to a server that is failing.

Why last before the send? Admission and send are then one instant: calls that queued before the
circuit opened are stopped too, and a probe does not age in a queue. (3,000 calls queued when the
server died: with the breaker outermost 2,744 were still sent, here 1.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..call import Call, Handler
from ..errors import CircuitOpen
from ..policies.circuit import Circuit, Permit, State
from ..policies.keyed import Keyed
from ..verdict import SUCCESS, Kind
from .partitioned import Partitioned

if TYPE_CHECKING:
    from ..events import CircuitChanged
    from ..policies.snapshots import CircuitStatistics

P = TypeVar("P")
R = TypeVar("R")

FAILURES = frozenset(
    (Kind.OVERLOADED, Kind.SERVER_ERROR, Kind.TRANSIENT, Kind.TIMEOUT, Kind.UNKNOWN)
)
"""What counts against the server."""

ANSWERS = frozenset((Kind.OK, Kind.QUOTA, Kind.AUTH, Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.INVALID))
"""What counts for it: a refusal is an answer. All else (429, cancelled, refused) says nothing."""


class CircuitBreaker:
    """Refuses to send while its circuit is open, and probes when it has rested.

    Args:
        circuit: a `Circuit`, shared or not, or a ``Keyed(Circuit)`` for one per partition; None
            makes one with its defaults.

    Raises:
        CircuitOpen: from a call that is refused; its `retry_after` says when to ask again.

    State: in the `Circuit`.
    """

    def __init__(self, circuit: Circuit | Keyed[Circuit] | None = None) -> None:
        """Make the circuit if none is given."""
        self.circuits: Partitioned[Circuit] = Partitioned(
            Circuit() if circuit is None else circuit,
            Circuit,
            "CircuitBreaker",
            "Circuit(...) or Keyed(Circuit)",
        )
        self._one: Circuit | None = self.circuits.one
        self._known = self.circuits.known

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Ask the circuit, call on, tell it what came of it."""
        circuit = self._one
        if circuit is None:
            known = self._known  # apart from its call, since it is no method
            circuit = known(call.partition)
        if circuit is None or circuit.home is not call.runtime:
            circuit = self.circuits.of(call)
        permit = circuit.admit_closed()
        if permit is None:
            permit = self._admit(call, circuit)
        try:
            result = await call_next(call)
        except BaseException:
            self._end(call, circuit, permit)
            raise
        self._end(call, circuit, permit)
        return result

    def statistics(self, now: float) -> dict[str | None, CircuitStatistics]:
        """Return a snapshot per partition."""
        return {partition: circuit.statistics(now) for partition, circuit in self.circuits.items()}

    def describe(self) -> str:
        """Say when it opens."""
        return f"{self.circuits.sample()}{self.circuits.describe()}"

    def _admit(self, call: Call[Any], circuit: Circuit) -> Permit:
        now = call.runtime.now()
        before = circuit.last_transition
        permit = circuit.admit(now)
        if circuit.last_transition is not before:
            self._tell(call, circuit)
        if permit is not None:
            call.probe = permit.expires is not None and circuit.answered
            return permit
        wait = circuit.retry_after(now)
        where = f" of partition {call.partition!r}" if call.partition else ""
        raise CircuitOpen(
            f"the circuit{where} is {circuit.state}: the server failed too often lately; ask again "
            f"in {wait:.3g} s",
            retry_after=wait,
        ).on(call)

    def _end(self, call: Call[Any], circuit: Circuit, permit: Permit) -> None:
        verdict = call.verdict
        if verdict is not None and verdict.kind is SUCCESS:
            clock = call.runtime.now
            if circuit.succeed(permit, clock()):
                return
        before = circuit.last_transition
        if verdict is None:
            circuit.drop(permit)
        elif verdict.kind in ANSWERS and verdict.sent:
            circuit.record(permit, call.runtime.now(), success=True)
        elif verdict.kind in FAILURES:
            circuit.record(permit, call.runtime.now(), success=False)
        else:
            circuit.drop(permit)
        if circuit.last_transition is not before:
            self._tell(call, circuit)

    def _tell(self, call: Call[Any], circuit: Circuit) -> None:
        transition = circuit.last_transition
        if call.emit is None or transition is None:
            return
        reason = str(transition.trigger)
        if transition.state is State.OPEN and call.verdict is not None:
            parts = (call.verdict.kind, call.verdict.status, call.verdict.error)
            reason += f": {', '.join(str(part) for part in parts if part is not None)}"
        event = _event_for(transition.state)
        call.emit(event(call.partition, str(transition.previous), reason))


def _event_for(state: State) -> type[CircuitChanged]:
    from ..events import CircuitClosed, CircuitHalfOpened, CircuitOpened

    if state is State.CLOSED:
        return CircuitClosed
    return CircuitOpened if state is State.OPEN else CircuitHalfOpened
