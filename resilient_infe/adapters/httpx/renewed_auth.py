"""Asks an ``auth=`` of httpx again before an attempt, if what it gave may have become stale.

httpx runs the flow of an ``auth=`` above its transport, and so before the waits of the stack. A
token of a minute that waits for two is refused. So the flow is started again inside the attempt, if
the call has waited or has been sent before. It continues with the response of that attempt.

The first start stays where httpx has it, because the partition needs the key.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from ...aio import drive
from ...core.call import Call

RENEWAL = "resilient_infe.renewal"
"""The key in ``request.extensions`` that holds the `Renewal`."""

FRESH = 0.05
"""Seconds between the start of the flow and the attempt, up to which nothing is renewed."""

Flow = AsyncGenerator[Any, Any]


class RenewedAuth:
    """An auth that can be asked again by the transport. State: none; per request it is a `Renewal`.

    Args:
        auth: an auth of the library.
    """

    def __init__(self, auth: Any) -> None:
        self._auth = auth

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Run the flow of a synchronous client, in the same way."""
        flow = self._continued(Renewal(_awaitable(self._auth.sync_auth_flow), request))
        try:
            current = drive(anext(flow))
            while True:
                response = yield current
                try:
                    current = drive(flow.asend(response))
                except StopAsyncIteration:
                    return
        finally:
            drive(flow.aclose())

    def async_auth_flow(self, request: Any) -> Flow:
        """Run the flow as the library does, and continue with the one that was started last."""
        return self._continued(Renewal(self._auth.async_auth_flow, request))

    @staticmethod
    async def _continued(renewal: Renewal) -> Flow:
        request = renewal.request
        try:
            current = await anext(renewal.flow)
            while True:
                if current is request:
                    renewal.offer()
                response = yield current
                try:
                    current = await renewal.flow.asend(response)
                except StopAsyncIteration:
                    return
        finally:
            await renewal.flow.aclose()


class Renewal:
    """The flow of one request, which can be started again. State: per request.

    Args:
        start: starts the flow of an auth for a request.
        request: the request, as it is before the auth has seen it.

    Attributes:
        request: the request.
        flow: the flow that was started last.
    """

    def __init__(self, start: Callable[[Any], Flow], request: Any) -> None:
        self.request, self.flow = request, start(request)
        self._start, self._url, self._headers = start, request.url, request.headers.copy()
        self._set: dict[str, str | None] = {}
        self._used = False

    def offer(self) -> None:
        """Let the transport renew the request, whose headers the flow has now set."""
        self._used = False
        before, now = self._headers, self.request.headers
        self._set = {name: before.get(name) for name in now if now[name] != before.get(name)}
        self.request.extensions[RENEWAL] = self

    async def before(self, call: Call[Any], send: Callable[[Any], Awaitable[Any]]) -> None:
        """Start the flow again before an attempt, unless the last start is fresh.

        Args:
            call: the call.
            send: sends a request that the flow needs first, such as one for a token.
        """
        used, self._used = self._used, True
        if not used and call.runtime.now() - call.started <= FRESH:
            return
        request = self.request
        await self.flow.aclose()
        for name, value in self._set.items():
            with contextlib.suppress(KeyError):
                del request.headers[name]
            if value is not None:
                request.headers[name] = value
        request.url = self._url
        self.flow = self._start(request)
        current = await anext(self.flow)
        while current is not request:
            response = await send(current)
            response.request = current
            await response.aread()
            current = await self.flow.asend(response)


def _awaitable(start: Callable[[Any], Generator[Any, Any, None]]) -> Callable[[Any], Flow]:
    """Return a function that starts the flow of a synchronous client as one that is awaited."""

    async def flow(request: Any) -> Flow:
        with contextlib.closing(start(request)) as steps:
            current = next(steps, None)
            while current is not None:
                response = yield current
                try:
                    current = steps.send(response)
                except StopIteration:
                    return

    return flow


def renewal_of(request: Any) -> Renewal | None:
    """Return the renewal of a request; None if it has none, as one that follows a redirect."""
    renewal = request.extensions.get(RENEWAL)
    return renewal if isinstance(renewal, Renewal) and renewal.request is request else None
