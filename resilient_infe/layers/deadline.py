"""Bounds the whole call: the waits, the sleeps and all the attempts.

Why not the transport's own timeout? That bounds one attempt, and the time in queues and backoff
comes on top. A caller who waits for an answer cares for the sum.
"""

from __future__ import annotations

import math
from typing import TypeVar

from ..call import Call, Handler
from ..errors import ConfigurationError, DeadlineExceeded
from .note import note

P = TypeVar("P")
R = TypeVar("R")


class Deadline:
    """Cancels whatever a call is doing when its time is over.

    Args:
        seconds: for the whole call, above 0; None for only those calls that bring a deadline of
            their own (``send(payload, deadline=30.0)``, which comes before this one).

    Raises:
        ConfigurationError: `seconds` is not above 0.
        DeadlineExceeded: from a call whose time is over.

    State: per call; one timer of the loop serves all calls with the same duration. An open stream
    is handed over in time and then read under what is left.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """Check the range."""
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigurationError(f"a deadline is in seconds, above 0; got {seconds}")
        self.seconds = seconds

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Call on under the timer."""
        seconds = self.seconds
        if call.deadline is not None:
            seconds = call.deadline - call.runtime.now()
        elif seconds is not None:
            call.deadline = call.runtime.now() + seconds
        else:
            return await call_next(call)
        if seconds > 0:
            with call.runtime.cut_off_after(seconds):
                return await call_next(call)
        advice = None if call.verdict is None else call.verdict.advice
        error = DeadlineExceeded(
            f"the call's deadline passed after {call.runtime.now() - call.started:.3g} s"
        )
        error.add_note(note(call, None, advice))
        raise error.on(call)

    def describe(self) -> str:
        """Say the bound."""
        if self.seconds is None:
            return "only for calls that bring their own"
        return f"{self.seconds:g} s for the whole call"
