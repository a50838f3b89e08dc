"""A stack as a client middleware of aiohttp: ``ClientSession(middlewares=(stack_middleware(s),))``.

aiohttp calls a middleware with the request and with what sends it. Four of its ways are minded
here: its total timeout counts the stack's waits, a body left unread keeps its connection, a
generator's body would be sent again empty, and a response is handed over long before its end.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import warnings
import weakref
from collections.abc import Awaitable, Callable
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
from ..http.request import LONGEST_REQUEST, NestedRetriesCheck, prepare_call
from ..http.response import (
    SWITCHING_PROTOCOLS,
    body_for_classifier,
    buffer_limit,
    closed_client_verdict,
    is_redirect,
    stream_watch_for,
)
from .content import EndedContent, OpenContent

_TOTAL = (
    "if this is aiohttp's ClientTimeout(total=...), which counts the stack's waits: set total=None "
    "and sock_read, and bound the call with Deadline"
)

ClientHandler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


class Exchange(NamedTuple):
    """One request, and what sends it: the payload of a call."""

    request: aiohttp.ClientRequest
    handler: ClientHandler


class StackMiddleware:
    """A client middleware with a stack inside; made by `stack_middleware`.

    Args:
        stack: the layers.
        owner: kept alive as long as this middleware is.

    State: the stack's.
    """

    def __init__(self, stack: Stack, owner: object = None) -> None:
        """Link the layers once."""
        bounds.instance(stack, Stack, "stack_middleware", "a Stack, like presets.batch()")
        self._handler = stack.handler(_send)
        self._retries = any(isinstance(layer, Retry) for layer in stack.layers)
        self._nested = NestedRetriesCheck()
        self._owner = owner

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandler
    ) -> aiohttp.ClientResponse:
        """Send one request through the stack and return the real last response, readable."""
        call = Call(Exchange(request, handler))
        url, headers, content = request.url, request.headers, _content_of(request)
        prepare_call(call, request.method, url.authority, url.raw_path, headers, content)
        self._nested.check(headers)
        if self._retries:
            _take_over_retries(request)
        try:
            return await self._handler(call)
        except asyncio.CancelledError as error:
            error.add_note(note(call, _TOTAL))  # the cause of a TimeoutError, if it is that
            raise


def stack_middleware(stack: Stack) -> StackMiddleware:
    """Return `stack` as a client middleware of aiohttp (3.12 or newer).

    The response comes back as soon as its head is there, JSON and errors when they are read; a slot
    is held to the end of the body. Where a request is given ``middlewares=`` of its own, they take
    the place of the session's, this one included.

    Args:
        stack: the layers.

    Raises:
        ConfigurationError: `stack` is no Stack.
        Refused: from a request, when the stack refuses to send it, or its deadline passed.
    """
    return StackMiddleware(stack)


def resilient_session(session: aiohttp.ClientSession, stack: Stack) -> aiohttp.ClientSession:
    """Return a copy of a session whose requests go through the stack, innermost of middlewares.

    Cookies, headers, trace configs and the connector are shared with the original, which is kept
    alive; closing either closes the connector. aiohttp's default total timeout of 5 minutes, which
    would count the stack's waits, is lifted, and so is its own retry of a GET that broke. aiohttp
    offers no public way to do this: these private names are used here and nowhere else.

    Raises:
        ConfigurationError: aiohttp is older than 3.12, or has other names.
    """
    if not hasattr(session, "_middlewares"):
        raise ConfigurationError(
            "wrapping a ClientSession needs aiohttp 3.12 or newer; with a version that is newer "
            "than this library, use ClientSession(middlewares=(stack_middleware(stack),))"
        )
    wrapped: Any = copy.copy(session)
    wrapped.__class__ = _quiet_class(cast("Any", type(session)))
    wrapped._retry_connection = False  # noqa: SLF001
    middleware = StackMiddleware(stack, owner=session)
    wrapped._middlewares = (*session._middlewares, middleware)  # noqa: SLF001
    if session.timeout == DEFAULT_TIMEOUT:
        wrapped._timeout = aiohttp.ClientTimeout(  # noqa: SLF001
            total=None, sock_connect=DEFAULT_TIMEOUT.sock_connect
        )
    return cast("aiohttp.ClientSession", wrapped)


@functools.cache
def _quiet_class(cls: Any) -> Any:
    """Return the session's class for a copy: one that is dropped does not complain of the pool."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp discourages subclasses
        return type(cls.__name__, (cls,), {"__del__": lambda _: None})


def _take_over_retries(request: aiohttp.ClientRequest) -> None:
    """Switch aiohttp's own retry off, which calls all middlewares anew for a GET that broke.

    From the session's next request on; a private name, as there is no public one.
    """
    session = getattr(request, "_session", None)
    if getattr(session, "_retry_connection", False):
        session._retry_connection = False  # type: ignore[union-attr]  # noqa: SLF001


