"""`wrap`: the same client back, made resilient."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError
from ..stack import Stack
from .function import wrap_function

T = TypeVar("T")


def wrap(target: T, stack: Stack) -> T:
    """Return `target`, made resilient by `stack`, with its own type.

    Args:
        target: an ``async def`` function or method, or a transport such as `InfeTransport`.
        stack: the layers.

    Raises:
        ConfigurationError: `target` is nothing that can be wrapped; the message lists what can.
    """
    if inspect.isasyncgenfunction(target):
        raise ConfigurationError(
            "an async generator function cannot be wrapped: a retry would deliver items twice. "
            "Wrap an async def that returns the whole result, or one that opens the stream."
        )
    if hasattr(target, "handle") and callable(target):  # a transport of our own
        return cast("T", stack.around(cast("Any", target)))
    if inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004  # an object with an async __call__
    ):
        return cast("T", wrap_function(cast("Any", target), stack))
    raise ConfigurationError(
        f"cannot wrap {type(target).__qualname__}: give an async def function or method, or use "
        f"stack.around(transport) for any callable that returns an awaitable"
    )
