"""Any ``async def``, made resilient with its signature and types kept."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ..classify.rule import Classify, Rule
from ..core.call import Call
from ..rate.estimate import bodies_in
from ..stack import Stack
from .http.request import safe_model, set_partition, warn_of_nested_retries
from .openai import sdk_retries

A = ParamSpec("A")
R = TypeVar("R")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def wrap_function(
    function: Callable[A, Awaitable[R]], stack: Stack, classify: Classify | None = None
) -> Callable[A, Coroutine[Any, Any, R]]:
    """Return an async function with the same signature that sends its arguments through `stack`.

    The call's payload is ``(args, kwargs)``. Tokens are estimated from the arguments by name, and a
    ``model`` among them, or in a body among them, is the partition; `call_options` may say both.
    The attempt ends where the function returns, so what it returns should have come whole.

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
    names, bound, usual = _parameters(function)
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
        arguments = {**bound, **dict(zip(names, args, strict=False)), **kwargs}
        call.body = lambda: arguments
        set_partition(call, _model_in(arguments, usual))
        return await handler(call)

    return resilient


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any], str]:
    """Return what may be given by position, what a partial has bound, and the usual model."""
    if isinstance(function, functools.partial):
        names, bound, usual = _parameters(function.func)
        bound |= dict(zip(names, function.args, strict=False)) | function.keywords
        return names[len(function.args) :], bound, usual
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # no signature can be found
        return (), {}, ""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = tuple(each.name for each in parameters.values() if each.kind in positional)
    return named, {}, safe_model(parameters["model"].default) if "model" in parameters else ""


def _model_in(arguments: dict[str, Any], usual: str) -> str:
    """Return the model that is given, or else in a body; the usual one where none was given."""
    asked = (arguments.get("model"), *(body.get("model") for body in bodies_in(arguments)))
    named = filter(None, map(safe_model, asked))
    return next(named, "" if "model" in arguments else usual)
