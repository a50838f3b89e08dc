"""The design's orders and figures: each order against the one that it replaces.

Every test runs the same load through two stacks that differ in one thing, and shows that the
design's choice is the better one, and by how much at least.
"""

from __future__ import annotations

import itertools

import anyio
import pytest
from fakes import FakeServer, all_at_once

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Keyed,
    Kind,
    RateLimiter,
    Retry,
    Slots,
    Stack,
    errors,
)
from resilient_infe.aio import current
from resilient_infe.rate.settlement import SETTLEMENTS, Settlement
from resilient_infe.testing import Faults, InfeModel, InProcessInfe

CALLS = 1_000


def limited(*, breaker_inside, retry):
    """Return the design's order, or the one with the breaker outside the queues."""
    breaker = CircuitBreaker(Circuit())
    queues = (ConcurrencyLimiter(64), RateLimiter(requests_per_minute=6_000))
    middle = (*queues, breaker) if breaker_inside else (breaker, *queues)
    return Stack(retry, *middle, ErrorClassifier(), strict=False)


def sent_after_death(*, breaker_inside, run):
    """Return how many of the queued calls are sent once the circuit has opened."""
    server = FakeServer(default=lambda now: "ok" if now - server.sent[0] < 2 else 502, latency=0.2)
    stack = limited(breaker_inside=breaker_inside, retry=Retry(1))
    opened = []

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, stack.around(server), range(CALLS))
            while not opened:
                await anyio.sleep(0.05)
                circuits = stack.statistics().circuits
                if circuits and circuits[None].state == "open":
                    opened.append(current().now())

    run(main)
    return sum(at > opened[0] for at in server.sent)


def test_the_queue_behind_a_breaker_that_opens(run):
    """Of the calls queued when the server dies, almost none are sent once the circuit is open."""
    inside = sent_after_death(breaker_inside=True, run=run)
    outside = sent_after_death(breaker_inside=False, run=run)
    assert inside <= 10
    assert outside >= 600


def recovery(*, breaker_inside, run):
    """Return the seconds from the server's recovery to the end of a waiting batch."""
    outage = 30.0
    server = FakeServer(
        default=lambda now: 502 if 2 < now - server.sent[0] < 2 + outage else "ok", latency=0.2
    )
    retry = Retry(40, ExponentialBackoff(), wait_out_refusals=True, uniform=lambda: 0.5)
    stack = limited(breaker_inside=breaker_inside, retry=retry)

    async def main():
        results = await all_at_once(stack.around(server), range(500))
        assert results == ["ok"] * 500
        return current().now() - server.sent[0] - 2 - outage

    return run(main), len(server.sent)


def test_recovery(run):
    """With the breaker last, a batch wastes a few probes on an outage, and is not later for it."""
    inside, sends = recovery(breaker_inside=True, run=run)
    outside, wasted = recovery(breaker_inside=False, run=run)
    assert sends <= 600
    assert wasted >= 1.25 * sends
    assert inside <= outside + 10.0  # one rest of the circuit


def starved(slots, run):
    """Return how long another partition waits while the first one's gate is shut for 60 s."""
    server = FakeServer(
        default=lambda _: (429, {"retry-after": "60"}) if server.payloads[-1] == "shut" else "ok",
        latency=0.1,
    )
    stack = Stack(
        Retry(2, uniform=lambda: 0.0),
        ConcurrencyLimiter(slots),
        RateLimiter(Keyed(lambda: Allowance(requests_per_minute=6_000))),
        ErrorClassifier(),
    )
    send = stack.around(server)
    waits = []

    async def one(partition):
        start = current().now()
        try:
            await send(partition, partition=partition)
        except errors.RateLimitError:
            return
        waits.append(current().now() - start)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(one, "shut")
            await anyio.sleep(1)
            for _ in range(100):
                group.start_soon(one, "shut")
            await anyio.sleep(1)
            group.start_soon(one, "open")

    run(main)
    return max(waits)


