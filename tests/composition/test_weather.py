"""Bad weather: servers that fail in part, and servers that take few at once, under the presets.

The long forms, with the figures of the documentation, are in tests/proof.
"""

from __future__ import annotations

import contextlib
import random

import anyio
import pytest
from fakes import answer

from resilient_infe import Call, Circuit, RetryBudget, errors, presets
from resilient_infe.aio import current

FEW_SECONDS = 15


class Weather:
    """A transport whose answers depend on the instant; it records when each attempt was sent.

    Args:
        decide: returns the status and the seconds of the answer to an attempt that is sent now.
        room: the attempts that may be in progress at once; None for any number.
        full: the status of the answer to one more, after 5 ms.
    """

    def __init__(self, decide, room=None, full=503):
        self.decide, self.room, self.full = decide, room, full
        self.sent, self.rejected, self.working = [], 0, 0

    async def handle(self, call):
        """Answer one attempt."""
        runtime = current()
        now = runtime.now()
        self.sent.append(now)
        if self.room is not None and self.working >= self.room:
            await runtime.sleep_until(now + 0.005)
            self.rejected += 1
            return answer(call, self.full)
        status, seconds = self.decide(now)
        self.working += 1
        try:
            await runtime.sleep_until(now + seconds)
        finally:
            self.working -= 1
        return "ok" if status == 200 else answer(call, status)

    async def __call__(self, payload):
        """Answer a bare payload."""
        return await self.handle(Call(payload))


async def stream_of_calls(send, per_second, seconds):
    """Send at a steady rate; return, per second, the share that was answered."""
    answered = [0] * seconds

    async def one(second):
        with contextlib.suppress(errors.ResilienceError):
            await send({}, tokens=1)
            answered[second] += 1

    async with anyio.create_task_group() as group:
        for number in range(per_second * seconds):
            group.start_soon(one, number // per_second)
            await current().sleep_until((number + 1) / per_second)
    return [count / per_second for count in answered]


def service(budget=None, **options):
    """Return the preset, with a rate that is no obstacle."""
    return presets.service(log=False, requests_per_minute=60_000, budget=budget, **options)


def shedding(run, budget, seconds, seed=1):
    """Return the share answered of 50 calls a second if half of the attempts are shed."""
    random.seed(seed)
    draw = random.Random(seed)
    server = Weather(lambda _: (200, 0.2) if draw.random() < 0.5 else (503, 0.02))
    send = service(budget).around(server)
    return sum(run(lambda: stream_of_calls(send, 50, seconds))) / seconds


def recovery(run, budget, seed=1, slow=30):
    """Return the seconds until 95 % are answered again, after the server was slow for some.

    The server works off everything in its queue, also what has timed out: 50 a second, 12 while it
    is slow, for 35 calls a second.
    """
    random.seed(seed)
    free = 0.0

    def decide(now):
        nonlocal free
        free = max(free, now) + (0.08 if 10 <= now < 10 + slow else 0.02)
        return 200, free - now + 0.05

    send = service(budget, attempt_timeout=1.0, deadline=20.0).around(Weather(decide))
    shares = run(lambda: stream_of_calls(send, 35, slow + 30))
    assert min(shares[:5]) == 1.0
    assert min(shares[10 : 10 + slow]) == 0.0
    return next(n for n in range(20) if min(shares[10 + slow + n :]) >= 0.95)


def sent_to_the_dead(run, seconds, circuit=None):
    """Return how many attempts are sent to a server that answers nothing any more."""
    random.seed(1)
    server = Weather(lambda now: (200, 0.2) if now < 10 else (503, 0.02))
    send = service(circuit=circuit).around(server)
    run(lambda: stream_of_calls(send, 50, 10 + seconds))
    return sum(at >= 10 for at in server.sent)


def crowded(run, full, calls, room=2, **options):
    """Return how long a batch takes, as a multiple of the ideal, and the share rejected."""
    random.seed(1)
    server = Weather(lambda _: (200, 0.3), room=room, full=full)
    send = presets.batch(log=False, **options).around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(lambda: send({}, tokens=1))
        return current().now()

    return run(main) / (calls / room * 0.3), server.rejected / len(server.sent)


@pytest.mark.parametrize(("budget", "least"), [(0.2, 0.55), (1.0, 0.9)])
def test_a_server_that_sheds_half_is_still_used(run, budget, least):
    """Half of the attempts fail, and the retries that the budget allows make up for it."""
    assert shedding(run, RetryBudget(budget), FEW_SECONDS) >= least


def test_a_metastable_overload_ends(run):
    """Retries keep a server overloaded; the circuit stops them, and within 10 s all is well."""
    assert recovery(run, RetryBudget(1.0)) <= 10


def test_a_dead_server_is_sent_no_more_than_without_a_share(run):
    """Twenty failures in a row open the circuit, whether or not it may be throttled."""
    assert sent_to_the_dead(run, FEW_SECONDS) <= sent_to_the_dead(run, FEW_SECONDS, Circuit()) + 1


@pytest.mark.parametrize("full", [503, 429])
def test_room_for_two_is_found(run, full):
    """Two at once, told by a bare status: near the ideal time, and few are rejected."""
    times, rejected = crowded(run, full, 100)
    assert times <= 1.5
    assert rejected < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_random_refusals_with_hints_leave_most_of_a_declared_limit(run, seed):
    """Of the answers 8 % are 429s and 8 % 503s, with hints: 90 % of the limit are used at least."""
    chance = random.Random(seed)
    sent = []

    async def transport(_):
        sent.append(current().now())
        call = Call(None)
        drawn = chance.random()
        if drawn < 0.16:
            await anyio.sleep(0.02)
            error = errors.InfeError("not now", status=429 if drawn < 0.08 else 503)
            error.retry_after = 1.0
            raise error
        await anyio.sleep(0.5 + chance.random())
        return answer(call, "ok")

    async def main():
        send = presets.batch(requests_per_minute=600, log=False).around(transport)
        async with anyio.create_task_group() as group:
            for number in range(900):
                group.start_soon(send, number)

    run(main)
    most = sorted(sent)[: int(0.95 * len(sent))]
    assert len(most) / (most[-1] - most[0]) > 0.9 * 10.0
