"""What a stack tells its listeners: frozen records with stable dotted names and fixed fields.

An event is made only when somebody listens. Those that happen on every call are *routine*; a
listener that wants only the rare ones (a logger at WARNING) says so with ``routine = False``, and
then a successful call builds no event at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

from .core.verdict import Kind, Usage, frozen

Listener = Callable[[Any], None]
"""Takes each `Event`, quickly and without raising; it runs inside the call."""


@frozen
class Event:
    """The base of every event; `name` is stable and may be matched on."""

    name: ClassVar[str] = "event"

    @property
    def routine(self) -> bool:
        """Whether it happens on every call, so that a listener may well not want it."""
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, those that are None or empty left out."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in pairs if value is not None and value not in ((), {})}


@frozen
class CallStarted(Event):
    """A call entered the stack."""

    name: ClassVar[str] = "call.started"
    request_id: str | None
    partition: str | None
    tags: Mapping[str, Any]

    @property
    def routine(self) -> bool:
        """It happens on every call."""
        return True


@frozen
class AttemptFinished(Event):
    """One attempt was sent and has ended; `sent_for` is its duration in seconds."""

    name: ClassVar[str] = "attempt.finished"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    status: int | None
    code: str | None
    error: str | None
    retry_after: float | None
    server_request_id: str | None
    usage: Usage | None
    sent_for: float

    @property
    def routine(self) -> bool:
        """It happens on every call."""
        return True


@frozen
class RetryScheduled(Event):
    """Another attempt will start in `delay` seconds, because the last one ended as `kind`."""

    name: ClassVar[str] = "retry.scheduled"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    delay: float
    retry_after: float | None


@frozen
class RetryStopped(Event):
    """A retryable outcome was given back to the caller; `reason` says why."""

    name: ClassVar[str] = "retry.stopped"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    reason: str


@frozen
class RateWaiting(Event):
    """A call waits for the rate limit, for at least `delay` seconds, because of `reason`."""

    name: ClassVar[str] = "rate.waiting"
    request_id: str | None
    partition: str | None
    delay: float
    reason: str
    waiting: int

    @property
    def routine(self) -> bool:
        """It happens on every call."""
        return True


@frozen
class RateGateClosed(Event):
    """All senders of the partition stop for `delay` seconds, because of `reason`."""

    name: ClassVar[str] = "rate.gate_closed"
    request_id: str | None
    partition: str | None
    delay: float
    reason: str


@frozen
class RateLimitChanged(Event):
    """The limit that is kept for `dimension` moved from `old` to `new` per minute (None: none)."""

    name: ClassVar[str] = "rate.limit_changed"
    partition: str | None
    dimension: str
    old: float | None
    new: float | None
    reason: str


@frozen
class SlotsNarrowed(Event):
    """The server said that too many calls are in progress: from `old`, only `new` are sent."""

    name: ClassVar[str] = "slots.narrowed"
    request_id: str | None
    partition: str | None
    old: int
    new: int


@frozen
class CircuitChanged(Event):
    """The base of the circuit's events: what it was, and why it changed."""

    partition: str | None
    previous: str
    reason: str


@frozen
class CircuitOpened(CircuitChanged):
    """The circuit opened: attempts are refused until it has rested."""

    name: ClassVar[str] = "circuit.opened"


@frozen
class CircuitHalfOpened(CircuitChanged):
    """The circuit lets probes through."""

    name: ClassVar[str] = "circuit.half_opened"


@frozen
class CircuitClosed(CircuitChanged):
    """The circuit closed: traffic flows again."""

    name: ClassVar[str] = "circuit.closed"


@frozen
class CallFinished(Event):
    """A call left the stack: `waited` seconds in queues and sleeps, `sent_for` in attempts."""

    name: ClassVar[str] = "call.finished"
    request_id: str | None
    partition: str | None
    kind: Kind
    attempts: int
    waited: float
    sent_for: float
    usage: Usage | None
    server_request_ids: tuple[str, ...]
    tags: Mapping[str, Any]

    @property
    def routine(self) -> bool:
        """A success is routine; a failure is not."""
        return self.kind is Kind.OK


__all__ = [
    "AttemptFinished",
    "CallFinished",
    "CallStarted",
    "CircuitChanged",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitOpened",
    "Event",
    "Listener",
    "RateGateClosed",
    "RateLimitChanged",
    "RateWaiting",
    "RetryScheduled",
    "RetryStopped",
    "SlotsNarrowed",
]
