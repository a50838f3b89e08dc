"""The phases of a run, and the one table of transitions between them.

The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The phase of a run.

    Attributes:
        NEW: its task has not begun: nothing was taken from the input.
        RUNNING: rows are taken and sent.
        ENDING: the input has no more rows; those that were taken come to their end.
        STOPPING: no row is taken, and what waits is cut; what was sent comes to its end.
        CANCELLED: all that it does is cut.
        OVER: the books are closed.
    """

    NEW = "new"
    RUNNING = "running"
    ENDING = "ending"
    STOPPING = "stopping"
    CANCELLED = "cancelled"
    OVER = "over"


class Trigger(StrEnum):
    """The reason for a change of phase."""

    BEGUN = "its task begins"
    INPUT_OVER = "the input is over"
    STOPPED = "it is stopped, or cannot go on"
    CANCELLED = "it is cancelled"
    ALL_ENDED = "every row that was taken has ended"


TRANSITIONS: dict[tuple[Phase, Trigger], Phase] = {
    (Phase.NEW, Trigger.BEGUN): Phase.RUNNING,
    (Phase.NEW, Trigger.STOPPED): Phase.OVER,
    (Phase.NEW, Trigger.CANCELLED): Phase.OVER,
    (Phase.RUNNING, Trigger.INPUT_OVER): Phase.ENDING,
    (Phase.RUNNING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.RUNNING, Trigger.CANCELLED): Phase.CANCELLED,
    (Phase.RUNNING, Trigger.ALL_ENDED): Phase.OVER,
    (Phase.ENDING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.ENDING, Trigger.CANCELLED): Phase.CANCELLED,
    (Phase.ENDING, Trigger.ALL_ENDED): Phase.OVER,
    (Phase.STOPPING, Trigger.CANCELLED): Phase.CANCELLED,
    (Phase.STOPPING, Trigger.ALL_ENDED): Phase.OVER,
    (Phase.CANCELLED, Trigger.ALL_ENDED): Phase.OVER,
}
"""The whole state machine; a trigger that a phase does not have changes nothing."""


def diagram() -> str:
    """Return the state machine as a Mermaid diagram, drawn from `TRANSITIONS`."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.NEW}"]
    lines += [f"    {old} --> {new}: {why}" for (old, why), new in TRANSITIONS.items()]
    return "\n".join(lines)
