"""A stack as a client middleware of aiohttp: ``ClientSession(middlewares=(stack_middleware(s),))``.

aiohttp calls a middleware with a request and a handler that sends it. The middleware handles four
properties of aiohttp:

1. Its total timeout includes the time that a call waits in the stack. If it ends a call, a note on
   the exception says so.
2. A body that is not read keeps its connection. So a response is closed before a retry.
3. A body that is a generator would be empty when sent again. So such a request is not retried.
4. It returns a response before the body has arrived. So JSON and errors are read in the attempt,
   and for other bodies a hold keeps the slot and the reservation.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, cast

import aiohttp
from aiohttp.client import DEFAULT_TIMEOUT
from aiohttp.payload import AsyncIterablePayload

from ...core import bounds
from ...core.call import Call, Reply
from ...core.verdict import OK, Kind, Usage, Verdict
from ...errors import ConfigurationError
from ...retry.layer import Retry
from ...stack import Stack
from ...telemetry.note import note
from ..http.first_event import read_first_event, why_not_begun, within_first_chunk
from ..http.partition import PartitionOf, Partitions, model_in_path
from ..http.request import LONGEST_REQUEST, NestedRetriesCheck, mask_of, mended_body, prepare_call
from ..http.response import (
    SWITCHING_PROTOCOLS,
    WRAPPED_TWICE,
    asks_completion,
    asks_stream,
    body_for_classifier,
    buffer_limit,
    closed_client_verdict,
    is_redirect,
    open_limit,
    sends_through,
    stream_watch_for,
)
from ..http.stream_watch import StreamWatch
from .content import EndedContent, OpenContent
from .masked import class_of_copies, hide_key, mask_response

_TOTAL_TIMEOUT_ADVICE = (
    "if this was aiohttp's ClientTimeout(total=...), which includes waits in the stack: set "
    "total=None and sock_read, and limit the call with Deadline"
)

_DECOMPRESSED = frozenset(("gzip", "deflate", "br", "zstd"))
"""The content encodings that aiohttp undoes, unless the session has ``auto_decompress=False``."""

ClientHandler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


class Exchange(NamedTuple):
    """The payload of a call: a request and the handler that sends it."""

    request: aiohttp.ClientRequest
    handler: ClientHandler


class StackMiddleware:
    """A client middleware that sends requests through a stack; made by `stack_middleware`.

    Args:
        stack, partition: as for `stack_middleware`.
        owner: an object to keep alive as long as the middleware: the session that was wrapped.

    State: the stack's.
    """

    def __init__(
        self, stack: Stack, partition: PartitionOf | None = None, owner: object = None
    ) -> None:
        bounds.instance(stack, Stack, "stack_middleware", "a Stack, like presets.batch()")
        self.stack = stack
        self._handler = stack.handler(_send)
        self._repeats = _repeats(stack)
        self._nested = NestedRetriesCheck(retries=stack.retries)
        self._partitions = Partitions(partition)
        self._owner = owner

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandler
    ) -> aiohttp.ClientResponse:
        """Send one request through the stack; return the last response, with a readable body."""
        call = Call(Exchange(request, handler))
        call.state.single = True  # aiohttp keeps the state of a send on the request
        url, headers, content = request.url, request.headers, _content_of(request)
        body = prepare_call(call, request.method, url.raw_path, headers, content)
        self._partitions.place(call, lambda: request, body.model() or model_in_path(url.raw_path))
        self._nested.check(headers)
        if self._repeats:
            _disable_aiohttp_retry(request)
        try:
            return await self._handler(call)
        except asyncio.CancelledError as error:
            # If the total timeout has cancelled this call, aiohttp raises TimeoutError from it.
            error.add_note(note(call, _TOTAL_TIMEOUT_ADVICE))
            raise


def stack_middleware(stack: Stack, partition: PartitionOf | None = None) -> StackMiddleware:
    """Return `stack` as a client middleware of aiohttp (3.13 or newer).

    JSON responses and errors are returned when their bodies have been read, all others as soon as
    the headers have arrived. The call keeps its slot to the end of the body. A request with its own
    ``middlewares=`` does not use the session's middlewares, so it does not use the stack.

    Args:
        stack: the layers.
        partition: as for `wrap`; a function takes aiohttp's ``ClientRequest``.

    Raises:
        ConfigurationError: `stack` is not a Stack, or `partition` is neither a text nor a function.
        Refused: from a request, if the stack refuses to send it, or its deadline passed.
    """
    return StackMiddleware(stack, partition)


def resilient_session(
    session: aiohttp.ClientSession, stack: Stack, partition: PartitionOf | None = None
) -> aiohttp.ClientSession:
    """Return a copy of a session that sends its requests through the stack, innermost.

    The copy shares cookies, headers, trace configs and the connector with the original, and keeps
    it alive. Closing either closes the connector.

    The default total timeout of 5 minutes is switched off in the copy, because it would include
    waits in the stack. So is aiohttp's own retry of a request whose connection broke, if the stack
    makes more than one attempt. aiohttp has no public way for this, so private names are used.

    Args:
        session: the session.
        stack: the layers.
        partition: as for `stack_middleware`.

    Raises:
        ConfigurationError: aiohttp is older than 3.13, or has other private names; or the session
            already sends through this stack.
    """
    if not hasattr(session, "_middlewares"):
        raise ConfigurationError(
            "wrapping a ClientSession needs aiohttp 3.13 or newer; if yours is newer than this "
            "library supports, use ClientSession(middlewares=(stack_middleware(stack),))"
        )
    if any(sends_through(each, stack) for each in session._middlewares):  # noqa: SLF001
        raise ConfigurationError(WRAPPED_TWICE)
    wrapped: Any = copy.copy(session)
    wrapped.__class__ = class_of_copies(cast("Any", type(session)))
    if _repeats(stack):
        wrapped._retry_connection = False  # noqa: SLF001
    middleware = StackMiddleware(stack, partition, owner=session)
    wrapped._middlewares = (*session._middlewares, middleware)  # noqa: SLF001
    if session.timeout == DEFAULT_TIMEOUT:
        wrapped._timeout = aiohttp.ClientTimeout(  # noqa: SLF001
            total=None, sock_connect=DEFAULT_TIMEOUT.sock_connect
        )
    return cast("aiohttp.ClientSession", wrapped)


def _repeats(stack: Stack) -> bool:
    """Whether a stack repeats a request that failed."""
    retries = [layer for layer in stack.layers if isinstance(layer, Retry)]
    return any(layer.schedule.max_attempts > 1 for layer in retries)


def _disable_aiohttp_retry(request: aiohttp.ClientRequest) -> None:
    """Switch off aiohttp's own retry, which would send a request through the stack once more.

    aiohttp retries an idempotent request whose connection broke. The switch takes effect with the
    session's next request, because aiohttp has read it for this one. Its name is private; there is
    no public one.
    """
    session = getattr(request, "_session", None)
    if getattr(session, "_retry_connection", False):
        session._retry_connection = False  # type: ignore[union-attr]  # noqa: SLF001


def _decompresses(request: aiohttp.ClientRequest) -> bool:
    """Whether the request's session decompresses bodies; True if its private name has changed."""
    return bool(getattr(getattr(request, "_session", None), "auto_decompress", True))


