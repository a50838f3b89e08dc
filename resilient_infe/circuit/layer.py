"""Stops sending to a server that fails.

Why innermost, directly before the send? Then nothing happens between admission and sending: calls
that were queued before the circuit opened are stopped too, and a probe never waits in a queue.
(With 3,000 calls in the queue when the server died, 2,744 were still sent with the breaker
outermost, and 1 with the breaker here.)
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
"""The kinds that count as a failure of the server."""

ANSWERS = frozenset((Kind.OK, Kind.QUOTA, Kind.AUTH, Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.INVALID))
"""The kinds that count as a success: even a refusal is an answer. A kind in neither set (429,
cancelled, refused by the stack) says nothing about the server's health.
"""

_EVENTS: dict[State, type[CircuitChanged]] = {
    State.CLOSED: CircuitClosed,
    State.OPEN: CircuitOpened,
    State.HALF_OPEN: CircuitHalfOpened,
}


class CircuitBreaker(Guard[tuple[Circuit, Permit]]):
    """Refuses to send while its circuit is open, and sends probes after `open_for`.

    Args:
        circuit: a `Circuit`, which may be shared, or a ``Keyed(Circuit)`` for one per partition.
            None makes a `Circuit` with its defaults.

    Raises:
        CircuitOpen: from a call that is refused; its `retry_after` says when to try again.

    State: in the `Circuit`.
    """

    def __init__(self, circuit: Circuit | Keyed[Circuit] | None = None) -> None:
        self.circuits: Partitioned[Circuit] = Partitioned(
            Circuit() if circuit is None else circuit,
            Circuit,
            "CircuitBreaker",
            "Circuit(...) or Keyed(Circuit)",
        )

    def enter(self, call: Call[Any]) -> tuple[Circuit, Permit]:
        """Get a permit from the circuit.

        Raises:
            CircuitOpen: it is open, or half-open and all of its probes are in flight.
        """
        circuit, now = self.circuits.of(call), call.runtime.now()
        before = circuit.last_transition
        permit = circuit.admit(now)
        if circuit.last_transition is not before:
            self._report(call, circuit)
        if permit is None:
            raise self._refusal(call, circuit, now)
        call.state.probes = permit.expires is not None and circuit.answered
        return circuit, permit

    def leave(
        self, call: Call[Any], held: tuple[Circuit, Permit], _: Any, __: BaseException | None
    ) -> None:
        """Report to the circuit what the verdict says about the server's health."""
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
            self._report(call, circuit)

    def statistics(self, now: float) -> dict[str | None, CircuitStatistics]:
        """Return a snapshot per partition."""
        return {partition: circuit.statistics(now) for partition, circuit in self.circuits.items()}

    def describe(self) -> str:
        """Return as text when the circuit opens and how it probes."""
        return f"{self.circuits.sample()}{self.circuits.describe()}"

    def _refusal(self, call: Call[Any], circuit: Circuit, now: float) -> CircuitOpen:
        wait = circuit.retry_after(now)
        where = f" of partition {call.partition!r}" if call.partition else ""
        refusal = CircuitOpen(
            f"the circuit{where} is {circuit.state}: the server failed too often recently; try "
            f"again in {wait:.3g} s",
            retry_after=wait,
        )
        return call.refuse(refusal)

    def _report(self, call: Call[Any], circuit: Circuit) -> None:
        transition = circuit.last_transition
        if call.emit is None or transition is None:
            return
        reason = str(transition.trigger)
        if transition.state is State.OPEN and call.verdict is not None:
            parts = (call.verdict.kind, call.verdict.status, call.verdict.error)
            reason += f": {', '.join(str(part) for part in parts if part is not None)}"
        call.emit(_EVENTS[transition.state](call.partition, str(transition.previous), reason))
