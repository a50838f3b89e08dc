"""Exposes a stack to Prometheus; this is the only file that uses prometheus-client.

Counters are plain numbers that a listener adds up. The policies are read only when Prometheus
collects, so a call pays for nothing but the addition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from ..errors import ConfigurationError
from .measured import Labels, Measured, Series


class Observed(Protocol):
    """What a stack offers to those that measure it."""

    def listen(self, *listeners: Callable[[Any], None]) -> None:
        """Pass every event to these listeners too."""
        ...

    def statistics(self) -> Any:
        """Return a snapshot."""
        ...


S = TypeVar("S", bound=Observed)

COUNTERS = {
    "calls": ("Calls that ended.", ("kind",)),
    "attempts": ("Attempts that were sent and ended.", ("kind",)),
    "retries": ("Attempts that were scheduled after one that ended as kind.", ("kind",)),
    "waits": ("Seconds that calls waited.", ("reason",)),
    "tokens": ("Tokens that calls used.", ("type",)),
    "gates": ("How often the gate of a rate limit closed.", ()),
    "opened": ("How often a circuit opened.", ()),
}
"""What is counted from events: the text, and the labels after the partition."""

NAMES = {
    "waits": "resilient_infe_wait_seconds",
    "gates": "resilient_infe_gate_closings",
    "opened": "resilient_infe_circuit_openings",
}
"""Metrics that are not named like the field of `Measured`."""

GAUGES = {
    "in_flight": ("Calls that entered the stack and have not ended.", ()),
    "waiting": ("Calls that wait for a slot or for the rate limit.", ()),
    "slots_limit": ("Attempts that may be in flight.", ("partition",)),
    "slots_used": ("Slots that are held.", ("partition",)),
    "slots_waiting": ("Calls that wait for a slot.", ("partition",)),
    "rate_limit": ("Units per period that may be spent.", ("partition", "dimension", "period")),
    "rate_used": ("Units that the last period has cost.", ("partition", "dimension", "period")),
    "rate_waiting": ("Calls that wait for the rate limit.", ("partition",)),
    "gates_closed": ("Rate limits whose gate is closed.", ("partition",)),
    "circuits": ("Circuits in each state.", ("partition", "state")),
    "retry_budget": ("Retries that the budget allows now.", ()),
}
"""What is read from `statistics` at collection: the text and the labels."""


def exposed(stack: S, registry: CollectorRegistry | None = None) -> S:
    """Expose a stack in a registry, as `telemetry.prometheus` describes; return the stack."""
    labels = Labels()
    measured = Measured(labels)
    try:
        (registry or REGISTRY).register(_StackCollector(stack, measured, labels))
    except ValueError as error:
        raise ConfigurationError(
            "this registry has the metrics of a stack already: give each stack a CollectorRegistry "
            "of its own"
        ) from error
    stack.listen(measured)
    return stack


class _StackCollector(Collector):
    def __init__(self, stack: Observed, measured: Measured, labels: Labels) -> None:
        self._stack = stack
        self._measured = measured
        self._labels = labels

    def describe(self) -> Iterable[Metric]:
        """Yield the metrics without their values: a registry compares their names."""
        yield from _counters(Measured(self._labels))
        yield _durations({})
        yield from _gauges({})

    def collect(self) -> Iterator[Metric]:
        yield from _counters(self._measured)
        yield _durations(self._measured.durations.copy())
        yield from _gauges(_values(self._snapshot(), self._labels))

    def _snapshot(self) -> Any:
        """Return the statistics, or None if they cannot be read.

        Another thread may meet a change of partitions, and asks again. Trio's clock cannot be read
        there at all.
        """
        for _ in range(10):
            try:
                return self._stack.statistics()
            except RuntimeError:
                continue
        return None


def _counters(measured: Measured) -> Iterator[Metric]:
    for field, (text, labels) in COUNTERS.items():
        name = NAMES.get(field, f"resilient_infe_{field}")
        family = CounterMetricFamily(name, text, labels=("partition", *labels))
        for series, value in getattr(measured, field).copy().items():
            family.add_metric(series, value)
        yield family


def _durations(durations: Mapping[Series, Any]) -> Metric:
    family = HistogramMetricFamily(
        "resilient_infe_call_duration_seconds",
        "Duration of calls, with all attempts and waits.",
        labels=("partition",),
    )
    for series, each in durations.items():
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), count)
            for bound, count in each.cumulative()
        ]
        family.add_metric(series, buckets, sum_value=each.total)
    return family


def _gauges(values: Mapping[str, Mapping[Series, float]]) -> Iterator[Metric]:
    for name, (text, labels) in GAUGES.items():
        family = GaugeMetricFamily(f"resilient_infe_{name}", text, labels=labels)
        for series, value in values.get(name, {}).items():
            family.add_metric(series, value)
        yield family


def _values(found: Any, labels: Labels) -> dict[str, dict[Series, float]]:
    """Return each gauge's series; partitions of one label are added up."""
    values: dict[str, dict[Series, float]] = defaultdict(lambda: defaultdict(float))
    if found is None:
        return values
    values["in_flight"][()] = found.in_flight
    values["waiting"][()] = found.waiting
    for partition, slots in found.slots.items():
        series = (labels.of(partition),)
        values["slots_limit"][series] += slots.limit
        values["slots_used"][series] += slots.held
        values["slots_waiting"][series] += slots.waiting
    rates = [(labels.of(partition), each) for partition, each in found.allowances.items()]
    if found.account is not None:
        rates.append(("account", found.account))
    for label, rate in rates:
        values["rate_waiting"][(label,)] += rate.waiting
        values["gates_closed"][(label,)] += rate.gate > 0
        for window in rate.limits:
            limit = (label, str(window.dimension), f"{window.period:g}")
            values["rate_limit"][limit] += window.limit
            values["rate_used"][limit] += window.spent
    for partition, circuit in found.circuits.items():
        values["circuits"][labels.of(partition), circuit.state.value] += 1
    if found.budget is not None:
        values["retry_budget"][()] = found.budget.balance
    return values
