"""SDKs made by Stainless: OpenAI's async clients of either major version, Azure's, Anthropic's.

The wrapped client is derived with the SDK's own ``with_options``. Its own retries are off, because
two layers of retries multiply (three tries by three made nine requests).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..stack import Stack
from ..telemetry.note import PREFIX
from .http.request import warn_of_nested_retries
from .httpx.client import resilient_client
from .httpx.transport import NOTE, ResilientTransport

LONGEST_CHAIN = 16
"""Links of an exception's causes that are followed; cycles exist."""


def resilient_openai(client: Any, stack: Stack) -> Any:
    """Return a client like `client` whose requests go through `stack`, once each.

    The http client inside is copied with its hooks, headers, proxies and pool, so closing either
    client closes both. What the stack refuses reaches the caller as the SDK's own errors: an
    ``APITimeoutError`` for a deadline, else an ``InternalServerError`` (503) with the reason. Every
    error of the SDK gets a note (PEP 678) of attempts, time and advice.
    """
    http = resilient_client(client._client, stack, refuse_with_response=True)  # noqa: SLF001
    wrapped = client.with_options(max_retries=0, http_client=http)
    strict = getattr(client, "_strict_response_validation", False)  # which with_options drops
    wrapped._strict_response_validation = strict  # noqa: SLF001
    return _annotating(wrapped, stack)


def _annotating(client: Any, stack: Stack) -> Any:
    """Let a client, and those that are derived from it, put the note on the errors they raise.

    The SDK makes its errors above its http client and leaves no hook there, so its `request`, the
    one method that all calls go through, is replaced on the instance. What is derived with another
    http client gets the stack too.
    """
    request, derive = client.request, client.copy

    async def annotated(cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        # Turned on by with_options, for one request, or by a library that was handed the client.
        if any([_turned_off(client), _turned_off(options)]):
            warn_of_nested_retries(
                "the SDK's retries were turned on above the stack and stay off, as attempts would "
                "multiply: set max_retries=0, and Retry(max_attempts=...) in the stack"
            )
        try:
            return await request(cast_to, options, *args, **kwargs)
        except Exception as error:
            told = _note_of(error)
            if told is not None and told not in getattr(error, "__notes__", ()):
                error.add_note(told)
            raise

    def derived(*, http_client: Any = None, **kwargs: Any) -> Any:
        sends = getattr(http_client, "_transport", None)  # one that is synchronous is told there
        if hasattr(sends, "handle_async_request") and not isinstance(sends, ResilientTransport):
            http_client = resilient_client(http_client, stack, refuse_with_response=True)
        return _annotating(derive(http_client=http_client, **kwargs), stack)

    client.request = annotated
    client.copy = client.with_options = derived
    return client


def _turned_off(subject: Any) -> bool:
    """Turn the retries of a client, or of a request's options, off; whether they were on."""
    retries = getattr(subject, "max_retries", 0)
    if not isinstance(retries, int | float) or retries <= 0:
        return False
    subject.max_retries = 0
    return True


def _note_of(error: BaseException) -> str | None:
    """Return the note that the transport left on an error's response, or on one of its causes."""
    link: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if link is None:
            return None
        response = getattr(link, "response", None)
        left = (getattr(response, "extensions", None) or {}).get(NOTE)
        if left is not None:
            return str(left)
        for each in getattr(link, "__notes__", ()):
            if str(each).startswith(PREFIX):
                return str(each)
        link = link.__cause__
    return None


def sdk_retries(function: Callable[..., Any]) -> int:
    """Return how often the SDK's client behind a bound method retries by itself; 0 for others."""
    client = getattr(getattr(function, "__self__", None), "_client", None)
    retries = getattr(client, "max_retries", 0)
    return retries if isinstance(retries, int) else 0
