"""The events that a stack reports to its listeners: frozen records with stable names and fields.

An event is built only if there is a listener for it. Events that happen on ordinary calls are
*routine*. A listener that needs only the rare ones (a logger at WARNING, for example) has the
attribute ``routine = False``; if all listeners do, a successful call builds no event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar

from .core.verdict import SUCCESS, Kind, Usage, frozen

Listener = Callable[[Any], None]
"""A callable that takes each `Event`. It runs inside the call, so it must be quick and not raise.
"""


@frozen
class Event:
    """The base class of all events; `name` is stable, so code may compare it."""

    name: ClassVar[str] = "event"

    @property
    def routine(self) -> bool:
        """Whether it happens on ordinary calls, so that a listener may want to skip it."""
        return False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON, without those that are None or empty.

        A kind is its text, and a usage its numbers. Tags are as the caller gave them.
        """
        pairs = ((f.name, _plain(getattr(self, f.name))) for f in fields(self))
        return {name: value for name, value in pairs if value is not None and value not in ([], {})}


def _plain(value: Any) -> Any:
    if isinstance(value, Kind):
        return value.value
    if isinstance(value, Usage | ConfiguredLimit):
        return asdict(value)
    return list(map(_plain, value)) if isinstance(value, tuple) else value


@frozen
class CallStarted(Event):
    """A call entered the stack."""

    name: ClassVar[str] = "call.started"
    request_id: str | None
    partition: str | None
    tags: Mapping[str, Any]

    @property
    def routine(self) -> bool:
        """True: it happens on every call."""
        return True


@frozen
class AttemptFinished(Event):
    """An attempt was sent and has ended; that of a stream ends when the stream is closed.

    `sent_for` is its duration in seconds, and `reason` says what to do about a failure.
    """

    name: ClassVar[str] = "attempt.finished"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    status: int | None
    code: str | None
    error: str | None
    retry_after: float | None
    reason: str | None
    server_request_id: str | None
    usage: Usage | None
    sent_for: float

    @property
    def routine(self) -> bool:
        """True: it happens on every call."""
        return True


@frozen
class RetryScheduled(Event):
    """Another attempt will start in `delay` seconds, because the last one ended as `kind`.

    `reason` says where the delay comes from: the server's hint, the stack's own refusal or the
    backoff.
    """

    name: ClassVar[str] = "retry.scheduled"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    status: int | None
    code: str | None
    error: str | None
    delay: float
    retry_after: float | None
    reason: str


@frozen
class RetryStopped(Event):
    """A retryable outcome was returned to the caller without another attempt; `reason` says why."""

    name: ClassVar[str] = "retry.stopped"
    request_id: str | None
    partition: str | None
    attempt: int
    kind: Kind
    reason: str


@frozen
class FallbackTried(Event):
    """A call goes on to `target`, because that of `partition` ended as `kind`."""

    name: ClassVar[str] = "fallback.tried"
    request_id: str | None
    partition: str | None
    attempt: int
    target: str
    kind: Kind
    status: int | None
    code: str | None
    error: str | None


@frozen
class HedgeSent(Event):
    """A second attempt was sent: after `delay` seconds the first had not begun to answer."""

    name: ClassVar[str] = "hedge.sent"
    request_id: str | None
    partition: str | None
    attempt: int
    delay: float

    @property
    def routine(self) -> bool:
        """True: it happens on ordinary calls."""
        return True


@frozen
class HedgeWon(Event):
    """The second attempt answered first, `took` seconds after it was sent."""

    name: ClassVar[str] = "hedge.won"
    request_id: str | None
    partition: str | None
    attempt: int
    took: float

    @property
    def routine(self) -> bool:
        """True: it happens on ordinary calls."""
        return True


@frozen
class RateWaiting(Event):
    """A call waits for the rate limit, for at least `delay` seconds, because of `reason`.

    `waiting` is how many wait, itself included, and `priority` is its class if it has one. `scope`
    is ``"account"`` if it waits for a limit over all partitions, else None.
    """

    name: ClassVar[str] = "rate.waiting"
    request_id: str | None
    partition: str | None
    delay: float
    reason: str
    waiting: int
    scope: str | None = None
    priority: str | None = None

    @property
    def routine(self) -> bool:
        """True: it happens on ordinary calls."""
        return True


@frozen
class RateTooLarge(Event):
    """A call costs more than the whole limit of a minute, as estimated: it is sent alone.

    It waits for all others, and then until a minute is empty. `tokens` is its estimate, and
    `reason` names the limit.
    """

    name: ClassVar[str] = "rate.too_large"
    request_id: str | None
    partition: str | None
    tokens: float
    reason: str


