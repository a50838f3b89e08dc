"""The statistics of a circuit."""

from __future__ import annotations

from dataclasses import dataclass

from .states import State


@dataclass(frozen=True, slots=True)
class CircuitStatistics:
    """A snapshot: the state, the window's counts, and the number of results that came too late.

    `opened` is how often the circuit has opened. `rest` is the seconds that it stays open; it is 0
    if it is not open, or if the snapshot was made without the current time. `refused` counts the
    attempts that were refused, or that a shadow would have refused. `refused_share` is the share
    that a throttled circuit refuses now, 0 in every other state.
    """

    state: State
    successes: int
    failures: int
    probes_out: int
    late: int
    opened: int
    rest: float = 0.0
    refused: int = 0
    refused_share: float = 0.0
