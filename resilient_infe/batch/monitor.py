"""What a batch's stack goes through, kept small: counts, and what happened last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from .. import aio
from ..adapters.http.masking import printable
from ..circuit.snapshot import CircuitStatistics
from ..core.ids import clean_id
from ..core.verdict import Kind
from ..events import (
    CircuitChanged,
    CircuitOpened,
    Event,
    LimitsConfigured,
    RateGateClosed,
    RateLimitChanged,
    RateMaybeShared,
    RateTooLarge,
    RetryScheduled,
    RetryStopped,
    SlotsNarrowed,
)
from ..rate.snapshots import AllowanceStatistics
from ..retry.layer import REFUSED_ALONE
from ..stack.describe import StackStatistics
from ..stack.stack import Stack
from ..telemetry.emitter import Emitter

NEVER_SENT = "NeverSentError"
"""What a transport of ours raises where no connection could be made."""

REASONS = 5
"""Last reasons that are kept."""

KEPT = 200
"""Events that are kept until somebody takes them; a storm of them is not worth more."""

KEPT_EVENTS = (
    CircuitChanged,
    LimitsConfigured,
    RateGateClosed,
    RateLimitChanged,
    RateMaybeShared,
    SlotsNarrowed,
)
"""The events that the report of a run shows."""


class Monitor:
    """Listens to the stack of a batch. `run_batch` makes one, unless the stack has one already.

    Attributes:
        retries: attempts that were tried again.
        rejected: attempts that the server answered with 429.
        trouble: what the failures were that opened a circuit last.
        reasons: why attempts were tried again lately, the last one last.
        routine: False: it asks for what is rare, and so costs a plain call nothing.

    Args:
        wall: reads the seconds since 1970.

    State: its own.
    """

    routine = False

    def __init__(self, wall: Callable[[], float] = aio.wall_time) -> None:
        """Start at zero."""
        self._wall = wall
        self.retries = 0
        self.rejected = 0
        self.trouble: str | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._refused: dict[str | None, RetryScheduled] = {}
        self._too_large: set[str | None] = set()
        self.reasons: deque[str] = deque(maxlen=REASONS)
        self._retried: RetryScheduled | None = None  # the last retry, until its row ends

    def __call__(self, event: Event) -> None:
        """Count, or keep, an event."""
        if isinstance(event, RetryScheduled | RetryStopped):
            # What our own stack refused was not sent, so to ask again is no retry.
            self.retries += isinstance(event, RetryScheduled) and event.kind is not Kind.REFUSED
            self.rejected += event.kind is Kind.RATE_LIMITED
            self._note_refused(event)
        elif isinstance(event, RateTooLarge):
            self._too_large.add(event.request_id)
        elif isinstance(event, KEPT_EVENTS):
            if isinstance(event, CircuitOpened):
                self.trouble = event.reason.rpartition(": ")[2]
            told = {"name": event.name, "when": round(self._wall(), 3)} | event.as_dict()
            self._events.append(told)

    @property
    def number_refused(self) -> int:
        """The number of rows that the server refuses each time."""
        return len(self._refused)

    def refused(self) -> str | None:
        """Say which row the server refuses each time, and why, or None."""
        if not self._refused:
            return None
        event = max(self._refused.values(), key=attrgetter("attempt"))
        more = len(self._refused) - 1
        others = f" and {more:,} more are" if more else " is"
        return f"{_row(event)}{others} refused each time ({_why(event)}) while others are let in"

    def too_large(self) -> str | None:
        """Say how many rows cost more than a whole minute's limit, and what that means, or None."""
        if not self._too_large:
            return None
        number = len(self._too_large)
        are, each = ("is", "it waits") if number == 1 else ("are", "each waits")
        return (
            f"{counted(number, 'row')} {are} larger than the limit of a minute: {each} for the "
            f"others and for an empty minute"
        )

    def retried(self) -> str | None:
        """Say which row waits to be tried again, the last one that began to, or None."""
        event = self._retried
        return None if event is None else f"waiting: {_row(event)} is tried again ({_why(event)})"

    def _note_refused(self, event: RetryScheduled | RetryStopped) -> None:
        self._retried = None
        if isinstance(event, RetryScheduled) and event.kind is not Kind.REFUSED:
            self._retried = event
            self.reasons.append(f"{_row(event)}: {_why(event)}")
        if isinstance(event, RetryScheduled) and event.reason == REFUSED_ALONE:
            if len(self._refused) < KEPT or event.request_id in self._refused:
                self._refused[event.request_id] = event
        else:
            self._refused.pop(event.request_id, None)

    def ended(self, row_id: str) -> None:
        """Note that a row has its result: it is not refused any more."""
        if not (self._refused or self._too_large or self._retried):
            return
        request_id = clean_id(row_id)
        self._refused.pop(request_id, None)
        self._too_large.discard(request_id)
        if self._retried is not None and self._retried.request_id == request_id:
            self._retried = None

    def take_events(self) -> list[dict[str, Any]]:
        """Return the events since the last time."""
        events = list(self._events)
        self._events.clear()
        return events


