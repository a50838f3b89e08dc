"""Counts per partition for a metrics backend, with a bounded number of partitions.

A backend keeps one time series for each set of labels, for ever. Partitions are names that come
from outside, so only the first `MOST_PARTITIONS` have series of their own. The rest share one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ..events import AttemptFinished, CallFinished, CircuitOpened, RateGateClosed, RetryScheduled

MOST_PARTITIONS = 100
"""Partitions that have series of their own: more models than one account uses."""

OTHER = "other"
"""The label of all partitions after the first `MOST_PARTITIONS`."""

LONGEST_LABEL = 128
"""Characters of a partition's name that are kept."""

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 900.0)
"""Upper bounds of a call's duration in seconds: from a small answer to a wait in a long queue."""

Series = tuple[str, ...]
"""The values of a metric's labels, the partition first."""


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
            text = str(partition)[:LONGEST_LABEL].encode("utf-8", "replace").decode()
            label = self._given[partition] = text
        return label


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

    State: its own. Another thread may read copies of the counts while calls run.

    Attributes:
        calls, attempts, retries: their numbers, by partition and kind.
        waits: seconds that calls waited, by partition and reason.
        tokens: those that were used, by partition and type, ``input`` or ``output``.
        gates: how often a rate limit's gate closed, by partition.
        opened: how often a circuit opened, by partition.
        durations: the durations of the calls that ended, waits included, by partition.
    """

    def __init__(self, labels: Labels) -> None:
        self._label = labels.of
        self.calls: defaultdict[Series, float] = defaultdict(float)
        self.attempts: defaultdict[Series, float] = defaultdict(float)
        self.retries: defaultdict[Series, float] = defaultdict(float)
        self.waits: defaultdict[Series, float] = defaultdict(float)
        self.tokens: defaultdict[Series, float] = defaultdict(float)
        self.gates: defaultdict[Series, float] = defaultdict(float)
        self.opened: defaultdict[Series, float] = defaultdict(float)
        self.durations: defaultdict[Series, Durations] = defaultdict(Durations)

    def __call__(self, event: Any) -> None:
        """Count one event."""
        kind = type(event)  # comparing it costs a fifth of isinstance, three times a call
        if kind is AttemptFinished:
            self._attempt(event)
        elif kind is CallFinished:
            self._call(event)
        elif kind is RetryScheduled:
            self.retries[self._label(event.partition), event.kind.value] += 1
        elif kind is RateGateClosed:
            self.gates[(self._label(event.partition),)] += 1
        elif kind is CircuitOpened:
            self.opened[(self._label(event.partition),)] += 1

    def _attempt(self, event: AttemptFinished) -> None:
        self.attempts[self._label(event.partition), event.kind.value] += 1

    def _call(self, event: CallFinished) -> None:
        label = self._label(event.partition)
        self.calls[label, event.kind.value] += 1
        self.durations[(label,)].add(event.waited + event.sent_for)
        for reason, seconds in event.waits.items():
            self.waits[label, reason] += max(0.0, seconds)
        if event.usage is not None:
            self.tokens[label, "input"] += max(0, event.usage.prompt_tokens)
            self.tokens[label, "output"] += max(0, event.usage.completion_tokens)
