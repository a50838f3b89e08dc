"""`wrap`: the same client back, made resilient."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, cast

from ..classify.rule import Classify
from ..core import bounds
from ..errors import ConfigurationError
from ..stack import Stack
from .function import wrap_function
from .httpx.client import resilient_client
from .openai import resilient_openai

T = TypeVar("T")

WRAPPABLE = (
    "an AsyncOpenAI or AsyncAzureOpenAI client (or another async client of that make), an httpx or "
    "httpx2 AsyncClient, an aiohttp ClientSession, or an async def function"
)


def wrap(target: T, stack: Stack, *, classify: Classify | None = None) -> T:
    """Return `target`, made resilient by `stack`, with its own type.

    Args:
        target: an ``AsyncOpenAI`` or ``AsyncAzureOpenAI`` (or ``AsyncAnthropic``, which is of the
            same make), an ``AsyncClient`` of httpx or httpx2, a ``ClientSession`` of aiohttp, or an
            ``async def`` function or method. (A transport such as `InfeTransport` goes into
            ``stack.around`` instead.)
        stack: the layers.
        classify: for a function, what its results and exceptions mean:
            ``classify(result, error)`` returns a `Verdict`, just a `Kind`, or None for the usual
            reading. The clients' responses are read without.

    Raises:
        ConfigurationError: `target` is nothing that can be wrapped; the message lists what can.

    State: the stack's. A wrapped client shares its original's connection pool: closing either
    closes both.
    """
    bounds.instance(stack, Stack, "wrap", "a Stack as the second argument, like presets.batch()")
    found: Any = target
    client = _client(found, stack)
    if client is None:
        return cast("T", _function(found, stack, classify))
    if classify is not None:
        raise ConfigurationError(
            "classify= is for functions; for a client give it to its stack: ErrorClassifier(...)"
        )
    return cast("T", client)


def _client(found: Any, stack: Stack) -> Any:
    """Return a client wrapped, or None for what is none; known by name, so nothing is imported."""
    lineage = type(found).__mro__
    families = {(cls.__module__.partition(".")[0], cls.__name__) for cls in lineage}
    made_alike = "AsyncAPIClient" in {name for _, name in families}
    if made_alike and hasattr(found, "_client") and hasattr(found, "with_options"):
        return resilient_openai(found, stack)
    if families & {("httpx", "AsyncClient"), ("httpx2", "AsyncClient")}:
        return resilient_client(found, stack)
    if ("aiohttp", "ClientSession") in families:
        from .aiohttp.middleware import resilient_session  # aiohttp is slow to import

        return resilient_session(found, stack)
    return None


def _function(found: Any, stack: Stack, classify: Classify | None) -> Any:
    if inspect.isclass(found):
        raise ConfigurationError(
            f"{found.__qualname__} is a class: make one first, wrap({found.__qualname__}(...), "
            f"stack)"
        )
    if inspect.iscoroutinefunction(getattr(type(found), "handle", None)):
        raise ConfigurationError(
            f"{type(found).__qualname__} is a transport: use stack.around(transport)"
        )
    if hasattr(type(found), "handle_async_request"):
        raise ConfigurationError(
            f"{type(found).__qualname__} is a transport of httpx: use "
            f"ResilientTransport(transport, stack)"
        )
    calls = [found, getattr(type(found), "__call__", None)]  # noqa: B004  # an async __call__
    inner = [inspect.unwrap(each) for each in calls if callable(each)]  # SDKs decorate methods
    if any(map(inspect.isasyncgenfunction, inner)):
        raise ConfigurationError(
            "an async generator function cannot be wrapped: a retry would deliver items twice. "
            "Wrap an async def that returns the whole result, or the client that opens the stream, "
            "which holds its slot to the stream's end."
        )
    if any(map(inspect.iscoroutinefunction, inner)):
        return wrap_function(cast("Any", found), stack, classify)
    raise ConfigurationError(
        f"cannot wrap {type(found).__qualname__}{_hint(found)}: give {WRAPPABLE}; "
        f"stack.around(transport) takes any callable that returns an awaitable"
    )


def _hint(found: Any) -> str:
    """Say what is nearly right about what is synchronous."""
    names = {cls.__name__ for cls in type(found).__mro__}
    if names & {"SyncAPIClient", "Client", "Session"}:
        return ", which is synchronous"
    return ", which is no async def" if inspect.isroutine(found) else ""
