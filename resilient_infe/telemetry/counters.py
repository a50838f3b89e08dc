"""Counts what happens, for a metrics endpoint or a line at the end of a run."""

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
        calls: how calls ended, by kind.
        attempts: how attempts ended, by kind.
        events: how often each event happened, by name.
        tokens: tokens charged, as far as the calls' usage says.
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
    """A listener that adds up.

    State: its own; share one object between stacks to count them together.
    """

    def __init__(self) -> None:
        """Start at zero."""
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
        """Return the counts as they are now."""
        return CountersSnapshot(
            dict(self._calls),
            dict(self._attempts),
            dict(self._events),
            self._tokens,
            self._waited,
            self._sent_for,
        )
