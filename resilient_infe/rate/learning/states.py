"""The states of the learner, and the one table of transitions between them.

A state says how the next requests are paced, and nothing else: all that is believed is kept by the
`Seeker` and outlives every change of state. A server that lets nothing in is no state but a `Stop`
laid over one: when it ends, the state goes on from where it was.

Each state can be left by time alone. START, CLIMB, RISE, RACE and SHARE go faster as time passes;
so does HOLD, which looks above its belief ever again. None needs a 429 or an answer to be left.
The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """How the next requests are paced."""

    START = "looking for a first limit"
    CLIMB = "coming closer from below"
    HOLD = "just below the limit, with a look above it from time to time"
    RISE = "the limit has risen: faster until it refuses"
    RACE = "others use the window: all senders from its turn by the same law"
    SHARE = "others use the limit: all senders grow and give way by the same law"


START, CLIMB, HOLD, RISE, RACE, SHARE = State
"""The states by name: Python 3.11 takes 0.1 us to find a member in its enumeration."""


class Event(StrEnum):
    """What ends a state."""

    FAILED = "exhausted, and too little passed to measure"
    MEASURED = "exhausted, and the best hypothesis gives a rate"
    DROPPED = "exhausted below the belief, twice in a short time"
    UNEXPLAINED = "more passed than any likely hypothesis allows"
    CLOSED_EARLY = "a known window was used up early, and turned on time"
    RACED = "several windows gave the same"
    OUT_OF_TURN = "the window did not turn when it should"
    IS_WINDOW = "the stop was too long for a bucket"
    SHARED = "exhausted, and told that others share the limit"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.START, Event.FAILED): State.CLIMB,
    (State.START, Event.SHARED): State.SHARE,
    (State.CLIMB, Event.FAILED): State.CLIMB,
    (State.CLIMB, Event.MEASURED): State.HOLD,
    (State.CLIMB, Event.IS_WINDOW): State.HOLD,
    (State.HOLD, Event.MEASURED): State.HOLD,
    (State.HOLD, Event.DROPPED): State.CLIMB,
    (State.HOLD, Event.FAILED): State.CLIMB,
    (State.HOLD, Event.IS_WINDOW): State.HOLD,
    (State.HOLD, Event.UNEXPLAINED): State.RISE,
    (State.HOLD, Event.CLOSED_EARLY): State.RACE,
    (State.RISE, Event.FAILED): State.CLIMB,
    (State.RISE, Event.MEASURED): State.HOLD,
    (State.RISE, Event.IS_WINDOW): State.HOLD,
    (State.RACE, Event.RACED): State.HOLD,
    (State.RACE, Event.OUT_OF_TURN): State.HOLD,
}
"""What follows what; `Seeker` changes its state by this table alone."""


def diagram() -> str:
    """Return the state machine as a Mermaid diagram, drawn from `TRANSITIONS`."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.START.name}"]
    lines += [f"    {old.name} --> {new.name}: {why}" for (old, why), new in TRANSITIONS.items()]
    return "\n".join(lines)
