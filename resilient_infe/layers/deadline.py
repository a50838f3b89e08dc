"""Bounds the whole call: the waits, the sleeps and all the attempts.

Why not the transport's own timeout? That bounds one attempt, and the time in queues and backoff
comes on top. A caller who waits for an answer cares for the sum.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..call import Call, Handler
from ..errors import DeadlineExceeded
from ..policies import bounds
from .note import add_note

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
        if seconds is not None:
            bounds.positive(seconds, "a deadline, in seconds,")
        self.seconds = seconds

    async def __call__(self, call: Call[P], call_next: Handler[P, R]) -> R:
        """Call on under the timer."""
        runtime = call.runtime
        if call.deadline is None:
            if self.seconds is None:
                return await call_next(call)
            timer = runtime.cut_off_after(self.seconds)
            call.deadline = timer.when
        elif call.deadline > runtime.now():
            timer = runtime.cut_off_at(call.deadline)
        else:
            raise self._error(call)
        try:
            result = await call_next(call)
        except BaseException as error:
            if not timer.made(error):
                raise
        else:
            timer.stop()
            return result
        raise self._error(call)

    def _error(self, call: Call[Any]) -> DeadlineExceeded:
        advice = None if call.verdict is None else call.verdict.advice
        error = DeadlineExceeded(
            f"the call's deadline passed after {call.runtime.now() - call.started:.3g} s"
        )
        add_note(error, call, advice)
        return error.on(call)

    def describe(self) -> str:
        """Say the bound."""
        if self.seconds is None:
            return "only for calls that bring their own"
        return f"{self.seconds:g} s for the whole call"
