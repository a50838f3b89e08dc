"""Warns of a stack that runs inside another one, where both try again."""

from __future__ import annotations

import warnings
from typing import Protocol

from ..errors import NestedStackWarning

NESTED = (
    "a stack with Retry runs inside another stack with Retry: their attempts multiply. Only one of "
    "them should have a Retry layer."
)
"""What a user is warned of, once for each stack."""


class Nested(Protocol):
    """A stack that has a `Retry`, and knows whether its user was warned."""

    told_of_nesting: bool


def warn_of_nesting(stack: Nested) -> None:
    """Warn once for each stack, at the line that calls ``around``, or that awaits the call."""
    if not stack.told_of_nesting:
        stack.told_of_nesting = True
        warnings.warn(NESTED, NestedStackWarning, stacklevel=3)
