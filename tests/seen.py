"""What the tests of OpenTelemetry share: providers that keep what they get in memory."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Counting(SimpleSpanProcessor):
    """Exports each span when it ends, and counts those that start."""

    started = 0

    def on_start(self, span, parent_context=None):
        """Count one."""
        self.started += 1


class Seen:
    """The spans and the metrics of a test."""

    def __init__(self):
        """Start with none."""
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self._counting = Counting(self._spans)
        self.tracers.add_span_processor(self._counting)
        self.providers = {"tracer_provider": self.tracers, "meter_provider": self.meters}

    @property
    def started(self):
        """How many spans were started."""
        return self._counting.started

    @property
    def spans(self):
        """The spans that have ended, in order."""
        return self._spans.get_finished_spans()

    def metrics(self):
        """Return the points of each metric by its name."""
        found = self._reader.get_metrics_data()
        scopes = [scope for each in found.resource_metrics for scope in each.scope_metrics]
        metrics = [metric for scope in scopes for metric in scope.metrics]
        return {metric.name: list(metric.data.data_points) for metric in metrics}

    def values(self, name, label):
        """Return the values of one of our metrics by one of its attributes."""
        points = self.metrics()[f"resilient_infe.{name}"]
        return {each.attributes.get(f"resilient_infe.{label}"): each.value for each in points}

    def close(self):
        """Shut the providers down."""
        self.tracers.shutdown()
        self.meters.shutdown()
