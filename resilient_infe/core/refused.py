"""What a check of the answers' form refused in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .verdict import Usage, added


@dataclass(slots=True)
class RefusedAnswers:
    """The answers of a call that were not of the asked form. State: per call.

    Attributes:
        count: how many there were.
        usage: the tokens that they cost together; None if none stated its usage.
        request: what a hook made of the request; None for the request as it was.
    """

    count: int = 0
    usage: Usage | None = None
    request: Any = None

    def note(self, usage: Usage | None) -> int:
        """Count one more, which cost `usage`; return their number."""
        self.count += 1
        self.usage = added(self.usage, usage)
        return self.count
