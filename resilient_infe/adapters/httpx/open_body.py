"""A streamed httpx body that holds its call's slot and reservation to its end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from ...aio import finalizer
from ...core.call import Call, Hold
from ...telemetry.note import add_note
from ..http.stream_watch import StreamWatch, mark_broken


class OpenBody:
    """A body that gives back slot and reservation when it is closed, or dropped unread.

    Args:
        library: httpx or httpx2, for its exceptions.
        inner: the stream that the transport gave.
        body: the iterator over it, begun already.
        call: gets a hold.
        watch: looks at what passes by.
        start: the parts that were read already.

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
    ) -> None:
        """Put the hold on the call."""
        self._library = library
        self._inner = inner
        self._body = body
        self._call = call
        self._watch = watch
        self._start = start
        hold = self._hold = call.hold = Hold()
        runtime = call.runtime

        def drop() -> None:
            runtime.spawn(partial(close, body, inner))  # or its connection would stay taken
            hold.close()

        disarm = finalizer(self, drop, runtime)
        hold.on_close(lambda _: disarm())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts; end with an error where the body is not whole."""
        try:
            for part in self._start:
                self._watch.feed(part)
                yield part
            while (more := await self._next_part()) is not None:
                self._watch.feed(more)
                yield more
            if (missing := self._watch.cut_short()) is not None:
                raise self._library.RemoteProtocolError(missing, request=self._call.payload)
        except GeneratorExit:  # the reader has had enough, which is no failure
            self._call.runtime.spawn(partial(close, self._body, self._inner))
            self._hold.close(self._watch.usage)
            raise
        except BaseException as error:
            mark_broken(self._call, self._watch, error)
            if isinstance(error, Exception):
                add_note(error, self._call, None)
            self._hold.close(self._watch.usage)  # not every httpx closes what broke
            raise

    async def aclose(self) -> None:
        """Give everything back, with the usage that was seen."""
        if self._watch.verdict is not None:
            self._call.verdict = self._watch.verdict
        try:
            await close(self._body, self._inner)
        finally:
            self._hold.close(self._watch.usage)

    async def _next_part(self) -> bytes | None:
        """Read a part under what is left of the call's deadline; None at the end."""
        call = self._call
        if call.deadline is None:
            return await anext(self._body, None)
        if call.deadline > call.runtime.now():
            with call.runtime.cut_off_at(call.deadline):
                return await anext(self._body, None)
        message = "the call's deadline passed while its body was read"
        raise self._library.ReadTimeout(message, request=call.payload)


async def close(body: Any, inner: Any) -> None:
    """Close a stream, and first the iterator over it, which trio would complain of."""
    if hasattr(body, "aclose"):
        with contextlib.suppress(RuntimeError):  # it is being read
            await body.aclose()
    await inner.aclose()


@functools.cache
def open_body_class(library: Any) -> Any:
    """Return the class for a library, whose streams must derive from its own base."""
    return type("OpenBody", (OpenBody, library.AsyncByteStream), {})
