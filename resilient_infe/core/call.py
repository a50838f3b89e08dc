"""`Call`, the object that a stack hands from layer to layer, and the types of layers and handlers.

A layer is any ``async def layer(call, call_next)``; a handler is what it calls next. State that
belongs to one call lives on its `Call` and nowhere else, so any number of calls can share a layer.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self, TypeVar

from ..errors import Refused
from .priority import Priority
from .refused import RefusedAnswers
from .runtime import Runtime
from .verdict import Kind, Usage, Verdict
from .watch import Disarmable, Passage, Watch

P = TypeVar("P")
R = TypeVar("R")
Refusal = TypeVar("Refusal", bound=Refused)

LONGEST_SILENCE = 60.0
"""Seconds between two bytes of an open body. Servers send a comment or a ping every 15 s or so."""

FIRST_CHUNK = 60.0
"""Seconds from the start of an attempt to the first event of its stream: the server may queue the
request and read a long prompt before it. 60 s suits most models."""


class Headers(Protocol):
    """What the library needs of response headers: a dict and those of httpx and aiohttp have it."""

    def get(self, key: str, /) -> str | None:
        """Return the value of header `key`, or None."""
        ...


class Emit(Protocol):
    """Sends a call's events to the listeners."""

    @property
    def listeners(self) -> tuple[Callable[[Any], None], ...]:
        """The listeners, in the order in which they receive an event."""
        ...

    @property
    def routine(self) -> bool:
        """Whether any listener wants the events that every call emits."""
        ...

    def __call__(self, event: Any) -> None:
        """Send one event to the listeners."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Reply:
    """A response as the adapter received it.

    The adapter puts it on the call before it returns or raises.

    Attributes:
        status: the HTTP status.
        headers: the response's headers.
        body: a body decoded from JSON, or the bytes or text of an error (at most 64 KiB of it);
            None if there is no body, or if it was not read.
        raw: the bytes that `body` was decoded from, if the adapter has all of them.
        verdict: the reply's meaning, if the adapter needed it to choose the exception that it
            raises. None leaves it to the classifier. A reply is classified once.
        completion: whether a completion was asked for, so that an answer has ``choices``.
    """

    status: int
    headers: Headers | Mapping[str, str]
    body: Any = None
    raw: bytes | None = None
    verdict: Verdict | None = None
    completion: bool = False

    def __repr__(self) -> str:
        """Show only the status: headers and bodies may hold secrets."""
        return f"Reply(status={self.status})"


class Hold:
    """Keeps a call's slot and reservation until its streamed body is closed.

    An adapter that returns an open stream puts a hold on the call. A layer that holds a resource
    for the call then registers its release with `on_close`. State: per call.
    """

    __slots__ = ("_callbacks", "closed", "usage")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Usage | None], None]] = []
        self.closed = False
        self.usage: Usage | None = None

    def on_close(self, callback: Callable[[Usage | None], None]) -> None:
        """Call `callback` with the usage once the stream is closed (at once if it already is)."""
        if self.closed:
            callback(self.usage)
        else:
            self._callbacks.append(callback)

    def close(self, usage: Usage | None = None) -> None:
        """Run the registered callbacks, those of inner layers first; a second call does nothing.

        Args:
            usage: the tokens that the stream cost; None if it ended before it reported them.
        """
        if self.closed:
            return
        self.closed, self.usage = True, usage
        callbacks, self._callbacks = self._callbacks, []
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                callback(usage)
            except Exception as error:  # the others must be released all the same
                failures.append(error)
        if failures:
            raise failures[0]


class Refusals(Protocol):
    """What the rate limiter knows of a call's 429s."""

    @property
    def suspect(self) -> bool:
        """Whether others are let in, so that the 429s seem to be about this call."""
        ...

    @property
    def final(self) -> str | None:
        """Why no further attempt can help, or None."""
        ...

    @property
    def for_good(self) -> bool:
        """Whether the same request can never pass, in a later run either."""
        ...


