"""Counts per partition for a metrics backend, with a bounded number of partitions.

A backend keeps one time series for each set of labels, for ever. Partitions are names that come
from outside, so only the first `MOST_PARTITIONS` have series of their own. The rest share one.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..events import (
    AttemptFinished,
    CallFinished,
    CircuitOpened,
    HedgeSent,
    HedgeWon,
    RateGateClosed,
    RetryScheduled,
)

MOST_PARTITIONS = 100
"""Partitions that have series of their own: more models than one account uses."""

OTHER = "other"
"""The label of all partitions after the first `MOST_PARTITIONS`."""

LONGEST_LABEL = 128
"""Characters of a partition's name that are kept."""

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 900.0)
"""Upper bounds of a call's duration in seconds: from a small answer to a wait in a long queue."""

MOST_DIMENSIONED = 500
"""Combinations of a partition with dimensions of the user's own that have series of their own."""

Pairs = tuple[tuple[str, str], ...]
"""The user's own dimensions of a call: names and values."""

Series = tuple[Any, ...]
"""The values of a metric's labels, the partition first; then the user's own dimensions in pairs."""

Enrich = Callable[[CallFinished], Mapping[str, object]]
"""Returns dimensions of one's own for a call that has ended: their names and values."""


class Labels:
    """Gives each partition the label under which it is counted. State: the labels given out."""

    def __init__(self, most: int = MOST_PARTITIONS) -> None:
        self._most = most
        self._given: dict[object, str] = {}

    def of(self, partition: object) -> str:
        """Return the label: empty for None, `OTHER` if all are given out."""
        label = self._given.get(partition)
        if label is None:
            if partition is None:
                return ""
            if len(self._given) >= self._most:
                return OTHER
            label = self._given[partition] = text_of(partition)
        return label


class Dimensions:
    """Asks a user's function for dimensions, and keeps their number bounded.

    Args:
        enrich: the function.
        names: what a name must match; others are left out.
        most: the number of combinations with a partition.

    State: the combinations given out, and whether a failure was logged.
    """

    def __init__(
        self, enrich: Enrich, names: re.Pattern[str], most: int = MOST_DIMENSIONED
    ) -> None:
        self._enrich, self._names, self._most = enrich, names, most
        self._given: set[tuple[str, Pairs]] = set()
        self._known: set[tuple[str, ...]] = set()
        self._failed = False

    def of(self, event: CallFinished, label: str) -> Pairs:
        """Return the dimensions of a call, whose partition has this label.

        After `most` combinations every new value is `OTHER`.
        """
        try:
            found = dict(self._enrich(event))
            texts = {name: text_of(value) for name, value in found.items() if value is not None}
        except Exception as error:
            self._report(error)
            return ()
        pairs = tuple(
            sorted((name, text) for name, text in texts.items() if text and self._allows(name))
        )
        if (label, pairs) in self._given:
            return pairs
        names = tuple(name for name, _ in pairs)
        if len(self._given) < self._most:
            self._given.add((label, pairs))
            self._known.add(names)
            return pairs
        return tuple((name, OTHER) for name in names) if names in self._known else ()

    def _allows(self, name: object) -> bool:
        return isinstance(name, str) and self._names.fullmatch(name) is not None

    def _report(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            logging.getLogger("resilient_infe").error(
                "enrich failed (reported once): %r", self._enrich, exc_info=error
            )


def text_of(value: object) -> str:
    """Return a value as text that every backend takes, cut at `LONGEST_LABEL`."""
    if type(value) is str and len(value) <= LONGEST_LABEL and value.isascii():  # nearly always
        return value
    return str(value)[:LONGEST_LABEL].encode("utf-8", "replace").decode()


class Durations:
    """A histogram: the number in each bucket of `BUCKETS` and above them, and the sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield each upper bound with the number of durations up to it; infinity last."""
        number = 0
        for bound, count in zip((*BUCKETS, float("inf")), list(self.counts), strict=True):
            number += count
            yield bound, number


class Measured:
    """A listener that adds up events by partition.

    Args:
        labels: gives the partitions their labels.
        dimensions: gives the calls dimensions of the user's own; None for none.

    State: its own. Another thread may read copies of the counts while calls run.

    Attributes:
        calls, attempts, retries: their numbers, by partition and kind.
        waits: seconds that calls waited, by partition and reason.
        tokens: those that were used, by partition and type, ``input`` or ``output``.
        gates: how often a rate limit's gate closed, by partition.
        opened: how often a circuit opened, by partition.
        hedges: second attempts, by partition and kind, ``sent`` or ``won``.
        durations: the durations of the calls that ended, waits included, by partition.
    """

    def __init__(self, labels: Labels, dimensions: Dimensions | None = None) -> None:
        self._label = labels.of
        self._dimensions = dimensions
        self.calls: defaultdict[Series, float] = defaultdict(float)
        self.attempts: defaultdict[Series, float] = defaultdict(float)
        self.retries: defaultdict[Series, float] = defaultdict(float)
        self.waits: defaultdict[Series, float] = defaultdict(float)
        self.tokens: defaultdict[Series, float] = defaultdict(float)
        self.gates: defaultdict[Series, float] = defaultdict(float)
        self.opened: defaultdict[Series, float] = defaultdict(float)
        self.hedges: defaultdict[Series, float] = defaultdict(float)
        self.durations: defaultdict[Series, Durations] = defaultdict(Durations)

    def __call__(self, event: Any) -> None:
        """Count one event."""
        kind = type(event)  # comparing it costs a fifth of isinstance, three times a call
        if kind is AttemptFinished:
            self.attempts[self._label(event.partition), event.kind.value] += 1
        elif kind is CallFinished:
            label = self._label(event.partition)
            dimensions = self._dimensions
            self.count(event, label, () if dimensions is None else dimensions.of(event, label))
        elif kind is RetryScheduled:
            self.retries[self._label(event.partition), event.kind.value] += 1
        elif kind is RateGateClosed:
            self.gates[(self._label(event.partition),)] += 1
        elif kind is CircuitOpened:
            self.opened[(self._label(event.partition),)] += 1
        elif kind is HedgeSent or kind is HedgeWon:
            ended = "sent" if kind is HedgeSent else "won"
            self.hedges[self._label(event.partition), ended] += 1

    def count(self, event: CallFinished, label: str, own: Pairs) -> None:
        """Count a call that ended, by the label of its partition and the user's dimensions."""
        self.calls[label, event.kind.value, *own] += 1
        for reason, seconds in event.waits.items():
            self.waits[label, reason, *own] += max(0.0, seconds)
        if event.usage is not None:
            self.tokens[label, "input", *own] += max(0, event.usage.prompt_tokens)
            self.tokens[label, "output", *own] += max(0, event.usage.completion_tokens)
        self.measure(event, label, own)

    def measure(self, event: CallFinished, label: str, own: Pairs) -> None:
        """Add the duration of a call that ended to the histogram."""
        self.durations[label, *own].add(event.waited + event.sent_for)
