"""The list of layers that a stack is made of: what may stand in it, and how it is changed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.call import Layer
from ..errors import ConfigurationError

Layers = Sequence[Layer[Any, Any]]


def check_layer(layer: object) -> None:
    """Check that something is a layer.

    Raises:
        ConfigurationError: it is not; the message says what to give instead.
    """
    if isinstance(layer, list | tuple):
        raise ConfigurationError("Stack takes its layers one by one: Stack(*layers)")
    if hasattr(layer, "layers"):
        raise ConfigurationError("a Stack is not a layer: give its layers, Stack(*a.layers, ...)")
    if inspect.isclass(layer) or not callable(layer):
        raise ConfigurationError(
            f"{layer!r} is not a layer: give an instance, or an async def layer(call, call_next)"
        )


def replaced(layers: Layers, by: Layers) -> list[Layer[Any, Any]]:
    """Return `layers` with each layer of `by` in the place of the one of its kind.

    Raises:
        ConfigurationError: there is no layer of that kind, or there are several.
    """
    result = list(layers)
    for layer in by:
        check_layer(layer)
        alike = (_are_alike(each, layer) for each in result)
        result[_only(alike, type(layer), result)] = layer
    return result


def left_out(layers: Layers, kinds: Iterable[type]) -> list[Layer[Any, Any]]:
    """Return `layers` without those of the given classes.

    Raises:
        ConfigurationError: there is no layer of that kind, or there are several.
    """
    gone = set()
    for kind in kinds:
        if not inspect.isclass(kind):
            raise ConfigurationError(f"without takes classes of layers, like Retry; got {kind!r}")
        gone.add(_only((isinstance(each, kind) for each in layers), kind, layers))
    return [layer for place, layer in enumerate(layers) if place not in gone]


def name_of(layer: object) -> str:
    """Return the name of a layer or of a transport: a function's own, or that of the class."""
    name: str = getattr(layer, "__name__", type(layer).__name__)
    return name


def _are_alike(one: object, other: object) -> bool:
    """Whether one is of the other's class, or of a class derived from it."""
    return isinstance(one, type(other)) or isinstance(other, type(one))


def _only(matches: Iterable[bool], kind: type, layers: Layers) -> int:
    """Return the place of the only match."""
    places = [place for place, matching in enumerate(matches) if matching]
    if len(places) != 1:
        raise ConfigurationError(
            f"this stack has {len(places) or 'no'} layers of the kind {kind.__name__}; it has "
            f"{', '.join(map(name_of, layers))}. Build another one with Stack(*layers), "
            f"outermost first."
        )
    return places[0]
