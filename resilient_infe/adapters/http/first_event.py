"""Opens a stream as a part of the attempt, which therefore ends with the stream's first event.

Until then nothing has reached the caller, so silence and an error event are failures of the attempt
like any other, and can be retried. What was read on the way is handed on unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ...classify.body import LONGEST_BODY, decoded
from ...classify.error_body import is_error
from ...classify.table import classify_reply
from ...core.call import Call, Handler
from ...core.verdict import without_key
from ...errors import AttemptTimedOut
from .stream_watch import StreamWatch

T = TypeVar("T")

LONGEST_PREAMBLE = 64 * 1024
"""Bytes that are read to find the first event. After that many, the stream is handed over without
it, so that a server that sends comments without end does not fill the memory.
"""


def within_first_chunk(call: Call[Any], send: Handler[Any, T]) -> Coroutine[Any, Any, T]:
    """Return the coroutine that opens a stream, bounded by `first_chunk` of `AttemptTimeout`.

    Args:
        call: a call whose request asks for a stream.
        send: makes one attempt, and returns when the first event of the stream has come.

    Raises:
        AttemptTimedOut: when awaited, if the first event did not come in time.
    """
    seconds = call.state.first_chunk
    return send(call) if seconds is None else _cut_off(call, send, seconds)


async def _cut_off(call: Call[Any], send: Handler[Any, T], seconds: float) -> T:
    with call.runtime.cut_off_after(seconds):
        return await send(call)
    raise AttemptTimedOut(  # the timer has swallowed its own cancellation
        f"attempt {call.attempt}: no event of the stream came in {seconds:g} s (first_chunk of "
        f"AttemptTimeout)"
    )


async def read_first_event(
    read: Callable[[], Awaitable[bytes | None]], watch: StreamWatch, parts: list[bytes]
) -> bool:
    """Read to the first event of a stream, and return whether the stream ended before it.

    Args:
        read: reads the next part; empty or None at the end.
        watch: watches each part.
        parts: receives each part, to be handed on.
    """
    size = 0
    while watch.awaits_event and size <= LONGEST_PREAMBLE:
        part = await read()
        if not part:
            return True
        parts.append(part)
        size += len(part)
        watch.feed(part)
    return False


def why_not_begun(call: Call[Any], status: int, headers: Any, raw: bytes) -> str:
    """Return why a stream ended before its first event.

    Some servers announce events and then send an error as plain JSON. It is judged as that error,
    so that one that is never retried is not.

    Args:
        call: gets the verdict, if there is such an error.
        status: the HTTP status.
        headers: of the response.
        raw: all of the body, not compressed.
    """
    content = decoded(raw, LONGEST_BODY)
    if not isinstance(content, dict) or not is_error(content):
        return "the request asked for a stream, which ended before its first event"
    stated = classify_reply(status, headers, content)
    verdict = call.verdict = without_key(stated, call.state.mask)
    named = f" ({verdict.code})" if verdict.code else ""
    return f"the server sent an error in place of a stream: {verdict.kind}{named}"
