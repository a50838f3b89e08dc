"""The OpenAI SDK's async clients, of either major version.

The wrapped client is derived with the SDK's own ``with_options``. Its own retries are off, because
two layers of retries multiply (three tries by three made nine requests).
"""

from __future__ import annotations

from typing import Any

from ..stack import Stack
from .httpx import resilient_client


def resilient_openai(client: Any, stack: Stack) -> Any:
    """Return a client like `client` whose requests go through `stack`, once each.

    The http client inside is copied with its hooks, headers, proxies and pool, so closing either
    client closes the pool. What the stack refuses reaches the caller as the SDK's own errors: an
    ``APITimeoutError`` for a deadline, else an ``InternalServerError`` (503) with the reason.
    """
    http = resilient_client(client._client, stack, refuse_with_response=True)  # noqa: SLF001
    return client.with_options(max_retries=0, http_client=http)
