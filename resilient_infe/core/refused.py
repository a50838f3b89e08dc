"""What a check of the answers' form refused in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .verdict import Kind, Usage, Verdict, added


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

    def and_last(self, verdict: Verdict | None, usage: Usage | None) -> Usage | None:
        """Return what all answers of a call cost.

        Args:
            verdict: the verdict on the last attempt, or None.
            usage: what that one cost, or None.
        """
        is_counted = verdict is not None and verdict.kind is Kind.MALFORMED
        return self.usage if is_counted else added(self.usage, usage)
