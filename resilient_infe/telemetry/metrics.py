"""The metrics of a stack, whatever shows them: their names, texts, labels and present values.

A name has dots. OpenTelemetry shows ``resilient_infe.slots.limit``, Prometheus
``resilient_infe_slots_limit``, with ``_seconds`` at its end if it is a duration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.call import Layer
from .measured import Labels, Series

PREFIX = "resilient_infe"
"""What all names begin with."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: the name after `PREFIX`.
        text: what it says.
        labels: the names of the labels, in the order of the values in a `Series`.
        unit: as OpenTelemetry writes it.
        field: of `Measured`, where a counter's values are; None if it is the name.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    unit: str
    field: str | None = None


COUNTERS = (
    Metric("calls", "Calls that ended.", ("partition", "kind"), "{call}"),
    Metric("attempts", "Attempts that were sent and ended.", ("partition", "kind"), "{attempt}"),
    Metric(
        "retries",
        "Attempts that were scheduled after one that ended as kind.",
        ("partition", "kind"),
        "{attempt}",
    ),
    Metric("wait", "Seconds that calls waited.", ("partition", "reason"), "s", "waits"),
    Metric("tokens", "Tokens that calls used.", ("partition", "type"), "{token}"),
    Metric(
        "gate.closings",
        "How often the gate of a rate limit closed.",
        ("partition",),
        "{closing}",
        "gates",
    ),
    Metric(
        "circuit.openings", "How often a circuit opened.", ("partition",), "{opening}", "opened"
    ),
    Metric("hedges", "Second attempts that were sent, or won.", ("partition", "kind"), "{attempt}"),
)
"""What is counted from events, in `Measured`."""

DURATION = Metric(
    "call.duration", "Duration of calls, with all attempts and waits.", ("partition",), "s"
)
"""The histogram that `Measured` keeps."""

GAUGES = (
    Metric("in_flight", "Calls that entered the stack and have not ended.", (), "{call}"),
    Metric("waiting", "Calls that wait for a slot or for the rate limit.", (), "{call}"),
    Metric("slots.limit", "Attempts that may be in flight.", ("partition",), "{attempt}"),
    Metric("slots.used", "Slots that are held.", ("partition",), "{attempt}"),
    Metric("slots.waiting", "Calls that wait for a slot.", ("partition",), "{call}"),
    Metric(
        "rate.limit",
        "Units per period that may be spent.",
        ("partition", "dimension", "period"),
        "{unit}",
    ),
    Metric(
        "rate.used",
        "Units that the last period has cost.",
        ("partition", "dimension", "period"),
        "{unit}",
    ),
    Metric("rate.waiting", "Calls that wait for the rate limit.", ("partition",), "{call}"),
    Metric("gates.closed", "Rate limits whose gate is closed.", ("partition",), "{gate}"),
    Metric("circuits", "Circuits in each state.", ("partition", "state"), "{circuit}"),
    Metric("retry.budget", "Retries that the budget allows now.", (), "{attempt}"),
)
"""What is read from `Stack.statistics` when it is asked for."""

Values = Mapping[str, Mapping[Series, float]]
"""The series of each gauge, by its name."""


class Observed(Protocol):
    """What a stack offers to those that measure it."""

    def listen(
        self, *listeners: Callable[[Any], None], around: Layer[Any, Any] | None = None
    ) -> None:
        """Pass every event to these listeners too, and every call to the layer `around`."""
        ...

    def statistics(self) -> Any:
        """Return a snapshot."""
        ...


def gauges(stack: Observed, labels: Labels) -> Values:
    """Return each gauge's series; none if they cannot be read.

    Another thread may meet a change of partitions, and asks again. Trio's clock cannot be read
    there at all.
    """
    for _ in range(10):
        try:
            found = stack.statistics()
        except RuntimeError:
            continue
        values: defaultdict[str, defaultdict[Series, float]]
        values = defaultdict(lambda: defaultdict(float))
        for name, series, value in _read(found, labels):
            values[name][series] += value  # partitions of one label are added up
        return values
    return {}


def _read(found: Any, labels: Labels) -> Iterator[tuple[str, Series, float]]:
    yield "in_flight", (), found.in_flight
    yield "waiting", (), found.waiting
    for partition, slots in found.slots.items():
        label = labels.of(partition)
        yield "slots.limit", (label,), slots.limit
        yield "slots.used", (label,), slots.held
        yield "slots.waiting", (label,), slots.waiting
    rates = [(labels.of(partition), each) for partition, each in found.allowances.items()]
    if found.account is not None:
        rates.append(("account", found.account))
    for label, rate in rates:
        yield "rate.waiting", (label,), rate.waiting
        yield "gates.closed", (label,), rate.gate > 0
        for window in rate.limits:
            limit = (label, str(window.dimension), f"{window.period:g}")
            yield "rate.limit", limit, window.limit
            yield "rate.used", limit, window.spent
    for partition, circuit in found.circuits.items():
        yield "circuits", (labels.of(partition), circuit.state.value), 1
    if found.budget is not None:
        yield "retry.budget", (), found.budget.balance
