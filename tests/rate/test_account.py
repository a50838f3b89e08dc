"""Account: a limit over all models, outside of the limits of each."""

from __future__ import annotations

import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import pytest
from fakes import FakeServer, FakeStreams, Remember, all_at_once
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import (
    Account,
    Allowance,
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    Keyed,
    RateLimiter,
    Retry,
    Stack,
    errors,
    presets,
)
from resilient_infe.aio import current
from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.costs import costs_of
from resilient_infe.testing import run_virtually
from resilient_infe.testing.virtual import VirtualLoop

SMALL = {"requests_per_minute": {"a": 60, "*": 600}}


def limited(*inside, account, listeners=(), **options):
    """Return a stack with a rate limiter alone, and the account's statistics."""
    stack = Stack(
        RateLimiter(account=account, **options), *inside, ErrorClassifier(), listeners=listeners
    )
    return stack, lambda: stack.statistics().account


class Noting:
    """A server that notes when each partition was sent."""

    def __init__(self, latency=0.0):
        """Note nothing yet."""
        self.sent, self.latency = [], latency

    async def handle(self, call):
        """Answer."""
        self.sent.append((current().now(), call.partition, call.payload))
        await current().sleep_until(current().now() + self.latency)
        return "ok"

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise AssertionError(payload)

    def most(self, period, partition=None):
        """Return the most that were sent in any window of `period` seconds."""
        times = [now for now, name, _ in self.sent if partition in (None, name)]
        return max(sum(now <= each < now + period for each in times) for now in times)


async def ask_all(send, models):
    """Send one call for each model, in order, and return the results."""
    return await all_at_once(lambda one: send(one[0], partition=one[1]), enumerate(models))


def test_all_models_share_the_limit(run):
    """Neither the models' limits nor the account's is exceeded in any window."""
    server = Noting()
    stack, _ = limited(account={"requests_per_minute": 90}, requests_per_minute={"*": 60})
    run(lambda: ask_all(stack.around(server), ["a", "b"] * 75))
    assert server.most(60.0) <= 90
    assert server.most(60.0, "a") <= 60
    took = server.sent[-1][0] - server.sent[0][0]
    assert took < 150 / 90 * 60 + 5.0  # and it is used


def test_a_full_account_is_granted_by_age_whatever_the_model(run):
    """A model with few calls is not starved by one with many, nor favoured."""
    server = Noting()
    stack, _ = limited(account={"requests_per_minute": 60}, requests_per_minute={"*": 6_000})
    models = ["a"] * 30 + ["b"] + ["a"] * 30
    run(lambda: ask_all(stack.around(server), models))
    assert [payload for _, _, payload in server.sent] == list(range(61))


def test_new_calls_of_another_model_do_not_overtake_what_waits_for_the_account(run):
    """They come all the time, and each finds room at the instant when it is there."""
    server = Noting()
    stack, _ = limited(account={"requests_per_minute": 60}, requests_per_minute={"*": 6_000})
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(partial(send, number, partition="a"))
                await anyio.lowlevel.checkpoint()  # so that they enter in order on trio too
            for number in range(10, 40):
                await anyio.sleep(0.5)
                group.start_soon(partial(send, number, partition="b"))

    run(main)
    assert [payload for _, _, payload in server.sent] == list(range(40))


def test_a_full_model_holds_up_no_other(run):
    """Its calls wait for its own limit, and take nothing from the account meanwhile."""
    server = Noting()
    stack, account = limited(account={"requests_per_minute": 600}, requests_per_minute={
        "a": 6, "*": 6_000})  # fmt: skip
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(ask_all, send, ["a"] * 10)
            await anyio.sleep(0.1)
            start = current().now()
            await ask_all(send, ["b"] * 15)
            took = current().now() - start
            taken = 600 - sum(name == "b" for _, name, _ in server.sent)
            assert account().outstanding == 0
            group.cancel_scope.cancel()
        return took, taken

    took, _ = run(main)
    assert took < 2.0


def test_a_large_request_is_not_starved_by_small_ones_of_another_model(run):
    """Where it is the oldest that its model's limit lets go, the others wait for it."""
    server = Noting()
    stack, _ = limited(account={"tokens_per_minute": 1_000}, requests_per_minute={"*": 6_000})
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(90):
                group.start_soon(partial(send, number, partition="small", tokens=10.0))
            await anyio.sleep(0.1)
            group.start_soon(partial(send, "large", partition="large", tokens=900.0))
            for number in range(100, 300):
                await anyio.sleep(0.05)
                group.start_soon(partial(send, number, partition="small", tokens=10.0))

    run(main)
    order = [payload for _, _, payload in server.sent]
    assert order.index("large") == 90


