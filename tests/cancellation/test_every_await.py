"""Cancel at every await: whatever a call is doing when it is cancelled, nothing is left behind.

A victim call runs among others through a stack. In one run after another it is cancelled at its
first suspension, its second, and so on until it ends before the cancellation comes; each time both
while it waits and in the very instant in which it was granted what it waited for. Afterwards every
slot, reservation and probe must be home, and the next calls must go through.
"""

from __future__ import annotations

import contextlib
import itertools
import types

import anyio
import pytest
import tally
from fakes import FakeServer
from opentelemetry import trace
from seen import Seen

from resilient_infe import (
    Account,
    Allowance,
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Fallback,
    Hedge,
    Keyed,
    Kind,
    RateLimiter,
    RequestIdLogger,
    Retry,
    Slots,
    Stack,
    Target,
    presets,
    telemetry,
)


@types.coroutine
def counting(coroutine, at, cancel):
    """Drive a coroutine by hand and cancel at its `at`-th suspension."""
    suspended = 0
    send = coroutine.send
    value = None
    while True:
        try:
            waits_on = send(value)
        except StopIteration as stop:
            return stop.value
        suspended += 1
        if suspended == at:
            cancel()
        try:
            value = yield waits_on
            send = coroutine.send
        except BaseException as error:
            value, send = error, coroutine.throw


async def awaited(coroutine, at, cancel):
    """Await a driven coroutine."""
    return await counting(coroutine, at, cancel)


def only(layer):
    """Return a stack of one layer and the classifier."""
    return lambda: Stack(layer(), ErrorClassifier())


STACKS = {
    "request id": only(lambda: RequestIdLogger(log=False)),
    "deadline": only(lambda: Deadline(50.0)),
    "retry": only(lambda: Retry(uniform=lambda: 0.5)),
    "concurrency": only(lambda: ConcurrencyLimiter(1)),
    "concurrency keyed": only(lambda: ConcurrencyLimiter(Keyed(lambda: Slots(1)))),
    "rate": only(lambda: RateLimiter(requests_per_minute=60)),
    "rate of tokens": only(lambda: RateLimiter(tokens_per_minute=6_000)),
    "rate keyed": only(lambda: RateLimiter(Keyed(lambda: Allowance(requests_per_minute=60)))),
    "rate of an account": only(
        lambda: RateLimiter(
            requests_per_minute={"*": 600}, account={"requests_per_minute": 60, "burst": 0.5}
        )
    ),
    "rate in an account": only(
        lambda: RateLimiter(
            tokens_per_minute={"*": 6_000}, account=Account(requests_per_minute=600)
        )
    ),
    "breaker": only(lambda: CircuitBreaker(Circuit(consecutive_failures=1, probes=1))),
    "hedge": lambda: Stack(
        Retry(2, uniform=lambda: 0.5),
        Hedge(0.5, 1.0),
        ConcurrencyLimiter(2),
        RateLimiter(requests_per_minute=6_000),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(50.0),
    ),
    "fallback": lambda: Stack(
        Retry(2, uniform=lambda: 0.5),
        Fallback(Target(partition="b"), on=[Kind.TRANSIENT, Kind.RATE_LIMITED]),
        Hedge(0.5, 1.0),
        ConcurrencyLimiter(Keyed(lambda: Slots(1))),
        RateLimiter(Keyed(lambda: Allowance(requests_per_minute=120))),
        CircuitBreaker(Keyed(Circuit)),
        ErrorClassifier(),
    ),
    "timeout": lambda: Stack(ErrorClassifier(), AttemptTimeout(50.0)),
    "service": lambda: presets.service(requests_per_minute=120, concurrency=1),
    "batch": lambda: presets.batch(requests_per_minute=120, concurrency=1),
}


LABELS = [
    {"priority": "interactive", "tenant": "a"},
    {"priority": "batch", "tenant": "a"},
    {"priority": "batch", "tenant": "b"},
]
"""What the calls are labelled with where classes are in use: one after the other takes the next."""

