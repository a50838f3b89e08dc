"""Any ``async def``, made resilient with its signature and types kept."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ..call import Call
from ..stack import Stack

A = ParamSpec("A")
R = TypeVar("R")


def wrap_function(
    function: Callable[A, Awaitable[R]], stack: Stack
) -> Callable[A, Coroutine[Any, Any, R]]:
    """Return an async function with the same signature that sends its arguments through `stack`.

    The call's payload is ``(args, kwargs)``; partition, tokens and the like come from
    `call_options`. State: the stack's.
    """

    async def send(call: Call[tuple[tuple[Any, ...], dict[str, Any]]]) -> R:
        args, kwargs = call.payload
        return await function(*args, **kwargs)

    handler = stack.handler(send)

    @functools.wraps(function)
    async def resilient(*args: A.args, **kwargs: A.kwargs) -> R:
        return await handler(Call((args, kwargs)))

    return resilient
