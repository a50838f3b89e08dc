"""The two presets: what each does with refusals, budgets and partitions."""

from __future__ import annotations

import logging

import pytest
from fakes import FakeServer, all_at_once

from resilient_infe import (
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    Keyed,
    Kind,
    RequestIdLogger,
    Retry,
    RetryBudget,
    errors,
    presets,
)
from resilient_infe.aio import current
from resilient_infe.testing import InfeModel, InProcessInfe

ASK = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


def test_service_fails_fast_on_an_open_circuit(run):
    """A service raises a refusal at once."""
    server = FakeServer(default=502)
    stack = presets.service(max_attempts=1, requests_per_minute=60_000)

    async def main():
        await all_at_once(stack.around(server), range(40))
        start = current().now()
        [error] = await all_at_once(stack.around(server), [0])
        return error, current().now() - start

    error, took = run(main)
    assert isinstance(error, errors.CircuitOpen)
    assert took == 0
    assert len(server.sent) == 20


def test_service_has_a_budget(run):
    """A service in an outage adds at most a share of retries to its load."""
    server = FakeServer(default=502)
    budget = RetryBudget(ratio=0.2, minimum_per_second=0.0, capacity=1)
    stack = presets.service(budget=budget)
    run(lambda: all_at_once(stack.around(server), range(10)))
    assert len(server.sent) <= 10 + 1 + 2


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
@pytest.mark.parametrize("per_minute", [600, 2_400, 3_000])
def test_a_burst_at_a_limit_that_is_declared_rightly_loses_no_call(run, preset, per_minute):
    """A hundred at once: the burst is larger than the server's, whose 429s cost no budget."""
    server = InfeModel(requests_per_minute=per_minute)
    send = preset(requests_per_minute=per_minute, log=False).around(InProcessInfe(server))

    async def main():
        return await all_at_once(send, [ASK] * 100)

    assert not [each for each in run(main) if isinstance(each, Exception)]


def test_service_bounds_its_queue(run):
    """A service refuses what would wait too long."""
    stack = presets.service(concurrency=1, max_waiting=2)
    results = run(lambda: all_at_once(stack.around(FakeServer(latency=1.0)), range(5)))
    assert sum(isinstance(r, errors.QueueFull) for r in results) == 2


def test_batch_waits_out_an_open_circuit(run):
    """A batch loses nothing to an outage, however long."""

    def outage(now):
        return 503 if now - server.sent[0] < 600 else "ok"

    server = FakeServer(default=outage, latency=0.1)
    stack = presets.batch(requests_per_minute=6_000)
    results = run(lambda: all_at_once(stack.around(server), range(300)))
    assert results == ["ok"] * 300
    assert len(server.sent) < 300 + 64 + 3 * 125


def test_batch_counts_no_429s(run):
    """A batch outlasts more 429s than it has attempts."""
    server = FakeServer([429] * 40)
    stack = presets.batch(max_attempts=2)
    assert run(lambda: all_at_once(stack.around(server), ["x"])) == ["ok"]
    assert len(server.sent) == 41


def test_batch_raises_what_cannot_be_waited_out(run):
    """An account error ends a batch's call at once."""
    server = FakeServer(default=402)
    [error] = run(lambda: all_at_once(presets.batch().around(server), ["x"]))
    assert isinstance(error, errors.PaymentRequiredError)
    assert len(server.sent) == 1


def test_partitions_are_apart(run):
    """A partition whose circuit opens does not stop another."""
    server = FakeServer(default=502)
    stack = presets.service(max_attempts=1)
    send = stack.around(server)

    async def main():
        await all_at_once(lambda p: send(p, partition="a"), range(30))
        return await all_at_once(lambda p: send(p, partition="b"), range(1))

    [error] = run(main)
    assert isinstance(error, errors.UpstreamError)
    assert stack.statistics().outcomes[Kind.REFUSED] == 10


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({}, 60.0),
        ({"attempt_timeout": 300.0}, None),
        ({"attempt_timeout": 20.0}, None),
        ({"attempt_timeout": 300.0, "first_chunk": 90.0}, 90.0),
        ({"first_chunk": 15.0}, 15.0),
        ({"first_chunk": None}, None),
    ],
)
def test_a_stream_may_begin_as_late_as_an_attempt_may_last(preset, given, bounds):
    """A timeout that was given bounds the first event too, unless that has a bound of its own."""
    timeout = layer(preset(**given), AttemptTimeout)
    assert timeout.first_chunk == bounds
    assert timeout.seconds == given.get("attempt_timeout", timeout.seconds)


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_odd_values_are_refused_at_once(preset):
    """A value that cannot work is told when the preset is made, not at the first call."""
    for odd in ({"concurrency": 0}, {"requests_per_minute": -5}, {"share": 0},
                {"attempt_timeout": 0}, {"max_attempts": 0}, {"first_chunk": 0}):  # fmt: skip
        with pytest.raises(errors.ConfigurationError):
            preset(**odd)


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_presets_describe_themselves(preset):
    """Both print what they do."""
    text = str(preset(requests_per_minute=600))
    assert "600 requests per minute, per partition" in text


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_limits_by_model_are_described_and_reckoned_with_the_least(preset):
    """Each model that is named is described; the calls are those of the smallest limit."""
    stack = preset(
        requests_per_minute={"infe-pulse": 1_200, "infe-titan": 300, "*": 60},
        tokens_per_minute={"infe-titan": 90_000},
        concurrency={"infe-titan": 4},
    )
    text = str(stack)
    assert "64 in flight" in text
    assert "infe-titan: 4 in flight" in text
    assert (
        "60 requests per minute, per partition; infe-pulse: 1,200 requests per minute; "
        "infe-titan: 300 requests per minute and 90,000 tokens per minute"
    ) in text
    assert "calls of the model with the least can be sent" in text
    least = str(preset(requests_per_minute=60)).rpartition("up to ")[2].partition(" ")[0]
    assert f"up to {least} calls of the model" in text


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_many_models_are_described_in_a_few_words(preset):
    """The first eight are named, the others are counted."""
    text = str(preset(requests_per_minute={f"m{number}": number + 1 for number in range(100)}))
    assert "m7: 8 requests per minute; 92 more partitions" in text
    assert "m8:" not in text


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_odd_limits_by_model_are_refused_at_once(preset):
    """The message names the argument or the model."""
    for name in ("requests_per_minute", "tokens_per_minute", "concurrency"):
        with pytest.raises(errors.ConfigurationError, match=name):
            preset(**{name: {}})
        with pytest.raises(errors.ConfigurationError, match="the model 'infe-titan'"):
            preset(**{name: {"infe-titan": 0, "*": 1}})


