"""A streamed completion, whose call keeps its slot and reservation to the stream's end.

The stream ends in one of four ways: it is read to its end, closed by the caller, broken, or dropped
unread, in which case a finaliser closes it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, Self

import aiohttp

from ... import aio
from ...classify.usage import usage_of
from ...core.call import Call, Hold
from ...core.verdict import Kind, Usage, Verdict
from ...errors import ResilienceError, StreamBroken
from ..http.open_read import read_in_time
from ..http.sse import SSEDecoder
from ..http.stream_watch import ChoiceTracker

DONE = "[DONE]"
"""The data of the last event of a complete stream."""

LINGER = 0.5
"""Seconds to wait for the end of the body after `DONE`."""


class StreamTransport:
    """A transport that opens streams: ``await transport.stream(payload)``.

    Args:
        open_stream: opens the stream for a call.
    """

    __slots__ = ("_open",)

    def __init__(
        self, open_stream: Callable[[Call[Mapping[str, Any]]], Awaitable[InfeStream]]
    ) -> None:
        self._open = open_stream

    async def __call__(self, payload: Mapping[str, Any]) -> InfeStream:
        """Open a stream for a payload."""
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Open a stream for a call."""
        return await self._open(call)


class InfeStream:
    """An open stream of decoded chunks: ``async for chunk in stream``.

    Iterating raises `StreamBroken` if the stream ends before it is complete. No chunk is delivered
    twice. To leave the loop early, use ``async with stream`` or call `aclose`.

    Args:
        response: the open response.
        call: the call; gets a `Hold`.

    Attributes:
        usage: the tokens of the completion, once the server has reported them; else None.

    State: per response.
    """

    def __init__(self, response: aiohttp.ClientResponse, call: Call[Any]) -> None:
        self.usage: Usage | None = None
        self._response = response
        self._body = response.content
        self._decoder = SSEDecoder()
        self._ready: deque[str] = deque()
        self._choices = ChoiceTracker()
        self._call = call
        self._runtime = call.runtime = aio.current()
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

    async def __anext__(self) -> dict[str, Any]:
        """Return the next chunk.

        Raises:
            StreamBroken: the stream broke, ended before it was complete, or has an invalid chunk.
            StreamStalled: the server sent nothing for as long as `AttemptTimeout` allows.
            DeadlineExceeded: the call's deadline passed.
        """
        while not self._hold.closed:
            if not self._ready:
                await self._fill()
            elif self._ready[0] == DONE:
                await self._finish()
            else:
                return self._chunk(self._ready.popleft())
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

    def _chunk(self, data: str) -> dict[str, Any]:
        """Decode an event, and record its usage and choices."""
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise self._broken("the stream contains an error, or something that is not a chunk")
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
            self._ready.extend(self._decoder.feed(block))
        except ResilienceError as error:  # DeadlineExceeded, StreamStalled or StreamBroken
            timed_out = isinstance(error, TimeoutError)
            self._fail(Kind.TIMEOUT if timed_out else Kind.TRANSIENT, error)
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(f"the connection broke: {type(error).__name__}") from error
        except BaseException as error:  # the reader was cancelled
            self._fail(Kind.CANCELLED, error)
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
        error = StreamBroken(
            f"{reason}; the chunks before it are valid, and the request is not sent again"
        )
        self._fail(Kind.TRANSIENT, error)
        return error

    def _fail(self, kind: Kind, error: BaseException) -> None:
        """Close the stream, and set the verdict of the call to a failure."""
        self._call.verdict = Verdict(kind, error=type(error).__name__)
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