def _is_closed(request: aiohttp.ClientRequest) -> bool:
    """Whether the session that a request belongs to is closed; a private name, guarded."""
    try:
        closed: bool = request._session.closed  # noqa: SLF001
    except AttributeError:
        return False
    return closed


async def _send(call: Call[Exchange]) -> aiohttp.ClientResponse:
    request, response = call.payload.request, None
    if _is_closed(request):  # while the call waited
        error = RuntimeError("Session is closed")  # what aiohttp says
        call.verdict = closed_client_verdict(error, sent=False)
        raise error
    try:
        response = await call.payload.handler(request)
        request.response = None  # it would keep a response alive that the caller has dropped
        content, start = response.content, b""
        websocket = response.status == SWITCHING_PROTOCOLS
        most = 0 if websocket else buffer_limit(call, response.status, response.headers)
        if most:
            start = await _read(content, most)
    except BaseException as error:
        if response is not None:
            response.close()
        if _is_closed(request):
            call.verdict = closed_client_verdict(error, sent=True)
        elif type(error) is TimeoutError:  # aiohttp's other timeouts have classes of their own
            call.verdict = Verdict(Kind.TIMEOUT, error="TimeoutError", advice=_TOTAL)
        raise
    finally:
        call.replayable = _replayable(request.body)
    if websocket or is_redirect(response.status):
        call.verdict = OK
    if most and content.at_eof():
        call.reply = Reply(response.status, response.headers, _to_judge(call, response, start))
        response.content = cast("aiohttp.StreamReader", EndedContent(start, call.runtime))
    elif not websocket:
        _hand_over(call, response, start)
    return response


def _hand_over(call: Call[Exchange], response: aiohttp.ClientResponse, start: bytes) -> None:
    """Leave a body open, under a hold."""
    _loosen(response)
    headers = response.headers
    call.reply = Reply(response.status, headers)
    watch = stream_watch_for(call, headers.get("content-type", ""))
    held = OpenContent(response.content, call, watch, start)
    response.content = cast("aiohttp.StreamReader", held)
    if start and call.hold is not None:  # another attempt gives this one's connection back
        call.hold.on_close(partial(_close_unread, weakref.ref(response)))


def _to_judge(call: Call[Exchange], response: aiohttp.ClientResponse, start: bytes) -> bytes | None:
    """Return the part of a whole body that is judged: none that is not there, or still packed."""
    if response.method == "HEAD":
        return None
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    if encoded and start.lstrip()[:1] not in (b"{", b"["):
        return None  # as it came, because the session does not decompress
    return body_for_classifier(call, response.status, start)


def _loosen(response: aiohttp.ClientResponse) -> None:
    """Let go of a response that its content keeps alive: if it is dropped, that must be seen.

    Its connection is given back by aiohttp then, its slot by the hold. Private names, guarded;
    without them a response that is dropped unread keeps its slot until its body has come.
    """
    callbacks = getattr(response.content, "_eof_callbacks", None)
    at_eof = getattr(response, "_response_eof", None)
    if isinstance(callbacks, list) and at_eof in callbacks:
        callbacks[callbacks.index(at_eof)] = partial(_at_eof, weakref.ref(response))


def _at_eof(left: weakref.ref[Any]) -> None:
    response = left()
    if response is not None:
        response._response_eof()  # noqa: SLF001


def _close_unread(left: weakref.ref[aiohttp.ClientResponse], _: Usage | None) -> None:
    response = left()
    if response is not None and not response.closed:
        response.close()


async def _read(content: aiohttp.StreamReader, most: int) -> bytes:
    """Read a body to its end, or to a little over `most` decoded bytes."""
    part = await content.readany()
    if content.at_eof():
        return part
    parts, size = [part], len(part)
    while size <= most and not content.at_eof():
        part = await content.readany()
        parts.append(part)
        size += len(part)
    return b"".join(parts)


@functools.cache
def _is_bytes_payload(cls: type) -> bool:
    """Whether bodies of a class are in memory; a payload is an abstract class, and slow to ask."""
    return issubclass(cls, aiohttp.BytesPayload)


def _content_of(request: aiohttp.ClientRequest) -> Any:
    """Return the body's text where it is in memory and not too long to look at."""
    body: Any = request.body
    if body == b"":
        return ""  # there is none
    if not _is_bytes_payload(body.__class__) or (body.size or 0) > LONGEST_REQUEST:
        return None
    try:
        return body.decode(errors="replace")
    except AttributeError:  # a memoryview has no such method
        return None


def _replayable(body: Any) -> bool:
    """Whether a body can be sent again: bytes can, and files that aiohttp could rewind."""
    if _is_bytes_payload(body.__class__) or isinstance(body, bytes):
        return True
    return not isinstance(body, AsyncIterablePayload) and getattr(body, "consumed", True) is False
