"""Classes and tenants from end to end: by which doors they come in, and who waits how long."""

from __future__ import annotations

import random

import anyio
import pytest
from fakes import FakeServer

from resilient_infe import (
    Allowance,
    Call,
    ConcurrencyLimiter,
    ErrorClassifier,
    RateLimiter,
    Slots,
    Stack,
    call_options,
    errors,
    presets,
    run_batch,
    wrap,
)
from resilient_infe.aio import current
from resilient_infe.testing import InfeModel, InProcessInfe

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


class Labels:
    """A transport that keeps the class and the tenant of each call."""

    def __init__(self):
        """Start with none."""
        self.seen = []

    async def handle(self, call):
        """Answer."""
        self.seen.append((call.priority, call.tenant))
        return "ok"

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise AssertionError(payload)


def test_every_door_labels_its_calls(run):
    """By `send`, a block of options, a call of one's own and a batch; the inner one decides."""
    labels = Labels()
    send = Stack(ErrorClassifier()).around(labels)

    async def main():
        await send(1)
        await send(1, priority="interactive", tenant="a")
        with call_options(priority="batch", tenant="b"):
            await send(1)
            await send(1, priority="normal")
            with call_options(tenant="c"):
                await send(1)
        await send.run(Call(1, priority="batch", tenant="d"))
        async for _ in run_batch([1], send):
            pass
        async for _ in run_batch([1], send, priority="normal", tenant="e"):
            pass

    run(main)
    assert labels.seen == [
        (None, None),
        ("interactive", "a"),
        ("batch", "b"),
        ("normal", "b"),
        ("batch", "c"),
        ("batch", "d"),
        ("batch", None),
        ("normal", "e"),
    ]


def test_a_wrapped_client_labels_its_calls(run):
    """All of them, unless a block says otherwise; the stack itself counts and drains them."""
    seen = []

    async def watch(call, call_next):
        seen.append((call.priority, call.tenant))
        return await call_next(call)

    async def ask(question):
        return question

    stack = Stack(watch, ErrorClassifier())
    wrapped = wrap(ask, stack, priority="interactive", tenant="a")

    async def main():
        assert await wrapped("x") == "x"
        with call_options(priority="batch"):
            await wrapped("y")
        await wrap(ask, stack)("z")
        await stack.drain()
        with pytest.raises(errors.Draining):
            await wrapped("late")

    run(main)
    assert seen == [("interactive", "a"), ("batch", "a"), (None, None)]
    assert stack.statistics().calls == 3


@pytest.mark.parametrize(
    "options", [{"priority": "urgent"}, {"priority": 3}, {"tenant": 3}, {"tenant": ["a"]}]
)
def test_wrong_labels_are_refused_at_every_door(options, run):
    """Before anything is sent, with what is allowed."""
    labels = Labels()
    stack = Stack(ConcurrencyLimiter(1), RateLimiter(requests_per_minute=60), ErrorClassifier())
    send = stack.around(labels)
    match = "'interactive', 'normal' or 'batch'" if "priority" in options else "must be text"

    async def ask(question):
        return question

    async def main():
        with pytest.raises(errors.ConfigurationError, match=match):
            await send(1, **options)
        with pytest.raises(errors.ConfigurationError, match=match), call_options(**options):
            pass
        with pytest.raises(errors.ConfigurationError, match=match):
            wrap(ask, stack, **options)
        with pytest.raises(errors.ConfigurationError, match=match):
            run_batch([1], send, **options)

    run(main)
    assert labels.seen == []


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
@pytest.mark.parametrize("trickle", [-0.1, 0.5, "much"])
def test_a_preset_checks_its_trickle(preset, trickle):
    """At once, not at the first call."""
    with pytest.raises(errors.ConfigurationError, match="trickle"):
        preset(trickle=trickle)


def behind_a_batch(run, answer):
    """Return how long calls of people wait behind 600 rows at 600 a minute, and the rows done."""
    stack = presets.batch(requests_per_minute=600, concurrency=256, log=False)
    send = stack.around(InProcessInfe(InfeModel(requests_per_minute=600, latency=answer)))
    waits, uniform, run_of_rows = [], random.Random(1), run_batch([PAYLOAD] * 600, send)

    async def person():
        began = current().now()
        await send(PAYLOAD, priority="interactive", partition="infe-pulse")
        waits.append(current().now() - began - answer)

    async def batch():
        async for _ in run_of_rows:
            pass

    async def main():
        with anyio.move_on_after(60 + answer):
            async with anyio.create_task_group() as group:
                group.start_soon(batch)
                for _ in range(60):
                    await anyio.sleep(uniform.expovariate(1.0))
                    group.start_soon(person)
                await anyio.sleep(100)

    run(main)
    return waits, run_of_rows.tally.ok


@pytest.mark.parametrize("answer", [0.05, 10.0])
def test_calls_of_people_do_not_wait_behind_a_batch(answer, run):
    """Each is sent within a second, and the batch has the rest of the limit."""
    waits, rows = behind_a_batch(run, answer)
    assert len(waits) >= 45
    assert max(waits) < 1.0
    assert rows >= 450


def test_two_tenants_get_half_each_through_slots_and_rate(run):
    """One has ten times as many waiting."""
    stack = presets.batch(requests_per_minute=600, log=False)
    send = stack.around(FakeServer(latency=1.0))
    done = {"a": 0, "b": 0}

    async def again(name):
        while True:
            await send(PAYLOAD, tenant=name)
            done[name] += 1

    async def main():
        with anyio.move_on_after(60):
            async with anyio.create_task_group() as group:
                for name, number in (("a", 200), ("b", 20)):
                    for _ in range(number):
                        group.start_soon(again, name)

    run(main)
    assert done["a"] / sum(done.values()) == pytest.approx(0.5, abs=0.02)
    assert sum(done.values()) >= 550


def test_shared_limits_move_to_the_next_loop(run):
    """What the classes have left behind follows the clock of the next event loop."""
    slots, allowance = Slots(10), Allowance(requests_per_minute=600)
    stack = Stack(ConcurrencyLimiter(slots), RateLimiter(allowance), ErrorClassifier())
    send = stack.around(FakeServer(latency=0.1))

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(30):
                name = ("interactive", "batch")[number % 2]
                group.start_soon(lambda name=name: send(1, priority=name, tenant=name))

    for _ in range(3):
        run(main)
        assert (slots.held, slots.waiting, allowance.busy) == (0, 0, False)
