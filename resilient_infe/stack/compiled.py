"""Links layers to what they call next, once, when a stack is put around a transport.

Guards that stand next to each other become one coroutine. A layer that is not a guard, such as a
user's own, is called with what comes next, and splits the guards there.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from itertools import groupby
from typing import Any

from ..core.call import Call, Handler, Layer
from ..core.guard import MOST, Guard, guarded


def compiled(layers: Sequence[Layer[Any, Any]], handler: Handler[Any, Any]) -> Handler[Any, Any]:
    """Return a handler that runs `layers`, outermost first, around `handler`."""
    for are_guards, found in groupby(reversed(layers), _is_guard):
        inside_out: list[Any] = list(found)
        if are_guards:
            for start in range(0, len(inside_out), MOST):
                handler = guarded(inside_out[start : start + MOST][::-1], handler)
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
