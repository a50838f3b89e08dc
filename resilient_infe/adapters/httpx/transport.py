"""A transport for httpx and httpx2: the same file serves both, and imports neither.

A client's transport is the one place where everything that a client sends comes by, below its
hooks, its authentication and its redirects. What an httpx client calls a transport needs four
methods only; the library that a response belongs to is found from the response itself.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ...classify.headers import Lowered
from ...core import bounds
from ...core.call import Call, Reply
from ...core.verdict import OK, Kind
from ...errors import AttemptTimedOut, ConfigurationError, DeadlineExceeded, Refused
from ...stack import Stack
from ...telemetry.note import note
from ..http.request import KEY_HEADERS, RETRY_COUNT_HEADER, NestedRetriesCheck, prepare_call
from ..http.response import (
    SWITCHING_PROTOCOLS,
    body_for_classifier,
    buffer_limit,
    is_redirect,
    stream_watch_for,
)
from .decompress import decompressed
from .open_body import close, open_body_class

LONGEST_DECODED = 64 * 1024 * 1024
"""Bytes of a decoded body that are looked at."""

NOTE = "resilient_infe"
"""The key among a failed response's ``extensions`` under which its note stands."""

SDK_HEADER = "x-stainless-lang"
"""Sent by SDKs (OpenAI's, Anthropic's) that know their own errors and timeouts only."""


if TYPE_CHECKING:
    # What either library takes for a transport of its own; its methods are all it has to have.
    Transport: TypeAlias = Any
else:
    Transport = object


class ResilientTransport(Transport):  # type: ignore[misc]  # by design
    """An httpx transport with a stack around it, for ``AsyncClient(transport=...)``.

    It works for httpx and httpx2. The real last response comes back, readable; one that failed has
    a line about its attempts in ``response.extensions["resilient_infe"]``.

    Args:
        inner: the transport that sends, such as ``httpx.AsyncHTTPTransport()``. Its pool should
            hold as many connections as the stack lets be in flight, or calls queue twice.
        stack: the layers.
        refuse_with_response: whether a refusal of the stack becomes a 503 that asks not to be
            retried (and a deadline the library's own read timeout), for SDKs that would wrap or
            retry an exception they do not know, and a success without a usable body a 502; None
            for the requests that such SDKs mark.

    Raises:
        ConfigurationError: `inner` is no async transport, or `stack` no Stack.

    State: the stack's; ``aclose`` closes `inner`.
    """

    def __init__(
        self,
        inner: Any,
        stack: Stack,
        *,
        refuse_with_response: bool | None = None,
    ) -> None:
        """Link the layers once."""
        bounds.instance(stack, Stack, "ResilientTransport", "a Stack, like presets.batch()")
        if inspect.isclass(inner) or not hasattr(inner, "handle_async_request"):
            raise ConfigurationError(
                f"ResilientTransport goes around an async transport, such as "
                f"httpx.AsyncHTTPTransport(); got {inner!r}. A client goes into wrap(client, stack)"
            )
        self.inner = inner
        self._handler = stack.handler(self._send)
        self._refuse_with_response = refuse_with_response
        self._nested = NestedRetriesCheck()

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request through the stack and return the real last response, readable."""
        call: Call[Any] = Call(request)
        headers, url = _telling(request.headers.raw), request.url
        content = _content_of(request)
        call.replayable = content is not None or _is_multipart(request.stream)
        origin, path = url.netloc.decode("ascii"), url.raw_path.decode("ascii")
        prepare_call(call, request.method, origin, path, headers, content)
        self._nested.check(headers)
        try:
            response = await self._handler(call)
        except (Refused, AttemptTimedOut) as error:
            if not self._typed(headers):
                raise
            return _refusal(call, error)
        if call.verdict is not None and call.verdict.kind is not Kind.OK:
            if response.status_code < 300 and call.hold is None and self._typed(headers):
                return _malformed(call, response)
            _annotate(response, call)
        return response

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

    def _typed(self, headers: Lowered) -> bool:
        """Whether whoever asks knows its own errors only."""
        typed = self._refuse_with_response
        return SDK_HEADER in headers if typed is None else typed

    async def _send(self, call: Call[Any]) -> Any:
        response = await self.inner.handle_async_request(call.payload)
        status, headers = response.status_code, Lowered.of_raw(response.headers.raw)
        if status == SWITCHING_PROTOCOLS:  # what follows is no body, and the caller's to speak
            call.verdict, call.reply = OK, Reply(status, headers)
            return response
        answered = OK if is_redirect(status) else None
        if response.is_closed or response.is_stream_consumed:  # by a transport that looked at it
            judged = buffer_limit(call, status, headers) and call.payload.method != "HEAD"
            raw = body_for_classifier(call, status, response.content) if judged else None
            call.verdict, call.reply = answered, Reply(status, headers, raw)
            return response
        library, inner = _library(response.__class__), response.stream
        body, parts = aiter(inner), list[bytes]()
        most = buffer_limit(call, status, headers)
        try:
            whole = most > 0 and await _read(body, parts, most)
        except BaseException:  # not every transport closes what broke
            call.runtime.spawn(functools.partial(close, body, inner))
            raise
        call.verdict = answered
        if whole:
            await inner.aclose()
            raw = b"".join(parts)
            response.stream = library.ByteStream(raw)
            if call.payload.method != "HEAD":
                call.reply = Reply(status, headers, _judged(call, status, headers, raw))
            else:
                call.reply = Reply(status, headers)
            return response
        call.reply = Reply(status, headers)
        kind, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        watch = stream_watch_for(call, kind, encoding)
        response.stream = open_body_class(library)(library, inner, body, call, watch, parts)
        if most and call.hold is not None:  # another attempt gives this one's connection back
            call.hold.on_close(lambda _: call.runtime.spawn(functools.partial(close, body, inner)))
        return response


_TELLING = frozenset(
    name.encode("ascii") for name in (*KEY_HEADERS, SDK_HEADER, RETRY_COUNT_HEADER)
)


def _telling(raw: list[tuple[bytes, bytes]]) -> Lowered:
    """Return the few of a request's headers that say anything to us; an SDK sends twenty."""
    return Lowered.of_raw([pair for pair in raw if pair[0].lower() in _TELLING])


