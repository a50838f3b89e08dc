"""What a call costs as it is used: the presets as they are shipped, a real body and a real reply.

The other tables measure a stack in which nothing happens. Here a request has 300 characters and a
reply states its usage; some replies state an id or rate limits, some calls fail, and there are more
callers than slots.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from resilient_infe import Call, Reply, Retry, Stack, presets, telemetry
from resilient_infe.adapters.infe.replies import error_of
from resilient_infe.telemetry.conventions import LATEST, SWITCH
from resilient_infe.testing import run_virtually

from . import floor, ours
from .measure import Cost, Run, Table, at_once, cost_of, one_by_one, take_turns
from .parts import BARE, FLOOR, SEMAPHORE, Send

BODY = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello " * 50}]}
"""A chat of 300 characters."""

ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "model": "infe-pulse",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 50}}],
    "usage": {"prompt_tokens": 75, "completion_tokens": 50, "total_tokens": 125},
}

REQUESTS = {"requests_per_minute": ours.LIMITS["requests_per_minute"]}

PLAIN = "batch, requests"
TOKENS = "batch, requests and tokens"
ID = f"{TOKENS}; the reply has an id"
LIMITS = f"{TOKENS}; the reply has six rate headers"
LISTENER = f"{TOKENS}; one listener"
PARTITIONS = f"{TOKENS}; three partitions"
GIVEN = f"{TOKENS}; tokens= given"
SERVICE = "service, requests and tokens"

SLOTS = 64
"""What both presets allow to be in flight in these tables."""


MANY = 1_000
"""Workers that wait for a slot most of the time."""


@dataclass(slots=True)
class Tables:
    """What was measured, one table for each way of calling."""

    calls: Table
    failures: Table
    rejections: Table
    few: Table
    many: Table
    gathered: Table
    seen: Table


def _headers(**more: str) -> CIMultiDictProxy[str]:
    usual = {"Content-Type": "application/json", "Content-Length": "500", "x-request-id": "infe-1"}
    return CIMultiDictProxy(CIMultiDict({**usual, **more}))


WITH_LIMITS = _headers(
    **{
        f"x-ratelimit-{what}-{dimension}": value
        for dimension, limit in (("requests", 600_000_000), ("tokens", 60_000_000_000))
        for what, value in (("limit", f"{limit}"), ("remaining", f"{limit - 1}"), ("reset", "1ms"))
    }
)
"""The six headers of OpenAI's "Rate limits in headers"."""


class Answers:
    """A transport that answers without a network, as an adapter does.

    Args:
        headers: of each reply; None for a plain function's answer, without a reply.
        turn: whether an answer takes a turn of the loop.
        failing: one attempt in this many fails; 0 for none.
    """

    def __init__(self, headers: Any = None, *, turn: bool = False, failing: int = 0) -> None:
        """Begin with no attempt made."""
        self._headers, self._turn, self._failing = headers, turn, failing
        self._attempts = 0

    async def handle(self, call: Call[Any]) -> Any:
        """Answer one attempt."""
        self._attempts += 1
        if self._turn:
            await asyncio.sleep(0)
        if self._failing and not self._attempts % self._failing:
            raise ConnectionResetError
        if self._headers is not None:
            call.reply = Reply(200, self._headers, ANSWER)
        return ANSWER

    async def __call__(self, payload: object) -> Any:
        """Answer a payload that comes without a stack."""
        return await self.handle(Call(payload))


def _nothing(_: object) -> None:
    """Take an event."""


async def _bare(_: object) -> Any:
    return ANSWER


async def _bare_turn(_: object) -> Any:
    await asyncio.sleep(0)
    return ANSWER


def _stacks(turn: bool) -> dict[str, Send]:
    """Return the presets as they are shipped, around a transport that answers."""
    batch = partial(presets.batch, concurrency=SLOTS, **ours.LIMITS)
    around: Callable[..., Any] = partial(Answers, turn=turn)
    partitions = itertools.cycle(("infe-pulse", "infe-titan", "other"))
    spread, given = batch().around(around()), batch().around(around())
    service = presets.service(concurrency=SLOTS, max_waiting=None, deadline=3_600.0, **ours.LIMITS)
    return {
        PLAIN: presets.batch(concurrency=SLOTS, **REQUESTS).around(around()),
        TOKENS: batch().around(around()),
        ID: batch().around(around(_headers())),
        LIMITS: batch().around(around(WITH_LIMITS)),
        LISTENER: batch(listeners=[_nothing]).around(around()),
        PARTITIONS: lambda body: spread(body, partition=next(partitions)),
        GIVEN: lambda body: given(body, tokens=300.0),
        SERVICE: service.around(around()),
    }


