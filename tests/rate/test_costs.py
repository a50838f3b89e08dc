"""Tokens as providers count them: input and output apart, cached ones at a weight."""

import heapq
import math
import random

import pytest
from fakes import FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import ErrorClassifier, RateLimiter, Stack
from resilient_infe.core.verdict import Limit, Usage
from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.allowance import Allowance
from resilient_infe.rate.costs import costs_of, costs_of_usage
from resilient_infe.rate.estimate import expected_output

HALF_CACHED = Usage(1_000, 50, 1_050, 500)
BESIDE = Usage(1_000, 50, 150, 900, 40)  # the provider does not charge what it read


@pytest.mark.parametrize(
    ("usage", "weight", "costs"),
    [
        (HALF_CACHED, None, (1, 1_050, 1_000, 50)),
        (HALF_CACHED, 1, (1, 1_050, 1_000, 50)),
        (HALF_CACHED, 0, (1, 550, 500, 50)),
        (HALF_CACHED, 0.1, (1, 600, 550, 50)),
        (BESIDE, None, (1, 150, 100, 50)),
        (BESIDE, 0, (1, 150, 100, 50)),
        (BESIDE, 1, (1, 1_050, 1_000, 50)),
        (Usage(0, 0, 9), None, (1, 9, 9, 0)),
        (Usage(5, 5, 0), None, (1, 0, 0, 5)),
        (Usage(5, 9, 12, 100), 0, (1, 9, 0, 9)),
    ],
)
def test_costs_by_usage(usage, weight, costs):
    """Cached tokens count as the total says, or at the weight that is declared."""
    assert costs_of_usage(usage, weight) == pytest.approx(costs)


@pytest.mark.parametrize(
    ("tokens", "output", "costs"),
    [
        (100.0, None, (1, 100, 100, 100)),
        (100.0, 30.0, (1, 100, 70, 30)),
        (100.0, 300.0, (1, 100, 0, 100)),
        (100.0, math.nan, (1, 100, 100, 0)),
        (math.inf, None, (1, 0, 0, 0)),
        (1e300, None, (1, 1e12, 1e12, 1e12)),
        (-5.0, -5.0, (1, 0, 0, 0)),
    ],
)
def test_costs_by_estimate(tokens, output, costs):
    """If the output is not known, each part may be all of it."""
    assert costs_of(tokens, output) == costs


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"messages": [], "max_tokens": 7}, 7),
        ({"messages": [], "max_tokens": True}, 256),
        ({"messages": []}, 256),
        ({"input": "text"}, 0),
        ({"request": {"messages": [], "max_completion_tokens": 9}}, 9),
        ({}, None),
        (None, None),
        ("text", None),
    ],
)
def test_the_output_that_is_asked_for(body, output):
    """It is the bound in the body, 256 without one, and none of an embedding."""
    assert expected_output(body) == output


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, True, "1"])
def test_a_weight_is_from_0_to_1(bad):
    """Anything else is refused when it is given."""
    with pytest.raises(ConfigurationError, match="cached_weight"):
        Allowance(cached_weight=bad)
    with pytest.raises(ConfigurationError, match="cached_weight"):
        RateLimiter(cached_weight=bad)


@pytest.mark.parametrize("which", ["input", "output"])
def test_a_limit_on_a_part_binds_alone(which):
    """A thousand tokens of the output are used up, while the input has room for more."""
    limits = {f"{which}_tokens_per_minute": 1_000.0}
    allowance = Allowance(60_000, 1e6, burst="window", **limits)
    output = 100.0 if which == "output" else 900.0
    for _ in range(10):
        reservation = allowance.take(0.0, 1_000.0, output=output)
        usage = Usage(1_000 - int(output), int(output), 1_000)
        allowance.settle(reservation, 0.0, usage)
    assert allowance.take(0.0, 1_000.0, output=output) is None
    other = 0.0 if which == "output" else 1_000.0
    assert allowance.take(0.0, 1_000.0, output=other) is not None


def test_reasoning_counts_as_output():
    """It is part of the completion, so it is charged there."""
    allowance = Allowance(60_000, burst="window", output_tokens_per_minute=1_000)
    reservation = allowance.take(0.0, 300.0, output=200.0)
    allowance.settle(reservation, 0.0, Usage(100, 950, 1_050, reasoning_tokens=900))
    [spent] = [each.spent for each in allowance.statistics(0.0).limits if each.limit == 1_000]
    assert spent == 950


