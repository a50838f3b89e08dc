"""`Stack.configure`: other limits while calls run, wait and come."""

from __future__ import annotations

import json
import threading

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import (
    Allowance,
    ConcurrencyLimiter,
    ErrorClassifier,
    Keyed,
    RateLimiter,
    Retry,
    Slots,
    Stack,
    errors,
    events,
    presets,
)
from resilient_infe.aio import current
from resilient_infe.rate.layer import keeper_of


def shared(concurrency=64, **limits):
    """Return a stack whose calls share one limit."""
    return Stack(Retry(), ConcurrencyLimiter(concurrency), RateLimiter(**limits), ErrorClassifier())


def bare(*layers):
    """Return a stack of these layers alone."""
    return Stack(*layers, strict=False)


def body(model="infe-pulse", content="hi"):
    """Return a request."""
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def limits_of(stack, model=None):
    """Return what statistics say: attempts at once, requests and tokens a minute."""
    found = stack.statistics()
    rates = found.allowances[model]
    tokens = rates.tokens_per_minute
    return found.slots[model].limit, rates.requests_per_minute, tokens and round(tokens)


def most_in_a_minute(sent, since):
    """Return the most that was sent in a minute that ends at `since` or later."""
    return max(
        (sum(1 for each in sent if end - 60 < each <= end) for end in sent if end >= since),
        default=0,
    )


@pytest.mark.parametrize("account", [None, {"requests_per_minute": 60_000}])
def test_calls_that_wait_go_at_once_when_a_limit_is_raised(run, account):
    """They do not wait for the instants that the old limit gave them."""
    server, stack = FakeServer(), presets.batch(requests_per_minute=6, account=account, log=False)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(stack.around(server), body())
            await anyio.sleep(1)
            stack.configure(requests_per_minute=60_000)
        return current().now()

    began = run(main)
    assert len(server.sent) == 30
    assert max(server.sent) - min(server.sent) < 2
    assert began is not None


def test_a_higher_limit_of_the_account_wakes_all_models(run):
    """The heads of every queue are asked again."""
    server = FakeServer()
    stack = presets.batch(requests_per_minute=60_000, account={"requests_per_minute": 6}, log=False)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(stack.around(server), body(f"m{number % 2}"))
            await anyio.sleep(1)
            [change] = stack.configure(account={"requests_per_minute": 60_000})
            assert (change.account, change.model, change.old, change.new) == (True, None, 6, 60_000)

    run(main)
    assert max(server.sent) - min(server.sent) < 2
    assert stack.statistics().account.requests_per_minute == 60_000


def test_more_slots_are_taken_at_once(run):
    """Calls that wait for a slot are sent in the same instant."""
    server, stack = FakeServer(latency=100), shared(2, requests_per_minute=60_000)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(stack.around(server), number)
            await anyio.sleep(1)
            assert server.in_flight == 2
            stack.configure(concurrency=10)
            await anyio.sleep(0.5)
            assert server.in_flight == 10

    run(main)


def test_fewer_slots_hold_for_calls_that_have_one_and_wait_for_the_rate(run):
    """A call that holds a slot and was not sent yet gives it back, and is sent later."""
    server, stack = FakeServer(latency=5), shared(20, requests_per_minute=60)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(stack.around(server), number)
            await anyio.sleep(1.5)
            server.peak = 0
            stack.configure(concurrency=4, requests_per_minute=60_000)

    run(main)
    assert server.peak <= 4
    assert len(server.sent) == 20


def test_a_lower_limit_holds_from_now_on_and_counts_what_was_spent(run):
    """No minute that ends later has more than the new limit but what was sent before."""
    server, stack = FakeServer(), shared(requests_per_minute=600)
    changed = []

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(150):
                group.start_soon(stack.around(server), number)
            await anyio.sleep(4)
            stack.configure(requests_per_minute=60)
            changed.append(current().now())

    run(main)
    [since] = changed
    before = [each for each in server.sent if each <= since]
    after = [each for each in server.sent if each > since]
    assert 30 <= len(before) <= 60
    assert len(before) + len(after) == 150
    assert most_in_a_minute(after, since) <= 60
    soon = [each for each in after if each <= since + 50]
    assert len(before) + len(soon) <= 60  # what was spent counts


@pytest.mark.parametrize("low", [0.5, 1e-6, 1e-12])
def test_a_limit_that_was_almost_none_is_raised_again(run, low):
    """What was spent counts as long as before: somebody had stopped the calls for a while."""
    server, stack = FakeServer(), shared(requests_per_minute=600)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(stack.around(server), number)
            await anyio.sleep(20)
            stack.configure(requests_per_minute=low)
            await anyio.sleep(45)
            stack.configure(requests_per_minute=600)

    run(main)
    assert len(server.sent) == 300
    early = [each for each in server.sent if each < 20]
    soon = [each for each in server.sent if 65 < each < 75]
    assert len(early) >= 150
    assert len(soon) >= 80
    assert server.sent[-1] < 90
    assert most_in_a_minute(server.sent, 0) <= 600


