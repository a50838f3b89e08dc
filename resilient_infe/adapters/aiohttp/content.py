"""The content of an aiohttp response that is handed over open, held to its end.

It stands in for the response's own ``StreamReader``: every read goes to that one, under what is
left of the call's deadline, and what comes by is looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol

from ...aio import finalizer
from ...core.call import Call, Hold
from ...errors import DeadlineExceeded
from ...telemetry.note import add_note
from ..http.stream_watch import StreamWatch, mark_broken


class OpenContent:
    """Reads as an ``aiohttp.StreamReader`` does; what is not here is the inner reader's.

    Args:
        inner: the response's own content.
        call: gets a hold on its slot and reservation, to the end of the body.
        watch: looks at what is read.
        start: what was read already, and is put back.

    State: per response.
    """

    def __init__(
        self, inner: aiohttp.StreamReader, call: Call[Any], watch: StreamWatch, start: bytes
    ) -> None:
        """Put the hold on the call."""
        self._inner = inner
        self._call = call
        self._watch = watch
        hold = self._hold = call.hold = Hold()
        disarm = finalizer(self, hold.close, call.runtime)
        hold.on_close(lambda _: disarm())
        if start:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # there is no other way
                inner.unread_data(start)

    def __getattr__(self, name: str) -> Any:
        """Find the rest where it is."""
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the lines."""
        return _until_empty(self.readline)

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Iterate over parts of at most `n` bytes."""
        self._inner.iter_chunked(n)  # for what it notes about the size of reads
        return _until_empty(partial(self.read, n))

    def iter_any(self) -> AsyncIterator[bytes]:
        """Iterate over the parts as they come."""
        return _until_empty(self.readany)

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Iterate over the parts, each with whether a chunk of the protocol ends there."""
        while (pair := await self.readchunk()) != (b"", False):
            yield pair

    def at_eof(self) -> bool:
        """Whether everything was read, and told whether it was whole."""
        return self._inner.at_eof() and self._hold.closed

    def set_exception(self, *args: Any) -> None:
        """Note that the response was released or closed: nothing more will be read."""
        self._inner.set_exception(*args)
        self._hold.close(self._watch.usage)

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes, or all."""
        return await self._pass(partial(self._inner.read, n), to_end=n < 0)

    async def readany(self) -> bytes:
        """Read what is there."""
        return await self._pass(self._inner.readany)

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read what is there, and whether a chunk of the protocol ends with it."""
        ends = False

        async def read() -> bytes:
            nonlocal ends
            data, ends = await self._inner.readchunk()
            return data

        return await self._pass(read), ends

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes."""
        return await self._pass(partial(self._inner.readexactly, n))

    async def readline(self, **options: Any) -> bytes:
        """Read up to the end of a line."""
        return await self._pass(partial(self._inner.readline, **options))

    async def readuntil(self, *separator: bytes, **options: Any) -> bytes:
        """Read up to a separator."""
        return await self._pass(partial(self._inner.readuntil, *separator, **options))

    def read_nowait(self, n: int = -1) -> bytes:
        """Read what is in memory."""
        data = self._inner.read_nowait(n)
        self._look(data, to_end=False)
        return data

    async def _pass(self, read: Callable[[], Awaitable[bytes]], *, to_end: bool = False) -> bytes:
        """Read and look at what comes by."""
        if self._hold.closed:
            return await read()
        try:
            data = await _in_time(self._call, read)
            self._look(data, to_end=to_end)
        except BaseException as error:
            mark_broken(self._call, self._watch, error)
            if isinstance(error, Exception):
                add_note(error, self._call, None)
            self._hold.close(self._watch.usage)
            raise
        return data

    def _look(self, data: bytes, *, to_end: bool) -> None:
        watch = self._watch
        watch.feed(data)
        if not self._inner.at_eof():
            return
        missing = watch.cut_short()
        if missing is None:
            if watch.verdict is not None:
                self._call.verdict = watch.verdict
            self._hold.close(watch.usage)
        elif to_end or not data:  # else the next read tells, so that no data is lost
            raise aiohttp.ClientPayloadError(missing)


class EndedContent:
    """The body of a response that has come whole, in place of the reader it was read from.

    Nearly everybody reads it once and to its end. Whoever asks for anything else is given a
    ``StreamReader`` over it, which costs as much to make as two layers.

    Args:
        body: all of it.
        runtime: where it came.

    State: per response.
    """

    __slots__ = ("_body", "_failure", "_is_read", "_reader", "_runtime")

    def __init__(self, body: bytes, runtime: Any) -> None:
        """Start unread."""
        self._body = body
        self._runtime = runtime
        self._is_read = not body
        self._reader: aiohttp.StreamReader | None = None
        self._failure: tuple[Any, ...] | None = None

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes, or all."""
        if n != -1 or self._is_read or self._reader is not None or self._failure is not None:
            return await self._open().read(n)
        self._is_read = True
        return self._body

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._is_read if self._reader is None else self._reader.at_eof()

    def exception(self) -> Any:
        """Return what a read will raise, if it will."""
        return self._failure and self._failure[0]

    def set_exception(self, *failure: Any) -> None:
        """Note that the response was released or closed: nothing more will be read."""
        self._failure = failure
        if self._reader is not None:
            self._reader.set_exception(*failure)

    def __getattr__(self, name: str) -> Any:
        """Find the rest in a real reader."""
        if name in EndedContent.__slots__:  # of one that is being copied
            raise AttributeError(name)
        return getattr(self._open(), name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the lines."""
        return self._open().__aiter__()

    def _open(self) -> aiohttp.StreamReader:
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


async def _in_time(call: Call[Any], read: Callable[[], Awaitable[bytes]]) -> bytes:
    """Read under what is left of the call's deadline."""
    if call.deadline is None:
        return await read()
    if call.deadline > call.runtime.now():
        with call.runtime.cut_off_at(call.deadline):
            return await read()
    raise DeadlineExceeded("the call's deadline passed while its body was read")


async def _until_empty(read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    while part := await read():
        yield part
