"""A transport for httpx and httpx2. This file serves both and imports neither.

Every request of a client passes through its transport, below hooks, authentication and redirects.
So this is where the stack goes. httpx requires four methods of a transport. The library (httpx or
httpx2) is found from the class of the request or response.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Coroutine
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from ...classify.headers import Lowered
from ...core import bounds
from ...core.call import Call, Reply
from ...core.verdict import EMPTY_ANSWER, OK, Kind
from ...errors import AttemptTimedOut, ConfigurationError, MalformedAnswer, Refused
from ...stack import Stack
from ..http.bomb import DecompressionBomb, bomb_verdict
from ..http.first_event import read_first_event, why_not_begun, within_first_chunk
from ..http.partition import PartitionOf, Partitions, model_in_path
from ..http.request import (
    KEY_HEADERS,
    RETRY_COUNT_HEADER,
    NestedRetriesCheck,
    hide_key,
    prepare_call,
)
from ..http.response import (
    SWITCHING_PROTOCOLS,
    asks_completion,
    asks_stream,
    body_for_classifier,
    buffer_limit,
    is_redirect,
    open_limit,
    stream_watch_for,
)
from ..http.stream_watch import StreamWatch
from .decompress import decompressed, unpacker_for
from .masked import masked_response, read_masked
from .masked_events import mask_events
from .open_body import close, open_body_class
from .renamed import renewed
from .renewed_auth import renewal_of
from .synthetic import annotate, bad_gateway, in_place_of, library_of, refusal

LONGEST_DECODED = 32 * 1024 * 1024
"""Bytes. The classifier sees a body that decompresses to more as empty."""

SDK_HEADER = "x-stainless-lang"
"""A request header of SDKs (OpenAI's, Anthropic's) that handle only their own exceptions."""


if TYPE_CHECKING:
    # Neither library requires a base class of a transport, only its methods.
    Transport: TypeAlias = Any
else:
    Transport = object


class ResilientTransport(Transport):  # type: ignore[misc]  # by design
    """An httpx transport with a stack around it, for ``AsyncClient(transport=...)``.

    It works for httpx and httpx2. It returns the last response that the server sent, with a body
    that can be read. If that response is a failure, ``response.extensions["resilient_infe"]`` has a
    line about its attempts.

    Args:
        inner: the transport that sends, such as ``httpx.AsyncHTTPTransport()``. Its pool should
            allow as many connections as the stack allows calls in flight. Otherwise calls wait
            twice: in the stack, and for a connection.
        stack: the layers.
        refuse_with_response: for SDKs, which wrap or retry an exception that they do not know. If
            True, a refusal of the stack becomes a 503, a success without a usable body becomes a
            502, an error inside a success gets the status of its kind (all ask not to be retried),
            and a timeout, or a deadline that passed after something was sent, becomes the library's
            own ``ReadTimeout``. If False, the stack's exceptions are raised and the response is
            returned as it came. None means True for requests that an SDK marks, and False for all
            others.
        partition: the name of the partition of all requests, or a function that takes the library's
            ``Request`` and returns it; None, the default, for the model that the request names.

    Raises:
        ConfigurationError: `inner` is not an async transport, `stack` is not a Stack, or
            `partition` is neither a text nor a function.

    State: the stack's. ``aclose`` closes `inner`.
    """

    def __init__(
        self,
        inner: Any,
        stack: Stack,
        *,
        refuse_with_response: bool | None = None,
        partition: PartitionOf | None = None,
    ) -> None:
        bounds.instance(stack, Stack, "ResilientTransport", "a Stack, like presets.batch()")
        if inspect.isclass(inner) or not hasattr(inner, "handle_async_request"):
            raise ConfigurationError(
                f"ResilientTransport goes around an async transport, such as "
                f"httpx.AsyncHTTPTransport(); got {inner!r}. For a client use wrap(client, stack)"
            )
        self.inner, self.stack = inner, stack
        self._handler = stack.handler(self._send)
        self._refuse_with_response = refuse_with_response
        self._partitions = Partitions(partition)
        self._nested = NestedRetriesCheck(retries=stack.retries)

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request through the stack; return the last response, with a readable body."""
        call: Call[Any] = Call(request)
        headers, url = _relevant(request.headers.raw), request.url
        content = _content_of(request)
        call.replayable = content is not None or _is_multipart(request.stream)
        call.state.single = content is None
        path = url.raw_path.decode("ascii")
        body = prepare_call(call, request.method, path, headers, content)
        self._partitions.place(call, lambda: request, body.model() or model_in_path(path))
        self._nested.check(headers)
        try:
            response = await self._handler(call)
        except (Refused, AttemptTimedOut) as error:
            if not self._needs_sdk_errors(headers):
                raise
            return refusal(call, error)
        except (library_of(request.__class__).DecodingError, MalformedAnswer) as error:
            if not self._needs_sdk_errors(headers):
                raise
            return bad_gateway(call, str(error))
        verdict, for_sdk = call.verdict, self._needs_sdk_errors(headers)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            if for_sdk and call.hold is not None:
                response = await read_masked(call, response)
            else:
                response = masked_response(call, response)
        elif for_sdk and call.hold is not None:
            mask_events(call, response)
        if verdict is None or verdict.kind is Kind.OK:
            return response
        in_place = response.status_code < 300 and call.hold is None
        if for_sdk and in_place and verdict.error != EMPTY_ANSWER:
            return in_place_of(call, response)
        annotate(response, call)
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

    def _needs_sdk_errors(self, headers: Lowered) -> bool:
        """Whether the caller is an SDK that handles only its own exceptions."""
        chosen = self._refuse_with_response
        return SDK_HEADER in headers if chosen is None else chosen

    def _send(self, call: Call[Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that makes one attempt."""
        if call.state.first_chunk is None or not asks_stream(call):
            return self._attempt(call)
        return within_first_chunk(call, self._attempt)

    async def _attempt(self, call: Call[Any]) -> Any:
        """Make one attempt; what it raises does not quote the key."""
        request = call.payload
        renewal = renewal_of(request)
        if renewal is not None:
            await renewal.before(call, self.inner.handle_async_request)
        try:
            return await self._answer(call)
        except Exception as error:
            hide_key(call, error)
            raise

    async def _answer(self, call: Call[Any]) -> Any:
        """Make one attempt and put its reply on the call.

        There are five cases:

        1. The protocol is switched (101): what follows is not a body, and belongs to the caller.
        2. The inner transport has already read the body: it is classified from memory.
        3. The body ends within `buffer_limit`: it is read here, inside the attempt, and the
           response gets it back as a stream of bytes.
        4. The body is a stream that the request asked for: it is read to its first event, and then
           handed over open.
        5. The body is longer, or the limit is 0: it is handed over open.

        What is handed over open begins with the parts that were read, and a hold keeps slot and
        reservation until the body ends. If reading fails or is cancelled, the connection is closed
        in the background.
        """
        response = await self.inner.handle_async_request(renewed(call))
        status, headers = response.status_code, Lowered.of_raw(response.headers.raw)
        if status == SWITCHING_PROTOCOLS:
            call.verdict, call.reply = OK, Reply(status, headers)
            return response
        verdict = OK if is_redirect(status) else None  # None: the classifier decides
        if response.is_closed or response.is_stream_consumed:
            judged = buffer_limit(call, status, headers)
            _note(call, status, headers, response.content if judged else None)
            call.verdict = verdict
            return response
        library, inner = library_of(response.__class__), response.stream
        body, parts = aiter(inner), list[bytes]()
        limit = buffer_limit(call, status, headers)
        watch = unpacker = None
        try:
            if not (limit and await _read(body, parts, limit)):
                watch = await _watched(call, status, headers, body, parts)
            call.verdict = verdict
            if watch is None:
                await inner.aclose()
                _complete(call, response, headers, b"".join(parts))
            else:
                unpacker = unpacker_for(headers.get("content-encoding", "identity"))
        except BaseException as error:  # not every transport closes a broken stream
            call.runtime.spawn(functools.partial(close, body, inner))
            if isinstance(error, DecompressionBomb):
                call.verdict = bomb_verdict("DecodingError")
                raise library.DecodingError(str(error), request=call.payload) from None
            raise
        if watch is not None:
            call.reply = Reply(status, headers)
            if watch.began_with_error:
                call.verdict = watch.verdict
            opened = open_body_class(library)
            response.stream = opened(
                library, inner, body, call, watch, parts, unpacker, open_limit(call, limit)
            )
            # An error, in the stream or with a long body, may be retried. Retry closes the hold
            # before the next attempt, which gives the connection back.
            if (limit or watch.began_with_error) and call.hold is not None:
                give_back = functools.partial(close, body, inner)
                call.hold.on_close(lambda _: call.runtime.spawn(give_back))
        return response


_RELEVANT = frozenset(
    name.encode("ascii") for name in (*KEY_HEADERS, SDK_HEADER, RETRY_COUNT_HEADER)
)


def _relevant(raw: list[tuple[bytes, bytes]]) -> Lowered:
    """Return the request headers that the adapter reads. An SDK sends twenty in all."""
    return Lowered.of_raw([pair for pair in raw if pair[0].lower() in _RELEVANT])


def _content_of(request: Any) -> bytes | None:
    """Return the body if httpx has its bytes; None if it is an iterator that can be read once."""
    try:
        content = request.content
    except Exception:  # RequestNotRead, of which each library has its own
        if not isinstance(request.stream, library_of(request.__class__).ByteStream):
            return None
        content = request.read()  # a redirected request has its bytes only in the stream
    return content if isinstance(content, bytes) else None


def _is_multipart(stream: Any) -> bool:
    """Whether a body is a form whose files httpx can rewind. Then it can be sent again."""
    files = [getattr(field, "file", b"") for field in getattr(stream, "fields", ())]
    return bool(files) and all(isinstance(f, bytes | str) or _can_seek(f) for f in files)


def _can_seek(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except Exception:  # the file may be any object
        return False


async def _read(body: AsyncIterator[bytes], parts: list[bytes], limit: int) -> bool:
    """Read a body into `parts` as it comes over the wire; return whether it ended.

    Reading stops at the first part that takes the size above `limit`. The rest stays in `body`, so
    `parts` and then `body` give every byte once.
    """
    size = 0
    while size <= limit:
        try:
            part = await anext(body)
        except StopAsyncIteration:
            return True
        parts.append(part)
        size += len(part)
    return False


async def _watched(
    call: Call[Any],
    status: int,
    headers: Lowered,
    body: AsyncIterator[bytes],
    parts: list[bytes],
) -> StreamWatch:
    """Read to the first event if the request asked for a stream; return the watch over `parts`.

    Raises:
        RemoteProtocolError: the library's own; the stream ended before its first event.
    """
    watch = stream_watch_for(call, status, headers, headers.get("content-encoding", ""))
    for part in parts:
        watch.feed(part)
    if await read_first_event(lambda: anext(body, None), watch, parts):
        library = library_of(call.payload.__class__)
        encoding = headers.get("content-encoding", "identity")
        raw = decompressed(b"".join(parts), encoding, LONGEST_DECODED)
        reason = why_not_begun(call, status, headers, raw)
        raise library.RemoteProtocolError(reason, request=call.payload)
    return watch


def _complete(call: Call[Any], response: Any, headers: Lowered, raw: bytes) -> None:
    """Put a body that was read to its end into the response, and the reply on the call.

    It is decompressed for the classifier within a limit.
    """
    response.stream = library_of(response.__class__).ByteStream(raw)
    body = decompressed(raw, headers.get("content-encoding", "identity"), LONGEST_DECODED)
    _note(call, response.status_code, headers, body)


def _note(call: Call[Any], status: int, headers: Lowered, body: bytes | None) -> None:
    """Put the reply on the call, with what the classifier gets of a complete body.

    That is nothing after a HEAD, nor of an empty body without a single header: servers do not send
    that, but the fake transports of tests do.
    """
    shown = None
    if body is not None and (body or headers) and call.payload.method != "HEAD":
        shown = body_for_classifier(call, status, body)
    call.reply = Reply(status, headers, shown, completion=asks_completion(call))
