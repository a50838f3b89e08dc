"""`wrap`: the same client back, made resilient."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError
from ..policies import bounds
from ..stack import Stack
from .function import wrap_function
from .httpx import resilient_client
from .openai import resilient_openai

T = TypeVar("T")


def wrap(target: T, stack: Stack) -> T:
    """Return `target`, made resilient by `stack`, with its own type.

    Args:
        target: an ``AsyncOpenAI`` (or another async client of that SDK), an ``AsyncClient`` of
        httpx
            or httpx2, or an ``async def`` function or method. (A transport such as `InfeTransport`
            goes into ``stack.around`` instead.)
        stack: the layers.

    Raises:
        ConfigurationError: `target` is nothing that can be wrapped; the message lists what can.
    """
    bounds.instance(stack, Stack, "wrap", "a Stack as the second argument, like presets.batch()")
    found: Any = target
    families = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(found).__mro__}
    if ("openai", "AsyncAPIClient") in families:
        return cast("T", resilient_openai(found, stack))
    if families & {("httpx", "AsyncClient"), ("httpx2", "AsyncClient")}:
        return cast("T", resilient_client(found, stack))
    if callable(found) and hasattr(found, "handle"):
        raise ConfigurationError(
            f"{type(found).__qualname__} is a transport: use stack.around(transport)"
        )
    if inspect.isasyncgenfunction(found):
        raise ConfigurationError(
            "an async generator function cannot be wrapped: a retry would deliver items twice. "
            "Wrap an async def that returns the whole result, or one that opens the stream."
        )
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(
        getattr(found, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        return cast("T", wrap_function(cast("Any", found), stack))
    raise ConfigurationError(
        f"cannot wrap {type(found).__qualname__}: give an AsyncOpenAI client, an httpx or httpx2 "
        f"AsyncClient, or an async def function; stack.around(transport) takes any callable that "
        f"returns an awaitable"
    )