@frozen
class RateGateClosed(Event):
    """All calls of the partition are held back for `delay` seconds, because of `reason`."""

    name: ClassVar[str] = "rate.gate_closed"
    request_id: str | None
    partition: str | None
    delay: float
    reason: str


@frozen
class RateLimitChanged(Event):
    """The limit in use for `dimension` changed from `old` to `new` per minute; None is no limit."""

    name: ClassVar[str] = "rate.limit_changed"
    partition: str | None
    dimension: str
    old: float | None
    new: float | None
    reason: str


@frozen
class ConfiguredLimit:
    """One limit that was changed while in use, from `old` to `new`; None is no declared limit.

    `limit` is its name, such as ``requests_per_minute`` or ``concurrency``. `model` is whose it is:
    None for all calls together, ``"*"`` for each model with the usual limit. `account` says that it
    is one over all models.
    """

    limit: str
    model: str | None
    old: float | None
    new: float
    account: bool = False


@frozen
class LimitsConfigured(Event):
    """`Stack.configure` changed limits while in use: all of one call, in order."""

    name: ClassVar[str] = "limits.configured"
    changes: tuple[ConfiguredLimit, ...]


@frozen
class RateMaybeShared(Event):
    """Others seem to use the learned limit too, because of `reason`; once for each limit."""

    name: ClassVar[str] = "rate.maybe_shared"
    partition: str | None
    reason: str


@frozen
class SharesLost(Event):
    """The store of a shared limit does not answer; this process goes on with `share` of it.

    `partition` is the limit's name, `on_loss` what was chosen for this case, and `reason` what the
    last call met.
    """

    name: ClassVar[str] = "shares.lost"
    partition: str | None
    share: float
    on_loss: str
    reason: str


@frozen
class SharesRestored(Event):
    """The store of a shared limit answers again, after `seconds`; the process has `share` of it."""

    name: ClassVar[str] = "shares.restored"
    partition: str | None
    share: float
    seconds: float


@frozen
class SlotsNarrowed(Event):
    """The server reported too many calls in progress, so the concurrency limit fell to `new`."""

    name: ClassVar[str] = "slots.narrowed"
    request_id: str | None
    partition: str | None
    old: int
    new: int


@frozen
class CircuitChanged(Event):
    """The base class of the circuit's events: the state before, and the reason for the change."""

    partition: str | None
    previous: str
    reason: str


@frozen
class CircuitOpened(CircuitChanged):
    """The circuit opened: attempts are refused until `open_for` is over."""

    name: ClassVar[str] = "circuit.opened"


@frozen
class CircuitThrottled(CircuitChanged):
    """The circuit lets a share of the attempts through, because some succeed and some fail."""

    name: ClassVar[str] = "circuit.throttled"


@frozen
class CircuitHalfOpened(CircuitChanged):
    """The circuit became half-open: it lets probes through."""

    name: ClassVar[str] = "circuit.half_opened"


@frozen
class CircuitClosed(CircuitChanged):
    """The circuit closed: all calls are let through again."""

    name: ClassVar[str] = "circuit.closed"


@frozen
class CallFinished(Event):
    """A call left the stack: `waited` seconds in queues and sleeps, `sent_for` in attempts.

    Of a call that failed, `status`, `code` and `error` are those of its last attempt, or of the
    stack's refusal, and `reason` says why there was no further attempt. `waits` divides `waited` by
    what the call waited for: ``slot``, ``rate_limit`` and ``backoff``. `model` is the one that the
    payload names, if that is not the name of the partition.
    """

    name: ClassVar[str] = "call.finished"
    request_id: str | None
    partition: str | None
    kind: Kind
    status: int | None
    code: str | None
    error: str | None
    reason: str | None
    attempts: int
    waits: Mapping[str, float]
    waited: float
    sent_for: float
    usage: Usage | None
    server_request_ids: tuple[str, ...]
    tags: Mapping[str, Any]
    priority: str | None = None
    tenant: str | None = None
    model: str | None = None

    @property
    def routine(self) -> bool:
        """True for a success, False for anything else."""
        return self.kind is SUCCESS


__all__ = [
    "AttemptFinished",
    "CallFinished",
    "CallStarted",
    "CircuitChanged",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitOpened",
    "CircuitThrottled",
    "ConfiguredLimit",
    "Event",
    "FallbackTried",
    "HedgeSent",
    "HedgeWon",
    "LimitsConfigured",
    "Listener",
    "RateGateClosed",
    "RateLimitChanged",
    "RateMaybeShared",
    "RateTooLarge",
    "RateWaiting",
    "RetryScheduled",
    "RetryStopped",
    "SharesLost",
    "SharesRestored",
    "SlotsNarrowed",
]
