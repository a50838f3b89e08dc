"""Links the layers of a stack and a transport into one handler, once per transport.

Adjacent guards become one coroutine. A layer that is not a guard, such as a user's own function, is
called with the next handler as its argument; guards on its two sides become two coroutines.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import groupby
from typing import Any, TypeVar

from ..aio import from_home
from ..core.call import Call, Handler, Layer
from ..core.guard import Guard, fit, guarded
from ..errors import ConfigurationError
from ..fallback.layer import Fallback, routed
from .layers import name_of

P = TypeVar("P")
R = TypeVar("R")


def compiled(layers: Sequence[Layer[Any, Any]], handler: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `layers` around `handler`, the first layer outermost."""
    if any(isinstance(layer, Fallback) for layer in layers):
        handler = routed(handler, lambda transport: from_home(handler_of(transport)))
    for are_guards, found in groupby(reversed(layers), _is_guard):
        inside_out: list[Any] = list(found)
        if are_guards:
            while inside_out:
                number = fit(inside_out)
                handler = guarded(inside_out[:number][::-1], handler)
                del inside_out[:number]
        else:
            for layer in inside_out:
                handler = calling(layer, handler)
    return handler


def _is_guard(layer: object) -> bool:
    """Whether the layer is a guard, and does not replace the guard's ``__call__`` by its own."""
    return isinstance(layer, Guard) and type(layer).__call__ is Guard.__call__


def calling(layer: Layer[Any, Any], call_next: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs one layer around the next handler."""

    def handler(call: Call[Any]) -> Coroutine[Any, Any, Any]:
        return layer(call, call_next)

    return handler


def handler_of(transport: Callable[[P], Awaitable[R]]) -> Handler[P, R]:
    """Return a handler, which takes a call, that passes the payload to a transport.

    If the transport has a ``handle(call)`` method, as adapters do, it is that.

    Raises:
        ConfigurationError: the transport cannot be called. The handler raises it too, if the
            transport returns a value that cannot be awaited.
    """
    handle = getattr(transport, "handle", None)
    if handle is not None:
        found: Handler[P, R] = handle
        return found
    if not callable(transport):
        raise ConfigurationError(f"a transport must be an async def (payload); got {transport!r}")
    send: Callable[[P], Coroutine[Any, Any, R]]
    send = transport if inspect.iscoroutinefunction(transport) else _awaiting(transport)
    return lambda call: send(call.payload)


def _awaiting(transport: Callable[[P], Awaitable[R]]) -> Callable[[P], Coroutine[Any, Any, R]]:
    """Wrap a transport in an async function: a handler must return a coroutine, not a future."""

    async def awaiting(payload: P) -> R:
        answer = transport(payload)
        if not inspect.isawaitable(answer):
            raise ConfigurationError(
                f"{name_of(transport)} returned {type(answer).__name__}, which cannot be awaited: "
                f"a transport must be an async def (payload). To run blocking code, await "
                f"anyio.to_thread.run_sync(function, payload) in it."
            )
        return await answer

    return awaiting
