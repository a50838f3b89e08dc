"""Wraps an ``async def`` or a ``def`` in a stack and keeps its signature and types."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar

from ..aio import drive
from ..classify.rule import Classify, Rule
from ..core.call import Call
from ..errors import ConfigurationError
from ..rate.estimate import bodies_in
from ..stack import Stack
from .http.partition import PartitionOf, Partitions
from .http.request import hide_key, safe_model, warn_of_nested_retries
from .sdk.client import sdk_mask, sdk_retries

A = ParamSpec("A")
R = TypeVar("R")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def wrap_blocking(
    function: Callable[A, R],
    stack: Stack,
    classify: Classify | None = None,
    partition: PartitionOf | None = None,
) -> Callable[A, R]:
    """Return a function with the same signature that calls `function` through `stack`, and blocks.

    Arguments as for `wrap_function`. An attempt runs in the caller's thread, and cannot be cut: a
    timeout of the stack ends it when the function returns.
    """

    @functools.wraps(function)
    async def at_once(*args: A.args, **kwargs: A.kwargs) -> R:
        result = function(*args, **kwargs)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise ConfigurationError(
                f"{function!r} returned what must be awaited, outside of the stack: wrap an async "
                f"def, which awaits it"
            )
        return result

    resilient = wrap_function(at_once, stack, classify, partition, blocking=True)

    @functools.wraps(function)
    def blocking(*args: A.args, **kwargs: A.kwargs) -> R:
        return drive(resilient(*args, **kwargs))

    return blocking


def wrap_function(
    function: Callable[A, Awaitable[R]],
    stack: Stack,
    classify: Classify | None = None,
    partition: PartitionOf | None = None,
    *,
    blocking: bool = False,
) -> Callable[A, Coroutine[Any, Any, R]]:
    """Return an async function with the same signature that calls `function` through `stack`.

    The call's payload is ``(args, kwargs)``. Tokens are estimated from the arguments by name. The
    partition is the argument ``model``, or the ``model`` in an argument that is a request body.
    `call_options` can set both. An attempt ends when the function returns, so the function should
    return a complete result, not an open stream.

    Args:
        function: an ``async def``, a bound method, or an object with an async ``__call__``.
        stack: the layers.
        classify: classifies this function's results and exceptions, before the stack's classifier:
            ``classify(result, error)`` returns a `Verdict`, a `Kind`, or None for the stack's
            classification.
        partition: the name of the partition of all calls, or a function that takes the arguments by
            name and returns it; None, the default, for the model.
        blocking: whether `function` never suspends, and is run by `drive`.

    State: the stack's.
    """
    if stack.retries and sdk_retries(function) > 0:
        warn_of_nested_retries(
            "the wrapped method's client retries too, so their attempts multiply: set "
            "max_retries=0 on it, or pass the client itself to wrap(client, stack), which sets it"
        )
    names, bound, default_model = _parameters(function)
    rule = None if classify is None else Rule(classify)

    async def send(call: Call[Arguments]) -> R:
        args, kwargs = call.payload
        if call.state.refused is not None and call.state.refused.request is not None:
            args, kwargs = _called_with(call.state.refused.request, names, args, bound)
        if call.state.model is not None and "model" in kwargs:
            kwargs = {**kwargs, "model": call.state.model}
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            hide_key(call, error)
            if rule is not None:
                call.verdict = rule(None, error)
            raise
        if rule is not None:
            call.verdict = rule(result, None)
        return result

    handler, partitions = stack.handler(send, blocking=blocking), Partitions(partition)

    @functools.wraps(function)
    async def resilient(*args: A.args, **kwargs: A.kwargs) -> R:
        call: Call[Arguments] = Call((args, kwargs))
        call.state.mask = sdk_mask(function)
        arguments = {**bound, **dict(zip(names, args, strict=False)), **kwargs}
        call.body = lambda: arguments
        partitions.place(call, lambda: arguments, _model_in(arguments, default_model))
        return await handler(call)

    return resilient


def _called_with(
    arguments: Mapping[str, Any], names: tuple[str, ...], args: tuple[Any, ...], bound: Any
) -> Arguments:
    """Return the arguments of a call from those by name, as many by position as there were.

    What a partial has bound is passed only if it is another value now.
    """
    given = names[: len(args)]
    first = tuple(arguments.get(name, old) for name, old in zip(given, args, strict=False))
    rest = {
        name: each
        for name, each in arguments.items()
        if name not in given and (name not in bound or not _are_same(each, bound[name]))
    }
    return (*first, *args[len(given) :]), rest


def _are_same(one: Any, other: Any) -> bool:
    """Whether it is the same object, or a copy of a dict or a list."""
    return one is other or (isinstance(one, dict | list) and bool(one == other))


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], dict[str, Any], str]:
    """Return the positional parameters, the arguments bound by a partial, and the default model."""
    if isinstance(function, functools.partial):
        names, bound, default_model = _parameters(function.func)
        bound |= dict(zip(names, function.args, strict=False)) | function.keywords
        return names[len(function.args) :], bound, default_model
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # no signature can be found
        return (), {}, ""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = tuple(each.name for each in parameters.values() if each.kind in positional)
    return named, {}, safe_model(parameters["model"].default) if "model" in parameters else ""


def _model_in(arguments: dict[str, Any], default_model: str) -> str:
    """Return the call's model; empty if it has none.

    It is the first of these that exists:

    1. The argument ``model``.
    2. The ``model`` in an argument that is a request body.
    3. The default of the parameter ``model``, if the call does not pass that argument.
    """
    models = (arguments.get("model"), *(body.get("model") for body in bodies_in(arguments)))
    named = filter(None, map(safe_model, models))
    return next(named, "" if "model" in arguments else default_model)
