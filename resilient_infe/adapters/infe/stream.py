"""A streamed completion, held to its end.

The slot and the reservation of a streaming call stay taken until the body is closed: read to its
end, closed by the caller, broken, or dropped unread, in which case a finaliser closes it.
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
from ...errors import DeadlineExceeded, ResilienceError, StreamBroken, StreamSilent
from ..http.sse import SSEDecoder
from ..http.stream_watch import ChoiceTracker

DONE = "[DONE]"

LONGEST_SILENCE = 60.0
"""Seconds between two parts of a stream: a server that says nothing for longer has hung."""

LINGER = 0.5
"""Seconds to wait for the end of a body whose last event has come."""


class StreamTransport:
    """The streaming side of a transport: ``await transport.stream(payload)``.

    Args:
        open_stream: opens the stream for a call.
    """

    __slots__ = ("_open",)

    def __init__(
        self, open_stream: Callable[[Call[Mapping[str, Any]]], Awaitable[InfeStream]]
    ) -> None:
        """Keep what opens a stream."""
        self._open = open_stream

    async def __call__(self, payload: Mapping[str, Any]) -> InfeStream:
        """Open a stream for a payload."""
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Open a stream for a call."""
        return await self._open(call)


class InfeStream:
    """An open stream of decoded chunks: ``async for chunk in stream``.

    Iterating may raise `StreamBroken` when the stream ends before it is whole; nothing is ever
    delivered twice. Leaving the loop early? Use ``async with stream`` or `aclose`.

    Attributes:
        usage: what the server says the completion cost, once it has told.
    """

    def __init__(self, response: aiohttp.ClientResponse, call: Call[Any]) -> None:
        """Take over the open response, and put a hold on the call."""
        self.usage: Usage | None = None
        self._response = response
        self._body = response.content
        self._decoder = SSEDecoder()
        self._ready: deque[str] = deque()
        self._choices = ChoiceTracker()
        self._call = call
        self._runtime = aio.current()
        hold = self._hold = call.hold = Hold()

        def drop() -> None:
            response.close()
            hold.close()

        self._disarm = aio.finalizer(self, drop, self._runtime)

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    if not TYPE_CHECKING:  # to a type checker it has no such method

        def __iter__(self) -> Never:
            """Say how it is iterated over."""
            raise TypeError("a stream is iterated over with `async for`, inside an async def")

    async def __anext__(self) -> dict[str, Any]:
        """Return the next chunk.

        Raises:
            StreamBroken: the connection ended or sent nonsense before the stream was whole.
            StreamSilent: the server sent nothing for a minute.
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
        """Close the stream and give back what its call held."""
        self._close()

    async def __aenter__(self) -> Self:
        """Return self."""
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
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise self._broken("the stream holds an error, or something that is no chunk")
        self.usage = usage_of(chunk) or self.usage
        self._choices.update(chunk.get("choices"))
        return chunk

    async def _fill(self) -> None:
        try:
            block = await self._read()
            self._ready.extend(self._decoder.feed(block))
        except ResilienceError as error:  # its deadline, a silence, or a line without an end
            late = isinstance(error, TimeoutError)
            self._fail(Kind.TIMEOUT if late else Kind.TRANSIENT, error)
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(f"the connection broke: {type(error).__name__}") from error
        except BaseException as error:  # the reader was cancelled
            self._fail(Kind.CANCELLED, error)
            raise
        if not block:
            if not self._choices.complete:
                raise self._broken("the stream ended before it was whole: no [DONE] came")
            self._close()

    async def _finish(self) -> None:
        """Read the little that follows the last event, so that the connection is used again."""
        try:
            with self._runtime.cut_off_after(LINGER):
                while await self._body.readany():
                    pass
        except (aiohttp.ClientError, OSError):
            pass  # the stream is whole; only the connection is lost
        finally:
            self._close()

    async def _read(self) -> bytes:
        """Read a part, for as long as the call's deadline and the bound on silence allow."""
        now, deadline = self._runtime.now(), self._call.deadline
        if deadline is not None and deadline < now + LONGEST_SILENCE:
            if deadline > now:
                with self._runtime.cut_off_at(deadline):
                    return await self._body.readany()
            raise DeadlineExceeded("the call's deadline passed while its stream was read")
        with self._runtime.cut_off_after(LONGEST_SILENCE, now):
            return await self._body.readany()
        raise StreamSilent(
            f"the server sent nothing for {LONGEST_SILENCE:g} s and kept the stream open; what "
            f"came before is whole, nothing is sent again"
        )

    def _broken(self, what: str) -> StreamBroken:
        error = StreamBroken(f"{what}; what came before it is whole, nothing is sent again")
        self._fail(Kind.TRANSIENT, error)
        return error

    def _fail(self, kind: Kind, error: BaseException) -> None:
        """Close the stream as failed: the call's outcome is no success any more."""
        self._call.verdict = Verdict(kind, error=type(error).__name__)
        self._close()

    def _close(self) -> None:
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
