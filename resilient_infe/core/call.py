"""The one object that travels down a stack, and the two shapes everything else has.

A layer is any ``async def layer(call, call_next)``; a handler is what it calls next. Per-call state
lives on the `Call` and nowhere else, so that layers can be shared by any number of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..errors import Refused
from .runtime import Runtime
from .verdict import Kind, Usage, Verdict

P = TypeVar("P")
R = TypeVar("R")
Refusal = TypeVar("Refusal", bound=Refused)


class Headers(Protocol):
    """The little that is asked of response headers: a dict, httpx's and aiohttp's all fit."""

    def get(self, key: str, /) -> str | None:
        """Return the value of header `key`, or None."""
        ...


class Emit(Protocol):
    """Takes a call's events."""

    @property
    def listeners(self) -> tuple[Callable[[Any], None], ...]:
        """The listeners, in the order in which they are told."""
        ...

    @property
    def routine(self) -> bool:
        """Whether somebody wants the events that happen on every call, too."""
        ...

    def __call__(self, event: Any) -> None:
        """Hand an event to the listeners."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Reply:
    """A response as an adapter saw it, put on the call before it returns or raises.

    Attributes:
        status: the HTTP status.
        headers: the response's headers.
        body: the error body, already read (at most 64 KiB) as bytes or text, or any body already
            decoded from JSON; None when there is nothing to look at.
        raw: the bytes that `body` was decoded from, where an adapter has them whole.
        verdict: what it means, where an adapter has judged it to raise the error that it stands
            for; None leaves that to the classifier. A reply is judged once.
    """

    status: int
    headers: Headers | Mapping[str, str]
    body: Any = None
    raw: bytes | None = None
    verdict: Verdict | None = None

    def __repr__(self) -> str:
        """Show the status alone: headers and bodies may hold secrets."""
        return f"Reply(status={self.status})"


class Hold:
    """Keeps a slot and a reservation until a streamed body is closed.

    An adapter that hands over an open stream puts a hold on the call; a layer that keeps something
    for the call's duration then hangs its release on the hold. State: per call.
    """

    __slots__ = ("_callbacks", "closed")

    def __init__(self) -> None:
        """Start open, with nothing hung on it."""
        self._callbacks: list[Callable[[Usage | None], None]] = []
        self.closed = False

    def on_close(self, callback: Callable[[Usage | None], None]) -> None:
        """Call `callback` with the usage once the stream is closed (at once if it already is)."""
        if self.closed:
            callback(None)
        else:
            self._callbacks.append(callback)

    def close(self, usage: Usage | None = None) -> None:
        """Release everything hung on the hold, innermost first; only the first call does anything.

        Args:
            usage: what the stream really cost, or None when it broke off before it told.
        """
        if self.closed:
            return
        self.closed = True
        callbacks, self._callbacks = self._callbacks, []
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                callback(usage)
            except Exception as error:  # the others must be released all the same
                failures.append(error)
        if failures:
            raise failures[0]


@dataclass(slots=True, eq=False, repr=False)
class Call(Generic[P]):
    """One call on its way through the stack. State: per call.

    Attributes:
        payload: what the transport is given.
        request_id: the call's own id, given or made by `RequestIdLogger`.
        partition: which limit, circuit and slots it belongs to (a model, a host, a key's hash).
        tokens: its estimated cost in tokens, or None to let the rate limiter estimate.
        body: returns what the estimate looks at where the payload is a client's own request object:
            its decoded body, or a function's arguments by name; None for the payload itself.
        deadline: the instant (loop clock, seconds) by which it must be over, or None.
        attempt: the number of the attempt under way, from 1.
        verdict: what the last attempt meant; None while one is under way.
        reply: the last response as the adapter saw it.
        hold: set by an adapter whose result is an open stream.
        tags: the user's own labels; they appear in every event of the call.
        emit: takes events; None when nobody listens.
        replayable: False when the body can be read only once, so that it must not be sent again.
        probe: True while the attempt probes a half-open circuit of a server that has answered.
        again: whether Retry calls on again, so that the stack has let the call in before.
        sends: attempts that really went out; refusals of our own do not count.
        sent_for: seconds spent in attempts, kept only while somebody listens.
        server_request_ids: the ``x-request-id`` of every attempt that has one.
        gave_up: why Retry made no further attempt although the verdict allows one, or None.
        on_send: called once, when the first attempt is sent (fills the retry budget).
        started: the instant at which it entered the stack; this and what follows the stack sets.
        place: its age among the calls of its loop: retries keep their place in every queue.
        runtime: the event loop that the call runs on.
    """

    payload: P
    request_id: str | None = None
    partition: str | None = None
    tokens: float | None = None
    body: Callable[[], Any] | None = None
    deadline: float | None = None
    attempt: int = 1
    verdict: Verdict | None = None
    reply: Reply | None = None
    hold: Hold | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    emit: Emit | None = None
    replayable: bool = True
    probe: bool = False
    again: bool = False
    sends: int = 0
    sent_for: float = 0.0
    server_request_ids: tuple[str, ...] = ()
    gave_up: str | None = None
    on_send: Callable[[], None] | None = None
    started: float = field(init=False)
    place: int = field(init=False)
    runtime: Runtime = field(init=False)

    def refuse(self, refusal: Refusal) -> Refusal:
        """Take note that the stack refuses this call, and return the refusal, to be raised.

        Args:
            refusal: what is raised, with a ``retry_after`` or without.
        """
        self.verdict = Verdict(
            Kind.REFUSED,
            retryable=refusal.retry_after is not None,
            retry_after=refusal.retry_after,
            error=type(refusal).__name__,
            sent=False,
        )
        return refusal

    def __repr__(self) -> str:
        """Show what identifies the call; the payload is the user's and may be secret."""
        return (
            f"Call(request_id={self.request_id!r}, partition={self.partition!r}, "
            f"attempt={self.attempt})"
        )


Handler = Callable[[Call[P]], Coroutine[Any, Any, R]]
"""What a layer calls next: the rest of the stack, down to the transport."""

Layer = Callable[[Call[P], Handler[P, R]], Coroutine[Any, Any, R]]
"""``async def layer(call, call_next)``: it may wait, refuse, call on, call on again."""