@pytest.mark.parametrize("tokens", [False, True])
def test_a_limit_that_was_not_declared_counts_what_was_spent(run, tokens):
    """While a limit is learned its requests are known, and a limit of tokens knows them too."""
    server = FakeServer()
    stack = shared(500, **({"tokens_per_minute": 1e9} if tokens else {}))
    changed = []

    async def main():
        send = stack.around(server)
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(send, body())
            await anyio.sleep(8)
            stack.configure(requests_per_minute=60)
            changed.append(current().now())

    run(main)
    [since] = changed
    before = [each for each in server.sent if each <= since]
    assert len(before) > 5
    soon = [each for each in server.sent if since < each < min(before) + 59]
    assert len(soon) <= max(0, 60 - len(before))
    assert most_in_a_minute([each for each in server.sent if each > since], since) <= 60


def test_calls_that_wait_are_counted_by_a_new_limit_of_tokens(run):
    """Their tokens did not matter when they came: nobody had counted them."""
    server, stack = FakeServer(), shared(100, requests_per_minute=60)
    changed = []

    async def main():
        send = stack.around(server)
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(send, {**body(content="word " * 80), "max_tokens": 400})
            await anyio.sleep(2)
            stack.configure(requests_per_minute=60_000, tokens_per_minute=5_000)
            changed.append(current().now())

    run(main)
    [since] = changed
    later = [each for each in server.sent if each > since]
    assert len(server.sent) == 40
    assert most_in_a_minute(later, since) <= 10  # of 500 tokens each


def test_all_calls_get_their_order_back_when_they_are_counted_anew(run):
    """A new limit of tokens does not let the later ones go first."""
    server, stack = FakeServer(), shared(100, requests_per_minute=60)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, stack.around(server), [body(f"m{n}") for n in range(30)])
            await anyio.sleep(2)
            stack.configure(tokens_per_minute=60_000)

    run(main)
    asked = [each["model"] for each in server.payloads]
    assert asked == [f"m{n}" for n in range(30)]


def test_statistics_and_the_description_have_the_new_numbers(run):
    """At once, also for a model that no call has named yet, and for those that come later."""
    stack = presets.service(requests_per_minute=600, log=False)

    async def main():
        send = stack.around(FakeServer())
        await send(body("a"))
        stack.configure(concurrency=8, requests_per_minute=900, tokens_per_minute=9_000)
        assert limits_of(stack, "a") == (8, 900, 9_000)
        await send(body("b"))
        assert limits_of(stack, "b") == (8, 900, 9_000)
        stack.configure(model="c", requests_per_minute=30, concurrency=2)
        assert limits_of(stack, "c") == (2, 30, 9_000)
        stack.configure(tokens_per_minute={"a": 1_000, "*": 2_000})
        return [limits_of(stack, each)[2] for each in "abc"]

    assert run(main) == [1_000, 2_000, 2_000]
    assert "900 requests per minute" in str(stack)


def test_the_usual_limit_is_that_of_models_that_are_not_named():
    """`"*"` leaves those alone that have a limit of their own, named at first or later."""
    stack = presets.batch(requests_per_minute={"a": 1_200, "*": 60}, log=False)
    stack.configure(model="b", requests_per_minute=60)
    stack.configure(requests_per_minute={"*": 120})
    for model in "abc":
        stack.configure(model=model, concurrency=5)
    rates = {name: each.requests_per_minute for name, each in stack.statistics().allowances.items()}
    assert rates["b"] == 60
    layer = next(each for each in stack.layers if isinstance(each, RateLimiter))
    made = {each: layer.allowances.keyed.of(each, 0.0).declared("requests_per_minute")
            for each in "abcd"}  # fmt: skip
    assert made == {"a": 1_200, "b": 60, "c": 120, "d": 120}