class InFlight(Protocol):
    """What the slots know of the attempts in flight."""

    @property
    def proven(self) -> int:
        """A number of others: an attempt that is let in with as many or fewer changes nothing."""
        ...

    @property
    def limit(self) -> int | None:
        """The limit that was found, or None."""
        ...

    @property
    def most(self) -> float:
        """The number of attempts that was configured last, if it was changed while in use."""
        ...

    @property
    def in_flight(self) -> int:
        """The attempts that were sent and have not ended."""
        ...

    @property
    def full(self) -> bool:
        """Whether the limit, found or configured anew, allows no further attempt now."""
        ...

    @property
    def queued(self) -> int:
        """The calls that wait for a slot."""
        ...

    def stall(self) -> None:
        """Count a call that holds a slot and waits for the rate limit."""
        ...

    def move(self) -> None:
        """Stop counting it: it goes on, or has left."""
        ...

    def sent(self) -> int:
        """Count an attempt that is sent now; return the number of others in flight."""
        ...

    def answered(
        self, others: int, now: float, *, refused: bool, excuse: bool, again: bool
    ) -> bool:
        """Learn from an answer; return whether too many in flight are why it was refused."""
        ...


class CallState:
    """What the layers of this library note on a call for each other. State: per call.

    No dataclass: most calls change one of these, and a constructor would set all, on each call.

    Attributes:
        place: the call's age among all calls of its loop. Queues serve the oldest call first, so a
            retry keeps its place. 0 before the call enters its stack; a number that was set before
            that is kept.
        behind: whether it waits for all others of its class, and not only for those of its tenant.
        cost: what an attempt costs, as the rate limiter counts it; 0 if that does not matter.
        readmitted: whether `Retry` runs the call again: a full queue does not refuse it then.
        let_pass: the attempts that were sent when it last went behind the others, because it is
            larger than the whole rate limit; -1 if it never did.
        probes: whether the current attempt probes a half-open circuit of a server that has
            answered before.
        requeues: whether a `Retry` sends the call back to the queue for a slot, if it lost its own.
        on_send: called once, before the first send: it fills the retry budget, or stops the send.
        crowd: counts the attempts in flight, for the slots; None without slots.
        others: the attempts in flight when the current one was sent; -1 before that.
        sent_for: seconds spent in attempts; counted only if there are listeners.
        max_attempts: the most attempts that may be sent, or None.
        output_tokens: the part of the call's `tokens` that is output, as estimated, or None.
        refusals: what the call's 429s say of it; None before the first.
        refused: its answers that a check refused; None before the first.
        asked_too_long: seconds that the server asks to wait, if over the ``max_hint`` of `Retry`.
        gave_up: why `Retry` made no further attempt although the verdict allows one; or None.
        first_chunk: seconds from the start of an attempt in which the first event of its stream
            must come; None if only the attempt's own timeout bounds it. `AttemptTimeout` sets it,
        idle: and this, the seconds that an open body may be silent while it is read; None for any.
        mask: masks an id of the server that quotes the request's API key; None without a key.
        timer: the timer of the current attempt, or None. An adapter disarms it where a part of the
            attempt is not bounded by it.
        waits: seconds that the call waited, by what it waited for; None if it never did.
        spare: whether the attempt is sent only if it has to wait for nothing: a guard that would
            let it wait refuses it.
        single: whether two attempts of the call must not be under way at once, because they would
            read the same body.
        streams: whether a stream is asked for although the request does not say so.
        model: the model to ask in place of the one that the request names, or None.
        transport: what sends the attempt in place of the stack's own transport, or None.
        tried: what a `Fallback` tried, if the call failed all the same.
        passage: takes the call over the bridge, if threads share its stack; else None.
        watch: sees the attempts and the waits; None if nothing does.
        sleep: awaited by `Retry` between two attempts, with the call and the loop time of the next
            one; None for the loop's own sleep.
    """

    place: int = 0
    behind: bool = False
    cost: float = 0.0
    readmitted: bool = False
    let_pass: int = -1
    probes: bool = False
    requeues: bool = False
    on_send: Callable[[Call[Any]], None] | None = None
    crowd: InFlight | None = None
    others: int = -1
    sent_for: float = 0.0
    max_attempts: int | None = None
    timer: Disarmable | None = None
    output_tokens: float | None = None
    refusals: Refusals | None = None
    refused: RefusedAnswers | None = None
    asked_too_long: float | None = None
    gave_up: str | None = None
    first_chunk: float | None = FIRST_CHUNK
    idle: float | None = LONGEST_SILENCE
    mask: Callable[[str], str] | None = None
    waits: dict[str, float] | None = None
    spare: bool = False
    single: bool = False
    streams: bool = False
    model: str | None = None
    transport: Callable[[Any], Any] | None = None
    tried: tuple[str, ...] = ()
    passage: Passage | None = None
    watch: Watch | None = None
    sleep: Callable[[Call[Any], float], Awaitable[None]] | None = None

    def waited(self, reason: str, seconds: float) -> None:
        """Add to the time that the call waited for something.

        Args:
            reason: ``"slot"``, ``"rate_limit"`` or ``"backoff"``.
            seconds: how long it waited.
        """
        if self.waits is None:
            self.waits = {}
        self.waits[reason] = self.waits.get(reason, 0.0) + seconds
        if self.watch is not None:
            self.watch.waited(reason, seconds)


