"""An httpx body that is handed over open: its call keeps slot and reservation to the body's end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from ...aio import finalizer
from ...core.call import Call, Hold
from ...errors import DeadlineExceeded
from ...telemetry.note import add_note
from ..http.bomb import BOMB, DecompressionBomb
from ..http.open_read import read_in_time
from ..http.request import hide_key
from ..http.response import too_long
from ..http.stream_watch import StreamWatch, mark_broken
from .decompress import Unpacker


class OpenBody:
    """The stream of a response that the caller reads after the attempt.

    Slot, reservation and connection are given back when the body ends. There are five cases:

    1. The caller reads to the end. httpx then closes the stream with `aclose`.
    2. The caller closes the response early: `aclose` too.
    3. The caller stops iterating: ``GeneratorExit`` is raised inside of `__aiter__`, and the stream
       is closed in the background.
    4. The connection breaks, the deadline passes, the reader is cancelled, or the stream ends
       before it is complete: `__aiter__` sets the verdict and closes the hold.
    5. The caller drops the response without closing it: a finaliser closes stream and hold.

    Args:
        library: httpx or httpx2, for its exceptions.
        inner: the stream that the inner transport returned.
        body: the iterator over `inner`, which has already been started.
        call: the call; gets a `Hold`.
        watch: watches the parts as they are read.
        start: the parts that were already read from `body`, and that the watch has seen.
        unpacker: looks for a decompression bomb; None if the body is not compressed.
        longest: bytes that the body may have, as it comes over the wire; None for any number.

    State: per response.
    """

    def __init__(
        self,
        library: Any,
        inner: Any,
        body: AsyncIterator[bytes],
        call: Call[Any],
        watch: StreamWatch,
        start: Sequence[bytes],
        unpacker: Unpacker | None = None,
        longest: int | None = None,
    ) -> None:
        self._library = library
        self._inner = inner
        self._body = body
        self._call = call
        self._watch = watch
        self._start = start
        self._unpacker = unpacker
        self._longest = longest
        self._size = 0
        hold = self._hold = call.hold = Hold()
        runtime = call.runtime

        def drop() -> None:
            runtime.spawn(partial(close, body, inner))  # gives the connection back to the pool
            hold.close()

        disarm = finalizer(self, drop, runtime)
        hold.on_close(lambda _: disarm())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body; raise if the body is not complete.

        Raises:
            RemoteProtocolError: the library's own; the stream ended before it was complete.
            ReadTimeout: the library's own; the call's deadline has passed.
            StreamStalled: the server sent nothing for too long.
        """
        try:
            for part in self._start:
                self._check(part)
                yield part
            while (more := await self._next_part()) is not None:
                self._check(more)
                self._watch.feed(more)
                if self._watch.too_long is not None:
                    raise self._broken(self._watch.too_long)
                yield more
            if (missing := self._watch.cut_short()) is not None:
                raise self._broken(missing)
        except GeneratorExit:  # the caller stopped reading, which is not a failure
            self._call.runtime.spawn(partial(close, self._body, self._inner))
            self._hold.close(self._watch.usage)
            raise
        except BaseException as error:
            mark_broken(self._call, self._watch, error)
            if isinstance(error, Exception):
                is_bomb = isinstance(error, self._library.DecodingError)
                add_note(error, self._call, str(error) if is_bomb else None)
            self._hold.close(self._watch.usage)  # not every version of httpx closes a broken stream
            raise

    async def aclose(self) -> None:
        """Close the stream and the hold; set the verdict of an error that the stream contained."""
        if self._watch.verdict is not None:
            self._call.verdict = self._watch.verdict
        try:
            await close(self._body, self._inner)
        finally:
            self._hold.close(self._watch.usage)

    def _check(self, part: bytes) -> None:
        """Count a part, and decompress it a piece at a time before the caller does it at once.

        Raises:
            DecodingError: the library's own; the body is a decompression bomb.
            RemoteProtocolError: the library's own; the body is too long.
        """
        self._size += len(part)
        if self._longest is not None and self._size > self._longest:
            raise self._broken(too_long(self._longest))
        if self._unpacker is None:
            return
        try:
            self._unpacker.feed(part)
        except DecompressionBomb:
            raise self._library.DecodingError(BOMB, request=self._call.payload) from None
        except Exception:  # it is not what its header says: the library's decoder tells the caller
            self._unpacker = None

    def _broken(self, reason: str) -> Exception:
        error: Exception = self._library.RemoteProtocolError(reason, request=self._call.payload)
        return error

    async def _next_part(self) -> bytes | None:
        """Return the next part, or None at the end, in time.

        `StreamStalled` is raised as it is: an SDK would put ``APITimeoutError("Request timed
        out.")`` in the place of the library's own timeout.
        """
        try:
            return await read_in_time(self._call, self._read, idle=self._call.state.idle)
        except DeadlineExceeded as late:
            raise self._library.ReadTimeout(str(late), request=self._call.payload) from None

    async def _read(self) -> bytes | None:
        try:
            return await anext(self._body, None)
        except Exception as error:
            hide_key(self._call, error)
            raise


async def close(body: Any, inner: Any) -> None:
    """Close the iterator over a stream, then the stream.

    The iterator may be an async generator. Trio warns of a generator that is not closed.
    """
    if hasattr(body, "aclose"):
        with contextlib.suppress(RuntimeError):  # another task is reading it
            await body.aclose()
    await inner.aclose()


@functools.cache
def open_body_class(library: Any) -> Any:
    """Return `OpenBody` as a subclass of the library's ``AsyncByteStream``, which it requires."""
    return type("OpenBody", (OpenBody, library.AsyncByteStream), {})
