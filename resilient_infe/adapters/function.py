"""Any ``async def``, made resilient with its signature and types kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ..call import Call
from ..layers.rule import Classify, Rule
from ..stack import Stack
from .openai import sdk_retries
from .request import name_partition, safe_model, warn_of_nested_retries

A = ParamSpec("A")
R = TypeVar("R")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def wrap_function(
    function: Callable[A, Awaitable[R]], stack: Stack, classify: Classify | None = None
) -> Callable[A, Coroutine[Any, Any, R]]:
    """Return an async function with the same signature that sends its arguments through `stack`.

    The call's payload is ``(args, kwargs)``. Tokens are estimated from the arguments by name, and a
    ``model`` among them is the partition; `call_options` may say both.

    Args:
        function: the ``async def``, or a bound method, or an object with an async ``__call__``.
        stack: the layers.
        classify: says what this function's results and exceptions mean, before the stack's
            classifier: ``classify(result, error)`` returns a `Verdict`, a `Kind` or None.

    State: the stack's.
    """
    if sdk_retries(function) > 0:
        warn_of_nested_retries(
            "the wrapped method's client has retries of its own, so their attempts multiply: set "
            "max_retries=0 on it, or give the client itself to wrap(client, stack), which does so"
        )
    names = _positional_names(function)
    rule = None if classify is None else Rule(classify)

    async def send(call: Call[Arguments]) -> R:
        args, kwargs = call.payload
        if rule is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            call.verdict = rule(None, error)
            raise
        call.verdict = rule(result, None)
        return result

    handler = stack.handler(send)

    @functools.wraps(function)
    async def resilient(*args: A.args, **kwargs: A.kwargs) -> R:
        call: Call[Arguments] = Call((args, kwargs))
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        call.body = lambda: arguments
        name_partition(call, safe_model(arguments.get("model")))
        return await handler(call)

    return resilient


def _positional_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that may be given by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # no signature can be found
        return ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(each.name for each in parameters if each.kind in positional)
