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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp.client import DEFAULT_TIMEOUT
from aiohttp.payload import AsyncIterablePayload

from ..call import Call, Reply
from ..layers.note import note
from ..policies import bounds
from ..policies.headers import Lowered
from ..stack import Stack
from .content import HeldContent
from .request import LONGEST_REQUEST, NestedRetries, describe, is_json
from .watch import StreamWatch

LONGEST_ERROR = 64 * 1024
"""Decoded bytes of an error body that are read inside the attempt."""

LONGEST_ANSWER = 4 * 1024 * 1024
"""Decoded bytes of a JSON answer that are read inside the attempt; a larger one is left open."""

_TOTAL = (
    "if this is aiohttp's ClientTimeout(total=...), which counts the stack's waits: set total=None "
    "and sock_read, and bound the call with Deadline"
)

ClientHandler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


@dataclass(frozen=True, slots=True)
class Exchange:
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
        self._nested = NestedRetries()
        self._owner = owner

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandler
    ) -> aiohttp.ClientResponse:
        """Send one request through the stack and return the real last response, readable."""
        call = Call(Exchange(request, handler))
        url, headers = request.url, request.headers
        origin = url.host or "" if url.is_default_port() else f"{url.host}:{url.port}"
        describe(call, origin, url.path, headers.get, _content_of(request))
        self._nested.look(headers.get)
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
    would count the stack's waits, is lifted, and so is its own retry of idempotent requests, which
    would double the attempts. aiohttp offers no public way to do this: these private names are
    used here and nowhere else.
    """
    wrapped: Any = copy.copy(session)
    wrapped.__class__ = _quiet_class(cast("Any", type(session)))
    middleware = StackMiddleware(stack, owner=session)
    wrapped._middlewares = (*session._middlewares, middleware)  # noqa: SLF001
    wrapped._retry_connection = False  # noqa: SLF001
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


async def _send(call: Call[Exchange]) -> aiohttp.ClientResponse:
    request = call.payload.request
    try:
        response = await call.payload.handler(request)
    finally:
        call.replayable = _replayable(request.body)
    if response.status == 101:  # a websocket: what follows is no body
        return response
    try:
        return await _received(call, response)
    except BaseException:
        response.close()
        raise


async def _received(
    call: Call[Exchange], response: aiohttp.ClientResponse
) -> aiohttp.ClientResponse:
    """Read what is to be judged, and leave the rest open under a hold."""
    status, headers = response.status, Lowered.of(response.headers.items())
    failed, content, start = status >= 400, response.content, b""
    if failed or is_json(headers):
        start = await _read(content, LONGEST_ERROR if failed else LONGEST_ANSWER)
        if content.at_eof():
            call.reply = Reply(status, headers, start)
            response.content = cast("aiohttp.StreamReader", HeldContent(content, start))
            return response
    call.reply = Reply(status, headers)
    asked = isinstance(call.body, dict) and call.body.get("stream") is True
    watch = StreamWatch(headers.get("content-type", ""), expected=asked)
    held = HeldContent(content, start)
    hold = call.hold = held.hold_for(call, watch)
    response.content = cast("aiohttp.StreamReader", held)
    if failed:  # another attempt gives this one's connection back
        hold.on_close(lambda _: None if content.is_eof() else response.close())
    return response


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


def _content_of(request: aiohttp.ClientRequest) -> Any:
    """Return the body's text where it is in memory and not too long to look at."""
    body: Any = request.body
    if not isinstance(body, aiohttp.BytesPayload) or (body.size or 0) > LONGEST_REQUEST:
        return None
    try:
        return body.decode()
    except ValueError:  # not UTF-8
        return None


def _replayable(body: Any) -> bool:
    """Whether a body can be sent again: bytes can, and files that aiohttp could rewind."""
    if isinstance(body, bytes | aiohttp.BytesPayload):
        return True
    return not isinstance(body, AsyncIterablePayload) and getattr(body, "consumed", True) is False