def _is_closed(request: aiohttp.ClientRequest) -> bool:
    """Whether the request's session is closed; False if its private attribute has a new name."""
    return bool(getattr(getattr(request, "_session", None), "closed", False))


def _send(call: Call[Exchange]) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
    """Return the coroutine that makes one attempt."""
    if call.state.first_chunk is None or not asks_stream(call):
        return _attempt(call)
    return within_first_chunk(call, _attempt)


async def _attempt(call: Call[Exchange]) -> aiohttp.ClientResponse:
    """Make one attempt and put its reply on the call.

    A response ends in one of four ways:

    1. A websocket (101) is returned as it came. It has no body and needs no hold.
    2. The body ended within `buffer_limit`: it was read here, inside the attempt.
    3. The body is a stream that the request asked for: it was read to its first event, and is
       handed over open.
    4. The body is longer, or the limit is 0: it is handed over open.

    After a failure the response is closed.
    """
    request, response, watch = call.payload.request, None, None
    if _is_closed(request):  # it was closed while the call waited in the stack
        error = RuntimeError("Session is closed")  # the same as aiohttp raises
        call.verdict = closed_client_verdict(error, sent=False)
        raise error
    try:
        if (mended := mended_body(call)) is not None and hasattr(request, "update_body"):
            await request.update_body(mended)
        response = await call.payload.handler(request)
        request.response = None  # else it keeps alive a response that the caller has dropped
        content, start = response.content, b""
        websocket = response.status == SWITCHING_PROTOCOLS
        limit = 0 if websocket else buffer_limit(call, response.status, response.headers)
        if limit:
            start = await _read(content, limit)
        start = mask_response(call, response, start)
        if not (websocket or (limit and content.at_eof())):
            watch, start = await _watched(call, response, start)
    except BaseException as error:
        if response is not None:
            response.close()
        _judge(call, error)
        hide_key(error, mask_of(call))
        raise
    finally:
        call.replayable = _replayable(request.body)
    if websocket or is_redirect(response.status):
        call.verdict = OK
    if watch is not None:
        _hand_over(call, response, watch, start, limit)
    elif not websocket:
        body, asked = _body_for_classifier(call, response, start), asks_completion(call)
        call.reply = Reply(response.status, response.headers, body, completion=asked)
        response.content = cast("aiohttp.StreamReader", EndedContent(start, call.runtime))
    return response