def listening(
    stack: Stack | None, wall: Callable[[], float]
) -> tuple[Monitor | None, Emitter | None]:
    """Return the monitor of a batch, and what its calls send events to if the stack has no monitor.

    Args:
        stack: that it sends with, or None: then there are no events.
        wall: as for `Monitor`.
    """
    if stack is None:
        return None, None
    for listener in stack.listeners:
        if isinstance(listener, Monitor):
            return listener, None
    monitor = Monitor(wall)
    return monitor, Emitter((*stack.listeners, monitor))


def _row(event: RetryScheduled) -> str:
    return f"row {printable(str(event.request_id))}"


def _why(event: RetryScheduled) -> str:
    known = (event.status, event.code or (event.error if event.status is None else None))
    why = " ".join(str(each) for each in known if each is not None)
    return f"{why}, {counted(event.attempt - 1, 'attempt')}"


def counted(number: int, what: str, plural: str | None = None) -> str:
    """Return a number of things: ``1 retry``, ``1,200 retries``."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def waiting_for(stack: StackStatistics, trouble: str | None = None) -> str | None:
    """Say in words what a batch waits for where nothing is sent, or None where something is.

    Args:
        stack: its figures.
        trouble: what failed last, from its monitor.
    """
    if any(each.gate <= 0.0 and each.outstanding for each in stack.allowances.values()):
        return None
    resting = [c for c in stack.circuits.values() if c.state != "closed"]
    if resting:
        what = "the server fails" if trouble is None else f"the server fails ({trouble})"
        if trouble is not None and NEVER_SENT in trouble:
            what = "the server cannot be reached (is the base URL right?)"
        return f"waiting: {what}, and is tried again in {_rest(resting)}"
    gates = {each.gate: each.gate_reason for each in stack.allowances.values() if each.gate > 0.0}
    if gates:
        longest = max(gates)
        return f"waiting {longest:.0f} s: {_reason(gates[longest])}"
    return None


def under_way(stack: StackStatistics) -> int:
    """Return how many attempts are being sent."""
    return sum(each.outstanding for each in stack.allowances.values())


def _rest(circuits: list[CircuitStatistics]) -> str:
    left = max(each.rest for each in circuits)
    return f"{left:.0f} s" if left >= 1.0 else "a moment"


def _reason(reason: str | None) -> str:
    return "the server asked for it" if reason is None else reason


def limits_of(stack: StackStatistics) -> Mapping[str, Any]:
    """Return the limits that are kept or learned, per partition, for a sample."""
    return {name or "": limit_of(each) for name, each in stack.allowances.items()}


def limit_of(allowance: AllowanceStatistics) -> dict[str, float | None]:
    """Return the limit that is kept or learned, in requests and tokens a minute."""
    limit, tokens = allowance.requests_per_minute, allowance.tokens_per_minute
    if limit is None:
        limit = allowance.learned
    if allowance.learned is not None and allowance.learned_dimension == "tokens":
        limit = None
    return {
        "requests": None if limit is None else round(limit, 1),
        "tokens": None if tokens is None else round(tokens),
    }
