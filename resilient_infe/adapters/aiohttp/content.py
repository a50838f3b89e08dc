"""Replacements for the ``content`` of an aiohttp response: an open body, and a complete one.

Both read like aiohttp's ``StreamReader``. `OpenContent` passes every read on to the response's own
reader, stops at the call's deadline and watches the data. `EndedContent` holds a body that was read
inside the attempt.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol

from ...aio import finalizer
from ...core.call import Call, Hold
from ...telemetry.note import add_note
from ..http.bomb import BOMB, is_bomb
from ..http.open_read import read_in_time, stalled
from ..http.request import mask_of
from ..http.response import too_long
from ..http.stream_watch import StreamWatch, mark_broken
from .masked import hide_key


class OpenContent:
    """The content of a response that the caller reads after the attempt.

    Attributes that are not defined here come from the inner reader. A hold keeps the call's slot
    and reservation until the body ends: read to its end, broken, closed, or dropped unread.

    Args:
        inner: the response's own content.
        call: the call; gets a `Hold`.
        watch: watches the data as it is read.
        start: data that was already read, and that the watch has seen. It is put back into `inner`.
        longest: decoded bytes that the body may have; None for any number.

    State: per response.
    """

    def __init__(
        self,
        inner: aiohttp.StreamReader,
        call: Call[Any],
        watch: StreamWatch,
        start: bytes,
        longest: int | None = None,
    ) -> None:
        self._inner = inner
        self._call = call
        self._watch = watch
        self._longest = longest
        self._seen = len(start)  # bytes that the caller reads next and the watch has seen
        hold = self._hold = call.hold = Hold()
        disarm = finalizer(self, hold.close, call.runtime)
        hold.on_close(lambda _: disarm())
        if start:
            with warnings.catch_warnings():  # there is no other way to put data back
                warnings.simplefilter("ignore", DeprecationWarning)
                inner.unread_data(start)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner reader."""
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the lines."""
        return _until_empty(self.readline)

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Iterate over parts of at most `n` bytes."""
        self._inner.iter_chunked(n)  # it sets the size of reads on the inner reader
        return _until_empty(partial(self.read, n))

    def iter_any(self) -> AsyncIterator[bytes]:
        """Iterate over the parts as they arrive."""
        return _until_empty(self.readany)

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Iterate over pairs: a part, and whether an HTTP chunk ends with it."""
        while (pair := await self.readchunk()) != (b"", False):
            yield pair

    def at_eof(self) -> bool:
        """Whether everything was read. If the body was cut off, False until a read has raised."""
        return self._inner.at_eof() and self._hold.closed

    def set_exception(self, *args: Any) -> None:
        """Close the hold: aiohttp calls this when the response was released or closed."""
        self._inner.set_exception(*args)
        self._hold.close(self._watch.usage)

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes; all of them if `n` is negative."""
        if n >= 0:
            return await self._read(partial(self._inner.read, n))
        return b"".join([part async for part in self.iter_any()])  # each wait has its own bound

    async def readany(self) -> bytes:
        """Read what has arrived; wait if nothing has."""
        return await self._read(self._inner.readany)

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read what has arrived, and return with it whether an HTTP chunk ends there."""
        ends = False

        async def read() -> bytes:
            nonlocal ends
            data, ends = await self._inner.readchunk()
            return data

        return await self._read(read), ends

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes."""
        return await self._read(partial(self._inner.readexactly, n), several=True)

    async def readline(self, **options: Any) -> bytes:
        """Read to the end of a line."""
        return await self._read(partial(self._inner.readline, **options), several=True)

    async def readuntil(self, *separator: bytes, **options: Any) -> bytes:
        """Read to a separator."""
        read = partial(self._inner.readuntil, *separator, **options)
        return await self._read(read, several=True)

    def read_nowait(self, n: int = -1) -> bytes:
        """Read what is in memory, without waiting."""
        data = self._inner.read_nowait(n)
        self._watch_data(data)
        return data

    async def _read(self, read: Callable[[], Awaitable[bytes]], *, several: bool = False) -> bytes:
        """Read with `read`, in time, and watch the data.

        A read that fails or is cancelled sets the call's verdict and closes the hold.

        Args:
            read: reads from the inner reader.
            several: whether it may wait for bytes several times, and loses what it has if it is
                cancelled. Then silence is noticed by a watch over the inner reader's count of
                bytes, which lets the next wait raise.
        """
        if self._hold.closed:
            return await read()
        try:
            if several and self._call.state.idle is not None:
                with watching_silence(self._call, self._inner, self._call.state.idle):
                    data = await read_in_time(self._call, read, idle=None)
            else:
                data = await read_in_time(self._call, read, idle=self._call.state.idle)
            self._watch_data(data)
        except BaseException as error:
            mark_broken(self._call, self._watch, error)
            hide_key(error, mask_of(self._call))
            if isinstance(error, Exception):
                add_note(error, self._call, None)
            self._hold.close(self._watch.usage)
            raise
        return data

    def _watch_data(self, data: bytes) -> None:
        """Pass data to the watch, and finish at the end of the body.

        At the end there are three cases:

        1. The body is complete, or is not a stream that the watch knows: close the hold.
        2. It was cut off, and this read got nothing: raise.
        3. It was cut off, and this read got data: return it, and let the next read raise. Until
           then `at_eof` is False, so the caller does read again and no data is lost.

        Args:
            data: what was read.

        Raises:
            ClientPayloadError: the body was cut off, is a decompression bomb, or is too long.
        """
        size = self._inner.total_bytes
        if size and is_bomb(size, self._inner.total_raw_bytes):  # aiohttp has no count for no body
            raise aiohttp.ClientPayloadError(BOMB)
        if self._longest is not None and size > self._longest:
            raise aiohttp.ClientPayloadError(too_long(self._longest))
        watch, seen = self._watch, min(self._seen, len(data))
        self._seen -= seen
        watch.feed(data[seen:] if seen else data)
        if watch.too_long is not None:
            raise aiohttp.ClientPayloadError(watch.too_long)
        if not self._inner.at_eof():
            return
        missing = watch.cut_short()
        if missing is None:
            if watch.verdict is not None:
                self._call.verdict = watch.verdict
            self._hold.close(watch.usage)
        elif not data:
            raise aiohttp.ClientPayloadError(missing)


