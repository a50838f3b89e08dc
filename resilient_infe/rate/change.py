"""The record of a changed limit, whether the server stated it or the learner found it."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.verdict import Dimension

STATED = "stated by the server"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the limit in one dimension.

    Attributes:
        dimension: the unit that the limit counts.
        old: the limit before, in units per minute; None if there was none.
        new: the limit from now on, in units per minute.
        reason: a short text on where the new limit comes from.
    """

    dimension: Dimension
    old: float | None
    new: float
    reason: str = STATED
