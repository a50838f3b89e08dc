"""A streamed completion, whose call keeps its slot and reservation to the stream's end.

The stream ends in one of four ways: it is read to its end, closed by the caller, broken, or dropped
unread, in which case a finaliser closes it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, Self

import aiohttp

from ... import aio
from ...classify.body import LONGEST_BODY, decoded
from ...classify.error_body import error_in_event, is_error
from ...classify.usage import usage_of
from ...core.call import Call, Handler, Hold
from ...core.verdict import OK, Kind, Usage, Verdict
from ...errors import InfeError, ResilienceError, StreamBroken
from ..http.bomb import BOMB, is_bomb
from ..http.first_event import within_first_chunk
from ..http.open_read import read_in_time
from ..http.request import hide_key
from ..http.sse import SSEDecoder
from ..http.stream_watch import ChoiceTracker

DONE = "[DONE]"
"""The data of the last event of a complete stream."""

PARTIAL = "the chunks before it are valid, and the request is not sent again"
"""What an error that ends a stream says of its chunks."""

LINGER = 0.5
"""Seconds to wait for the end of the body after `DONE`."""


class StreamTransport:
    """A transport that opens streams: ``await transport.stream(payload)``.

    Args:
        open_stream: opens the stream for a call.
    """

    __slots__ = ("_open",)

    def __init__(self, open_stream: Handler[Mapping[str, Any], InfeStream]) -> None:
        self._open = open_stream

    async def __call__(self, payload: Mapping[str, Any]) -> InfeStream:
        """Open a stream for a payload."""
        call = Call(payload)
        call.runtime = aio.current()
        return await self.handle(call)

    async def handle(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Open a stream for a call; it is returned when its first event has come."""
        call.state.streams = True
        return await within_first_chunk(call, self._open)


