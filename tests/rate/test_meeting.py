"""Where classes, tenants, models, an account and days meet in one stack."""

from __future__ import annotations

import math
import random

import anyio
import pytest
from fakes import FakeServer

from resilient_infe import Account, ErrorClassifier, RateLimiter, Retry, Stack, errors
from resilient_infe.aio import current
from resilient_infe.core.verdict import DAY, MINUTE

PRIORITIES = (None, "interactive", "normal", "batch")
MODELS = ("a", "b", "c")


class Books:
    """A server that notes what it was sent, and says what it really cost later."""

    def __init__(self, latency):
        """Note nothing yet."""
        self.sent, self.latency = [], latency

    async def handle(self, call):
        """Answer after a while."""
        now = current().now()
        self.sent.append((now, call.partition, call.tokens or 0.0))
        await current().sleep_until(now + self.latency)
        return {"usage": {"prompt_tokens": 0, "completion_tokens": int(call.tokens or 0.0)}}

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise AssertionError(payload)

    def most(self, period, what, partition=None):
        """Return the most that was sent in any window: requests (0) or tokens (1)."""
        sent = [(now, (1.0, tokens)[what]) for now, name, tokens in self.sent
            if partition in (None, name)]  # fmt: skip
        return max(
            (sum(cost for when, cost in sent if now <= when < now + period) for now, _ in sent),
            default=0.0,
        )


def limits_of(stack):
    """Return every allowance of a stack."""
    limiter = stack.layers[-2]
    found = [each for _, each in limiter.allowances.items()]
    return found + ([limiter.account.allowance] if limiter.account is not None else [])


@pytest.mark.parametrize("seed", range(6))
def test_no_limit_is_exceeded_and_nothing_is_left(run, seed):
    """Whatever is asked, cancelled at any await and resized: the books of all limits balance."""
    source = random.Random(seed)
    account = Account(
        60, tokens_per_minute=3_000, requests_per_day=source.choice([40, 1_000]), burst=2.0
    )
    limiter = RateLimiter(
        requests_per_minute={"a": 20, "*": 45},
        tokens_per_day={"b": 500.0, "*": 1e9},
        account=account,
    )
    stack = Stack(Retry(3), limiter, ErrorClassifier())
    server = Books(source.choice([0.0, 8.0]))
    send, refused = stack.around(server), []

    async def one(number):
        try:
            await send(
                number,
                partition=source.choice(MODELS),
                priority=source.choice(PRIORITIES),
                tenant=source.choice([None, "x", "y"]),
                tokens=source.choice([1.0, 50.0, 400.0, 4_000.0]),
            )
        except errors.DayUsedUp as error:
            refused.append(error.retry_after)

    async def leave(number):
        with anyio.move_on_after(source.uniform(0.0, 30.0)):
            await one(number)

    async def main():
        server.sent.clear()
        async with anyio.create_task_group() as group:
            for number in range(80):
                group.start_soon(leave if source.random() < 0.4 else one, number)
                if source.random() < 0.3:
                    await anyio.sleep(source.choice([0.0, 0.1, 2.0]))
                if source.random() < 0.05:
                    limiter.resize(requests_per_minute=60, account=True)
                    limiter.resize(requests_per_minute=20, partition="a")
        now = current().now()
        for each in limits_of(stack):
            told = each.statistics(now)
            assert (told.waiting, told.outstanding, each.due) == (0, 0, None)
            assert each.line.queued == pytest.approx((0.0,) * 4, abs=1e-6)
        assert not account.busy
        assert not account._outer_of

    run(main)
    assert all(left > 0.0 for left in refused)
    assert server.most(MINUTE, 0) <= 60
    assert server.most(MINUTE, 0, "a") <= 20
    assert server.most(DAY, 1, "b") <= 500.0 or server.most(DAY, 1, "b") == 4_000.0


@pytest.mark.parametrize("where", ["account", "model"])
def test_a_day_that_is_used_up_refuses_the_right_ones(run, where):
    """Those of other models go on, unless it is the account's day; classes change nothing."""
    days = {"requests_per_day": 6}
    account = Account(600, **(days if where == "account" else {}))
    model = {"requests_per_day": {"a": 6, "*": None}} if where == "model" else {}
    limiter = RateLimiter(requests_per_minute={"*": 60}, account=account, **model)
    stack = Stack(limiter, ErrorClassifier())
    server, refused = Books(0.0), []
    send = stack.around(server)

    async def one(model, priority, tenant):
        try:
            await send(0, partition=model, priority=priority, tenant=tenant)
        except errors.DayUsedUp as error:
            refused.append((model, current().now(), error.retry_after))

    async def main():
        server.sent.clear()
        refused.clear()
        start = current().now()
        async with anyio.create_task_group() as group:
            for number in range(24):
                group.start_soon(one, "ab"[number % 2], PRIORITIES[number % 4], "xyz"[number % 3])
        assert all(when - start < 30.0 for _, when, _ in refused)
        assert all(left > 80_000.0 for *_, left in refused)
        assert all(each.waiting == 0 for each in limits_of(stack))

    run(main)
    sent = [name for _, name, _ in server.sent]
    if where == "account":
        assert (len(sent), len(refused)) == (6, 18)
    else:
        assert (sent.count("a"), sent.count("b")) == (6, 12)
        assert {name for name, *_ in refused} == {"a"}


def test_a_call_with_a_class_in_one_model_is_known_in_all(run):
    """Rows of a model in which no call ever had a class leave the account's burst to people."""
    limiter = RateLimiter(requests_per_minute={"*": 6_000}, account=Account(600, burst=2.0))
    stack = Stack(limiter, ErrorClassifier())
    server = FakeServer()
    send = stack.around(server)

    async def main():
        await send(0, partition="a", priority="interactive")
        await anyio.sleep(10.0)
        start, took = current().now(), []

        async def person():
            await send(1, partition="b", priority="interactive")
            took.append(current().now() - start)

        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(lambda: send(2, partition="c"))
            await anyio.sleep(1.0)
            for _ in range(10):
                group.start_soon(person)
        return took

    took = run(main)
    assert max(took) < 1.2
    assert not math.isnan(sum(took))