@dataclass(eq=False, repr=False)
class Call(Generic[P]):
    """One call on its way through the stack. State: per call.

    It has no slots: a default stays in the class, and a stack sets only what differs from it.

    Attributes:
        payload: what the transport takes.
        request_id: the call's id; None to let `RequestIdLogger` make one.
        partition: the name of the group of calls that share a limit, a circuit and slots; None for
            the model that the request names.
        tokens: the estimated cost in tokens; None to let the rate limiter estimate it.
        body: returns what the estimate reads, where the payload is a client's own request object:
            the decoded JSON body, or a function's arguments by name. None: the payload itself.
        deadline: the loop time, in seconds, by which the call must have ended; None for no bound.
        tags: the caller's labels; every event of the call has them.
        emit: sends events to the listeners; None without listeners.
        replayable: False if the body can be read only once, so that it must not be sent again.
        priority: the class: "interactive", "normal" or "batch"; None is "normal".
        tenant: the name of the one that the call is for; tenants of a class share it fairly.
        attempt: the number of the current attempt, from 1.
        verdict: the meaning of the last attempt; None while an attempt is in progress.
        reply: the last response, set by the adapter.
        hold: set by an adapter whose result is an open stream.
        sends: how many attempts were sent; those that the stack itself refused do not count.
        server_request_ids: the ``x-request-id`` of each attempt whose response had one.
        started: the loop time at which the call entered the stack. The stack sets this field and
            those that follow.
        runtime: the event loop that the call runs on.
        state: notes of the library's own layers; a layer of your own does not need them.
    """

    payload: P
    request_id: str | None = None
    partition: str | None = None
    tokens: float | None = None
    body: Callable[[], Any] | None = None
    deadline: float | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    emit: Emit | None = None
    replayable: bool = True
    priority: Priority | None = None
    tenant: str | None = None
    attempt: int = field(init=False, default=1)
    verdict: Verdict | None = field(init=False, default=None)
    reply: Reply | None = field(init=False, default=None)
    hold: Hold | None = field(init=False, default=None)
    sends: int = field(init=False, default=0)
    server_request_ids: tuple[str, ...] = field(init=False, default=())
    started: float = field(init=False)
    runtime: Runtime = field(init=False)
    state: CallState = field(init=False, default_factory=CallState)

    def refuse(self, refusal: Refusal) -> Refusal:
        """Set the verdict to REFUSED and return `refusal`, for the caller to raise.

        Args:
            refusal: the exception; a call that it gives a ``retry_after`` may be tried again.
        """
        self.verdict = Verdict(
            Kind.REFUSED,
            retryable=refusal.retry_after is not None,
            retry_after=refusal.retry_after,
            error=type(refusal).__name__,
            sent=False,
        )
        return refusal

    def twin(self) -> Self:
        """Return a call for a second attempt beside the current one; it waits for nothing."""
        twin = copy.copy(self)
        twin.attempt = self.sends + 1
        twin.verdict = twin.reply = twin.hold = None
        state = twin.state = copy.copy(self.state)
        state.spare, state.others, state.sent_for = True, -1, 0.0
        state.probes, state.waits, state.timer = False, None, None
        return twin

    def adopt(self, twin: Call[Any]) -> None:
        """Take over the outcome of the attempt of a twin."""
        self.attempt, self.replayable = twin.attempt, twin.replayable
        self.verdict, self.reply, self.hold = twin.verdict, twin.reply, twin.hold

    def __repr__(self) -> str:
        """Show what identifies the call, but not the payload, which may be secret."""
        return (
            f"Call(request_id={self.request_id!r}, partition={self.partition!r}, "
            f"attempt={self.attempt})"
        )


Handler = Callable[[Call[P]], Coroutine[Any, Any, R]]
"""What a layer calls next: the rest of the stack, down to the transport."""

Layer = Callable[[Call[P], Handler[P, R]], Coroutine[Any, Any, R]]
"""``async def layer(call, call_next)``: it may wait, refuse, call `call_next`, or call it again."""