def test_an_attempt_that_is_refused_inside_gives_both_back(run):
    """An open circuit sends nothing, so it costs neither limit anything."""
    breaker = CircuitBreaker(Circuit(consecutive_failures=1))
    account = Account(requests_per_minute=60)
    stack, statistics = limited(breaker, account=account, **SMALL)
    send = stack.around(FakeServer([503]))

    async def main():
        with pytest.raises(errors.OverloadedError):
            await send("x", partition="a")
        for _ in range(5):
            with pytest.raises(errors.CircuitOpen):
                await send("x", partition="a")

    run(main)
    [allowance] = [each for _, each in stack.layers[0].allowances.items()]
    for each in (account.allowance, allowance):
        assert round(each._rates.requests.ledger.total) == 1
    assert statistics().outstanding == 0


def test_each_attempt_counts_once(run):
    """A retry is an attempt, and takes one from each limit."""
    server = FakeServer([500, 502])
    limiter = RateLimiter(account=Account(requests_per_minute=600), **SMALL)
    stack = Stack(Retry(4), limiter, ErrorClassifier())

    async def main():
        await stack.around(server)("x", partition="b", tokens=1.0)
        return limiter.account.allowance, limiter.allowances.items()

    account, allowances = run(main)
    [(_, allowance)] = allowances
    assert len(server.sent) == 3
    for each in (account, allowance):
        assert round(each._rates.requests.ledger.total) == 3


def test_tokens_are_settled_in_both(run):
    """The estimate is corrected to what was spent, also when a stream is closed."""
    streams = FakeStreams()
    stack, account = limited(account={"tokens_per_minute": 6_000}, tokens_per_minute={"*": 6_000})
    send = stack.around(streams)

    async def main():
        await send("x", partition="a", tokens=150.0)
        held = account()
        streams.holds[0].close(None)
        return held, account()

    held, after = run(main)
    assert (held.outstanding, after.outstanding) == (1, 0)
    assert after.tokens_left < 200.0


@pytest.mark.parametrize("models", [["a", "a"], ["a", "b"]])
def test_a_call_that_is_cancelled_gives_both_back(models, run):
    """While it waits for the account, or at the instant when it was granted both."""
    server = Noting()
    stack, account = limited(account={"requests_per_minute": 60}, requests_per_minute={"*": 600})
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(partial(send, "x", partition=models[0]))
                group.start_soon(partial(send, "y", partition=models[1]))
            await anyio.sleep(3.0)
            group.cancel_scope.cancel()
        assert (account().waiting, account().outstanding) == (0, 0)
        assert all(each.waiting == each.outstanding == 0
            for each in stack.statistics().allowances.values())  # fmt: skip
        await anyio.sleep(5.0)
        start = current().now()
        await send("z", partition="c")
        return current().now() - start

    assert run(main) < 1.1


def test_a_higher_limit_of_a_model_serves_its_queue_at_once(run):
    """`resize` while calls wait, with an account around."""
    server = Noting()
    stack, _ = limited(account={"requests_per_minute": 6_000}, requests_per_minute={"*": 6})
    send = stack.around(server)

    async def main():
        start = current().now()
        async with anyio.create_task_group() as group:
            group.start_soon(ask_all, send, ["a"] * 20)
            await anyio.sleep(1)
            stack.layers[0].resize(requests_per_minute=6_000, partition="a")
        return current().now() - start

    assert run(main) < 2


def test_a_higher_limit_of_the_account_serves_all_queues_at_once(run):
    """`resize(account=True)` while calls wait, and before the first call."""
    server = Noting()
    stack, account = limited(account={"requests_per_minute": 2}, requests_per_minute={"*": 6_000})
    limiter = stack.layers[0]
    limiter.resize(requests_per_minute=6, account=True)
    send = stack.around(server)

    async def main():
        start = current().now()
        async with anyio.create_task_group() as group:
            group.start_soon(ask_all, send, ["a", "b"] * 10)
            await anyio.sleep(1)
            limiter.resize(requests_per_minute=6_000, account=True)
        return current().now() - start

    assert run(main) < 2
    assert account().requests_per_minute == 6_000
    for odd in ({"partition": "a", "account": True}, {"account": True, "requests_per_minute": 0}):
        with pytest.raises(ConfigurationError):
            limiter.resize(**odd)
    with pytest.raises(ConfigurationError, match="needs an account"):
        RateLimiter(requests_per_minute=5).resize(requests_per_minute=6, account=True)