def test_the_starved_partition(run):
    """With shared slots a shut gate makes the others wait for a minute; partitioned, not at all."""
    assert starved(8, run) > 50
    assert starved(Keyed(lambda: Slots(8)), run) < 1


def rejections(run):
    """Return the share of 429s at a server where half of the attempts hang."""
    model = InfeModel(tokens_per_minute=12_000, latency=0.05, seconds_per_token=0.02, seed=4)
    stack = Stack(
        Retry(20, wait_out_refusals=True),
        ConcurrencyLimiter(64),
        RateLimiter(tokens_per_minute=12_000),
        ErrorClassifier(),
        AttemptTimeout(0.3),
    )
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}

    async def main():
        await all_at_once(stack.around(InProcessInfe(model)), [payload | {"max_tokens": 100}] * 300)

    run(main)
    assert model.books.sends > 400, "too few attempts timed out to show anything"
    return model.books.rejected / model.books.sends


def test_refunds(run, monkeypatch):
    """Refund only what was never sent: refunding timed-out attempts runs into the limit."""
    assert rejections(run) == 0
    monkeypatch.setitem(SETTLEMENTS, Kind.TIMEOUT, Settlement.ALL_BACK)
    assert rejections(run) > 0.01


def test_the_deadline_in_a_queue(run):
    """Calls whose deadline passes in the queue end then, unsent, and hold nobody up."""
    server = FakeServer(latency=2.0)
    stack = Stack(Deadline(10.0), Retry(), ConcurrencyLimiter(4), RateLimiter(), ErrorClassifier())

    async def main():
        start = current().now()
        results = await all_at_once(stack.around(server), range(100))
        return results, current().now() - start

    results, took = run(main)
    # Five rounds of four begin by 8 s; the one that ends in the very instant may go either way.
    assert 16 <= results.count("ok") <= 20
    assert took == pytest.approx(10.0, abs=0.05)
    assert len(server.sent) == 20


@pytest.mark.parametrize(("timeout_inside", "opens"), [(True, True), (False, False)])
def test_a_hung_server(timeout_inside, opens, run):
    """With the timeout inside the classifier a hung server opens the circuit; outside, never."""
    circuit = Circuit()
    inner = (ErrorClassifier(), AttemptTimeout(5.0))
    layers = inner if timeout_inside else inner[::-1]
    stack = Stack(CircuitBreaker(circuit), *layers, strict=False)
    server = FakeServer(latency=1e6)

    async def main():
        for _ in range(10):
            await all_at_once(stack.around(server), range(20))

    run(main)
    assert (circuit.statistics().opened > 0) is opens
    assert (len(server.sent) < 200) is opens


def p99(*, keep_place, run):
    """Return the 99th percentile of latency at a full limit with failures."""
    later = itertools.count(10**9)

    async def forget_place(call, call_next):
        call.state.place = next(later)
        return await call_next(call)

    model = InfeModel(latency=0.3, faults=Faults(rates={502: 0.2}), seed=1)
    layers = [Retry(8, ExponentialBackoff(0.1, 1.0, 0.1, "none"))]
    layers += [] if keep_place else [forget_place]
    stack = Stack(*layers, RateLimiter(requests_per_minute=1_200), ErrorClassifier())
    send = stack.around(InProcessInfe(model))
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}
    took = []

    async def one():
        start = current().now()
        await send(payload)
        took.append(current().now() - start)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(400):
                group.start_soon(one)
                await anyio.sleep(1 / 30)

    run(main)
    return sorted(took)[int(0.99 * len(took))]


def test_a_retrys_place(run):
    """At a full limit, retries that keep their place shorten the longest waits by a third."""
    assert p99(keep_place=True, run=run) < 0.7 * p99(keep_place=False, run=run)


def test_only_kinds_that_were_never_sent_come_back_whole():
    """The table itself: REFUSED alone gives the request back."""
    whole = {kind for kind, what in SETTLEMENTS.items() if what is Settlement.ALL_BACK}
    assert whole == {Kind.REFUSED}
