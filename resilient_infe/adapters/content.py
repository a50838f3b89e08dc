"""The content of an aiohttp response, held to its end.

It stands in for the response's own ``StreamReader``: what was read inside the attempt is read
again from memory, the rest from the connection, under what is left of the call's deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp

from ..aio import finalizer
from ..call import Call, Hold
from ..errors import DeadlineExceeded
from .watch import StreamWatch, mark_broken


class HeldContent:
    """Reads as an ``aiohttp.StreamReader`` does; what is not here is the inner reader's.

    Args:
        inner: the response's own content.
        start: what was read from it already.

    State: per response.
    """

    def __init__(self, inner: aiohttp.StreamReader, start: bytes = b"") -> None:
        """Hold nothing yet."""
        self._inner = inner
        self._start = start
        self._call: Call[Any] | None = None
        self._watch: StreamWatch | None = None
        self._hold = Hold()

    def hold_for(self, call: Call[Any], watch: StreamWatch) -> Hold:
        """Hold the call's slot and reservation to the end of the body, and return the hold."""
        self._call, self._watch = call, watch
        watch.feed(self._start)
        hold = self._hold
        disarm = finalizer(self, hold.close, call.runtime)
        hold.on_close(lambda _: disarm())
        return hold

    def __getattr__(self, name: str) -> Any:
        """Find the rest where it is."""
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the lines."""
        return _until_empty(self.readline)

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Iterate over parts of at most `n` bytes."""
        self._inner.set_read_chunk_size(n)
        return _until_empty(partial(self.read, n))

    def iter_any(self) -> AsyncIterator[bytes]:
        """Iterate over the parts as they come."""
        return _until_empty(self.readany)

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Iterate over the parts, each with whether a chunk of the protocol ends there."""
        while (pair := await self.readchunk()) != (b"", False):
            yield pair

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return not self._start and self._inner.at_eof()

    def set_exception(self, *args: Any) -> None:
        """Note that the response was released or closed: nothing more will be read."""
        self._start = b""
        self._inner.set_exception(*args)
        self._hold.close(None if self._watch is None else self._watch.usage)

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes, or all."""
        if n < 0:
            return self._take() + await self._pass(self._inner.read, to_end=True)
        return self._take(n) if self._start else await self._pass(partial(self._inner.read, n))

    async def readany(self) -> bytes:
        """Read what is there."""
        return self._take() if self._start else await self._pass(self._inner.readany)

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read what is there, and whether a chunk of the protocol ends with it."""
        ends = False

        async def read() -> bytes:
            nonlocal ends
            data, ends = await self._inner.readchunk()
            return data

        return (self._take(), False) if self._start else (await self._pass(read), ends)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes."""
        head = self._take(n)
        rest = n - len(head)
        return head + await self._pass(partial(self._inner.readexactly, rest)) if rest else head

    async def readline(self, **options: Any) -> bytes:
        """Read up to the end of a line."""
        return await self.readuntil(b"\n", **options)

    async def readuntil(self, separator: bytes = b"\n", **options: Any) -> bytes:
        """Read up to a separator."""
        end = self._start.find(separator)
        if end >= 0:
            return self._take(end + len(separator))
        head = self._take()
        return head + await self._pass(partial(self._inner.readuntil, separator, **options))

    def read_nowait(self, n: int = -1) -> bytes:
        """Read what is in memory."""
        if self._start:
            return self._take(n)
        data = self._inner.read_nowait(n)
        self._look(data, to_end=False)
        return data

    def _take(self, n: int = -1) -> bytes:
        n = len(self._start) if n < 0 else n
        head, self._start = self._start[:n], self._start[n:]
        return head

    async def _pass(self, read: Callable[[], Awaitable[bytes]], *, to_end: bool = False) -> bytes:
        """Read from the connection and look at what comes by."""
        call = self._call
        if call is None or self._hold.closed:
            return await read()
        try:
            data = await _in_time(call, read)
            self._look(data, to_end=to_end)
        except BaseException as error:
            mark_broken(call, error)
            self._hold.close(None if self._watch is None else self._watch.usage)
            raise
        return data

    def _look(self, data: bytes, *, to_end: bool) -> None:
        call, watch = self._call, self._watch
        if call is None or watch is None:
            return
        watch.feed(data)
        if not self._inner.at_eof():
            return
        missing = watch.cut_short()
        if missing is None:
            if watch.verdict is not None:
                call.verdict = watch.verdict
            self._hold.close(watch.usage)
        elif to_end or not data:  # else the next read tells, so that no data is lost
            raise aiohttp.ClientPayloadError(missing)


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