def test_a_shut_gate_of_a_model_holds_up_no_other(run):
    """A 429 is about a model, until it is known better."""
    server = FakeServer([(429, {"retry-after": "60"})] * 3)
    stack, account = limited(account={"requests_per_minute": 6_000}, requests_per_minute={"*": 600})
    send = stack.around(server)

    async def main():
        for _ in range(3):
            with pytest.raises(errors.RateLimitError):
                await send("x", partition="a")
        start = current().now()
        await send("x", partition="b")
        return current().now() - start

    assert run(main) < 1.0
    assert stack.statistics().allowances["a"].gate > 0.0
    assert account().gate == 0.0


def test_an_account_is_shared_by_two_stacks(run):
    """By sharing the object."""
    server, account = Noting(), Account(requests_per_minute=60)
    stacks = [limited(account=account, requests_per_minute={"*": 600})[0] for _ in range(2)]

    async def main():
        async with anyio.create_task_group() as group:
            for stack in stacks:
                group.start_soon(ask_all, stack.around(server), ["a"] * 50)

    run(main)
    assert server.most(60.0) <= 60


def test_what_waits_for_the_account_says_so(run):
    """In the event's scope, the statistics and the description."""
    seen = Remember()
    stack, account = limited(
        account={"requests_per_minute": 60},
        listeners=[seen],
        requests_per_minute={"a": 6, "*": 600},
    )

    async def main():
        send = stack.around(Noting())
        async with anyio.create_task_group() as group:
            group.start_soon(ask_all, send, ["a"] * 3 + ["b"] * 5)
            await anyio.sleep(0.5)
            told = stack.statistics()
            group.cancel_scope.cancel()
        return told

    told = run(main)
    assert told.account.requests_per_minute == 60
    assert told.account.waiting == told.waiting == 7
    scopes = Counter((event.partition, event.scope) for event in seen.named("rate.waiting"))
    assert scopes == {("b", "account"): 5, ("a", None): 2}
    text = str(stack)
    assert "; the account: 60 requests per minute" in text
    assert account().waiting == 0


def test_a_call_that_cannot_be_sent_in_time_is_refused_at_once(run):
    """The account's limit counts too."""
    stack = presets.service(
        requests_per_minute={"*": 6_000}, account={"requests_per_minute": 1}, deadline=5.0
    )
    send = stack.around(Noting())

    async def main():
        await ask_all(send, ["a", "a"])
        start = current().now()
        with pytest.raises(errors.DeadlineExceeded):
            await send("x", partition="b")
        return current().now() - start

    assert run(main) == 0.0


def test_an_account_moves_to_the_next_loop():
    """What waited and was in flight on a loop that was closed is forgotten; the minute is kept."""
    account = Account(requests_per_minute=60)
    stack = limited(account=account, requests_per_minute={"*": 600})[0]
    loop = VirtualLoop()
    send = stack.around(Noting(5.0))
    left = [loop.create_task(send("x", partition="a", priority=rank))
        for rank in ("batch", "normal", "interactive", "batch", None)]  # fmt: skip
    loop.run_until_complete(anyio.sleep(0.5))
    assert account.busy
    loop.close()

    async def main():
        for _ in range(3):
            await ask_all(partial(stack.around(Noting()), priority="batch", tenant="t"), "bc")
        return account.statistics(current().now())

    after = run_virtually(main)
    assert [each.live for each in account._turns._shares or ()] in ([], [0, 0, 0])
    assert (after.waiting, after.outstanding) == (0, 0)
    assert round(account.allowance._rates.requests.ledger.total) >= 2
    for task in left:
        task._log_destroy_pending = False


def test_an_account_serves_one_loop_at_a_time(run):
    """As every policy does."""
    account = Account(requests_per_minute=60)
    stack = limited(account=account, requests_per_minute={"*": 600})[0]

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(stack.around(Noting(5.0)), "x", partition="a"))
            await anyio.sleep(1.0)
            other = limited(account=account, requests_per_minute={"*": 600})[0]

            def elsewhere():
                return run_virtually(lambda: other.around(Noting())("x", partition="a"))

            with ThreadPoolExecutor() as pool, pytest.raises(errors.WrongLoopError):
                pool.submit(elsewhere).result()

    run(main)
    assert copy.deepcopy(account) is account


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_presets_take_an_account(preset):
    """As an object or a mapping, beside limits by model; the calls are those of the least."""
    stack = preset(requests_per_minute={"a": 1_200, "*": 600}, account={"requests_per_minute": 60})
    least = str(preset(requests_per_minute=60)).rpartition("up to ")[2].partition(" ")[0]
    assert f"up to {least} calls can be sent" in str(stack)
    given = Account(tokens_per_minute=1e6)
    layer = next(x for x in preset(account=given).layers if isinstance(x, RateLimiter))
    assert layer.account is given
    shared = preset(account={"requests_per_minute": 600}, share=0.5)
    assert "the account: 300 requests per minute (a share of 0.5)" in str(shared)


