"""A transport for httpx and httpx2: the same file serves both, and imports neither.

A client's transport is the one place where everything that a client sends comes by, below its
hooks, its authentication and its redirects. What an httpx client calls a transport needs four
methods only; the library that a response belongs to is found from the response itself.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from ..call import Call, Hold, Reply
from ..errors import AttemptTimedOut, DeadlineExceeded, Refused
from ..options import current_options
from ..policies.estimate import estimate_tokens
from ..stack import Stack
from .held import held_stream_class

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body that are kept, as they come over the wire."""

LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of a JSON answer that are read inside the attempt; a larger one is handed over open."""

LONGEST_DECODED = 64 * 1024 * 1024
"""Bytes of a decoded body that are looked at."""

LONGEST_REQUEST = 4 * 1024 * 1024
"""Bytes of a request that are looked at for a model and a cost."""


_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]")
"""What a model's name may not bring into a partition, which is logged."""


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
        failed = response.status_code >= 400
        if response.is_closed or response.is_stream_consumed:  # by a transport that looked at it
            call.reply = Reply(response.status_code, response.headers, response.content)
            return response
        parts: list[bytes] = []
        body = aiter(response.stream)
        if failed or _is_json(response):
            # Read inside the attempt: its timeout, its retries and its verdict cover the body too.
            whole = await _read(body, parts, LONGEST_ERROR if failed else LONGEST_ANSWER)
            if whole or failed:
                return await _whole_response(library, call, response, parts)
        call.reply = Reply(response.status_code, response.headers)
        hold = call.hold = Hold()
        response.stream = held_stream_class(library)(response, body, hold, call, parts)
        return response


def resilient_client(client: Any, stack: Stack, **options: Any) -> Any:
    """Return a copy of an httpx client whose transports have the stack around them.

    Cookies, hooks, headers, proxies and the connection pool are shared with the original, which is
    kept alive; closing either closes the pool. httpx offers no public way to do this: these two
    private names are used here and nowhere else.
    """
    wrapped = copy.copy(client)
    # An SDK's client closes its pool when it is collected; the pool is the original's to close.
    wrapped.__class__ = next(cls for cls in type(client).__mro__ if not hasattr(cls, "__del__"))
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
        asked = body.get("model") if isinstance(body, dict) else None
        model = _UNSAFE.sub("_", asked[:128]) if isinstance(asked, str) else ""
        key = hashlib.sha256(str(request.headers.get("authorization", "")).encode()).hexdigest()
        call.partition = f"{request.url.host}/{model}#{key[:8]}"


def _json_of(request: Any) -> Any:
    content = getattr(request, "_content", None)
    if not isinstance(content, bytes) or len(content) > LONGEST_REQUEST:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _replayable(request: Any) -> bool:
    """Whether the body is bytes that httpx keeps, and not an iterator that is gone once read."""
    return isinstance(getattr(request, "_content", None), bytes)


def _is_json(response: Any) -> bool:
    """Whether the body is one JSON value, and not a stream of them (x-ndjson, stream+json)."""
    kind = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.endswith("+json") and "stream" not in kind)


async def _read(body: AsyncIterator[bytes], parts: list[bytes], most: int) -> bool:
    """Read a body as it comes over the wire, up to a size; True if that is all of it.

    The iterator itself is read, so that whoever goes on with it misses nothing.
    """
    size = 0
    while size <= most:
        try:
            part = await anext(body)
        except StopAsyncIteration:
            return True
        parts.append(part)
        size += len(part)
    return False


async def _whole_response(library: Any, call: Call[Any], response: Any, parts: list[bytes]) -> Any:
    """Return a response that needs no connection any more, and put it on the call as its reply."""
    await response.stream.aclose()

    def fresh() -> Any:
        return library.Response(
            response.status_code,
            headers=response.headers,
            stream=library.ByteStream(b"".join(parts)),
            extensions=response.extensions,
            request=call.payload,
        )

    call.reply = Reply(response.status_code, response.headers, await _decoded(fresh()))
    return fresh()


async def _decoded(copied: Any) -> bytes:
    """Return the decoded body of a copy, bounded: a bomb is for the caller to set off, or not."""
    body = bytearray()
    try:
        async for part in copied.aiter_bytes(64 * 1024):
            body += part
            if len(body) > LONGEST_DECODED:
                return b""
    except Exception:  # an encoding that is not what the header says
        return b""
    return bytes(body)


def _refusal(request: Any, error: Exception) -> Any:
    """Return what an SDK understands: a timeout, or a 503 that asks not to be retried."""
    library = _library(request)
    if isinstance(error, DeadlineExceeded | AttemptTimedOut):
        raise library.ReadTimeout(str(error), request=request) from error
    hint = getattr(error, "retry_after", None)
    headers = {"x-should-retry": "false"} | ({"retry-after": f"{hint:.3f}"} if hint else {})
    body = {"error": {"message": str(error), "type": type(error).__name__, "code": "refused"}}
    return library.Response(503, headers=headers, json=body, request=request)
