"""A transport for httpx and httpx2: the same file serves both, and imports neither.

A client's transport is the one place where everything that a client sends comes by, below its
hooks, its authentication and its redirects. What an httpx client calls a transport needs four
methods only; the library that a response belongs to is found from the response itself.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from ..aio import finalizer
from ..call import Call, Hold, Reply
from ..errors import AttemptTimedOut, DeadlineExceeded, Refused
from ..options import current_options
from ..policies.classify import usage_of
from ..policies.estimate import estimate_tokens
from ..stack import Stack
from ..verdict import Usage
from .sse import SSEDecoder

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body that are kept, as they come over the wire."""

LONGEST_LOOK = 4 * 1024 * 1024
"""Bytes of a request or of a response that are looked at for a model, a cost or a usage."""


class ResilientTransport:
    """An httpx transport with a stack around it.

    Args:
        inner: the transport that sends.
        stack: the layers.
        refuse_with_response: whether a refusal of the stack becomes a 503 that asks not to be
            retried, for SDKs that would wrap or retry an exception they do not know.
        owner: kept alive as long as this transport is.

    State: the stack's; ``aclose`` closes `inner`.
    """

    def __init__(
        self, inner: Any, stack: Stack, *, refuse_with_response: bool = False, owner: object = None
    ) -> None:
        """Link the layers once."""
        self.inner = inner
        self._handler = stack.handler(self._send)
        self._refuse_with_response = refuse_with_response
        self._owner = owner

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request through the stack and return the real last response, readable."""
        call: Call[Any] = Call(request)
        _describe(call, request)
        try:
            return await self._handler(call)
        except (Refused, AttemptTimedOut) as error:
            if not self._refuse_with_response:
                raise
            return _refusal(request, error)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        """Open the inner transport."""
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the inner transport."""
        await self.inner.__aexit__(kind, error, traceback)

    async def _send(self, call: Call[Any]) -> Any:
        request = call.payload
        call.replayable = _replayable(request)
        response = await self.inner.handle_async_request(request)
        library = _library(response)
        if response.status_code >= 400:
            response = await _read_error(library, request, response)
            peek = library.Response(
                response.status_code, headers=response.headers, stream=response.stream
            )
            call.reply = Reply(response.status_code, response.headers, await peek.aread())
            return response
        call.reply = Reply(response.status_code, response.headers)
        hold = call.hold = Hold()
        response.stream = _held_stream(library)(response, hold, call)
        return response


def resilient_client(client: Any, stack: Stack, **options: Any) -> Any:
    """Return a copy of an httpx client whose transports have the stack around them.

    Cookies, hooks, headers, proxies and the connection pool are shared with the original, which is
    kept alive; closing either closes the pool. httpx offers no public way to do this: these two
    private names are used here and nowhere else.
    """
    wrapped = copy.copy(client)
    wrapped._transport = ResilientTransport(client._transport, stack, owner=client, **options)  # noqa: SLF001
    wrapped._mounts = {  # noqa: SLF001
        pattern: None if each is None else ResilientTransport(each, stack, owner=client, **options)
        for pattern, each in client._mounts.items()  # noqa: SLF001
    }
    return wrapped


def _library(subject: Any) -> Any:
    return sys.modules[type(subject).__module__.partition(".")[0]]


def _describe(call: Call[Any], request: Any) -> None:
    """Estimate the cost and name the partition where `call_options` does not."""
    options = current_options()
    body = _json_of(request)
    if options is None or options.tokens is None:
        call.tokens = estimate_tokens(body)
    if options is None or options.partition is None:
        model = body.get("model", "") if isinstance(body, dict) else ""
        key = hashlib.sha256(str(request.headers.get("authorization", "")).encode()).hexdigest()
        call.partition = f"{request.url.host}/{model}#{key[:8]}"


def _json_of(request: Any) -> Any:
    content = getattr(request, "_content", None)
    if not isinstance(content, bytes) or len(content) > LONGEST_LOOK:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _replayable(request: Any) -> bool:
    """Whether the body is bytes that httpx keeps, and not an iterator that is gone once read."""
    return isinstance(getattr(request, "_content", None), bytes)


async def _read_error(library: Any, request: Any, response: Any) -> Any:
    """Read an error body, bounded, so that its connection is used again; it stays readable."""
    parts, size = [], 0
    try:
        async for part in response.stream:
            parts.append(part)
            size += len(part)
            if size > LONGEST_ERROR:
                break
    finally:
        await response.stream.aclose()
    return library.Response(
        response.status_code,
        headers=response.headers,
        stream=library.ByteStream(b"".join(parts)),
        extensions=response.extensions,
        request=request,
    )


def _refusal(request: Any, error: Exception) -> Any:
    """Return what an SDK understands: a timeout, or a 503 that asks not to be retried."""
    library = _library(request)
    if isinstance(error, DeadlineExceeded | AttemptTimedOut):
        raise library.ReadTimeout(str(error), request=request) from error
    hint = getattr(error, "retry_after", None)
    headers = {"x-should-retry": "false"} | ({"retry-after": f"{hint:.3f}"} if hint else {})
    body = {"error": {"message": str(error), "type": type(error).__name__, "code": "refused"}}
    return library.Response(503, headers=headers, json=body, request=request)


@functools.cache
def _held_stream(library: Any) -> Any:
    """Make the stream class once per library: it must derive from the library's own base."""

    class HeldStream(library.AsyncByteStream):  # type: ignore[misc]
        """A body that gives back slot and reservation when it is closed, or dropped unread."""

        def __init__(self, response: Any, hold: Hold, call: Call[Any]) -> None:
            self._inner = response.stream
            self._hold = hold
            self._meter = _UsageMeter(library, response)
            self._disarm = finalizer(self, hold.close, call.runtime)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in self._inner:
                self._meter.feed(part)
                yield part

        async def aclose(self) -> None:
            self._disarm()
            try:
                await self._inner.aclose()
            finally:
                self._hold.close(self._meter.usage())

    return HeldStream


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
            for data in self._decoder.feed(part):
                if '"usage"' in data:
                    self._note(data)
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
