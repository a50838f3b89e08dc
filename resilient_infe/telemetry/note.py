"""The note (PEP 678) on an exception of a call: what was tried, and the ids to quote."""

from __future__ import annotations

from typing import Any

from ..core.call import Call

PREFIX = "resilient_infe: "


def add_note(error: BaseException, call: Call[Any], advice: str | None) -> None:
    """Add the note to an exception, in place of the note of an earlier call that raised it."""
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes[:] = [each for each in notes if not str(each).startswith(PREFIX)]
    error.add_note(note(call, advice))


def note(call: Call[Any], advice: str | None) -> str:
    """Return one line with the attempts, the time, the reason to stop, the advice and the ids."""
    attempts = "1 attempt" if call.sends == 1 else f"{call.sends} attempts"
    parts = [f"{PREFIX}{attempts} in {call.runtime.now() - call.started:.3g} s"]
    if call.state.gave_up:
        parts.append(f"gave up: {call.state.gave_up}")
    if call.state.tried:
        parts.append(f"tried: {', '.join(call.state.tried)}")
    if advice:
        parts.append(advice)
    if call.request_id:
        parts.append(f"request id: {call.request_id}")
    if call.server_request_ids:
        parts.append(f"x-request-id: {', '.join(call.server_request_ids)}")
    return "; ".join(parts)
