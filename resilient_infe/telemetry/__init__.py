"""Listeners for a stack's events, as ``Stack(..., listeners=[...])``, and metrics.

What `prometheus` needs is imported when it is called: the extra ``[prometheus]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .counters import Counters, CountersSnapshot
from .log import LogListener

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    from .exposition import Observed

S = TypeVar("S", bound="Observed")


def prometheus(stack: S, registry: CollectorRegistry | None = None) -> S:
    """Expose a stack's metrics to Prometheus, and return the stack.

    Calls that begin from now on are counted, also those of transports that the stack is around
    already. At most 100 partitions have series of their own; all others are one, ``other``.

    Args:
        stack: the stack to measure.
        registry: where to expose it; None for prometheus-client's own, which its servers show. A
            registry takes one stack, because a metric may be in it only once.

    Raises:
        ConfigurationError: the registry has the metrics of a stack already.
        ImportError: the extra ``[prometheus]`` is not installed.

    State: the counts, in the registry.
    """
    from .exposition import exposed

    return exposed(stack, registry)


__all__ = ["Counters", "CountersSnapshot", "LogListener", "prometheus"]