def _judge(call: Call[Exchange], error: BaseException) -> None:
    """Set the verdict on a failed attempt.

    There are three cases:

    1. The session was closed: CANCELLED, because the server is not to blame.
    2. A plain ``TimeoutError``, probably of aiohttp's total timeout: TIMEOUT.
    3. Anything else: the classifier decides.
    """
    if _is_closed(call.payload.request):
        call.verdict = closed_client_verdict(error, sent=True)
    elif type(error) is TimeoutError:  # socket timeouts are subclasses
        call.verdict = Verdict(Kind.TIMEOUT, error="TimeoutError", advice=_TOTAL_TIMEOUT_ADVICE)


async def _watched(
    call: Call[Exchange], response: aiohttp.ClientResponse, start: bytes
) -> tuple[StreamWatch, bytes]:
    """Read to the first event if the request asked for a stream.

    Args:
        call: the call whose response it is.
        response: the response.
        start: what was read of its body before.

    Returns:
        The watch over the body, and all that was read of the body.

    Raises:
        ClientPayloadError: the stream ended before its first event.
    """
    headers, parts = response.headers, [start]
    encoding = headers.get("content-encoding", "").lower()
    if encoding in _DECOMPRESSED and _decompresses(call.payload.request):
        encoding = ""
    watch = stream_watch_for(call, response.status, headers, encoding)
    if start:
        watch.feed(start)
    if await read_first_event(response.content.readany, watch, parts):
        raw = b"".join(parts)
        raise aiohttp.ClientPayloadError(why_not_begun(call, response.status, headers, raw))
    return watch, b"".join(parts)


def _hand_over(
    call: Call[Exchange],
    response: aiohttp.ClientResponse,
    watch: StreamWatch,
    start: bytes,
    limit: int,
) -> None:
    """Hand a body over open: `OpenContent` replaces the content, and the call gets a hold."""
    _drop_reference_to(response)
    call.reply = Reply(response.status, response.headers)
    if watch.began_with_error:
        call.verdict = watch.verdict
    content = OpenContent(response.content, call, watch, start, open_limit(call, limit))
    response.content = cast("aiohttp.StreamReader", content)
    # An error, in the stream or with a long body, may be retried. Retry closes the hold before the
    # next attempt, which gives the connection back.
    if (limit or watch.began_with_error) and call.hold is not None:
        call.hold.on_close(partial(_close_unread, weakref.ref(response)))


def _body_for_classifier(
    call: Call[Exchange], response: aiohttp.ClientResponse, start: bytes
) -> bytes | None:
    """Return a complete body for the classifier; None if there is none, or it is compressed."""
    if response.method == "HEAD":
        return None
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    if encoded and start.lstrip()[:1] not in (b"{", b"["):
        return None  # still compressed, because the session has auto_decompress=False
    return body_for_classifier(call, response.status, start)


def _drop_reference_to(response: aiohttp.ClientResponse) -> None:
    """Let the response be garbage-collected as soon as the caller drops it.

    The connection refers to the inner reader, whose end-of-file callback is a bound method of the
    response. So the response would stay alive until its body has arrived. Here the callback gets a
    weak reference instead. When the caller drops the response, aiohttp then gives the connection
    back, and the finaliser of `OpenContent` gives the slot back.

    The names are private. If aiohttp renames them, a response that is dropped unread keeps its slot
    until its body has arrived.
    """
    callbacks = getattr(response.content, "_eof_callbacks", None)
    at_eof = getattr(response, "_response_eof", None)
    if isinstance(callbacks, list) and at_eof in callbacks:
        callbacks[callbacks.index(at_eof)] = partial(_at_eof, weakref.ref(response))


def _at_eof(reference: weakref.ref[Any]) -> None:
    response = reference()
    if response is not None:
        response._response_eof()  # noqa: SLF001


def _close_unread(reference: weakref.ref[aiohttp.ClientResponse], _: Usage | None) -> None:
    response = reference()
    if response is not None and not response.closed:
        response.close()


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body to its end, or to the first part that takes it above `limit` decoded bytes."""
    part = await content.readany()
    if content.at_eof():
        return part
    parts, size = [part], len(part)
    while size <= limit and not content.at_eof():
        part = await content.readany()
        parts.append(part)
        size += len(part)
    return b"".join(parts)


@functools.cache
def _is_bytes_payload(cls: type) -> bool:
    """Whether a body of this class is in memory. Cached, since ``issubclass`` of an ABC is slow."""
    return issubclass(cls, aiohttp.BytesPayload)


def _content_of(request: aiohttp.ClientRequest) -> Any:
    """Return the body's text; None if it is not in memory or is over `LONGEST_REQUEST`."""
    body: Any = request.body
    if body == b"":
        return ""
    if not _is_bytes_payload(body.__class__) or (body.size or 0) > LONGEST_REQUEST:
        return None
    try:
        return body.decode(errors="replace")
    except AttributeError:  # a memoryview has no such method
        return None


def _replayable(body: Any) -> bool:
    """Whether a body can be sent again: bytes, or a file that aiohttp can rewind."""
    if _is_bytes_payload(body.__class__) or isinstance(body, bytes):
        return True
    return not isinstance(body, AsyncIterablePayload) and getattr(body, "consumed", True) is False
