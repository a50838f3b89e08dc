"""Listeners for a stack's events, as ``Stack(..., listeners=[...])``, metrics and spans.

What `prometheus` and `opentelemetry` need is imported when they are called: the extras
``[prometheus]`` and ``[otel]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .counters import Counters, CountersSnapshot
from .log import LogListener

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from prometheus_client.registry import CollectorRegistry

    from .measured import Enrich
    from .metrics import Observed

S = TypeVar("S", bound="Observed")


def prometheus(
    stack: S, registry: CollectorRegistry | None = None, *, enrich: Enrich | None = None
) -> S:
    """Expose a stack's metrics to Prometheus, and return the stack.

    Calls that begin from now on are counted, also those of transports that the stack is around
    already. At most 100 partitions have series of their own; all others are one, ``other``.

    Args:
        stack: the stack to measure.
        registry: where to expose it; None for prometheus-client's own, which its servers show. A
            registry takes one stack, because a metric may be in it only once.
        enrich: returns labels of your own for a call that has ended, as a mapping of names and
            values; it takes the `CallFinished`. None, the default, for none. At most 500
            combinations with a partition have series of their own. A name that is one of ours or
            that Prometheus does not allow is left out.

    Raises:
        ConfigurationError: the registry has the metrics of a stack already.
        ImportError: the extra ``[prometheus]`` is not installed.

    State: the counts, in the registry.
    """
    from .exposition import exposed

    return exposed(stack, registry, enrich)


def opentelemetry(
    stack: S,
    *,
    name: str | None = None,
    provider: str = "infe",
    operation: str = "chat",
    base_url: str | None = None,
    spans: bool = True,
    metrics: bool = True,
    enrich: Enrich | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> S:
    """Report a stack's calls to OpenTelemetry, as spans and as metrics, and return the stack.

    Calls that begin from now on are reported, also those of transports that the stack is around
    already. The names are those of the conventions for generative AI; the environment variable
    ``OTEL_SEMCONV_STABILITY_OPT_IN`` chooses their version. What has no name there is
    ``resilient_infe.*``. At most 100 models and partitions have series of their own; all others are
    one, ``other``.

    Args:
        stack: the stack to report.
        name: tells the stack from others in the process, as ``resilient_infe.stack``; None, the
            default, if it is the only one.
        provider: the name of the API's provider; ``"infe"``.
        operation: what the calls ask for; ``"chat"``.
        base_url: the API's URL, of which the host and the port are reported; None, the default, to
            leave them out.
        spans: whether to make spans: one for each call, and one for each attempt after the first.
        metrics: whether to make metrics.
        enrich: returns dimensions of your own for the metrics of a call that has ended, as a
            mapping of names and values; it takes the `CallFinished`. None, the default, for none.
            At most 500 combinations with a partition have series of their own. Names that begin
            like ours are left out.
        tracer_provider: makes the tracer; None, the default, for the process's own.
        meter_provider: makes the meter; None, the default, for the process's own.

    Raises:
        ConfigurationError: the provider has the metrics of a stack of that name already, or
            `base_url` is malformed.
        ImportError: the extra ``[otel]`` is not installed.

    State: the counts, which the meter's provider keeps.
    """
    from .otel import attached

    return attached(
        stack,
        name=name,
        provider=provider,
        operation=operation,
        base_url=base_url,
        with_spans=spans,
        with_metrics=metrics,
        enrich=enrich,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )


__all__ = ["Counters", "CountersSnapshot", "LogListener", "opentelemetry", "prometheus"]
