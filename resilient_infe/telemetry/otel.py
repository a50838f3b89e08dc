"""Attaches OpenTelemetry to a stack: its metrics are here, its spans in `spans`.

Our own metrics are observable: a listener adds up plain numbers, and they and the policies are read
only when they are exported. A call pays for the listener and for one record in the histogram of
durations; by the older names also for two in that of tokens. A record by itself costs 22 us of
Python that has left the processor's caches; in a row they cost 11 us each, so `BATCH` of them are
made at once, and what is left when it is exported.

A provider of meters may measure several stacks. It knows each instrument once, so the instruments
belong to the provider, and each asks the listeners of all its stacks.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, ref

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import (
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter,
    get_meter_provider,
)
from opentelemetry.trace import TracerProvider, get_tracer

from ..core.call import Call
from ..core.ids import model_in
from ..core.verdict import SUCCESS
from ..errors import ConfigurationError
from ..events import CallFinished
from ..version import __version__
from . import metrics
from .conventions import (
    DURATION_BUCKETS,
    SWITCH,
    TOKEN_BUCKETS,
    V0_1_0,
    Conventions,
    chosen,
    error_type,
)
from .measured import Dimensions, Enrich, Labels, Measured, Pairs, Series
from .metrics import PREFIX, Metric, Observed
from .spans import Spans

S = TypeVar("S", bound=Observed)

NAMES = re.compile(r"(?!(?:gen_ai|resilient_infe|error|server)\.)[a-zA-Z][a-zA-Z0-9_.]*")
"""The names of the user's own attributes: none of ours."""

BATCH = 64
"""Records that are made at once. In a row they take under a millisecond."""

MOST_KEPT = 1_000
"""Sets of attributes that are kept for the next call with the same ones."""

NO_SPAN = Context()
"""A context without a span: that of the duration is example enough."""

PORTS = {"https": 443, "http": 80}
"""The port of a URL that names none."""


def attached(
    stack: S,
    *,
    name: str | None,
    provider: str,
    operation: str,
    base_url: str | None,
    with_spans: bool,
    with_metrics: bool,
    enrich: Enrich | None,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
) -> S:
    """Attach OpenTelemetry to a stack, as `telemetry.opentelemetry` describes; return the stack."""
    names = chosen(os.environ.get(SWITCH))
    fixed = {names.operation: operation, names.provider: provider, **_server(base_url, names)}
    own = {} if name is None else {f"{PREFIX}.stack": name}
    listener = around = first_chunk = None
    if with_metrics:
        instruments = _instruments_of(meter_provider)
        dimensions = None if enrich is None else Dimensions(enrich, NAMES)
        listener = instruments.measure(stack, name, names, dimensions, fixed)
        first_chunk = listener.first_chunk if names.first_chunks is not None else None
    if with_spans:
        tracer = get_tracer(PREFIX, __version__, tracer_provider)
        around = Spans(tracer, names, operation, {**fixed, **own}, first_chunk)
    listeners = () if listener is None else (listener,)
    stack.listen(*listeners, around=around)
    return stack