def test_one_number_for_models_that_differ_would_be_a_guess():
    """The error names them, and nothing has changed."""
    stack = presets.batch(requests_per_minute={"a": 1_200, "*": 60}, log=False)
    with pytest.raises(errors.ConfigurationError, match=r"not the same for all models \(a\)"):
        stack.configure(concurrency=5, requests_per_minute=100)
    assert "64 in flight" in str(stack)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "say which limit"),
        ({"requests_per_minute": None}, "say which limit"),
        ({"rpm": 5}, "there is no limit 'rpm'"),
        ({"request_per_minute": 5}, "do you mean requests_per_minute"),
        ({"requests_per_minute": 0}, "above 0"),
        ({"requests_per_minute": -5}, "above 0"),
        ({"requests_per_minute": float("nan")}, "above 0"),
        ({"requests_per_minute": float("inf")}, "above 0"),
        ({"requests_per_minute": "600"}, "above 0"),
        ({"requests_per_minute": True}, "above 0"),
        ({"requests_per_minute": 10**400}, "above 0"),
        ({"requests_per_minute": {}}, "empty mapping"),
        ({"requests_per_minute": {"a": None}}, "above 0"),
        ({"requests_per_minute": {5: 5}}, "the name of a model"),
        ({"requests_per_minute": {"a": {"b": 5}}}, "a number, or one for each"),
        ({"concurrency": 0}, "whole number"),
        ({"concurrency": 2.5}, "whole number"),
        ({"concurrency": 5, "model": ""}, "the name of a model"),
        ({"concurrency": 5, "model": 7}, "the name of a model"),
        ({"concurrency": {"a": 5}, "model": "a"}, "takes one value"),
        ({"account": {"requests_per_minute": 5}}, "no limit over all models"),
    ],
)
def test_what_cannot_be_configured_changes_nothing(limits, message):
    """The error says what to give instead, and what stood beside it has not changed either."""
    stack = presets.batch(requests_per_minute=600, log=False)
    before = str(stack)
    with pytest.raises(errors.ConfigurationError, match=message):
        stack.configure(**{"tokens_per_day": 5, **limits} if limits.keys() - {"requests_per_minute"}
                        and "rpm" not in limits else limits)  # fmt: skip
    assert str(stack) == before


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (5, "a mapping"),
        ({}, "a mapping"),
        ({"requests": 5}, "is not a limit"),
        ({"requests_per_minute": 0}, "above 0"),
        ({"requests_per_minute": {"a": 5}}, "above 0"),
    ],
)
def test_limits_of_an_account_are_checked(account, message):
    """They are those over all models."""
    stack = presets.batch(account={"requests_per_minute": 600}, log=False)
    with pytest.raises(errors.ConfigurationError, match=message):
        stack.configure(account=account)


def test_a_layer_that_the_stack_does_not_have():
    """It is named; so is one that it has twice."""
    with pytest.raises(errors.ConfigurationError, match="no RateLimiter layer"):
        bare(ConcurrencyLimiter(3)).configure(requests_per_minute=5)
    with pytest.raises(errors.ConfigurationError, match="no ConcurrencyLimiter layer"):
        bare(RateLimiter(requests_per_minute=3)).configure(concurrency=5)
    twice = bare(ConcurrencyLimiter(3), ConcurrencyLimiter(2))
    with pytest.raises(errors.ConfigurationError, match="2 ConcurrencyLimiter layers"):
        twice.configure(concurrency=5)


def test_one_limit_for_all_has_none_by_model():
    """A mapping, or model=, needs limits by model."""
    stack = shared(requests_per_minute=5)
    for given_ in ({"requests_per_minute": {"a": 5}}, {"requests_per_minute": 5, "model": "a"}):
        with pytest.raises(errors.ConfigurationError, match="serves all models"):
            stack.configure(**given_)


def test_a_function_of_the_users_own_that_does_not_know_a_model():
    """Whatever it raises is told with the model's name."""
    known = {"a": 5, "b": 7}
    stack = bare(ConcurrencyLimiter(Keyed(lambda model: Slots(known[model]))))
    for model in (None, "c"):
        with pytest.raises(errors.ConfigurationError, match="KeyError"):
            stack.configure(concurrency=3, model=model)
    stack.configure(concurrency=3, model="b")
    assert stack.statistics().slots["b"].limit == 3


def test_a_function_that_returns_policies_in_use(run):
    """They are asked for again and again, and are changed once."""
    kept = {each: Allowance(requests_per_minute=600, burst="window") for each in (None, "a")}
    stack = bare(RateLimiter(Keyed(lambda model: kept[model])), ErrorClassifier())

    async def main():
        await all_at_once(stack.around(FakeServer()), [body("a")] * 100)
        stack.configure(requests_per_minute=300)
        before = kept["a"].statistics(current().now()).requests_left
        for _ in range(3):
            str(stack)
        after = kept["a"].statistics(current().now()).requests_left
        return before, after

    before, after = run(main)
    assert before == pytest.approx(after, abs=5)
    assert kept["a"].declared("requests_per_minute") == 300