@pytest.mark.parametrize(
    ("account", "why"),
    [
        ({}, "not learned"),
        ({"share": 0.5}, "not learned"),
        ({"requests_per_minute": 0}, "above 0"),
        ({"requests_per_minute": float("nan")}, "above 0"),
        ({"requests_per_minute": True}, "above 0"),
        ({"requests_per_minute": {"a": 5}}, "above 0"),
        ({"requests_per_minut": 5}, "do you mean requests_per_minute"),
        ({"max_waiting": 5}, "an account has no 'max_waiting'"),
        ({5: 5}, "an account has no '5'"),
        (600, "account: give Account"),
        (Allowance(600), "account: give Account"),
        (Account, "give an instance"),
    ],
)
def test_an_account_that_cannot_be_meant_is_refused(account, why):
    """When the stack is made, with what to write instead."""
    with pytest.raises(ConfigurationError, match=why):
        RateLimiter(account=account)


def test_two_rate_limiters_are_told_of_the_account():
    """They would keep what they took while they wait for each other."""
    with pytest.raises(errors.LayerOrderError, match="account=Account"):
        Stack(RateLimiter(Allowance(5)), RateLimiter(Keyed(Allowance)), ErrorClassifier())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "wait", "settle", "cancel", "refund"]),
        st.integers(0, 2),
        st.floats(0.0, 20.0),
    ),
    max_size=60,
)


class World:
    """Three models and an account, and what was granted, given back and still waits."""

    def __init__(self, of_account, of_model):
        """Begin with nothing."""
        self.account = Account(requests_per_minute=of_account, tokens_per_minute=100)
        self.members = [Allowance(of_model), Allowance(30), Allowance(30, 60)]
        self.waiting, self.open, self.granted, self.now = [], [], [], 0.0

    def ask(self, member, size, place):
        """Reserve, or queue."""
        found = self.account.admit(member, costs_of(size, None), self.now, place)
        if found is None:
            self.waiting.append((member, member.join(size, place)))
            self.account.await_in(member)
        else:
            self._take(member, found)

    def end(self, member, reservation, how):
        """Give both back, as the layer does."""
        if not reservation.granted:
            member.cancel(reservation, self.now)
            return
        outer = self.account.pop(reservation)
        for policy, each in ((member, reservation), (self.account.allowance, outer)):
            if how == "settle":
                policy.settle(each, self.now, 5.0)
            else:
                policy.refund(each, self.now, request=how == "cancel")

    def pump(self):
        """Grant what fits now."""
        for found in self.account.poll(self.now):
            [entry] = [each for each in self.waiting if each[1] is found]
            self.waiting.remove(entry)
            self._take(*entry)

    def _take(self, member, reservation):
        self.granted.append((self.now, member))
        self.open.append((member, reservation))


def most_in_a_window(granted, member=None):
    """Return the most grants in any minute."""
    times = [when for when, found in granted if member in (None, found)]
    return max((sum(when <= each < when + 60.0 for each in times) for when in times), default=0)


@settings(max_examples=50)  # each of them makes up to 60 steps
@given(STEPS, st.integers(1, 20), st.integers(1, 20))
def test_no_limit_is_exceeded_and_nobody_waits_for_ever(steps, of_account, of_model):
    """Whatever is asked for, cancelled and given back."""
    world, spared = World(of_account, of_model), 0
    for place, (what, which, size) in enumerate(steps, 1):
        if what == "ask":
            world.ask(world.members[which], size, place)
        elif what == "wait":
            world.now += size
        else:
            source = world.waiting if what == "cancel" and world.waiting else world.open
            if source:
                spared += source is world.open and what == "cancel"
                world.end(*source.pop(which % len(source)), what)
        world.pump()
    for _ in range(300):
        if world.waiting:
            world.now = max(world.now, world.account.due)
            world.pump()
    assert not world.waiting
    assert (world.account.waiting, world.account.due) == (0, None)
    assert most_in_a_window(world.granted) <= of_account + spared
    assert most_in_a_window(world.granted, world.members[0]) <= of_model + spared
    for entry in world.open:
        world.end(*entry, "settle")
    assert not world.account.busy
