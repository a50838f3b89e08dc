"""A call that alone is refused: it waits behind the others, is asked ever later, and ends."""

from __future__ import annotations

import itertools

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once

from resilient_infe import ErrorClassifier, RateLimiter, Retry, Stack, errors
from resilient_infe.retry.backoff import ExponentialBackoff
from resilient_infe.retry.schedule import Kind, KindRule

HEADERS = {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "6000"}
REQUESTS_USED_UP = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "2s",
}


class Picky(FakeServer):
    """A server that answers 429 with these headers to the payload "bad", each after 0.05 s."""

    def __init__(self, headers=None, times=10**9):
        """Refuse so often."""
        super().__init__(latency=0.05)
        self.headers, self.times = headers or {}, times

    async def handle(self, call):
        """Answer one attempt."""
        if call.payload == "bad" and self.times > 0:
            self.times -= 1
            self.script.insert(0, (429, self.headers))
        return await super().handle(call)

    def tries(self):
        """Return the instants at which the call was sent, from the first send of all."""
        pairs = zip(self.sent, self.payloads, strict=True)
        return [round(at - self.sent[0], 3) for at, payload in pairs if payload == "bad"]


def stack_of(*listeners, **rate):
    """Return a stack that retries 429s without end, without jitter, and with a rate limiter."""
    rule = KindRule(ExponentialBackoff(1.0, 2.0, 60.0, "none"), counted=False)
    return Stack(
        Retry(rules={Kind.RATE_LIMITED: rule}, uniform=lambda: 0.0),
        RateLimiter(**rate),
        ErrorClassifier(),
        listeners=listeners,
    )


def test_a_retry_keeps_its_place_but_not_after_a_second_429(run):
    """The first retry goes ahead of all that wait; the second one waits behind them."""
    server = Picky(times=2)
    stack = stack_of(requests_per_minute=60)
    run(lambda: all_at_once(stack.around(server), ["bad", *range(20)]))
    places = [place for place, payload in enumerate(server.payloads) if payload == "bad"]
    assert places[1] <= 3
    assert places[2] == 22


def test_the_waits_of_a_call_double_whatever_it_is_told(run):
    """A hint of 1 s, again and again, is followed by 1, 2, 4, 8 ... s up to a minute."""
    server = Picky({"retry-after": "1"}, times=8)
    stack = stack_of(requests_per_minute=6_000)
    run(lambda: all_at_once(stack.around(server), ["bad"]))
    tries = server.tries()
    waits = [round(b - a - 0.05, 2) for a, b in itertools.pairwise(tries)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_call_that_alone_is_refused_ends_and_says_why(run):
    """While ten others a second pass, its 429s are no chance; exception and event say so."""
    seen, server = Remember(), Picky()
    stack = stack_of(seen, requests_per_minute=600)
    results = run(lambda: all_at_once(stack.around(server), ["bad", *range(1_000)]))
    assert isinstance(results[0], errors.RateLimitError)
    assert results[1:] == ["ok"] * 1_000
    [note] = results[0].__notes__
    assert "times while others like it were let in: the server refuses this request" in note
    [stopped] = seen.named("retry.stopped")
    assert stopped.reason in note
    assert 9 <= len(server.tries()) <= 20
    assert seen.named("rate.gate_closed") == []


def test_a_request_above_the_whole_limit_goes_alone_and_once(run):
    """It waits for an empty window behind all others, and its first 429 is the last."""
    server = Picky()
    stack = stack_of(tokens_per_minute=6_000)
    send = stack.around(server)

    def sized(payload):
        return send(payload, tokens=7_000.0 if payload == "bad" else 50.0)

    first, *others = run(lambda: all_at_once(sized, ["small", "bad", *range(20)]))
    assert others[1:] == ["ok"] * 20
    assert first == "ok"
    [tried] = server.tries()
    assert tried >= 60 + 8  # the others took 9 s, the last of them a window ago
    assert server.payloads[-1] == "bad"
    [note] = others[0].__notes__
    assert "1 attempt" in note
    assert "estimated at 7,000 tokens, which is more than the limit of a whole minute" in note


def test_a_request_above_the_whole_limit_goes_in_light_traffic_too(run):
    """Others that come one by one never leave the window empty: it lets them pass for 5 minutes."""
    server = Picky(times=0)
    send = stack_of(requests_per_minute=600, tokens_per_minute=6_000).around(server)

    async def little(after):
        await anyio.sleep(after)
        return await send("small", tokens=50.0)

    async def main():
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(little, 10.0 * number)
            await anyio.sleep(5.0)
            await send("bad", tokens=7_000.0)

    run(main)
    [tried] = server.tries()
    assert 300 <= tried <= 380


def test_a_request_above_the_limit_that_is_let_in_shows_that_it_is_none(run):
    """Its estimate or the limit was wrong: the next of its size need no empty window."""
    server = Picky(times=0)
    send = stack_of(tokens_per_minute=6_000).around(server)

    async def main():
        return [await send("bad", tokens=7_000.0) for _ in range(3)]

    assert run(main) == ["ok"] * 3
    first, second, third = server.tries()
    assert (first, second >= 60, third >= 120) == (0.0, True, True)
    assert third < 145  # 7,000 at 5,900 a minute


@pytest.mark.parametrize(("more", "tried"), [({}, 1), (REQUESTS_USED_UP, 2)])
def test_an_untouched_limit_of_tokens_ends_the_call(run, more, tried):
    """If all tokens remain and it is refused, it is too large; unless another limit is used up."""
    seen, server = Remember(), Picky(HEADERS | more, times=1)
    stack = stack_of(seen, requests_per_minute=600, tokens_per_minute=6_000)
    [result] = run(lambda: all_at_once(stack.around(server), ["bad"]))
    assert len(server.tries()) == tried
    if tried == 1:
        assert "refused although all 6,000 tokens of the limit remain" in result.__notes__[0]
        assert "all 6,000 tokens" in seen.named("retry.stopped")[0].reason


def test_another_failure_after_it_is_retried_as_usual(run):
    """What a call's 429s say ends it at a 429 only, not at a 502 in between."""
    server = FakeServer([429, 502, 429, 502])
    [result] = run(lambda: all_at_once(stack_of().around(server), ["x"]))
    assert result == "ok"


def test_without_a_rate_limiter_a_call_ends_by_its_attempts(run):
    """Nobody knows how the others fare, so only the schedule ends a call."""
    server = Picky()
    stack = Stack(Retry(4, uniform=lambda: 0.0), ErrorClassifier())
    [result] = run(lambda: all_at_once(stack.around(server), ["bad"]))
    assert "max_attempts=4 reached" in result.__notes__[0]
