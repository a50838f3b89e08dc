"""Checks and edits the list of layers of a stack."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.call import Layer
from ..errors import ConfigurationError
from ..events import Listener
from ..telemetry.request_id import RequestIdLogger

Layers = Sequence[Layer[Any, Any]]


def check_layer(layer: object) -> None:
    """Check that `layer` can be a layer of a stack.

    Raises:
        ConfigurationError: it cannot; the message says what to pass instead.
    """
    if isinstance(layer, list | tuple):
        raise ConfigurationError("Stack takes its layers as separate arguments: Stack(*layers)")
    if hasattr(layer, "layers"):
        raise ConfigurationError("a Stack is not a layer: pass its layers, Stack(*old.layers, ...)")
    if inspect.isclass(layer) or not callable(layer):
        raise ConfigurationError(
            f"{layer!r} is not a layer: pass an instance, or an async def layer(call, call_next)"
        )


def logger_in(layers: Layers) -> RequestIdLogger | None:
    """Return the first layer that makes request ids, or None."""
    return next((each for each in layers if isinstance(each, RequestIdLogger)), None)


def replaced(layers: Layers, by: Layers) -> list[Layer[Any, Any]]:
    """Return `layers`, where each layer of `by` replaces the one of its kind.

    Raises:
        ConfigurationError: `layers` has no layer of that kind, or several.
    """
    result = list(layers)
    for layer in by:
        check_layer(layer)
        of_its_kind = (_are_same_kind(each, layer) for each in result)
        result[_only_index(of_its_kind, type(layer), result)] = layer
    return result


def left_out(layers: Layers, kinds: Iterable[type]) -> list[Layer[Any, Any]]:
    """Return `layers` without the one layer of each given class.

    Raises:
        ConfigurationError: `layers` has no layer of that kind, or several.
    """
    gone = set()
    for kind in kinds:
        if not inspect.isclass(kind):
            raise ConfigurationError(f"without() takes classes of layers, like Retry; got {kind!r}")
        gone.add(_only_index((isinstance(each, kind) for each in layers), kind, layers))
    return [layer for index, layer in enumerate(layers) if index not in gone]


def name_of(layer: object) -> str:
    """Return the name of a layer or a transport: the function's name, or the name of its class."""
    name: str = getattr(layer, "__name__", type(layer).__name__)
    return name


def _are_same_kind(one: object, other: object) -> bool:
    """Whether the class of one is the class of the other or a base class of it."""
    return isinstance(one, type(other)) or isinstance(other, type(one))


def _only_index(matches: Iterable[bool], kind: type, layers: Layers) -> int:
    """Return the index of the only match."""
    found = [index for index, matching in enumerate(matches) if matching]
    if len(found) != 1:
        raise ConfigurationError(
            f"this stack must have one layer of the kind {kind.__name__}; it has "
            f"{len(found) or 'none'}. Its layers are {', '.join(map(name_of, layers))}. "
            f"To build another stack, list the layers: Stack(*layers), outermost first."
        )
    return found[0]


def checked_listeners(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Return the listeners of a stack.

    Raises:
        ConfigurationError: one of them cannot be called.
    """
    with contextlib.suppress(TypeError):
        found = tuple(listeners)
        if all(callable(listener) for listener in found):
            return found
    raise ConfigurationError("listeners must be a list of callables that take an event")
