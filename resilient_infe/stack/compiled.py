"""Links layers and the transport, once, when a stack is put around it.

Guards that stand next to each other become one coroutine. A layer that is not a guard, such as a
user's own, is called with what comes next, and splits the guards there.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import groupby
from typing import Any, TypeVar

from ..core.call import Call, Handler, Layer
from ..core.guard import MAX_GUARDS, Guard, guarded
from ..errors import ConfigurationError
from .layers import name_of

P = TypeVar("P")
R = TypeVar("R")


def compiled(layers: Sequence[Layer[Any, Any]], handler: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `layers`, outermost first, around `handler`."""
    for are_guards, found in groupby(reversed(layers), _is_guard):
        inside_out: list[Any] = list(found)
        if are_guards:
            for start in range(0, len(inside_out), MAX_GUARDS):
                handler = guarded(inside_out[start : start + MAX_GUARDS][::-1], handler)
        else:
            for layer in inside_out:
                handler = _calling(layer, handler)
    return handler


def _is_guard(layer: object) -> bool:
    """Whether a layer leaves calling on to its base; one derived from a guard may do it itself."""
    return isinstance(layer, Guard) and type(layer).__call__ is Guard.__call__


def _calling(layer: Layer[Any, Any], call_next: Handler[Any, Any]) -> Handler[Any, Any]:
    def handler(call: Call[Any]) -> Coroutine[Any, Any, Any]:
        return layer(call, call_next)

    return handler


def handler_of(transport: Callable[[P], Awaitable[R]]) -> Handler[P, R]:
    """Return a transport, which takes a payload, as a handler, which takes a call.

    Raises:
        ConfigurationError: it cannot be called; or from a call, it returned nothing to await.
    """
    if not callable(transport):
        raise ConfigurationError(f"{transport!r} cannot be called: give an async def (payload)")
    send: Callable[[P], Coroutine[Any, Any, R]]
    send = transport if inspect.iscoroutinefunction(transport) else _awaiting(transport)
    return lambda call: send(call.payload)


def _awaiting(transport: Callable[[P], Awaitable[R]]) -> Callable[[P], Coroutine[Any, Any, R]]:
    """Return a transport as an async function: a future, say, could not be run as a task."""

    async def awaiting(payload: P) -> R:
        answer = transport(payload)
        if not inspect.isawaitable(answer):
            raise ConfigurationError(
                f"{name_of(transport)} returned {type(answer).__name__}, which cannot be awaited: "
                f"give an async def (payload); for code that blocks, one that awaits "
                f"anyio.to_thread.run_sync(function, payload)"
            )
        return await answer

    return awaiting
