"""Limits the duration of one attempt, so that a server that hangs costs a retry, not the call.

Why inside the classifier? There the classifier sees the timeout, and the circuit counts it as a
failure. In the opposite order, 200 of 200 attempts at a hung server were classified as "cancelled",
and the circuit never opened.
"""

from __future__ import annotations

from typing import Any, Literal

from ..core import bounds
from ..core.call import FIRST_CHUNK, LONGEST_SILENCE, Call
from ..core.guard import Guard
from ..core.runtime import Timer
from ..errors import AttemptTimedOut
from .cut import raise_in_place_of_cancellation


class AttemptTimeout(Guard[Timer]):
    """Cancels an attempt that takes too long.

    Args:
        seconds: for one attempt, above 0; 60 suits most completions. If less time is left until the
            call's deadline, the deadline's own timer ends the attempt. An attempt that streams ends
            when the first event of its stream has come.
        first_chunk: the same for a request that asks for a stream, above 0; a comment or a ping is
            not an event. It counts if it is less than `seconds`, which holds for streams too. 60 by
            default; None to leave it to `seconds`.
        idle: seconds between any two bytes of a body that the caller reads, such as a stream's,
            above 0; a comment or a ping counts. ``"auto"`` is 60, or `seconds` if that is less;
            None for no bound.

    Raises:
        ConfigurationError: a value is not above 0.
        AttemptTimedOut: from an attempt that took longer, or whose stream did not begin in time.
        StreamStalled: from reading a body whose server sent nothing for `idle` seconds.

    State: per attempt. All attempts with the same duration share one timer of the event loop. For a
    stream, the timer ends when the stream is returned to the caller.
    """

    def __init__(
        self,
        seconds: float = 60.0,
        *,
        first_chunk: float | None = FIRST_CHUNK,
        idle: float | Literal["auto"] | None = "auto",
    ) -> None:
        self.seconds = bounds.positive(seconds, "an attempt's timeout, in seconds,")
        if first_chunk is not None:
            bounds.positive(first_chunk, "first_chunk, in seconds to the first event of a stream,")
        self.first_chunk = first_chunk
        ends_sooner = first_chunk is not None and first_chunk < seconds
        self._first_chunk = first_chunk if ends_sooner else None
        if idle == "auto":
            idle = min(seconds, LONGEST_SILENCE)
        elif idle is not None:
            bounds.positive(idle, "idle, in seconds between two bytes of a body,")
        self.idle: float | None = idle

    def enter(self, call: Call[Any]) -> Timer:
        """Start the timer."""
        state = call.state
        state.first_chunk, state.idle = self._first_chunk, self.idle
        timer = state.timer = call.runtime.cut_off_after(self.seconds)
        return timer

    def leave(self, call: Call[Any], held: Timer, _: Any, error: BaseException | None) -> None:
        """Stop the timer; raise `AttemptTimedOut` in place of the timer's own cancellation."""
        call.state.timer = None
        if error is None:
            held.stop()
        elif held.made(error):
            del error  # or the new exception's traceback refers to it through this frame
            raise_in_place_of_cancellation(
                AttemptTimedOut(
                    f"attempt {call.attempt} took longer than {self.seconds:g} s (AttemptTimeout)"
                )
            )

    def describe(self) -> str:
        """Return the limit as text."""
        return f"{self.seconds:g} s per attempt"