class _Instruments:
    """The instruments of one provider. State: the listener of each stack, by the stack's name."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._meter = meter = get_meter(PREFIX, __version__, provider)
        self._listeners: dict[str | None, _Listener] = {}
        for metric in metrics.COUNTERS:
            read = partial(self._read, partial(_Listener.counter, metric=metric))
            meter.create_observable_counter(_name(metric), [read], metric.unit, metric.text)
        for metric in metrics.GAUGES:
            read = partial(self._read, partial(_Listener.gauge, metric=metric))
            meter.create_observable_gauge(_name(metric), [read], metric.unit, metric.text)
        for part, counter in V0_1_0.counters.items():
            read = partial(self._read, partial(_Listener.usage, part=part))
            meter.create_observable_counter(counter, [read], "{token}", "Tokens that were used.")

    def measure(
        self,
        stack: Observed,
        name: str | None,
        names: Conventions,
        dimensions: Dimensions | None,
        fixed: Mapping[str, Any],
    ) -> _Listener:
        """Return the listener of a stack.

        Raises:
            ConfigurationError: another stack has the name.
        """
        before = self._listeners.get(name)
        if before is not None and before.stack() is not None:
            raise ConfigurationError(
                f"a stack is attached to this MeterProvider already{_shown(name)}: give each stack "
                f"a name= of its own, and attach it once"
            )
        own = {} if name is None else {f"{PREFIX}.stack": name}
        made = _Listener(self._meter, stack, names, dimensions, {**fixed, **own}, own)
        if before is not None:
            made.go_on(before)
        self._listeners[name] = made
        return made

    def _read(self, what: Any, _: object) -> Iterator[Observation]:
        for listener in list(self._listeners.values()):
            listener.flush()
            yield from what(listener)


class _Listener(Measured):
    """Counts the calls of one stack, and records their durations. State: its own."""

    def __init__(
        self,
        meter: Meter,
        stack: Observed,
        names: Conventions,
        dimensions: Dimensions | None,
        fixed: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        self._labels, self._errors = Labels(), Labels()
        super().__init__(self._labels, dimensions)
        self.stack = ref(stack)
        self._names, self._fixed, self._own = names, fixed, own
        self._used: defaultdict[Series, float] = defaultdict(float)
        self._kept: dict[Any, dict[str, Any]] = {}
        self._values: metrics.Values = {}
        self._shown: set[str] = set()
        self._records: deque[tuple[Histogram, float, dict[str, Any], Context]] = deque()
        histogram = partial(_histogram, meter)
        self._duration = histogram(
            names.duration, "s", "Duration of calls, with all attempts and waits."
        )
        self._first_chunk = histogram(
            names.first_chunks, "s", "Time from the last send to the first chunk of a stream."
        )
        self._tokens = histogram(names.token_usage, "{token}", "Tokens that calls used.")

    def go_on(self, before: _Listener) -> None:
        """Take over the counts of a stack that is gone: a counter must not fall."""
        before.flush()
        counts = {
            name: each for name, each in vars(before).items() if isinstance(each, defaultdict)
        }
        vars(self).update(counts)

    def measure(self, event: CallFinished, label: str, own: Pairs) -> None:
        """Record the duration and the tokens of a call that ended."""
        model = label if event.model is None else self._labels.of(event.model)
        error = None
        if event.kind is not SUCCESS:
            error = error_type(event.kind, event.status, event.error, self._errors)
        seconds = max(0.0, event.waited + event.sent_for)
        add, context = self._records.append, get_current()  # of an example of this duration
        add((self._duration, seconds, self._attributes(model, error, None, own), context))
        usage, tokens = event.usage, self._tokens
        if usage is None:
            pass
        elif tokens is None:
            for part in self._names.counters:
                number = getattr(usage, part)
                if number > 0:
                    self._used[model, part, *own] += number
        else:
            for part, number in (
                ("input", usage.prompt_tokens),
                ("output", usage.completion_tokens),
            ):
                attributes = self._attributes(model, None, part, own)
                add((tokens, max(0, number), attributes, NO_SPAN))
        if len(self._records) >= BATCH:
            self.flush()

    def first_chunk(self, call: Call[Any], seconds: float) -> None:
        """Record the time to the first chunk of a stream."""
        model = call.state.model or model_in(call.payload) or call.partition
        attributes = self._attributes(self._labels.of(model), None, None, ())
        self._records.append((self._first_chunk, max(0.0, seconds), attributes, NO_SPAN))

    def flush(self) -> None:
        """Make the records that were put off."""
        take = self._records.popleft
        while self._records:
            try:
                histogram, value, attributes, context = take()
            except IndexError:  # another thread exports at this moment
                return
            histogram.record(value, attributes, context)

    def counter(self, metric: Metric) -> Iterator[Observation]:
        """Yield the series of a counter."""
        values = getattr(self, metric.field or metric.name)
        return self._series(metric, values.copy())

    def gauge(self, metric: Metric) -> Iterator[Observation]:
        """Yield the series of a gauge; the gauges of one export share one reading."""
        if not self._shown or metric.name in self._shown:
            stack = self.stack()
            self._values = {} if stack is None else metrics.gauges(stack, self._labels)
            self._shown.clear()
        self._shown.add(metric.name)
        return self._series(metric, self._values.get(metric.name, {}))

    def usage(self, part: str) -> Iterator[Observation]:
        """Yield the series of the tokens of one part of the usage."""
        for (model, found, *own), value in self._used.copy().items():
            if found == part:
                yield Observation(value, self._attributes(model, None, None, tuple(own)))

    def _series(self, metric: Metric, values: Mapping[Series, float]) -> Iterator[Observation]:
        number = len(metric.labels)
        for series, value in values.items():
            labels = zip(metric.labels, series[:number], strict=True)
            shown = {f"{PREFIX}.{label}": each for label, each in labels if each}
            yield Observation(value, {**dict(series[number:]), **shown, **self._own})

    def _attributes(
        self, model: str, error: str | None, tokens: str | None, own: Pairs
    ) -> dict[str, Any]:
        key = (model, error, tokens, own)
        found = self._kept.get(key)
        if found is None:
            names = self._names
            more = {names.model: model, names.error: error, names.token_type: tokens}
            shown = {name: value for name, value in more.items() if value}
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[key] = {**dict(own), **shown, **self._fixed}
        return found


def _histogram(meter: Meter, name: str | None, unit: str, text: str) -> Any:
    """Return a histogram; None if the conventions have none."""
    if name is None:
        return None
    bounds = DURATION_BUCKETS if unit == "s" else TOKEN_BUCKETS
    return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)


class _Global:
    """Stands for the provider of the process, which may be set after a stack is attached."""


_GLOBAL = _Global()

_known: WeakKeyDictionary[Any, _Instruments] = WeakKeyDictionary()


def _instruments_of(provider: MeterProvider | None) -> _Instruments:
    is_global = provider is None or provider is get_meter_provider()
    key = _GLOBAL if is_global else provider
    found = _known.get(key)
    if found is None:
        found = _known[key] = _Instruments(None if is_global else provider)
    return found


def _name(metric: Metric) -> str:
    return f"{PREFIX}.{metric.name}"


def _shown(name: str | None) -> str:
    return "" if name is None else f" as {name!r}"


def _server(base_url: str | None, names: Conventions) -> dict[str, Any]:
    """Return the address and the port of a server, without anything else of its URL."""
    if base_url is None:
        return {}
    try:
        parts = urlsplit(base_url)
        address, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except (ValueError, AttributeError):
        address = port = None
    if not address or not port:
        raise ConfigurationError("base_url must be a URL like https://api.example.com/v1")
    return {names.address: address, names.port: port}