def test_a_shared_policy_has_the_new_limit_in_every_stack():
    """The limit is the policy's, and not the stack's."""
    allowance = Allowance(requests_per_minute=600)
    one, other = bare(RateLimiter(allowance)), bare(RateLimiter(allowance))
    one.configure(requests_per_minute=60)
    assert other.statistics().allowances[None].requests_per_minute == 60


def test_one_event_says_what_changed(run):
    """One for each call of `configure`; none where nothing has changed."""
    seen = Remember()
    stack = presets.batch(requests_per_minute=600, listeners=[seen], log=False)

    async def main():
        await stack.around(FakeServer())(body())
        stack.configure(requests_per_minute=900, concurrency=32)
        assert stack.configure(requests_per_minute=900) == ()

    run(main)
    [told] = seen.named("limits.configured")
    assert isinstance(told, events.LimitsConfigured)
    assert json.loads(json.dumps(told.as_dict()))["changes"] == [
        {"limit": "requests_per_minute", "model": "*", "old": 600, "new": 900, "account": False},
        {"limit": "concurrency", "model": "*", "old": 64, "new": 32, "account": False},
    ]


def test_the_event_is_logged(caplog):
    """Somebody who reads the log sees why the rate changed."""
    caplog.set_level("INFO", "resilient_infe")
    presets.batch().configure(requests_per_minute=900)
    assert "limits.configured" in caplog.text


def test_another_thread_is_refused(run):
    """A policy is not made for two threads at once."""
    stack, failures = shared(requests_per_minute=600), []

    def configure():
        try:
            stack.configure(requests_per_minute=5)
        except errors.WrongLoopError as error:
            failures.append(str(error))

    async def main():
        await stack.around(FakeServer())("x")
        thread = threading.Thread(target=configure)
        thread.start()
        thread.join()

    run(main)
    assert "runs in another thread" in failures[0]
    configure()  # the loop has ended: it may
    assert len(failures) == 1
    assert limits_of(stack)[1] == 5


def test_a_stack_is_configured_between_two_loops(run):
    """What waited in the first one is gone, and the second one has the new limit."""
    stack = shared(requests_per_minute=6)

    async def leave_some_behind():
        with anyio.move_on_after(3):
            await all_at_once(stack.around(FakeServer()), range(30))

    run(leave_some_behind)
    stack.configure(requests_per_minute=6_000, concurrency=3)
    server = FakeServer()
    run(lambda: all_at_once(stack.around(server), range(30)))
    assert server.sent[-1] - server.sent[0] < 62
    assert server.peak <= 3
    assert keeper_of(stack.layers[2].allowances.one) is not None


def test_calls_that_are_cancelled_while_limits_change_give_all_back(run):
    """Cancelled at any await, with limits that come and go: the books balance."""
    server, stack = FakeServer(latency=0.3), shared(10, requests_per_minute=600)

    async def one(number):
        with anyio.move_on_after(0.05 * (number % 17)):
            await stack.around(server)(body())

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(one, number)
                if not number % 5:
                    stack.configure(
                        concurrency=1 + number % 13,
                        requests_per_minute=60 + 97 * number,
                        tokens_per_minute=1e4 + 1e3 * number,
                    )
                    await anyio.sleep(0.02)

    run(main)
    found = stack.statistics()
    assert (found.in_flight, found.waiting) == (0, 0)
    assert found.slots[None].held == 0
    assert found.allowances[None].outstanding == 0


def send_all(allowance, now, until):
    """Send as much as the allowance lets go from `now` to `until`; return the instants."""
    sent = []
    while now < until:
        taken = allowance.reserve(now)
        while not taken.granted and now < until:
            now = min(until, max(allowance.due, now))
            list(allowance.poll(now))
        if taken.granted:
            allowance.settle(taken, now)
            sent.append(now)
        else:
            allowance.cancel(taken, now)
    return sent


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0.5, 20.0), st.sampled_from([1, 3, 10, 60, 300])),
        min_size=1,
        max_size=5,
    )
)
def test_no_minute_has_more_than_the_limit_that_was_lowered(changes):
    """Whatever is declared and when: a minute has at most the limit, but for what was sent."""
    allowance = Allowance(requests_per_minute=120)
    now, sent, limits = 0.0, [], {0: 120}
    for pause, limit in [*changes, (30.0, 60)]:
        sent += send_all(allowance, now, now + pause)
        now += pause
        allowance.resize(now, requests_per_minute=limit)
        limits[len(sent)] = limit
    for first, limit in limits.items():
        higher = (then for then, other in limits.items() if then > first and other > limit)
        until = next(higher, len(sent))
        for last in range(first, until):
            minute = [each for each in sent[: last + 1] if each > sent[last] - 60]
            after = [each for each in sent[first : last + 1] if each > sent[last] - 60]
            assert len(after) <= max(0, limit - (len(minute) - len(after)))