def _log_nowhere() -> None:
    """Log as a program does that has set nothing, but print nothing."""
    logger = logging.getLogger("resilient_infe")
    logger.setLevel(logging.WARNING)
    logger.handlers, logger.propagate = [logging.NullHandler()], False


def _runs(subjects: dict[str, Send], run: Callable[[Send], Run]) -> dict[str, Run]:
    _log_nowhere()
    return {name: run(send) for name, send in subjects.items()}


async def calls(rounds: int) -> Table:
    """Measure calls that are made one after the other and answered at once."""
    subjects: dict[str, Send] = {BARE: _bare, FLOOR: floor.floor(_bare), **_stacks(turn=False)}
    notes = ("the presets as shipped, a chat of 300 characters, a reply with usage",)
    table = Table("As it is used: one call at a time", BARE, FLOOR, notes=notes)
    runs = _runs(subjects, partial(one_by_one, payload=BODY))
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


async def failures(rounds: int) -> Table:
    """Measure calls of which one attempt in ten fails and is repeated without a delay."""

    async def again(payload: object) -> Any:
        while True:
            try:
                return await flaky(payload)
            except ConnectionError:
                continue

    async def answer(_: object) -> Any:
        nonlocal attempts
        attempts += 1
        if not attempts % 10:
            raise ConnectionResetError
        return ANSWER

    attempts, flaky = 0, answer
    layers = presets.batch(concurrency=SLOTS, **ours.LIMITS).layers
    stack = Stack(*(ours.at_once() if isinstance(each, Retry) else each for each in layers))
    subjects: dict[str, Send] = {
        BARE: again,
        FLOOR: floor.floor(answer),
        TOKENS: stack.around(Answers(failing=10)),
    }
    table = Table("As it is used: one attempt in ten fails", BARE, FLOOR)
    runs = _runs(subjects, partial(one_by_one, payload=BODY))
    return await take_turns(table, runs, rounds=rounds, calls=1_000)


async def crowd(workers: int, rounds: int) -> Table:
    """Measure workers that each make one call after another, through 64 slots."""
    semaphore = asyncio.Semaphore(SLOTS)

    async def guarded(payload: object) -> Any:
        async with semaphore:
            return await _bare_turn(payload)

    subjects: dict[str, Send] = {BARE: _bare_turn, SEMAPHORE: guarded, **_stacks(turn=True)}
    notes = ("each call holds its slot for one turn of the loop",)
    title = f"As it is used: {workers:,} workers through {SLOTS} slots"
    table = Table(title, BARE, SEMAPHORE, notes=notes)
    runs = _runs(subjects, lambda send: at_once(partial(send, BODY), workers))
    return await take_turns(table, runs, rounds=rounds, calls=4_000)


async def gathered(rounds: int) -> Table:
    """Measure a gather of 2,000 calls, as README's first example makes them."""

    def together(send: Send) -> Run:
        async def run(calls: int) -> None:
            await asyncio.gather(*(send(BODY) for _ in range(calls)))

        return run

    semaphore = asyncio.Semaphore(SLOTS)

    async def guarded(payload: object) -> Any:
        async with semaphore:
            return await _bare_turn(payload)

    subjects: dict[str, Send] = {BARE: _bare_turn, SEMAPHORE: guarded, **_stacks(turn=True)}
    table = Table(f"As it is used: 2,000 at once through {SLOTS} slots", BARE, SEMAPHORE)
    return await take_turns(table, _runs(subjects, together), rounds=rounds, calls=2_000)


