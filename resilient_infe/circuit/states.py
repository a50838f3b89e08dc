"""The states of a circuit, and the one table of transitions between them.

The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a circuit.

    Attributes:
        CLOSED: every attempt is sent.
        THROTTLED: a part of the attempts is sent, because a part of those sent fails.
        OPEN: no attempt is sent, because nothing passes.
        HALF_OPEN: a few probes are sent.
        FORCED_OPEN: no attempt is sent until `Circuit.reset`.
        FORCED_CLOSED: every attempt is sent until `Circuit.reset`.
    """

    CLOSED = "closed"
    THROTTLED = "throttled"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


class Trigger(StrEnum):
    """The reason for a change of state."""

    FAILURE_RATIO = "failure ratio reached"
    CONSECUTIVE_FAILURES = "too many failures in a row"
    SOME_SUCCEED = "failure ratio reached, but some attempts succeed"
    FEWER_FAILURES = "under half of the failure ratio"
    RESTED = "open_for is over"
    PROBES_SUCCEEDED = "all probes succeeded"
    PROBE_FAILED = "a probe failed"
    PROBES_DIFFER = "some probes succeeded and one failed"
    BY_HAND = "by hand"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.CLOSED, Trigger.FAILURE_RATIO): State.OPEN,
    (State.CLOSED, Trigger.CONSECUTIVE_FAILURES): State.OPEN,
    (State.CLOSED, Trigger.SOME_SUCCEED): State.THROTTLED,
    (State.THROTTLED, Trigger.FAILURE_RATIO): State.OPEN,
    (State.THROTTLED, Trigger.CONSECUTIVE_FAILURES): State.OPEN,
    (State.THROTTLED, Trigger.FEWER_FAILURES): State.CLOSED,
    (State.OPEN, Trigger.RESTED): State.HALF_OPEN,
    (State.OPEN, Trigger.PROBES_DIFFER): State.THROTTLED,
    (State.HALF_OPEN, Trigger.PROBES_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Trigger.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Trigger.PROBES_DIFFER): State.THROTTLED,
}
"""The whole state machine; a pair that is not in it cannot occur.

It leaves out what is done by hand: `force_open`, `force_closed` and `reset` lead from every state
to FORCED_OPEN, FORCED_CLOSED and CLOSED.
"""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, and its reason."""

    previous: State
    state: State
    trigger: Trigger


def diagram() -> str:
    """Return the state machine as a Mermaid diagram, drawn from `TRANSITIONS`."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CLOSED}"]
    lines += [f"    {old} --> {new}: {why}" for (old, why), new in TRANSITIONS.items()]
    return "\n".join(lines)
