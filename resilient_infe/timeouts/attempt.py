"""Bounds one attempt, so that a hung server costs a retry and not the call.

Why inside the classifier? So that the classifier sees the timeout and the circuit counts it. The
other way round all 200 attempts at a hung server read "cancelled", and the circuit never opened.
"""

from __future__ import annotations

from typing import Any

from ..core import bounds
from ..core.call import Call
from ..core.guard import Guard
from ..core.runtime import Timer
from ..errors import AttemptTimedOut
from .cut import raise_in_place_of_cancellation


class AttemptTimeout(Guard[Timer]):
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

    def enter(self, call: Call[Any]) -> Timer:
        """Start the timer."""
        return call.runtime.cut_off_after(self.seconds)

    def leave(self, call: Call[Any], held: Timer, _: Any, error: BaseException | None) -> None:
        """End the timer; raise `AttemptTimedOut` in place of the cancellation that it made."""
        if error is None:
            held.stop()
        elif held.made(error):
            del error  # this frame is in the traceback of what is raised
            raise_in_place_of_cancellation(
                AttemptTimedOut(
                    f"attempt {call.attempt} took longer than {self.seconds:g} s (AttemptTimeout)"
                )
            )

    def describe(self) -> str:
        """Say the bound."""
        return f"{self.seconds:g} s per attempt"
