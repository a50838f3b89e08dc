"""Where to begin when something is believed already: a warm start."""

from __future__ import annotations

from .closed import Turn
from .search import Depth
from .stage import Belief, Stage
from .track import FIRST_PERIOD, FIRST_SENDS, PROVEN, Track
from .windowed import UNKNOWN_PERIOD, Kind, Windowed

TRUSTED = 60.0
"""Requests by which a belief counts as measured, at most: it may be old."""


def believed(belief: Belief, unit: float) -> Stage:
    """Return the stage that goes on from a belief.

    Args:
        belief: as `Stage.belief` gave it.
        unit: the cost of a usual request.
    """
    period = max(FIRST_PERIOD, FIRST_SENDS * unit / belief.limit)
    stage: Stage
    if belief.windowed:
        units = belief.limit * 60.0
        stage = Windowed(Kind.UNKNOWN, units, Turn(0.0, 60.0), max(period, UNKNOWN_PERIOD))
    else:
        track = Track(belief.limit, min(belief.exact, TRUSTED), Depth.unknown(unit), period)
        track.looks = PROVEN  # whoever found it knew that it is no window
        stage = track
    stage.why = "believed from an earlier run"
    return stage
