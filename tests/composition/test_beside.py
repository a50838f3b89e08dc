"""Hedges and fallbacks in a whole stack: whatever happens, the books balance."""

from __future__ import annotations

import contextlib
import random

import anyio
import pytest
from fakes import Remember, answer
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Hold,
    Keyed,
    RateLimiter,
    Retry,
    RetryBudget,
    Slots,
    Stack,
)
from resilient_infe.testing import run_virtually

OUTCOMES = ["ok"] * 6 + ["stream"] * 6 + [503, 500, 429, 400, (429, {"retry-after": "3"})]


class Chance:
    """A transport that draws how long each attempt takes and how it ends; it keeps books."""

    def __init__(self, seed):
        self.drawn, self.sends, self.in_flight = random.Random(seed), 0, 0
        self.open = 0

    async def handle(self, call):
        """Make one attempt."""
        self.sends += 1
        self.in_flight += 1
        try:
            await anyio.sleep(self.drawn.choice([0.0, 0.1, 1.0, 1.0, 2.0, 5.0, 40.0]))
        finally:
            self.in_flight -= 1
        outcome = self.drawn.choice(OUTCOMES)
        if outcome != "stream":
            return answer(call, outcome)
        call.hold = hold = Hold()
        self.open += 1

        def closed(_):
            self.open -= 1

        hold.on_close(closed)
        return hold

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise NotImplementedError


def stack_of(budget, seen):
    """Return a stack of everything, with small limits."""
    return Stack(
        Deadline(60.0),
        Retry(3, budget=budget),
        Fallback("b"),
        Hedge(0.5, 1.0),
        ConcurrencyLimiter(Keyed(lambda: Slots(3))),
        RateLimiter(
            Keyed(lambda: Allowance(requests_per_minute=240, tokens_per_minute=60_000)),
            account=Account(requests_per_minute=400),
        ),
        CircuitBreaker(Keyed(lambda: Circuit(consecutive_failures=4, open_for=2.0))),
        ErrorClassifier(),
        AttemptTimeout(10.0),
        listeners=[seen],
    )


async def scenario(seed):
    """Send calls of which some are cancelled; return the stack, the server and the events."""
    drawn, server, seen = random.Random(seed), Chance(seed), Remember()
    budget = RetryBudget(0.2, 0.0, 5.0)
    stack = stack_of(budget, seen)
    send = stack.around(server)

    async def one(patience):
        result = None
        with anyio.move_on_after(patience):
            with contextlib.suppress(Exception):  # what becomes of a call is not the question
                result = await send({"model": "a", "stream": True}, tokens=100)
        if isinstance(result, Hold):
            await anyio.sleep(0.3)
            result.close()

    async with anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(one, drawn.choice([0.5, 1.5, 6.0, 100.0]))
            await anyio.sleep(drawn.choice([0.0, 0.1, 1.0]))
    await anyio.sleep(1.0)
    return stack, server, seen


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_the_books_balance(backend, seed):
    """Nothing is held, waited for or open, and each send is counted once."""
    stack, server, seen = run_virtually(lambda: scenario(seed), backend, seed=seed)
    now = stack.statistics()
    assert (now.in_flight, now.waiting, server.in_flight, server.open) == (0, 0, 0, 0)
    assert all(slots.held == 0 for slots in now.slots.values())
    assert all(each.outstanding == 0 for each in now.allowances.values())
    assert (now.account.waiting, now.account.outstanding) == (0, 0)
    assert all(circuit.probes_out == 0 for circuit in now.circuits.values())
    assert now.attempts == server.sends
    assert sum(each.attempts for each in seen.named("call.finished")) == server.sends
    assert len(seen.named("attempt.finished")) == server.sends
    assert sum(now.outcomes.values()) == now.calls == 12
    hedged = sum(each.sent for each in now.hedges.values())
    assert len(seen.named("hedge.sent")) == hedged