LABELLED = {
    f"{name} with classes": make
    for name, make in STACKS.items()
    if name in ("concurrency", "rate", "rate of tokens", "service", "batch")
}


async def scenario(make, at, delay, labels=({},), driven=awaited):
    """Run one victim among others; returns whether it was cancelled."""
    stack = make()
    server = FakeServer([502, "ok", (429, {"retry-after": "2"})], latency=0.75)
    send = stack.around(server)
    cancelled, labels = [], itertools.cycle(labels)
    tally.tried("cancellations")

    async def other():
        with contextlib.suppress(Exception):  # what becomes of the others is not the question
            await send({"n": "other"}, tokens=60, **next(labels))

    async def victim():
        def cancel():
            cancelled.append(True)
            if delay is None:
                scope.cancel()
            else:
                group.start_soon(later)

        async def later():
            await anyio.sleep(delay)
            scope.cancel()

        with anyio.CancelScope() as scope, contextlib.suppress(Exception):
            await driven(send({"n": "victim"}, tokens=60, **next(labels)), at, cancel)

    async with anyio.create_task_group() as group:
        for start in (other, victim, other):
            group.start_soon(start)
            await anyio.sleep(0.01)
    await anyio.sleep(400.0)
    now = stack.statistics()
    assert now.in_flight == 0
    assert now.waiting == 0
    assert all(slots.held == 0 for slots in now.slots.values())
    assert all(each.outstanding == 0 for each in now.allowances.values())
    assert now.account is None or (now.account.waiting, now.account.outstanding) == (0, 0)
    assert all(circuit.probes_out == 0 for circuit in now.circuits.values())
    server.script, server.default = [], "ok"
    for _ in range(4):
        assert await send({"n": "after"}, tokens=60, **next(labels)) == "ok"
    assert server.in_flight == 0
    return bool(cancelled)


@pytest.mark.parametrize("name", list(STACKS))
@pytest.mark.parametrize("delay", [None, 0.0, 0.75])
def test_nothing_is_left_behind(name, delay, run):
    """Cancelled at its k-th suspension, at once or as it is granted, a call leaves nothing."""
    for at in range(1, 40):
        if not run(lambda at=at: scenario(STACKS[name], at, delay)):
            assert at > 1, "the victim was never suspended: the test shows nothing"
            return
    raise AssertionError("the victim never ran to its end")


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("name", list(LABELLED))
@pytest.mark.parametrize("delay", [None, 0.0, 0.75])
def test_nothing_is_left_behind_with_classes(name, delay, first, run):
    """The same where calls are of different classes and tenants, the victim of each in turn."""
    labels = LABELS[first:] + LABELS[:first]
    for at in range(1, 40):
        if not run(lambda at=at: scenario(LABELLED[name], at, delay, labels)):
            return
    raise AssertionError("the victim never ran to its end")


@pytest.mark.parametrize("name", ["fallback", "service"])
@pytest.mark.parametrize("delay", [None, 0.0, 0.75])
def test_every_span_is_ended(name, delay, run):
    """Each span that was started is ended once, and no context keeps one."""

    def make():
        options = {"tracer_provider": seen.tracers, "metrics": False}
        return telemetry.opentelemetry(STACKS[name](), **options)

    async def watched(at):
        cancelled = await scenario(make, at, delay)
        assert trace.get_current_span() is trace.INVALID_SPAN
        return cancelled

    for at in range(1, 40):
        seen = Seen()
        cancelled = run(lambda at=at: watched(at))
        ended = [each.context.span_id for each in seen.spans]
        assert seen.started == len(ended) == len(set(ended)) >= 7
        seen.close()
        if not cancelled:
            return
    raise AssertionError("the victim never ran to its end")


def test_the_driver_counts_suspensions(run):
    """The instrument itself: it cancels exactly where it says."""

    async def main():
        seen = []

        async def walk():
            for step in range(5):
                await anyio.sleep(1)
                seen.append(step)

        with anyio.CancelScope() as scope:
            await awaited(walk(), 3, scope.cancel)
        return seen

    assert len(run(main)) < 4
