"""Lets a synchronous client of httpx or httpx2 use the adapter of the asynchronous one.

Its transport is shown to the adapter as an asynchronous one that never suspends, and the adapter to
the client as a synchronous one, which runs the adapter's code to its end (`aio.drive`). So the
client's own transport does the input and output, in the thread of the caller.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

from ...aio import BlockingRuntime, drive
from ...core.call import Call
from ..http.response import asks_stream
from .synthetic import library_of

RUNTIME = "resilient_infe.runtime"
"""The key in ``request.extensions`` that holds the runtime of the call."""

GRACE = 0.05
"""Seconds by which the client's own timeout comes after the timer of the stack, which it stands for
where a blocking call cannot be cancelled.
"""


class AwaitableTransport:
    """A synchronous transport as the adapters await it. State: none.

    Args:
        inner: the transport.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return its response with a body that can be read by ``async for``."""
        response = self.inner.handle_request(request)
        stream = response.stream
        if not hasattr(stream, "__aiter__"):
            cls = _awaitable_class(library_of(request.__class__))
            response.stream = cls(stream, request.extensions.get(RUNTIME))
        return response

    async def aclose(self) -> None:
        """Close the transport."""
        self.inner.close()

    async def __aenter__(self) -> Self:
        """Open the transport."""
        self.inner.__enter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036  # passed on unchanged
        """Close the transport."""
        self.inner.__exit__(*raised)


class _AwaitableBody:
    """The body of a synchronous response. State: per response.

    Args:
        inner: the stream.
        runtime: bounds reading it; None for no bound.
    """

    def __init__(self, inner: Any, runtime: BlockingRuntime | None) -> None:
        self._inner, self._runtime = inner, runtime

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts.

        Raises:
            OutOfTime: the time was over before a part.
        """
        for part in self._inner:
            yield part
            if self._runtime is not None:
                self._runtime.left()

    async def aclose(self) -> None:
        """Close the stream."""
        self._inner.close()


class BlockingBody:
    """A body that never suspends, as a synchronous client reads it. State: per response.

    Args:
        inner: the stream.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        """Yield the parts."""
        parts = aiter(self._inner)
        try:
            while True:
                try:
                    part = drive(anext(parts))
                except StopAsyncIteration:
                    return
                yield part
        finally:
            if hasattr(parts, "aclose"):
                drive(parts.aclose())

    def close(self) -> None:
        """Close the stream."""
        drive(self._inner.aclose())


class BlockingDoor:
    """Makes a class of transports one for synchronous clients; to be put before it among the bases.

    Args:
        inner: the client's own transport.
        stack: the layers.
        arguments: as for the class.
        options: as for the class.
    """

    def __init__(self, inner: Any, stack: Any, *arguments: Any, **options: Any) -> None:
        base: Any = super()
        base.__init__(AwaitableTransport(inner), stack, *arguments, **options)
        self._handler = stack.handler(self._send, blocking=True)

    def _send(self, call: Call[Any]) -> Any:
        _bound(call)
        base: Any = super()
        return base._send(call)  # noqa: SLF001

    def handle_request(self, request: Any) -> Any:
        """Send one request through the stack; block until its response."""
        this: Any = self
        response = drive(this.handle_async_request(request))
        library = library_of(request.__class__)
        if not isinstance(response.stream, library.SyncByteStream):
            response.stream = _blocking_class(library)(response.stream)
        return response

    def close(self) -> None:
        """Close the inner transport."""
        this: Any = self
        drive(this.aclose())

    def __enter__(self) -> Self:
        """Open the inner transport."""
        this: Any = self
        drive(this.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the inner transport."""
        this: Any = self
        drive(this.__aexit__(kind, error, traceback))


def _bound(call: Call[Any]) -> None:
    """Let the client's own timeouts end an attempt when the stack's timers do."""
    runtime, request = call.runtime, call.payload
    if not isinstance(runtime, BlockingRuntime):
        return
    timeouts = dict(request.extensions.get(OWN, request.extensions.get("timeout", {})))
    bounds = [runtime.left()]
    if asks_stream(call):
        bounds += [call.state.first_chunk, call.state.idle]
    found = [each for each in bounds if each is not None]
    extensions = {**request.extensions, RUNTIME: runtime, OWN: dict(timeouts)}
    if found:
        most = min(found) + GRACE
        for name in ("connect", "read", "write", "pool"):
            own = timeouts.get(name)
            timeouts[name] = most if own is None else min(own, most)
        extensions["timeout"] = timeouts
    request.extensions = extensions


OWN = "resilient_infe.timeout"
"""The key in ``request.extensions`` that keeps the timeouts that the client has set."""


@functools.cache
def _awaitable_class(library: Any) -> Any:
    return type("AwaitableBody", (_AwaitableBody, library.AsyncByteStream), {})


@functools.cache
def _blocking_class(library: Any) -> Any:
    return type("BlockingBody", (BlockingBody, library.SyncByteStream), {})