def test_stated_limits_on_parts_are_followed():
    """Some providers state those of the input and the output apart."""
    allowance = Allowance()
    stated = [Limit("input_tokens", 40_000.0, 39_000.0), Limit("output_tokens", 8_000.0)]
    changes = allowance.observe(stated, allowance.take(0.0, 10.0), 0.0)
    assert [(each.dimension, each.new) for each in changes] == [
        ("input_tokens", 40_000),
        ("output_tokens", 8_000),
    ]
    assert str(allowance) == "40,000 input tokens per minute and 8,000 output tokens per minute"


def simulate(allowance, limits, seconds, draw, *, latency=8.0, weight=1.0, seed=1):
    """Send all that the allowance lets go; return what was sent, used, and refused.

    The server counts each limit in a sliding minute, at the real cost, when a request arrives.
    """
    rnd, now, events, sent, refused, serial = random.Random(seed), 0.0, [], [], 0, 0
    while now < seconds:
        tokens, output, usage = draw(rnd)
        reservation = allowance.reserve(now, tokens, output=output)
        while not reservation.granted:
            due = allowance.due
            if events and events[0][0] <= due:
                now, _, ended, cost = heapq.heappop(events)
                allowance.settle(ended, now, cost)
            else:
                now = max(now, due)
            list(allowance.poll(now))
        costs = costs_of_usage(usage, weight)
        inside = [each for at, each in sent if at > now - 60.0]
        if any(sum(each[i] for each in inside) + costs[i] > most for i, most in limits.items()):
            refused += 1
            allowance.refund(reservation, now, request=False)
            continue
        sent.append((now, costs))
        serial += 1
        answer = now + latency * rnd.uniform(0.5, 1.5)
        heapq.heappush(events, (answer, serial, reservation, usage))
    return sent, refused


def test_cached_prompts_leave_the_limit_to_what_is_not_cached():
    """Nine tenths of each prompt are cached and free: 95 % of the limit is used all the same."""

    def draw(rnd):
        prompt, output = rnd.randint(500, 1_500), rnd.randint(20, 80)
        cached = int(0.9 * prompt)
        return prompt + 80.0, 80.0, Usage(prompt, output, prompt + output, cached)

    allowance = Allowance(6_000, 100_000, burst=0.5, cached_weight=0.0)
    sent, refused = simulate(allowance, {1: 100_000}, 240.0, draw, weight=0.0)
    used = sum(costs[1] for at, costs in sent if at >= 120.0)
    assert used >= 0.97 * 100_000 * 2
    assert refused <= 0.003 * len(sent)


@settings(max_examples=12)
@given(
    st.sampled_from([(None, None), (6_000.0, 200_000.0)]),
    st.sampled_from([1.0, 2.0, 4.0]),
    st.sampled_from([0.5, 30.0]),
    st.integers(0, 10),
)
def test_no_window_exceeds_any_of_its_limits(others, high, burst, seed):
    """Input, output and all tokens, with estimates up to four times too high, settled late."""

    def draw(rnd):
        prompt, output = rnd.randint(10, 2_000), rnd.randint(1, 600)
        most = output * rnd.uniform(1.0, high)
        estimate = prompt * rnd.uniform(1.0, high) + most
        return estimate, most, Usage(prompt, output, prompt + output)

    requests, tokens = others
    allowance = Allowance(
        requests,
        tokens,
        burst=burst,
        input_tokens_per_minute=60_000,
        output_tokens_per_minute=20_000,
    )
    limits = {2: 60_000.0, 3: 20_000.0} | ({} if tokens is None else {0: requests, 1: tokens})
    sent, refused = simulate(allowance, limits, 130.0, draw, seed=seed)
    assert refused <= 0.01 * len(sent)
    most = max(sum(c[i] for at, c in sent if at >= 60.0) / limits[i] for i in (2, 3))
    assert most >= 0.7


def test_a_call_brings_the_output_that_it_asks_for(run):
    """The stack reads the bound of the body, also if the tokens of a call are given."""

    async def main():
        allowance = Allowance(60_000, burst="window", output_tokens_per_minute=1_000)
        server = FakeServer(default={"usage": {"prompt_tokens": 5, "completion_tokens": 10}})
        send = Stack(RateLimiter(allowance), ErrorClassifier()).around(server)
        body = {"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 100}
        for _ in range(2):
            await send(body)
            await send(body, tokens=5_000)
        [spent] = [each.spent for each in allowance.statistics(0.0).limits if each.limit == 1_000]
        return spent

    assert run(main) == 40
