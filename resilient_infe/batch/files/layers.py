"""The stack of a job: that of the preset, or one of the user's own in a file of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ... import presets
from ...errors import ConfigurationError
from ...events import Listener
from ...rate.layer import RateLimiter
from ...shared import RedisShares
from ...slots.layer import ConcurrencyLimiter
from ...stack import Stack
from ...stack.config import layers_of, table_of
from .options import OPTIONS, JobOptions


def stack_for(
    options: JobOptions,
    *,
    count: Callable[[Any], float] | None = None,
    beliefs: Mapping[str, Mapping[str, Any]] | None = None,
    shares: RedisShares | None = None,
    listeners: Iterable[Listener] = (),
) -> Stack:
    """Return the stack of a job.

    Args:
        options: of the job. With a table ``stack`` the layers are those of that table.
        count: returns the tokens of a request's body; None for the usual estimate.
        beliefs: what earlier runs learned of the limits, or None.
        shares: divides the limits among all that name the same Redis; None if nothing does.
        listeners: take every event.

    Raises:
        ConfigurationError: the table cannot be read, or an option would change the preset too.
    """
    own: dict[str, Any] = {} if count is None else {"estimate": count}
    if beliefs:
        own["beliefs"] = beliefs
    if shares is not None:
        own["shared"] = shares
    if options.stack is None:
        # `log`: `say` and the listeners are told; to load structlog takes a while.
        return presets.batch(**options.for_preset, **own, listeners=listeners, log=False)
    for each in OPTIONS:
        if each.preset and getattr(options, each.field) != each.default:
            raise ConfigurationError(
                f"--config: [stack] names all layers, and {each.name} is of a layer of the usual "
                f"ones: put it into [stack], or leave one of the two out"
            )
    table = table_of(options.stack)
    layers = layers_of(table, {RateLimiter: own})
    return Stack(*layers, listeners=listeners, strict=table.get("strict", True))


def most_in_flight(stack: Stack) -> int:
    """Return the number of attempts in flight, of all models that are named."""
    limiters = [layer for layer in stack.layers if isinstance(layer, ConcurrencyLimiter)]
    return sum(each.limit for layer in limiters[:1] for each in layer.slots.each_known())
