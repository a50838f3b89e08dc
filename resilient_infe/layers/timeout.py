"""Bounds one attempt, so that a hung server costs a retry and not the call.

Why inside the classifier? So that the classifier sees the timeout and the circuit counts it. The
other way round all 200 attempts at a hung server read "cancelled", and the circuit never opened.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..call import Call, Handler
from ..errors import AttemptTimedOut
from ..policies import bounds

P = TypeVar("P")
R = TypeVar("R")


class AttemptTimeout:
    """Cancels an attempt that takes too long.

    Args:
        seconds: for one attempt, above 0; 60 suits most completions. Where less is left of the
            call's deadline, the deadline's own timer cuts the attempt.

    Raises:
        ConfigurationError: `seconds` is not above 0.
        AttemptTimedOut: from an attempt that took longer.

    State: per attempt; one timer of the loop serves them all. For a stream it ends when the stream
    is handed over.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        """Check the range."""
        self.seconds = bounds.positive(seconds, "an attempt's timeout, in seconds,")

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Call on under the timer."""
        timer = call.runtime.cut_off_after(self.seconds)
        try:
            result = await call_next(call)
        except BaseException as error:
            if not timer.made(error):
                raise
        else:
            timer.stop()
            return result
        raise self._error(call)

    def _error(self, call: Call[Any]) -> AttemptTimedOut:
        return AttemptTimedOut(
            f"attempt {call.attempt} took longer than {self.seconds:g} s (AttemptTimeout)"
        )

    def describe(self) -> str:
        """Say the bound."""
        return f"{self.seconds:g} s per attempt"
