"""Bounds one attempt, so that a hung server costs a retry and not the call.

Why inside the classifier? So that the classifier sees the timeout and the circuit counts it. The
other way round all 200 attempts at a hung server read "cancelled", and the circuit never opened.
"""

from __future__ import annotations

import math
from typing import TypeVar

from ..call import Call, Handler
from ..errors import AttemptTimedOut, ConfigurationError

P = TypeVar("P")
R = TypeVar("R")


class AttemptTimeout:
    """Cancels an attempt that takes too long.

    Args:
        seconds: for one attempt, above 0; 60 suits most completions. Where less is left of the
            call's deadline, the deadline cuts the attempt.

    Raises:
        ConfigurationError: `seconds` is not above 0.
        AttemptTimedOut: from an attempt that took longer.

    State: per attempt; one timer of the loop serves them all. For a stream it ends when the stream
    is handed over.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        """Check the range."""
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"an attempt's timeout is in seconds, above 0; got {seconds}")
        self.seconds = seconds

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Call on under the timer."""
        if call.deadline is not None and call.deadline - call.runtime.now() <= self.seconds:
            return await call_next(call)  # the deadline's own timer rings first
        with call.runtime.cut_off_after(self.seconds):
            return await call_next(call)
        raise AttemptTimedOut(
            f"attempt {call.attempt} took longer than {self.seconds:g} s (AttemptTimeout)"
        )

    def describe(self) -> str:
        """Say the bound."""
        return f"{self.seconds:g} s per attempt"