@functools.cache
def _library(cls: type) -> Any:
    """Return the library of a request's or response's class, which may be derived from its own."""
    for base in cls.__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(library, "AsyncByteStream"):
            return library
    raise TypeError(f"{cls.__qualname__} is neither of httpx nor of httpx2")


def _content_of(request: Any) -> bytes | None:
    """Return the body where it is bytes that httpx keeps, not an iterator gone once read."""
    try:
        content = request.content
    except Exception:  # RequestNotRead: each library has its own
        if not isinstance(request.stream, _library(request.__class__).ByteStream):
            return None
        content = request.read()  # a redirected request has its bytes in the stream alone
    return content if isinstance(content, bytes) else None


def _is_multipart(stream: Any) -> bool:
    """Whether a body is a form whose files httpx can rewind, so that it can be sent again."""
    files = [getattr(field, "file", b"") for field in getattr(stream, "fields", ())]
    return bool(files) and all(isinstance(f, bytes | str) or _can_seek(f) for f in files)


def _can_seek(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except Exception:  # an object of the caller's own
        return False


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


def _judged(call: Call[Any], status: int, headers: Lowered, raw: bytes) -> bytes | None:
    """Return what the classifier looks at of a whole body; a bomb is the caller's to set off."""
    body = decompressed(raw, headers.get("content-encoding", "identity"), LONGEST_DECODED)
    return None if body is None else body_for_classifier(call, status, body)


def _annotate(response: Any, call: Call[Any]) -> None:
    """Leave the note where the client, or an SDK above it, finds it."""
    advice = None if call.verdict is None else call.verdict.advice
    response.extensions = {**response.extensions, NOTE: note(call, advice)}


def _refusal(call: Call[Any], error: Exception) -> Any:
    """Return what an SDK understands: a timeout, or a 503 that asks not to be retried."""
    request = call.payload
    library = _library(request.__class__)
    if isinstance(error, DeadlineExceeded | AttemptTimedOut):
        raise library.ReadTimeout(str(error), request=request) from error
    hint = getattr(error, "retry_after", None)
    headers = {"retry-after": f"{hint:.3f}"} if hint else {}
    return _synthetic(call, 503, str(error), type(error).__name__, "refused", headers)


def _malformed(call: Call[Any], response: Any) -> Any:
    """Return an error in place of a success that is none: an SDK would take it for an answer."""
    verdict, request_id = call.verdict, response.headers.get("x-request-id")
    advice = "" if verdict is None or verdict.advice is None else f": {verdict.advice}"
    message = f"the server answered {response.status_code} with what is no answer{advice}"
    headers = {"x-request-id": request_id} if request_id else {}
    return _synthetic(call, 502, message, "MalformedResponseError", "malformed_response", headers)


def _synthetic(
    call: Call[Any], status: int, message: str, kind: str, code: str, headers: dict[str, str]
) -> Any:
    """Return a response of our own making, that asks not to be retried."""
    request = call.payload
    response = _library(request.__class__).Response(
        status,
        headers={"x-should-retry": "false", **headers},
        json={"error": {"message": message, "type": kind, "code": code}},
        request=request,
    )
    _annotate(response, call)
    return response
