"""What every policy has in common: it is shared by sharing the object, and never copied."""

from __future__ import annotations

from typing import Self

from .given import Given


class Shared(Given):
    """Base of what bounds many calls together.

    A copy, which some frameworks make of all their configuration, is the object itself: a second
    limit beside the first would let twice as much through.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        """Return the object itself."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Return the object itself."""
        return self
