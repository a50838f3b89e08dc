"""Stops sending to a server that fails.

Why innermost, directly before the send? Then nothing happens between admission and sending: calls
that were queued before the circuit opened are stopped too, and a probe never waits in a queue.
(With 3,000 calls in the queue when the server died, 2,744 were still sent with the breaker
outermost, and 1 with the breaker here.)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

from ..aio.partitioned import Partitioned
from ..core.call import Call
from ..core.guard import Guard
from ..core.keyed import Keyed
from ..core.verdict import EMPTY_ANSWER, SUCCESS, Kind, Verdict
from ..errors import CircuitOpen, Refused
from ..events import (
    CircuitChanged,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitThrottled,
)
from .circuit import Circuit
from .permit import Permit
from .snapshot import CircuitStatistics
from .states import State

Held: TypeAlias = tuple[Circuit, Permit, float]
"""The circuit of an attempt, its permit, and the loop time at which it was sent."""

FAILURES = frozenset(
    (Kind.OVERLOADED, Kind.SERVER_ERROR, Kind.TRANSIENT, Kind.TIMEOUT, Kind.UNKNOWN)
)
"""The kinds that count as a failure of the server."""

ANSWERS = frozenset(
    (
        Kind.OK,
        Kind.QUOTA,
        Kind.AUTH,
        Kind.FORBIDDEN,
        Kind.NOT_FOUND,
        Kind.INVALID,
        Kind.MALFORMED,
    )
)
"""The kinds that count as a success: even a refusal is an answer. A kind in neither set (429,
cancelled, refused by the stack) says nothing about the server's health.
"""

ENOUGH = 0.25
"""The share of a call's time that an attempt needs, before its end by the deadline counts."""

_IS_SUCCESS = {**dict.fromkeys(ANSWERS, True), **dict.fromkeys(FAILURES, False)}

_THROTTLED = State.THROTTLED
"""A module-level name for the state: an attribute look-up on the enum costs more."""

_SAFE = frozenset((State.CLOSED, State.FORCED_CLOSED))
"""The states in which an attempt that can be done without is sent."""

_EVENTS: dict[State, type[CircuitChanged]] = {
    State.CLOSED: CircuitClosed,
    State.THROTTLED: CircuitThrottled,
    State.OPEN: CircuitOpened,
    State.HALF_OPEN: CircuitHalfOpened,
    State.FORCED_OPEN: CircuitOpened,
    State.FORCED_CLOSED: CircuitClosed,
}


class CircuitBreaker(Guard[Held]):
    """Refuses to send while its circuit is open, and sends probes after `open_for`.

    While a circuit with `throttle_below` is throttled, it refuses a share of the attempts.

    Args:
        circuit: a `Circuit`, which may be shared, or a ``Keyed(Circuit)`` for one per partition.
            None makes a `Circuit` with its defaults.
        uniform: returns a random number in [0, 1); `random.random`. Another function makes a test
            repeatable.

    Raises:
        CircuitOpen: from a call that is refused; its `retry_after` says when to try again.

    State: in the `Circuit`.
    """

    def __init__(
        self,
        circuit: Circuit | Keyed[Circuit] | None = None,
        *,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._uniform = uniform
        self.circuits: Partitioned[Circuit] = Partitioned(
            Circuit() if circuit is None else circuit,
            Circuit,
            "CircuitBreaker",
            "Circuit(...) or Keyed(Circuit)",
        )

    def enter(self, call: Call[Any]) -> Held:
        """Get a permit from the circuit.

        Raises:
            CircuitOpen: it is open; or half-open, and all of its probes are in flight; or
                throttled, and the attempt is in the share that it refuses.
            Refused: it is not closed, and the attempt is a spare one.
        """
        circuit, now = self.circuits.of(call), call.runtime.now()
        if call.state.spare and circuit.state not in _SAFE:
            raise call.refuse(Refused("the circuit is not closed"))
        u = self._uniform() if circuit.state is _THROTTLED else 1.0
        permit = circuit.admit(now, u)
        if circuit.last_transition is not circuit.reported:
            self._report(call, circuit)
        if permit is None:
            raise self._refusal(call, circuit, now)
        if permit.expires is not None:
            call.state.probes = circuit.answered
        return circuit, permit, now

    def leave(self, call: Call[Any], held: Held, _: Any, __: BaseException | None) -> None:
        """Report to the circuit what the verdict says about the server's health."""
        circuit, permit, sent_at = held
        verdict = call.verdict
        success = None if verdict is None else _counts_as(verdict)
        now = call.runtime.now()
        if success is None or (not success and _was_cut_short(call, sent_at, now)):
            circuit.drop(permit)
        else:
            circuit.record(permit, now, success=success, took=now - sent_at)
        if circuit.last_transition is not circuit.reported:
            self._report(call, circuit)

    def statistics(self, now: float) -> dict[str | None, CircuitStatistics]:
        """Return a snapshot per partition."""
        return {partition: circuit.statistics(now) for partition, circuit in self.circuits.items()}

    def describe(self) -> str:
        """Return as text when the circuit opens and how it probes."""
        return self.circuits.describe()

    def _refusal(self, call: Call[Any], circuit: Circuit, now: float) -> CircuitOpen:
        wait = circuit.retry_after(now)
        where = f" of partition {call.partition!r}" if call.partition else ""
        why = (
            "it was forced open"
            if circuit.state is State.FORCED_OPEN
            else "the server failed too often recently"
        )
        refusal = CircuitOpen(
            f"the circuit{where} is {circuit.state}: {why}; try again in {wait:.3g} s",
            retry_after=wait,
        )
        return call.refuse(refusal)

    def _report(self, call: Call[Any], circuit: Circuit) -> None:
        # A change by hand is reported with the next attempt: no call is there when it is made.
        circuit.reported = transition = circuit.last_transition
        if call.emit is None or transition is None:
            return
        reason = str(transition.trigger)
        if transition.state in (State.OPEN, State.THROTTLED) and call.verdict is not None:
            parts = (call.verdict.kind, call.verdict.status, call.verdict.error)
            reason += f": {', '.join(str(part) for part in parts if part is not None)}"
        if circuit.shadow:
            reason += " (shadow: nothing is refused)"
        call.emit(_EVENTS[transition.state](call.partition, str(transition.previous), reason))


def _was_cut_short(call: Call[Any], sent_at: float, now: float) -> bool:
    """Whether the call's own deadline ended the attempt before the server had its time.

    A call that has waited for most of its time, in a queue or between attempts, leaves an honest
    server too little. Where a server hangs, attempts with enough time show it.
    """
    verdict, deadline = call.verdict, call.deadline
    if verdict is None or verdict.kind is not Kind.TIMEOUT or deadline is None or now < deadline:
        return False
    return now - sent_at < ENOUGH * (deadline - call.started)


def _counts_as(verdict: Verdict) -> bool | None:
    """Return whether an attempt counts as a success; None if it says nothing of the server."""
    if verdict.kind is SUCCESS and verdict.sent:
        return True
    # A limit on the calls in flight is not an outage, nor is a whole answer that is empty.
    if verdict.crowded or verdict.error == EMPTY_ANSWER:
        return None
    success = _IS_SUCCESS.get(verdict.kind)
    return None if success and not verdict.sent else success
