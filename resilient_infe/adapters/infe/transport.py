"""The library's own transport for the Infe API, on aiohttp: JSON requests and streams.

It uses aiohttp directly, because at 500 calls in flight the SDK's client takes 6 to 15 times as
much CPU per request. The transport makes one attempt and reports it. Retries, rate limits and
timeouts are the stack's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from multidict import CIMultiDict

from ...aio import AsyncioRuntime, Runtime, current, wall_time
from ...classify.body import decoded
from ...classify.error_body import first_of, is_error, stated_in
from ...classify.table import ACCEPTED, classify_exception
from ...core import bounds
from ...core.call import Call, Reply
from ...core.verdict import Kind
from ...errors import (
    ConfigurationError,
    InfeError,
    InvalidRequestError,
    ModelNotFoundError,
    NeverSentError,
    TransportError,
    WrongLoopError,
)
from ..http.bomb import ADVICE, BOMB, is_bomb
from ..http.masking import printable
from .address import BASE_URL, check_base_url
from .credentials import ApiKey
from .encode import encoded
from .models import ModelList
from .proxy import route_to
from .replies import error_of, malformed, not_yet
from .stream import InfeStream, StreamTransport

LONGEST_ERROR = 64 * 1024
"""Decoded bytes of an error body. Reading stops above it."""

LONGEST_RESPONSE = 64 * 1024 * 1024
"""Decoded bytes of a response. Reading stops above it."""

LONGEST_RAW = 1024 * 1024
"""Bytes of a response up to which its bytes are kept beside the decoded content, for a batch to
write. Above it they would be a third copy of the answer.
"""

CONNECT_TIMEOUT = 10.0
"""Seconds to open a connection."""


class InfeTransport:
    """Posts chat completions to the Infe API, or to a server that is compatible with it.

    ``await transport(payload)`` returns the decoded response; ``transport.stream`` is a second
    transport whose result is an `InfeStream`. Give either to `Stack.around`.

    Args:
        api_key: the key, or None for the environment's ``INFE_API_KEY``.
        base_url: the API's URL, up to and including ``/v1``.
        path: the endpoint, if it is not chat completions.
        max_connections: the largest number of connections, from 1; None for no limit. Keep it at
            least as large as the concurrency, or calls wait twice: in the stack, and for a
            connection.
        headers: additional headers for each request.
        proxy: the URL of an HTTP proxy, such as ``http://user:password@proxy.example:3128``; None
            for none but the environment's.
        trust_env: whether to use the proxy that ``HTTPS_PROXY``, ``HTTP_PROXY`` or ``ALL_PROXY``
            names, but for the hosts in ``NO_PROXY``; they are read once, here. False, because a
            request with a key should not take a way that nobody asked for.

    Raises:
        ConfigurationError: the key, the URL or the proxy is malformed; the message says why.

    Attributes:
        base_url: as given, without a slash at its end.
        posts_bodies_to: `path`, as given.

    State: one connection pool, opened at the first call and closed by `aclose`, or by ``async
    with``. A transport serves one asyncio event loop at a time.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str = BASE_URL,
        path: str = "/chat/completions",
        max_connections: int | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
    ) -> None:
        check_base_url(base_url)
        self._route = route_to(base_url, proxy, trust_env=trust_env)
        if max_connections is not None:
            bounds.whole(max_connections, 1, "max_connections")
        self._key = ApiKey(api_key)
        self.base_url = base_url.rstrip("/")
        self.posts_bodies_to = path
        self._fixed_headers = CIMultiDict(
            dict(headers or {})
            | {"Authorization": self._key.header(), "Content-Type": "application/json"}
        )
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._runtime: Runtime | None = None
        self._models = ModelList(self._list_models)
        self.stream = StreamTransport(self.open_stream)

    async def __call__(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return the decoded response.

        Raises:
            InfeError: the server sent an error or no response.
        """
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> dict[str, Any]:
        """Send a call's payload, and set the call's reply."""
        return await self.post(call, call.payload, self.posts_bodies_to)

    async def post(self, call: Call[Any], payload: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Send a body to an endpoint as one attempt of a call, and set the call's reply.

        Args:
            call: the call.
            payload: the body.
            path: the path after the base URL, like ``/embeddings``.

        Raises:
            InfeError: the server sent an error or no response.
        """
        body = encoded(payload)
        if payload.get("stream"):
            raise InvalidRequestError(
                "`stream` is true: use transport.stream, as in stack.around(transport.stream), "
                "whose result is an open stream"
            )
        failure: Exception
        try:
            response = await self._post(call, body, path)
            parts = await _read(response, LONGEST_RESPONSE)
        except _NO_RESPONSE as error:
            failure = self._transport_error(error)
        else:
            return await self._result(call, response, parts, payload, path)
        # Raised outside of the except block, so that it has no __context__: aiohttp's exceptions
        # refer to the request's headers, which contain the API key.
        raise failure

    async def open_stream(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Send a call's payload with ``"stream": true``; return the stream at its first event.

        Raises:
            InfeError: the server sent an error, something other than a stream, or no response.
            StreamBroken: the stream ended before its first event, or the event is not a chunk.
        """
        encoded(call.payload)  # raises if it is not a mapping, before ** does
        body = encoded({**call.payload, "stream": True})
        failure: Exception
        try:
            response = await self._post(call, body, self.posts_bodies_to)
            if response.status == 200 and response.content_type == "text/event-stream":
                call.reply = Reply(response.status, response.headers)
                stream = InfeStream(response, call, partial(self._stream_error, call, response))
                await stream.begin()
                return stream
            parts = await _read(response, LONGEST_ERROR)
        except _NO_RESPONSE as error:
            failure = self._transport_error(error)
        else:
            if not isinstance(parts, str):
                await self._result(call, response, parts, call.payload, self.posts_bodies_to)
            failure = malformed(
                Reply(response.status, self._key.mask.headers(response.headers)),
                "the request asked for a stream, and the response is not a stream",
            )
        raise failure  # outside of the except block, as in `post`

    async def aclose(self) -> None:
        """Close the connections. The transport can be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.aclose()

    def __repr__(self) -> str:
        """Show the base URL, not the key."""
        return f"<InfeTransport {self.base_url}>"

    def _post(self, call: Call[Any], body: bytes, path: str) -> Any:
        headers = CIMultiDict(self._fixed_headers)
        call.state.mask = self._key.mask
        if call.request_id is not None:
            headers["x-client-request-id"] = call.request_id
        url = self.base_url + path
        session = self._open(getattr(call, "runtime", None))
        return session.post(url, data=body, headers=headers, allow_redirects=False)

    def _open(self, runtime: Runtime | None = None) -> aiohttp.ClientSession:
        """Return the session; open it if there is none.

        Args:
            runtime: of the running loop, where a stack has found it out already: to ask for it is a
                system call.

        Raises:
            ConfigurationError: the running event loop is not asyncio's.
            WrongLoopError: the session is open on another event loop.
        """
        session = self._session
        if runtime is not None and runtime is self._runtime and session and not session.closed:
            return session
        runtime = current()
        if not isinstance(runtime, AsyncioRuntime):
            raise ConfigurationError(
                "InfeTransport needs asyncio, because aiohttp does: under trio wrap an "
                "httpx.AsyncClient instead"
            )
        if session is not None and not session.closed and runtime is not self._runtime:
            raise WrongLoopError(
                "this InfeTransport is open on another event loop: make one per loop, or close it "
                "there first (async with InfeTransport(...) as transport)"
            )
        self._runtime = runtime
        if session is None or session.closed:
            # No total timeout: the stack limits attempts and calls.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
            connector = aiohttp.TCPConnector(limit=self._max_connections or 0)
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                proxy=self._route.proxy,
                cookie_jar=aiohttp.DummyCookieJar(),  # the API sets none, and looking costs time
            )
            self._session = session
        return session

    async def _result(
        self,
        call: Call[Any],
        response: aiohttp.ClientResponse,
        parts: list[bytes] | str,
        payload: Mapping[str, Any],
        path: str,
    ) -> dict[str, Any]:
        """Set the call's reply; return the decoded body, or raise the typed error for it."""
        if isinstance(parts, str):
            reply = call.reply = Reply(response.status, self._key.mask.headers(response.headers))
            raise malformed(reply, parts, ADVICE, retryable=False)
        content, raw = _decoded(parts)
        later = response.status == ACCEPTED or payload.get("deferred") is True  # xAI's
        asked = path.endswith("/completions") and not later
        if _is_valid(response.status, content, completion=asked):
            call.reply = Reply(response.status, response.headers, content, raw, completion=asked)
            return cast("dict[str, Any]", content)
        headers, masked = self._key.mask.headers(response.headers), self._key.mask.json(content)
        reply = call.reply = Reply(response.status, headers, masked, completion=asked)
        error = _error_of(reply)
        if isinstance(error, ModelNotFoundError):
            await self._models.explain(error, payload.get("model"))
        raise error

    def _stream_error(
        self, call: Call[Any], response: aiohttp.ClientResponse, content: dict[str, Any]
    ) -> InfeError:
        """Return the typed error for an error inside a stream, and set the call's reply."""
        headers = self._key.mask.headers(response.headers)
        reply = call.reply = Reply(response.status, headers, self._key.mask.json(content))
        return error_of(reply, wall_time())

    def _transport_error(self, error: Exception) -> InfeError:
        """Return the typed error for an exception of aiohttp, with the key masked."""
        verdict = classify_exception(error)
        name = type(error).__name__
        message = f"{name}: {printable(self._key.mask.text(str(error)))}"
        if verdict.kind is Kind.INVALID:
            return InvalidRequestError(message, type=name, advice=verdict.advice)
        if verdict.sent:
            return TransportError(message, type=name, advice=verdict.advice)
        advice = "; ".join(filter(None, (verdict.advice, self._route.note)))
        return NeverSentError(message, type=name, advice=advice)

    async def _list_models(self) -> Any:
        """Return the decoded response of ``GET /models``, outside of the stack."""
        headers = {"Authorization": self._key.header()}
        async with self._open().get(
            f"{self.base_url}/models", headers=headers, allow_redirects=False
        ) as response:
            parts = await _read(response, LONGEST_ERROR)
            content = None if isinstance(parts, str) else _decoded(parts)[0]
        return self._key.mask.json(content)  # its ids may go into an error's advice


def _is_valid(status: int, content: Any, *, completion: bool) -> bool:
    """Whether a response has a success status and the body that its endpoint promises."""
    if not (200 <= status < 300 and isinstance(content, dict)) or is_error(content):
        return False
    choices = content.get("choices")
    return not completion or (isinstance(choices, list) and bool(choices))


def _error_of(reply: Reply) -> InfeError:
    """Return the typed error for a response that is not valid."""
    if 200 <= reply.status < 300:
        content = first_of(reply.body)
        if content is None and reply.status == ACCEPTED:
            return not_yet(reply)
        if not isinstance(content, dict) or (content is not reply.body and not is_error(content)):
            return malformed(reply, "the response is not a JSON object")
        stated = stated_in(content)
        coded = is_error(content) or stated.names or stated.status
        if not coded and content.get("choices") != []:
            return malformed(reply, "the response has no `choices`")
    return error_of(reply, wall_time())


async def _read(response: aiohttp.ClientResponse, limit: int) -> list[bytes] | str:
    """Read a body in parts, limited by its *decoded* size.

    There are four cases:

    1. The length is stated and short, and nothing is compressed: read it at once.
    2. It ends within the limit: the connection is reused.
    3. An error exceeds the limit: its first `limit` bytes are enough to judge it.
    4. A success exceeds the limit, or is a decompression bomb: a message says so.

    In the last two the connection is closed, as it is if the reading fails or is cancelled.
    """
    limit, is_error = (limit, False) if response.status < 400 else (LONGEST_ERROR, True)
    length = response.content_length
    is_short = length is not None and length <= min(limit, LONGEST_RAW)
    if is_short and "Content-Encoding" not in response.headers:
        return [await response.read()]  # which closes the response itself where it fails
    parts, size, content = list[bytes](), 0, response.content
    async with response:
        async for part in content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit or is_bomb(size, content.total_raw_bytes):
                response.close()
                if is_error:
                    return [b"".join(parts)[:limit]]
                bomb = is_bomb(size, content.total_raw_bytes)
                return BOMB if bomb else f"the response is over {limit:,} bytes: reading stopped"
    return parts


def _decoded(parts: list[bytes]) -> tuple[Any, bytes | None]:
    """Return a body decoded from JSON, and its bytes if they are at most `LONGEST_RAW`.

    At most two copies of a long body are held: `parts` is emptied, and the bytes are dropped
    before the text is decoded.
    """
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    if len(raw) <= LONGEST_RAW:
        return decoded(raw, LONGEST_RAW), raw
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except ValueError:  # perhaps UTF-16, which the decoder detects
        return decoded(raw, LONGEST_RESPONSE), None
    del raw
    return decoded(text, LONGEST_RESPONSE), None


_NO_RESPONSE = (aiohttp.ClientError, OSError, TimeoutError)
"""The exceptions that aiohttp raises if there is no complete response."""