BY_HAND = "a span by hand around the call"
PROMETHEUS = "telemetry.prometheus"
METRICS = "telemetry.opentelemetry, metrics"
OLDER = "telemetry.opentelemetry, metrics by the older names"
SPANS = "telemetry.opentelemetry, spans"
BOTH = "telemetry.opentelemetry, metrics and spans"


async def seen(rounds: int) -> Table:
    """Measure what it costs to be seen from outside, over the same preset that is not."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from prometheus_client import CollectorRegistry

    class Dropping(SpanExporter):
        def export(self, _: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    meters, tracers = MeterProvider([InMemoryMetricReader()]), TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Dropping()))
    providers = {"tracer_provider": tracers, "meter_provider": meters}
    tracer, by_hand = tracers.get_tracer("by hand"), {"gen_ai.request.model": "infe-pulse"}

    batch = partial(presets.batch, concurrency=SLOTS, **ours.LIMITS)

    def watched(name: str, switch: str = LATEST, **parts: bool) -> Send:
        os.environ[SWITCH] = switch
        return telemetry.opentelemetry(batch(), name=name, **parts, **providers).around(Answers())

    plain = batch().around(Answers())

    async def span_by_hand(body: object) -> Any:
        with tracer.start_as_current_span("chat infe-pulse", attributes=by_hand):
            return await plain(body)

    subjects: dict[str, Send] = {
        TOKENS: batch().around(Answers()),
        LISTENER: batch(listeners=[_nothing]).around(Answers()),
        BY_HAND: span_by_hand,
        PROMETHEUS: telemetry.prometheus(batch(), CollectorRegistry()).around(Answers()),
        METRICS: watched("metrics", spans=False),
        OLDER: watched("older", "", spans=False),
        SPANS: watched("spans", metrics=False),
        BOTH: watched("both"),
    }
    notes = ("OpenTelemetry by its SDK, with an exporter that drops the spans",)
    table = Table("As it is used: seen from outside", TOKENS, BY_HAND, notes=notes)
    runs = _runs(subjects, partial(one_by_one, payload=BODY))
    try:
        return await take_turns(table, runs, rounds=rounds, calls=1_000)
    finally:
        tracers.shutdown()
        meters.shutdown()


class Rejects:
    """A transport that answers every tenth attempt with 429, in an instant of virtual time.

    Args:
        headers: of a 429; None for a server that rejects nothing.
    """

    def __init__(self, headers: dict[str, str] | None) -> None:
        """Begin with no attempt made."""
        self._headers = headers
        self._attempts = 0

    async def handle(self, call: Call[Any]) -> Any:
        """Answer one attempt."""
        await asyncio.sleep(0.05)
        self._attempts += 1
        rejected = self._headers is not None and not self._attempts % 10
        call.reply = Reply(
            429 if rejected else 200, self._headers or {}, _REJECTION if rejected else ANSWER
        )
        if rejected:
            raise error_of(call.reply)
        return ANSWER

    async def __call__(self, payload: object) -> Any:
        """Be callable, as a transport is; the stack uses `handle`."""
        return await self.handle(Call(payload))


_REJECTION = {"error": {"message": "slow down", "type": "rate_limit_error", "code": None}}

NO_429 = "none"
WHAT_COMES = {NO_429: None, "429": {}, "429 with Retry-After: 1": {"retry-after": "1"}}


async def rejections(rounds: int) -> Table:
    """Measure 64 workers in virtual time, where waiting costs nothing: what is left is the work."""
    notes = (
        "one attempt in ten is answered 429 and made again when that may be; 64 workers",
        "time is virtual and waits cost nothing: what is left is the work, a tenth of it of a 429",
    )
    table = Table("As it is used: one attempt in ten is a 429", None, NO_429, notes=notes)
    for each in range(rounds + 1):
        costs = {
            name: await asyncio.to_thread(_in_virtual_time, headers)
            for name, headers in WHAT_COMES.items()
        }
        if each:  # the first warms up
            table.rounds.append(costs)
    return table


def _in_virtual_time(headers: dict[str, str] | None) -> Cost:
    _log_nowhere()
    send = presets.batch(requests_per_minute=60_000, tokens_per_minute=6e9).around(Rejects(headers))
    run = at_once(partial(send, BODY), 64)
    return run_virtually(lambda: cost_of(run, 2_000))
