"""Counts what happens, for a metrics endpoint or for a summary at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.verdict import Kind
from ..events import AttemptFinished, CallFinished, Event


@dataclass(frozen=True, slots=True)
class CountersSnapshot:
    """The counts at one moment.

    Attributes:
        calls: the number of calls that ended, by kind.
        attempts: the number of attempts that ended, by kind.
        events: the number of events, by name.
        tokens: the sum of the total tokens of the calls that reported a usage.
        waited: seconds that calls spent in queues and sleeps.
        sent_for: seconds that calls spent in attempts and in reading streams.
    """

    calls: Mapping[Kind, int]
    attempts: Mapping[Kind, int]
    events: Mapping[str, int]
    tokens: int
    waited: float
    sent_for: float


class Counters:
    """A listener that adds up events.

    State: its own; give one object to several stacks to count them together.
    """

    def __init__(self) -> None:
        self._calls: Counter[Kind] = Counter()
        self._attempts: Counter[Kind] = Counter()
        self._events: Counter[str] = Counter()
        self._tokens = 0
        self._waited = self._sent_for = 0.0

    def __call__(self, event: Event) -> None:
        """Count one event."""
        self._events[event.name] += 1
        if isinstance(event, AttemptFinished):
            self._attempts[event.kind] += 1
        elif isinstance(event, CallFinished):
            self._calls[event.kind] += 1
            self._tokens += event.usage.total_tokens if event.usage is not None else 0
            self._waited += event.waited
            self._sent_for += event.sent_for

    def snapshot(self) -> CountersSnapshot:
        """Return the counts as of now."""
        return CountersSnapshot(
            dict(self._calls),
            dict(self._attempts),
            dict(self._events),
            self._tokens,
            self._waited,
            self._sent_for,
        )