class InfeStream:
    """An open stream of decoded chunks: ``async for chunk in stream``.

    Iterating raises `StreamBroken` if the stream ends before it is complete, and the typed error of
    an error that the server sends in the stream. No chunk is delivered twice. To leave the loop
    early, use ``async with stream`` or call `aclose`.

    Args:
        response: the open response.
        call: the call; gets a `Hold`.
        error_of: returns the typed error for an error that the stream contains, and sets the call's
            reply.

    Attributes:
        usage: the tokens of the completion, once the server has reported them; else None.

    State: per response.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        call: Call[Any],
        error_of: Callable[[dict[str, Any]], InfeError],
    ) -> None:
        self.usage: Usage | None = None
        self._first: dict[str, Any] | None = None
        self._error_of = error_of
        self._response = response
        self._body = response.content
        self._decoder = SSEDecoder()
        self._ready: deque[str] = deque()
        self._choices = ChoiceTracker()
        self._call = call
        self._runtime = call.runtime
        hold = self._hold = call.hold = Hold()

        def drop() -> None:
            response.close()
            hold.close()

        self._disarm = aio.finalizer(self, drop, self._runtime)

    def __aiter__(self) -> Self:
        return self

    if not TYPE_CHECKING:  # to a type checker it has no such method

        def __iter__(self) -> Never:
            """Say how it is iterated over."""
            raise TypeError("a stream is iterated over with `async for`, inside an async def")

    async def begin(self) -> None:
        """Read to the first event, as a part of the attempt: the stream was not handed over yet.

        A stream may have no other event than ``[DONE]``. It is complete, and has no chunk.

        Raises:
            InfeError: the first event is an error.
            StreamBroken: the stream ended before its first event, or the event is not a chunk.
        """
        try:
            read = b""
            while not self._ready:
                block = await self._body.readany()
                if not block:
                    raise self._not_begun(read)
                read = (read + block)[:LONGEST_BODY]
                self._ready.extend(self._decoder.feed(block))
            if self._ready[0] != DONE:
                self._first = self._chunk(self._ready.popleft())
        except BaseException:
            self._close()
            raise

    def _not_begun(self, read: bytes) -> Exception:
        """Return the error for a stream without an event: the server's own, if it sent one."""
        content = decoded(read, LONGEST_BODY)
        if isinstance(content, dict) and is_error(content):
            return self._error_of(content)
        return StreamBroken("the stream ended before its first event")

    async def __anext__(self) -> dict[str, Any]:
        """Return the next chunk.

        Raises:
            InfeError: the server sent an error; the class is that of its kind.
            StreamBroken: the stream broke, ended before it was complete, or has an invalid chunk.
            StreamStalled: the server sent nothing for as long as `AttemptTimeout` allows.
            DeadlineExceeded: the call's deadline passed.
        """
        while not self._hold.closed:
            if self._first is not None:
                first, self._first = self._first, None
                return first
            if not self._ready:
                await self._fill()
            elif self._ready[0] == DONE:
                await self._finish()
            else:
                return self._next_chunk(self._ready.popleft())
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the stream and give back the call's slot and reservation."""
        self._close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        self._close()

    def _next_chunk(self, data: str) -> dict[str, Any]:
        """Return the chunk of an event; close the stream if it is an error or not a chunk."""
        try:
            return self._chunk(data)
        except StreamBroken as error:
            raise self._broken(str(error)) from None
        except InfeError as error:
            reply = self._call.reply
            self._close_as(OK if reply is None or reply.verdict is None else reply.verdict)
            error.add_note(PARTIAL)
            raise

    def _chunk(self, data: str) -> dict[str, Any]:
        """Decode an event, and record its usage and choices.

        Raises:
            InfeError: the event is an error.
            StreamBroken: it is not a chunk.
        """
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if (error := error_in_event(chunk)) is not None:
            raise self._error_of(error)
        if not isinstance(chunk, dict):
            raise StreamBroken("the stream contains something that is not a chunk")
        self.usage = usage_of(chunk) or self.usage
        self._choices.update(chunk.get("choices"))
        return chunk

    async def _fill(self) -> None:
        """Read a part of the body and queue its events.

        There are five cases besides data:

        1. The deadline passed, or the server was silent too long: the call counts as TIMEOUT.
        2. An event is too long: TRANSIENT.
        3. The connection broke: TRANSIENT.
        4. The reader was cancelled: CANCELLED.
        5. The body ended without ``[DONE]``: a success if every choice has finished, else
           TRANSIENT.
        """
        try:
            read, idle = self._body.readany, self._call.state.idle
            block = await read_in_time(self._call, read, idle=idle)
            if is_bomb(self._body.total_bytes, self._body.total_raw_bytes):
                raise StreamBroken(BOMB)
            self._ready.extend(self._decoder.feed(block))
        except ResilienceError as error:  # DeadlineExceeded, StreamStalled or StreamBroken
            kind = Kind.TIMEOUT if isinstance(error, TimeoutError) else Kind.TRANSIENT
            self._close_as(Verdict(kind, error=type(error).__name__))
            raise
        except (aiohttp.ClientError, OSError) as error:
            hide_key(self._call, error)
            raise self._broken(f"the connection broke: {type(error).__name__}") from error
        except BaseException as error:  # the reader was cancelled
            self._close_as(Verdict(Kind.CANCELLED, error=type(error).__name__))
            raise
        if not block:
            if not self._choices.complete:
                raise self._broken("the stream ended before it was complete: no [DONE] came")
            self._close()

    async def _finish(self) -> None:
        """Read what follows the last event, so that the connection can be reused."""
        try:
            with self._runtime.cut_off_after(LINGER):
                while await self._body.readany():
                    pass
        except (aiohttp.ClientError, OSError):
            pass  # the stream is complete, and only the connection is lost
        finally:
            self._close()

    def _broken(self, reason: str) -> StreamBroken:
        """Close the stream as TRANSIENT and return the error to raise."""
        self._close_as(Verdict(Kind.TRANSIENT, error=StreamBroken.__name__))
        return StreamBroken(f"{reason}; {PARTIAL}")

    def _close_as(self, verdict: Verdict) -> None:
        """Close the stream, and set the verdict of the call, which has ended by it."""
        self._call.verdict = verdict
        self._close()

    def _close(self) -> None:
        """Give connection, slot and reservation back. Only the first call does anything."""
        if self._hold.closed:
            return
        self._disarm()
        try:
            if self._body.at_eof():
                self._response.release()
            else:
                self._response.close()
        finally:
            self._hold.close(self.usage)
