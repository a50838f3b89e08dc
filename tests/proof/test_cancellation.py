"""Long forms of tests/cancellation: at every round of the loop, in batches, in every client."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import anyio
import pytest
import tally
from askers import HTTP_CLIENTS
from loopback import ANSWER, ERROR, at_rest, collected, for_two, in_turn
from ticks import ticked

from resilient_infe import presets
from resilient_infe.batch import run_batch
from resilient_infe.testing import Faults, InfeModel, InProcessInfe
from tests.cancellation.test_every_await import LABELLED, LABELS, STACKS, awaited, scenario
from tests.loopback import RawServer

STEP = max(1, round(1.0 / tally.SCALE / 10.0))
"""Every round with `make proof`; fewer in a short run."""


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("delay", [None, 0.75])
def test_a_call_at_every_round(name, delay, run):
    """Whatever all tasks are doing, nothing is left behind."""
    for at in range(1, 400, STEP):
        if not run(lambda at=at: scenario(STACKS[name], at, delay, driven=ticked)):
            assert at > 1
            return
    raise AssertionError("the victim never ran to its end")


@pytest.mark.parametrize("name", LABELLED)
def test_a_call_with_a_class_at_every_round(name, run):
    """The same where calls have classes and tenants."""
    for at in range(1, 400, STEP):
        if not run(lambda at=at: scenario(LABELLED[name], at, None, LABELS, driven=ticked)):
            return
    raise AssertionError("the victim never ran to its end")


ROWS = [
    {"model": "infe-pulse", "messages": [{"role": "user", "content": str(n)}]} for n in range(12)
]


async def batch(at, driven):
    """Cancel a batch, and run it again on the same stack; returns whether it was cancelled."""
    stack = presets.batch(requests_per_minute=240, concurrency=3, log=False)
    model = InfeModel(latency=0.2, faults=Faults(script=[502, 200, 429]))
    send = stack.around(InProcessInfe(model))
    cancelled, seen = [], Counter()

    async def rows():
        async for result in run_batch(ROWS, send):
            seen[result.index] += 1

    with anyio.CancelScope() as scope:

        def cancel():
            cancelled.append(True)
            scope.cancel()

        await driven(rows(), at, cancel)
    tally.tried("cancellations")
    assert max(seen.values(), default=0) <= 1
    await anyio.sleep(60.0)
    assert at_rest(stack)
    results = [result async for result in run_batch(ROWS, send)]
    assert sorted(result.index for result in results if result.ok) == list(range(len(ROWS)))
    assert at_rest(stack)
    return bool(cancelled)


@pytest.mark.parametrize("driven", [awaited, ticked])
def test_a_batch_at_every_await_and_round(driven, run):
    """No row is handed out twice, nothing stays taken, and the next run has every row."""
    for at in range(1, 600, STEP):
        if not run(lambda at=at: batch(at, driven)):
            assert at > 1
            return
    raise AssertionError("the batch never ran to its end")


async def through_client(client, url, at, stack):
    """Cancel a call through a client, and make another; returns whether it was cancelled."""
    cancelled = []
    async with HTTP_CLIENTS[client](url, stack) as ask:
        with anyio.CancelScope() as scope, contextlib.suppress(Exception):

            def cancel():
                cancelled.append(True)
                scope.cancel()

            await awaited(ask(), at, cancel)
        tally.tried("cancellations")
        assert await collected(lambda: at_rest(stack))
        assert await ask()
    return bool(cancelled)


@pytest.mark.network
@pytest.mark.parametrize("client", HTTP_CLIENTS)
def test_a_call_through_every_client_at_every_await(client):
    """Slots, reservations and connections come home, and the next call is answered."""

    async def main():
        for at in range(1, 200, STEP):
            server = RawServer(in_turn(ERROR, ANSWER))
            async with server.running() as url:
                if not await through_client(client, url, at, for_two()):
                    assert at > 1
                    return
        raise AssertionError("the call never ran to its end")

    asyncio.run(main())