class EndedContent:
    """The content of a response whose body was read inside the attempt.

    Nearly every caller reads the body once, to its end, and gets the bytes. For anything else a
    real ``StreamReader`` over the bytes is made on demand. One for each response would cost as much
    as two layers.

    Args:
        body: the complete body.
        runtime: the call's runtime, for its event loop.

    State: per response.
    """

    __slots__ = ("_body", "_failure", "_is_read", "_reader", "_runtime")

    def __init__(self, body: bytes, runtime: Any) -> None:
        self._body = body
        self._runtime = runtime
        self._is_read = not body
        self._reader: aiohttp.StreamReader | None = None
        self._failure: tuple[Any, ...] | None = None

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes; all of them if `n` is negative."""
        if n != -1 or self._is_read or self._reader is not None or self._failure is not None:
            return await self._get_reader().read(n)
        self._is_read = True
        return self._body

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._is_read if self._reader is None else self._reader.at_eof()

    def exception(self) -> Any:
        """Return the exception that the next read raises, or None."""
        return self._failure and self._failure[0]

    def set_exception(self, *failure: Any) -> None:
        """Let the next read raise: aiohttp calls this when the response was released or closed."""
        self._failure = failure
        if self._reader is not None:
            self._reader.set_exception(*failure)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of a real ``StreamReader`` over the body."""
        if name in EndedContent.__slots__:  # not set yet: copy() asks an empty instance
            raise AttributeError(name)
        return getattr(self._get_reader(), name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the lines."""
        return self._get_reader().__aiter__()

    def _get_reader(self) -> aiohttp.StreamReader:
        """Return a real ``StreamReader`` in the same state; make it the first time."""
        if self._reader is None:
            loop, body = self._runtime.loop, self._body
            reader = aiohttp.StreamReader(BaseProtocol(loop), max(len(body), 1), loop=loop)
            reader.feed_data(body)
            reader.feed_eof()
            if self._is_read:
                reader.read_nowait()
            if self._failure is not None:
                reader.set_exception(*self._failure)
            self._reader = reader
        return self._reader


@contextlib.contextmanager
def watching_silence(call: Call[Any], reader: aiohttp.StreamReader, idle: float) -> Iterator[None]:
    """Let a reader raise `StreamStalled` when no byte has come for `idle` seconds.

    An alarm looks at the count of bytes every `idle` seconds, so it notices silence after one to
    two times as long.
    """
    seen = reader.total_bytes

    def look(when: float) -> None:
        nonlocal seen
        if reader.total_bytes == seen:
            reader.set_exception(stalled(idle))
            return
        seen = reader.total_bytes
        alarm.set(when + idle)

    alarm = call.runtime.alarm(look)
    alarm.set(call.runtime.now() + idle)
    try:
        yield
    finally:
        alarm.set(None)


async def _until_empty(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """Yield what `read` returns, up to the first empty result."""
    while part := await read():
        yield part
