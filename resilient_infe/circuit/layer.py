"""Stops sending to a server that is failing.

Why last before the send? Admission and send are then one instant: calls that queued before the
circuit opened are stopped too, and a probe does not age in a queue. (3,000 calls queued when the
server died: with the breaker outermost 2,744 were still sent, here 1.)
"""

from __future__ import annotations

from typing import Any

from ..aio.partitioned import Partitioned
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.verdict import Kind
from ..errors import CircuitOpen
from ..events import CircuitChanged, CircuitClosed, CircuitHalfOpened, CircuitOpened
from .circuit import Circuit, CircuitStatistics, Permit, State

FAILURES = frozenset(
    (Kind.OVERLOADED, Kind.SERVER_ERROR, Kind.TRANSIENT, Kind.TIMEOUT, Kind.UNKNOWN)
)
"""What counts against the server."""

ANSWERS = frozenset((Kind.OK, Kind.QUOTA, Kind.AUTH, Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.INVALID))
"""What counts for it: a refusal is an answer. All else (429, cancelled, refused) says nothing."""

_EVENTS: dict[State, type[CircuitChanged]] = {
    State.CLOSED: CircuitClosed,
    State.OPEN: CircuitOpened,
    State.HALF_OPEN: CircuitHalfOpened,
}


class CircuitBreaker(Guard[tuple[Circuit, Permit]]):
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

    def enter(self, call: Call[Any]) -> tuple[Circuit, Permit]:
        """Ask the circuit.

        Raises:
            CircuitOpen: it is open, or half-open with all its probes under way.
        """
        circuit, now = self.circuits.of(call), call.runtime.now()
        before = circuit.last_transition
        permit = circuit.admit(now)
        if circuit.last_transition is not before:
            self._tell(call, circuit)
        if permit is None:
            raise self._refusal(call, circuit, now)
        call.state.probes = permit.expires is not None and circuit.answered
        return circuit, permit

    def leave(
        self, call: Call[Any], held: tuple[Circuit, Permit], _: Any, __: BaseException | None
    ) -> None:
        """Report to the circuit what the verdict says of the server."""
        circuit, permit = held
        verdict, before = call.verdict, circuit.last_transition
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

    def statistics(self, now: float) -> dict[str | None, CircuitStatistics]:
        """Return a snapshot per partition."""
        return {partition: circuit.statistics(now) for partition, circuit in self.circuits.items()}

    def describe(self) -> str:
        """Say when it opens."""
        return f"{self.circuits.sample()}{self.circuits.describe()}"

    def _refusal(self, call: Call[Any], circuit: Circuit, now: float) -> CircuitOpen:
        wait = circuit.retry_after(now)
        where = f" of partition {call.partition!r}" if call.partition else ""
        refusal = CircuitOpen(
            f"the circuit{where} is {circuit.state}: the server failed too often lately; ask again "
            f"in {wait:.3g} s",
            retry_after=wait,
        )
        return call.refuse(refusal)

    def _tell(self, call: Call[Any], circuit: Circuit) -> None:
        transition = circuit.last_transition
        if call.emit is None or transition is None:
            return
        reason = str(transition.trigger)
        if transition.state is State.OPEN and call.verdict is not None:
            parts = (call.verdict.kind, call.verdict.status, call.verdict.error)
            reason += f": {', '.join(str(part) for part in parts if part is not None)}"
        call.emit(_EVENTS[transition.state](call.partition, str(transition.previous), reason))
