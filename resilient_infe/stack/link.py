"""Links layers to what they call next, once, when a stack is put around a transport.

A call passes eight links, so a link must cost nothing. A closure over the layer and its next is one
more function call per layer and attempt, a quarter of what an empty layer costs. Instead the
layer's own function is given its next as the default of its second parameter.

And each stack has a copy of its layers' code. Since Python 3.11 the interpreter fits code to what
it meets there (PEP 659), in the code object itself: in shared code, two stacks of other layers
would undo for each other what was won, call by call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar, cast

from ..call import Call, Handler, Layer

_P = ParamSpec("_P")
_R = TypeVar("_R")


def chain(layers: Sequence[Layer[Any, Any]], handler: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `layers`, outermost first, in front of `handler`."""
    for layer in reversed(layers):
        handler = link(layer, handler)
    return handler


def link(layer: Layer[Any, Any], call_next: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `layer` in front of `call_next`.

    Args:
        layer: an object with ``__call__(call, call_next)``, or such a function.
        call_next: what it calls next.
    """
    bound = getattr(layer, "__call__", layer)  # noqa: B004  # bound once, not at every call
    if isinstance(bound, MethodType) and _takes(bound.__func__, 3):
        return MethodType(_with_next(bound.__func__, call_next), bound.__self__)
    if isinstance(layer, FunctionType) and _takes(layer, 2):
        return _with_next(layer, call_next)
    if isinstance(layer, MethodType) and _takes(layer.__func__, 3):
        return MethodType(_with_next(layer.__func__, call_next), layer.__self__)

    def handler(call: Call[Any]) -> Coroutine[Any, Any, Any]:
        return layer(call, call_next)

    return handler


def apart(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a method of an object with a copy of its code, for one use alone."""
    bound: Any = method
    return cast("Callable[_P, _R]", MethodType(_copied(bound.__func__), bound.__self__))


def _takes(function: object, parameters: int) -> bool:
    """Whether it is a plain Python function of so many parameters, all required, and no others."""
    if not isinstance(function, FunctionType) or function.__defaults__ or function.__kwdefaults__:
        return False
    code = function.__code__
    others = code.co_kwonlyargcount or code.co_flags & (CO_VARARGS | CO_VARKEYWORDS)
    return code.co_argcount == parameters and not others


def _with_next(function: Any, call_next: Handler[Any, Any]) -> FunctionType:
    """Return the same function with its last parameter given by default."""
    copied = _copied(function)
    copied.__defaults__ = (call_next,)
    return copied


def _copied(function: Any) -> FunctionType:
    return FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
