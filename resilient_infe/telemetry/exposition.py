"""Exposes a stack to Prometheus; this is the only file that uses prometheus-client.

Counters are plain numbers that a listener adds up. The policies are read only when Prometheus
collects, so a call pays for nothing but the addition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from ..errors import ConfigurationError
from . import metrics
from .measured import Dimensions, Enrich, Labels, Measured, Series
from .metrics import Observed, Values

S = TypeVar("S", bound=Observed)

NAMES = re.compile("(?!(?:partition|kind|reason|type|le)$)[a-zA-Z][a-zA-Z0-9_]*")
"""The names of the user's own labels: what Prometheus allows, without the names of ours."""


def exposed(stack: S, registry: CollectorRegistry | None = None, enrich: Enrich | None = None) -> S:
    """Expose a stack in a registry, as `telemetry.prometheus` describes; return the stack."""
    labels = Labels()
    measured = Measured(labels, None if enrich is None else Dimensions(enrich, NAMES))
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
        yield from _families(Measured(self._labels), {})

    def collect(self) -> Iterator[Metric]:
        yield from _families(self._measured, metrics.gauges(self._stack, self._labels))


def _families(measured: Measured, values: Values) -> Iterator[Metric]:
    for metric in metrics.COUNTERS:
        counter = CounterMetricFamily(_name(metric), metric.text)
        for series, value in getattr(measured, metric.field or metric.name).copy().items():
            counter.add_sample(f"{counter.name}_total", _labels(metric, series), value)
        yield counter
    durations = HistogramMetricFamily(_name(metrics.DURATION), metrics.DURATION.text)
    for series, each in measured.durations.copy().items():
        labels = _labels(metrics.DURATION, series)
        number = 0
        for bound, number in each.cumulative():
            le = "+Inf" if bound == float("inf") else str(bound)
            durations.add_sample(f"{durations.name}_bucket", {**labels, "le": le}, number)
        durations.add_sample(f"{durations.name}_count", labels, number)
        durations.add_sample(f"{durations.name}_sum", labels, each.total)
    yield durations
    for metric in metrics.GAUGES:
        gauge = GaugeMetricFamily(_name(metric), metric.text)
        for series, value in values.get(metric.name, {}).items():
            gauge.add_sample(gauge.name, _labels(metric, series), value)
        yield gauge


def _name(metric: metrics.Metric) -> str:
    seconds = "_seconds" if metric.unit == "s" else ""
    return f"{metrics.PREFIX}_{metric.name.replace('.', '_')}{seconds}"


def _labels(metric: metrics.Metric, series: Series) -> dict[str, str]:
    number = len(metric.labels)
    return dict([*zip(metric.labels, series[:number], strict=True), *series[number:]])