def layer(stack, kind):
    """Return the one layer of a kind."""
    [found] = [each for each in stack.layers if isinstance(each, kind)]
    return found


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_the_layers_that_people_change_can_be_given(preset):
    """A layer that is given takes the usual one's place, and what it is made of makes one."""
    retry, breaker, classifier = Retry(2), CircuitBreaker(), ErrorClassifier()
    ids = RequestIdLogger(log=False)
    stack = preset(retry=retry, circuit=breaker, classifier=classifier, log=ids)
    for given in (retry, breaker, classifier, ids):
        assert layer(stack, type(given)) is given
    assert [type(each) for each in stack.layers] == [type(each) for each in preset().layers]

    made = preset(circuit=Circuit(open_for=3.0), log=False)
    assert "rests 3 s" in layer(made, CircuitBreaker).describe()
    assert "per partition" not in layer(made, CircuitBreaker).describe()
    assert "per partition" in layer(preset(circuit=Keyed(Circuit)), CircuitBreaker).describe()
    assert "does not log" in layer(made, RequestIdLogger).describe()


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_a_rule_of_ones_own_is_asked_first(run, preset):
    """`classifier=` takes the function itself."""
    stack = preset(classifier=lambda result, error: Kind.INVALID if error else None)
    server = FakeServer(default=503)
    [error] = run(lambda: all_at_once(stack.around(server), ["x"]))
    assert isinstance(error, errors.OverloadedError)
    assert (len(server.sent), stack.statistics().outcomes) == (1, {Kind.INVALID: 1})


@pytest.mark.parametrize("more", [{"max_attempts": 3}, {"budget": RetryBudget()}])
def test_retry_is_given_whole_or_in_parts(more):
    """Both would leave open which of them counts."""
    with pytest.raises(errors.ConfigurationError, match="not both"):
        presets.service(retry=Retry(), **more)
    if "budget" not in more:
        with pytest.raises(errors.ConfigurationError, match="not both"):
            presets.batch(retry=Retry(), **more)


@pytest.mark.parametrize("preset", [presets.service, presets.batch])
def test_any_number_of_users_come_one_after_another(run, preset):
    """A partition each: the least recently used one makes room."""
    stack = preset(requests_per_minute=600, max_keys=8)
    send = stack.around(FakeServer())

    async def main():
        for user in range(40):
            await send("x", partition=f"user-{user}", tokens=1.0)

    run(main)
    assert len(stack.statistics().slots) == 8
    with pytest.raises(errors.ConfigurationError, match="max_keys"):
        preset(max_keys=0)


def test_a_partition_in_steady_use_is_never_dropped(run):
    """New users come between its calls, and its policies stay the same objects."""
    stack = presets.service(requests_per_minute=6_000, max_keys=4)
    send = stack.around(FakeServer())

    async def main():
        await send("x", partition="hot", tokens=1.0)
        before = [dict(getattr(each, name).items())["hot"] for each, name in layers]
        for user in range(20):
            await send("x", partition=f"user-{user}", tokens=1.0)
            await send("x", partition="hot", tokens=1.0)
        after = [dict(getattr(each, name).items())["hot"] for each, name in layers]
        return [one is other for one, other in zip(before, after, strict=True)]

    layers = [
        (stack.layers[3], "slots"),
        (stack.layers[4], "allowances"),
        (stack.layers[5], "circuits"),
    ]
    assert run(main) == [True] * 3


@pytest.mark.parametrize("log", ["debug", logging.getLogger("x"), None])
def test_what_cannot_be_logged_to_is_refused(log):
    """It would lose each line after the first."""
    with pytest.raises(errors.ConfigurationError, match="log must be"):
        presets.batch(log=log)
