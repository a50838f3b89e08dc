"""Limits the duration of the whole call: queues, backoff and all attempts.

Why not the transport's own timeout? That limits one attempt, and the time in queues and backoff is
added to it. A caller that waits for an answer needs a limit on the sum.
"""

from __future__ import annotations

from typing import Any

from ..core import bounds
from ..core.call import Call
from ..core.guard import Guard
from ..core.runtime import Timer
from ..errors import DeadlineExceeded
from ..telemetry.note import add_note
from .cut import raise_in_place_of_cancellation


class Deadline(Guard[Timer]):
    """Cancels a call, whatever it is doing, when its time is over.

    Args:
        seconds: for the whole call, above 0. None limits only calls that have a deadline of their
            own: ``send(payload, deadline=30.0)``. A call's own deadline always takes precedence.

    Raises:
        ConfigurationError: `seconds` is not above 0.
        DeadlineExceeded: from a call whose time is over.

    State: per call. All calls with the same duration share one timer of the event loop. A stream
    must be opened before the deadline; what is then left of the time limits reading it.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None:
            bounds.positive(seconds, "a deadline, in seconds,")
        self.seconds = seconds

    def enter(self, call: Call[Any]) -> Timer | None:
        """Start the timer; a call without a deadline has none."""
        runtime = call.runtime
        if call.deadline is None:
            if self.seconds is None:
                return None
            timer = runtime.cut_off_after(self.seconds)
            call.deadline = timer.when
            return timer
        if call.deadline <= runtime.now():
            raise self._error(call)
        return runtime.cut_off_at(call.deadline)

    def leave(self, call: Call[Any], held: Timer, _: Any, error: BaseException | None) -> None:
        """Stop the timer; raise `DeadlineExceeded` in place of the timer's own cancellation."""
        if error is None:
            held.stop()
        elif held.made(error):
            del error  # or the new exception's traceback refers to it through this frame
            raise_in_place_of_cancellation(self._error(call))

    def _error(self, call: Call[Any]) -> DeadlineExceeded:
        advice = None if call.verdict is None else call.verdict.advice
        error = DeadlineExceeded(
            f"the call's deadline passed after {call.runtime.now() - call.started:.3g} s"
        )
        add_note(error, call, advice)
        return call.refuse(error)

    def describe(self) -> str:
        """Return the limit as text."""
        if self.seconds is None:
            return "only for calls that bring their own"
        return f"{self.seconds:g} s for the whole call"
