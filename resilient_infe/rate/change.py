"""A limit that moved: what every source of limits tells in the same form."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.verdict import Dimension

STATED = "stated by the server"


@dataclass(frozen=True, slots=True)
class Change:
    """A limit that moved, per minute, and why; `old` is None where none was kept before."""

    dimension: Dimension
    old: float | None
    new: float
    reason: str = STATED
