"""A transport for requests that name their endpoint, as the lines of a batch do."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ...adapters.infe.transport import InfeTransport
from ...core.call import Call


class Endpoints:
    """A transport of payloads that name their endpoint: ``{"url": ..., "body": ...}``."""

    def __init__(self, transport: InfeTransport) -> None:
        """Remember what the base URL ends with."""
        self._transport = transport
        self._prefix = "/v1" if transport.base_url.endswith("/v1") else ""

    async def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Send one payload."""
        return await self.handle(Call(payload))

    def handle(self, call: Call[dict[str, Any]]) -> Coroutine[Any, Any, dict[str, Any]]:
        """Return what sends a call's body to its endpoint, to be awaited."""
        payload = call.payload
        path = payload["url"].removeprefix(self._prefix)
        return self._transport.post(call, payload["body"], path)
