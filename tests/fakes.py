"""Fakes that tests put under a stack: a scripted server, and a listener that remembers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from resilient_infe import Call, Hold, Reply, events
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.aio import current

Outcome = Any
"""A status to fail with, a (status, headers) pair, an exception to raise, or a value to return."""


@dataclass
class FakeServer:
    """A transport that answers from a script and keeps books.

    Attributes:
        script: the outcomes of the next attempts; afterwards `default`.
        default: what all other attempts get.
        latency: seconds that every attempt takes, or a function of the instant.
    """

    script: list[Outcome] = field(default_factory=list)
    default: Outcome = "ok"
    latency: float | Callable[[float], float] = 0.0
    sent: list[float] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0

    async def handle(self, call: Call[Any]) -> Any:
        """Answer one attempt."""
        runtime = current()
        now = runtime.now()
        self.sent.append(now)
        self.payloads.append(call.payload)
        outcome = self.script.pop(0) if self.script else self.default
        if callable(outcome):
            outcome = outcome(now)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            latency = self.latency(now) if callable(self.latency) else self.latency
            if latency:
                await runtime.sleep_until(now + latency)
        finally:
            self.in_flight -= 1
        return answer(call, outcome)

    async def __call__(self, payload: Any) -> Any:
        """Answer a bare payload."""
        return await self.handle(Call(payload))


@dataclass
class FakeStreams:
    """A transport whose results are open streams, told only by the holds on their calls.

    Attributes:
        statuses: of the next streams; afterwards 200.
        headers: of every reply.
        holds: of the streams that were opened, to be closed by the test.
    """

    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)

    async def handle(self, call: Call[Any]) -> int:
        """Open a stream."""
        call.hold = Hold()
        self.holds.append(call.hold)
        call.reply = Reply(self.statuses.pop(0) if self.statuses else 200, self.headers)
        return call.reply.status

    async def __call__(self, payload: Any) -> int:
        """Be callable, as a transport is; the stack uses `handle`."""
        return await self.handle(Call(payload))


def answer(call: Call[Any], outcome: Outcome) -> Any:
    """Carry an outcome out."""
    if isinstance(outcome, BaseException):
        raise outcome
    if isinstance(outcome, int):
        outcome = (outcome, {})
    if isinstance(outcome, tuple):
        status, headers = outcome
        call.reply = Reply(status, headers, None)
        raise error_of(call.reply)
    return outcome


class Remember:
    """A listener that keeps every event."""

    def __init__(self) -> None:
        """Start with none."""
        self.events: list[events.Event] = []

    def __call__(self, event: events.Event) -> None:
        """Keep one."""
        self.events.append(event)

    def named(self, name: str) -> list[Any]:
        """Return the events of a name, in order."""
        return [event for event in self.events if event.name == name]


async def all_at_once(send: Callable[..., Awaitable[Any]], payloads: Iterable[Any]) -> list[Any]:
    """Send all at once, in order, and return each result or exception."""
    payloads = list(payloads)
    results: list[Any] = [None] * len(payloads)

    async def one(index: int, payload: Any) -> None:
        try:
            results[index] = await send(payload)
        except Exception as error:
            results[index] = error

    async with anyio.create_task_group() as group:
        for index, payload in enumerate(payloads):
            group.start_soon(one, index, payload)
            await anyio.lowlevel.checkpoint()  # so that they enter in order on trio too
    return results
