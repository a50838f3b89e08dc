"""A streamed httpx body that holds its call's slot and reservation to its end."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..aio import finalizer, is_cancellation
from ..call import Call, Hold
from ..errors import StreamBroken
from ..policies.classify import classify_exception, usage_of
from ..verdict import Kind, Usage, Verdict
from .sse import SSEDecoder

CANCELLED = Verdict(Kind.CANCELLED)

LONGEST_LOOK = 4 * 1024 * 1024
"""Bytes of a body that are looked at for a usage."""


@functools.cache
def held_stream_class(library: Any) -> Any:
    """Make the stream class once per library: it must derive from the library's own base."""

    class HeldStream(library.AsyncByteStream):  # type: ignore[misc]
        """A body that gives back slot and reservation when it is closed, or dropped unread."""

        def __init__(
            self,
            response: Any,
            body: AsyncIterator[bytes],
            hold: Hold,
            call: Call[Any],
            start: Sequence[bytes],
        ) -> None:
            self._inner = response.stream
            self._body = body
            self._start = start
            self._call = call
            self._hold = hold
            self._meter = _UsageMeter(library, response)
            inner, runtime = response.stream, call.runtime

            def drop() -> None:
                runtime.spawn(inner.aclose)  # or its connection would stay taken
                hold.close()

            self._disarm = finalizer(self, drop, runtime)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in self._start:
                yield part
            try:
                while (more := await _next_part(library, self._call, self._body)) is not None:
                    self._meter.feed(more)
                    yield more
            except GeneratorExit:  # the reader has had enough, which is no failure
                raise
            except BaseException as error:
                # Too late for another attempt, but the call's outcome is no success any more.
                gone = is_cancellation(error)
                self._call.verdict = CANCELLED if gone else classify_exception(error)
                raise

        async def aclose(self) -> None:
            self._disarm()
            try:
                await self._inner.aclose()
            finally:
                self._hold.close(self._meter.usage())

    return HeldStream


async def _next_part(library: Any, call: Call[Any], body: AsyncIterator[bytes]) -> bytes | None:
    """Read a part under what is left of the call's deadline; None at the end."""
    if call.deadline is None:
        return await anext(body, None)
    if call.deadline > call.runtime.now():
        with call.runtime.cut_off_at(call.deadline):
            return await anext(body, None)
    message = "the call's deadline passed while its body was read"
    raise library.ReadTimeout(message, request=call.payload)


class _UsageMeter:
    """Reads the ``usage`` out of a body that passes by. State: per response."""

    def __init__(self, library: Any, response: Any) -> None:
        kind = str(response.headers.get("content-type", ""))
        plain = response.headers.get("content-encoding", "identity") == "identity"
        self._library = library
        self._headers = response.headers
        self._decoder = SSEDecoder() if "text/event-stream" in kind and plain else None
        self._parts: list[bytes] | None = [] if "json" in kind else None
        self._size = 0
        self._usage: Usage | None = None

    def feed(self, part: bytes) -> None:
        if self._decoder is not None:
            try:
                for data in self._decoder.feed(part):
                    if '"usage"' in data:
                        self._note(data)
            except StreamBroken:  # not ours to judge: the caller reads it
                self._decoder = None
        elif self._parts is not None:
            self._parts.append(part)
            self._size += len(part)
            if self._size > LONGEST_LOOK:
                self._parts = None

    def usage(self) -> Usage | None:
        """Return what the body said that the call cost, as far as it was read."""
        if self._parts:
            raw = b"".join(self._parts)
            try:
                content = self._library.Response(200, headers=self._headers, content=raw).content
                self._note(content)
            except Exception:  # a body that does not decode tells no usage
                return None
        return self._usage

    def _note(self, data: str | bytes) -> None:
        try:
            self._usage = usage_of(json.loads(data)) or self._usage
        except (ValueError, RecursionError):
            return
