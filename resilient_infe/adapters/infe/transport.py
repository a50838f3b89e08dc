"""The transport of our own, on aiohttp: JSON in, JSON out, and streams.

Straight on aiohttp, because at 500 calls in flight the SDK's client costs 6 to 15 times its CPU per
request. It does one attempt and reports it; all resilience is the stack's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from multidict import CIMultiDict

from ...aio import AsyncioRuntime, Runtime, current, wall_time
from ...classify.body import decoded
from ...classify.error_body import is_error
from ...classify.table import classify_exception
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
from .credentials import ApiKey
from .models import ModelList
from .replies import error_of, malformed, printable
from .stream import InfeStream, StreamTransport

BASE_URL = "https://api.infe.io/v1"

LONGEST_ERROR = 64 * 1024
"""Decoded bytes of an error body that are read."""

LONGEST_RESPONSE = 64 * 1024 * 1024
"""Decoded bytes of a response that are accepted; a gzip bomb ends here."""

CONNECT_TIMEOUT = 10.0
"""Seconds to reach the server."""


class InfeTransport:
    """Posts chat completions to the Infe API, or to anything that looks like it.

    ``await transport(payload)`` returns the decoded response; ``transport.stream`` is a second
    transport whose result is an `InfeStream`. Give either to `Stack.around`.

    Args:
        api_key: the key, or None for the environment's ``INFE_API_KEY``.
        base_url: where the API is, up to and with ``/v1``.
        path: the endpoint, for another than chat completions.
        max_connections: connections at most, from 1; None for as many as there are calls in
            flight. Keep it at least as large as the concurrency, or calls queue twice.
        headers: further headers for each request.

    Raises:
        ConfigurationError: the key or the URL cannot be right; the message says why.

    State: one connection pool, opened at the first call and closed by `aclose`, or by ``async
    with``. One transport serves one event loop at a time, asyncio's.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str = BASE_URL,
        path: str = "/chat/completions",
        max_connections: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Check everything; nothing is opened yet."""
        bounds.instance(base_url, str, "base_url", "text")
        if not base_url.startswith(("http://", "https://")) or "@" in base_url:
            raise ConfigurationError(
                f"base_url starts with https:// (or http://) and holds no credentials, like "
                f"{BASE_URL}"
            )
        if max_connections is not None:
            bounds.whole(max_connections, 1, "max_connections")
        self._key = ApiKey(api_key)
        self.base_url = base_url.rstrip("/")
        self._path = path
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
            InfeError: the server answered with an error, or not at all.
        """
        return await self.handle(Call(payload))

    async def handle(self, call: Call[Mapping[str, Any]]) -> dict[str, Any]:
        """Send a call's payload; put the reply on the call."""
        return await self.post(call, call.payload, self._path)

    async def post(self, call: Call[Any], payload: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Send a body to an endpoint on a call's behalf; put the reply on the call.

        Args:
            call: whose attempt this is.
            payload: the body.
            path: what follows the base URL, like ``/embeddings``.

        Raises:
            InfeError: the server answered with an error, or not at all.
        """
        body = _encoded(payload)
        if payload.get("stream"):
            raise InvalidRequestError(
                "`stream` is true: use transport.stream, as in stack.around(transport.stream), "
                "whose result is an open stream"
            )
        failure: Exception
        try:
            async with self._post(call, body, path) as response:
                raw = await _read(response, LONGEST_RESPONSE)
        except _BROKEN as error:
            failure = self._transport_error(error)
        else:
            return await self._result(call, response, raw, payload.get("model"), path)
        # Outside of the handler: aiohttp's exceptions hold the request's headers, the key among
        # them, and must not hang on ours as a context.
        raise failure

    async def open_stream(self, call: Call[Mapping[str, Any]]) -> InfeStream:
        """Send a call's payload with ``stream`` on and return the open stream."""
        _encoded(call.payload)  # says what is wrong with it before it is unpacked
        body = _encoded({**call.payload, "stream": True})
        failure: Exception
        try:
            response = await self._post(call, body, self._path)
            if response.status == 200 and response.content_type == "text/event-stream":
                call.reply = Reply(response.status, response.headers)
                return InfeStream(response, call)
            async with response:
                raw = await _read(response, LONGEST_ERROR)
        except _BROKEN as error:
            failure = self._transport_error(error)
        else:
            await self._result(call, response, raw, call.payload.get("model"), self._path)
            failure = malformed(
                Reply(response.status, response.headers),
                "a stream was asked for and something else came",
            )
        raise failure

    async def aclose(self) -> None:
        """Close the connections; the transport can be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        """Return self."""
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
        """Show where it sends to, and not with what key."""
        return f"<InfeTransport {self.base_url}>"

    def _post(self, call: Call[Any], body: bytes, path: str) -> Any:
        headers = CIMultiDict(self._fixed_headers)
        if call.request_id is not None:
            headers["x-client-request-id"] = call.request_id
        url = self.base_url + path
        return self._open().post(url, data=body, headers=headers, allow_redirects=False)

    def _open(self) -> aiohttp.ClientSession:
        runtime = current()
        if not isinstance(runtime, AsyncioRuntime):
            raise ConfigurationError(
                "InfeTransport runs on asyncio only, as aiohttp does: under trio wrap an "
                "httpx.AsyncClient instead"
            )
        session = self._session
        if session is not None and not session.closed and runtime is not self._runtime:
            raise WrongLoopError(
                "this InfeTransport was opened on another event loop: make one per loop, or close "
                "it there before the next one (async with InfeTransport(...) as transport)"
            )
        self._runtime = runtime
        if session is None or session.closed:
            # Attempts and calls are timed by the stack: a total here would count its sleeps too.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
            connector = aiohttp.TCPConnector(limit=self._max_connections or 0)
            session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),  # the API has none, and to look costs time
            )
            self._session = session
        return session

    async def _result(
        self, call: Call[Any], response: aiohttp.ClientResponse, raw: bytes, model: Any, path: str
    ) -> dict[str, Any]:
        content = decoded(raw, LONGEST_RESPONSE)
        if _is_answer(response.status, content, path):
            call.reply = Reply(response.status, response.headers, content, raw)
            return cast("dict[str, Any]", content)
        headers = self._key.masked_headers(response.headers)
        reply = call.reply = Reply(response.status, headers, self._key.masked_json(content))
        error = _error_of(reply)
        if isinstance(error, ModelNotFoundError):
            await self._models.explain(error, model)
        raise error

    def _transport_error(self, error: Exception) -> InfeError:
        verdict = classify_exception(error)
        name = type(error).__name__
        message = f"{name}: {printable(self._key.masked(str(error)))}"
        if verdict.kind is Kind.INVALID:
            return InvalidRequestError(message, type=name, advice=verdict.advice)
        cls = TransportError if verdict.sent else NeverSentError
        return cls(message, type=name, advice=verdict.advice)

    async def _list_models(self) -> Any:
        headers = {"Authorization": self._key.header()}
        async with self._open().get(
            f"{self.base_url}/models", headers=headers, allow_redirects=False
        ) as response:
            content = decoded(await _read(response, LONGEST_ERROR), LONGEST_ERROR)
        return self._key.masked_json(content)  # an id of it may go into an error's advice


_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode
"""Made once: `json.dumps` makes an encoder for every call that asks for anything special."""


def _encoded(payload: Mapping[str, Any]) -> bytes:
    if not isinstance(payload, Mapping):
        raise InvalidRequestError(
            f"a payload is a mapping with `model` and `messages`; got {type(payload).__name__}"
        )
    try:
        plain = payload if type(payload) is dict else dict(payload)
        return _encode(plain).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the payload cannot be written as JSON: {error}") from None


def _is_answer(status: int, content: Any, path: str) -> bool:
    """Whether a response holds what its endpoint promises."""
    if not (200 <= status < 300 and isinstance(content, dict)) or is_error(content):
        return False
    return not path.endswith("/chat/completions") or isinstance(content.get("choices"), list)


def _error_of(reply: Reply) -> InfeError:
    """Return the typed error for a response that is not an answer."""
    if 200 <= reply.status < 300:
        if not isinstance(reply.body, dict):
            return malformed(reply, "the response is not a JSON object")
        if not is_error(reply.body):
            return malformed(reply, "the response has no `choices`")
    return error_of(reply, wall_time())


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read a body, its *decoded* size bounded, to its end so that the connection is used again."""
    most = most if response.status < 400 else LONGEST_ERROR
    length = response.content_length
    if length is not None and length <= most and "Content-Encoding" not in response.headers:
        return await response.read()
    parts, size = [], 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            response.close()
            break
    return b"".join(parts)[:most]


_BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
"""What aiohttp raises when there is no whole response."""
