"""RateLimiter: reservations, the shared gate, and what a reply teaches."""

from __future__ import annotations

import contextlib
import json
import random
from functools import partial

import anyio
import pytest
from fakes import FakeServer, FakeStreams, Remember, all_at_once

from resilient_infe import (
    Allowance,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Keyed,
    Kind,
    RateLimiter,
    Reply,
    Retry,
    Stack,
    Usage,
    errors,
    presets,
)
from resilient_infe.aio import current
from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.settlement import SETTLEMENTS, Settlement
from resilient_infe.testing import InfeModel, InProcessInfe
from resilient_infe.testing.limits import make_limit

PAYLOAD = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


def limited(*inside, listeners=(), **options):
    """Return a stack with a rate limiter alone."""
    limiter = RateLimiter(**options)
    return Stack(limiter, *inside, ErrorClassifier(), listeners=listeners), limiter


class Stating:
    """A transport that answers with a body, and states a limit of 60 requests."""

    def __init__(self, body):
        """Keep the body."""
        self.body = body

    async def handle(self, call):
        """Answer."""
        headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
        call.reply = Reply(200, headers, self.body)
        return self.body

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise AssertionError(payload)


def test_sends_stay_below_the_limit(run):
    """A crowd is sent at the rate, after one second's burst."""
    server = FakeServer()
    stack, _ = limited(requests_per_minute=600)
    run(lambda: all_at_once(stack.around(server), range(100)))
    start = server.sent[0]
    assert sum(1 for at in server.sent if at == start) == 10
    assert server.sent[-1] - start == pytest.approx(9.0, rel=1e-3)


def test_every_attempt_pays(run):
    """A retry asks the rate limit like any other attempt."""
    server = FakeServer(default=502)
    stack = Stack(
        Retry(max_attempts=4, uniform=lambda: 0.0),
        RateLimiter(requests_per_minute=60),
        ErrorClassifier(),
    )
    run(lambda: all_at_once(stack.around(server), range(3)))
    assert len(server.sent) == 12
    gaps = [b - a for a, b in zip(server.sent, server.sent[1:], strict=False)]
    assert min(gaps) > 0.9


def after_hints(run, hints):
    """Send 25 calls, of which the first are told to wait for 30 s; return instants and events."""
    seen = Remember()
    server = FakeServer([(429, {"retry-after": "30"})] * hints, latency=0.09)
    stack = Stack(
        Retry(uniform=lambda: 0.0),
        RateLimiter(requests_per_minute=600),
        ErrorClassifier(),
        listeners=[seen],
    )
    run(lambda: all_at_once(stack.around(server), range(25)))
    return [round(at - server.sent[0], 3) for at in server.sent], seen


def test_three_hints_stop_all_senders_until_one_is_let_in(run):
    """The third call that is told to wait shuts the gate; one call asks after a second."""
    sent, seen = after_hints(run, 3)
    assert sent[9:12] == [0.0, 1.09, 1.18]  # a burst of ten; the question; the next, once it is in
    assert [at >= 30.09 for at in sent].count(True) == 3  # for those who were told it is a floor
    [closed] = seen.named("rate.gate_closed")
    assert closed.delay == pytest.approx(1.0)


def test_two_hints_stop_nobody(run):
    """Two 429s can be chance: only the two calls wait."""
    sent, seen = after_hints(run, 2)
    assert sent[10] < 0.2
    assert sent[-2:] == [30.09] * 2
    assert seen.named("rate.gate_closed") == []


def test_the_gate_and_the_sleep_overlap(run):
    """The wait after a hint is the hint, not twice it: gate and sleep are the same instants."""
    server = FakeServer([(429, {"retry-after": "30"})])
    stack = Stack(Retry(uniform=lambda: 0.0), RateLimiter(), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), ["only"]))
    assert server.sent[1] - server.sent[0] == pytest.approx(30)


def test_a_bare_429_closes_no_gate(run):
    """Without a hint only the caller backs off; the others go on as before."""
    server = FakeServer([429])
    stack = Stack(Retry(), RateLimiter(requests_per_minute=600), ErrorClassifier())
    run(lambda: all_at_once(stack.around(server), range(30)))
    assert server.sent[20] - server.sent[0] < 3
    assert stack.statistics().allowances[None].learned is None


def test_429s_below_the_declared_limit_lower_it(run):
    """What was declared is an upper bound: where the server allows less, that is found out.

    Three times too high, most calls soon have two 429s of their own and are suspects: those teach
    only where half of their neighbours were refused too. And eight 429s have to stand together
    before they are no chance. So it takes 86 here. The jitter is fixed, because draws differ.
    """
    model = InfeModel(requests_per_minute=300)
    seen = Remember()
    retry, limiter = Retry(uniform=lambda: 0.5), RateLimiter(requests_per_minute=900)
    stack = Stack(retry, limiter, ErrorClassifier(), listeners=[seen])
    send = stack.around(InProcessInfe(model))
    run(lambda: all_at_once(send, [PAYLOAD] * 1_000))
    [told] = stack.statistics().allowances.values()
    assert told.learned == pytest.approx(300, rel=0.05)
    assert model.books.rejected < 95
    changed = seen.named("rate.limit_changed")
    assert changed
    assert all(each.reason.startswith("learned: ") for each in changed)


def test_a_limit_that_nobody_told_is_found(run):
    """Through a whole stack: most of an unknown limit is used, at hardly any 429s.

    The jitter is fixed: in one draw of three, a call that measures the limit met a 429 in the
    search already, and is a suspect. The learner misses that measure, and meets up to 42 429s.
    """
    model = InfeModel(requests_per_minute=1_200)
    seen = Remember()
    stack = Stack(
        Retry(uniform=lambda: 0.5),
        ConcurrencyLimiter(64),
        RateLimiter(),
        ErrorClassifier(),
        listeners=[seen],
    )
    send = stack.around(InProcessInfe(model))

    async def main():
        await all_at_once(send, [PAYLOAD] * 800)
        start, before = current().now(), model.books.rejected
        await all_at_once(send, [PAYLOAD] * 1_000)
        return current().now() - start, model.books.rejected - before

    took, rejected = run(main)
    assert took == pytest.approx(50, rel=0.03)  # 1,000 at 20 a second
    assert rejected <= 6
    [told] = stack.statistics().allowances.values()
    assert told.learned == pytest.approx(1_200, rel=0.02)
    assert told.learned_dimension == "requests"
    assert told.pace == pytest.approx(1_200, rel=0.1)
    assert "accepted in" in told.evidence
    first = seen.named("rate.limit_changed")[0]
    assert (first.old, first.dimension) == (None, "requests")
    assert first.reason.startswith("learned: ")


def test_what_one_run_learned_the_next_begins_with(run):
    """Beliefs go through JSON, by partition, and are kept for those that do not come by."""
    model = InfeModel(requests_per_minute=1_200)
    first = Stack(Retry(), RateLimiter(Keyed(Allowance)), ErrorClassifier())
    run(lambda: all_at_once(_to_titan(first.around(InProcessInfe(model))), range(800)))
    kept = json.loads(json.dumps(first.beliefs()))
    assert list(kept) == ["titan"]
    assert kept["titan"]["per_minute"] == pytest.approx(1_200, rel=0.05)

    again = InfeModel(requests_per_minute=1_200)
    second = presets.batch(beliefs={**kept, "pulse": kept["titan"]}, concurrency=200)
    run(lambda: all_at_once(_to_titan(second.around(InProcessInfe(again))), range(100)))
    assert again.books.rejected == 0
    assert second.statistics().allowances["titan"].learned == pytest.approx(1_200, rel=0.05)
    assert set(second.beliefs()) == {"titan", "pulse"}
    one = Stack(RateLimiter(beliefs={"": kept["titan"]}), ErrorClassifier())
    run(lambda: all_at_once(_to_titan(one.around(FakeServer())), range(3)))
    assert one.statistics().allowances[None].learned == pytest.approx(1_200, rel=0.05)
    shared = Keyed(Allowance)
    early = Stack(RateLimiter(shared), ErrorClassifier()).around(FakeServer())
    late = Stack(RateLimiter(shared, beliefs=kept), ErrorClassifier())

    async def both():
        for send in early, late.around(FakeServer()):
            await send("x", partition="titan")

    run(both)
    assert late.statistics().allowances["titan"].learned == pytest.approx(1_200, rel=0.05)
    for bad in ([kept], {"titan": {"per_minute": 5}}):
        with pytest.raises(ConfigurationError, match="belief"):
            RateLimiter(beliefs=bad)


def _to_titan(send):
    async def to_titan(_):
        return await send(PAYLOAD, partition="titan")

    return to_titan


@pytest.mark.parametrize(
    ("outcome", "tokens_left"),
    [
        ("ok", 10_000 / 60 - 100),
        ({"usage": {"total_tokens": 30}}, 10_000 / 60 - 30),
        (429, 10_000 / 60),
        (503, 10_000 / 60),
        (500, 10_000 / 60 - 100),
        (502, 10_000 / 60 - 100),
        (401, 10_000 / 60),
        (402, 10_000 / 60),
        (404, 10_000 / 60),
        (ValueError("?"), 10_000 / 60 - 100),
        (ConnectionResetError(), 10_000 / 60 - 100),
        (ConnectionRefusedError(), 10_000 / 60),
    ],
)
def test_settlement_of_tokens(outcome, tokens_left, run):
    """Tokens come back as the table says: to the usage, at the estimate, or whole."""
    stack, _ = limited(tokens_per_minute=10_000)
    send = stack.around(FakeServer(default=outcome))

    async def main():
        with contextlib.suppress(Exception):
            await send(None, tokens=100)
        return stack.statistics().allowances[None].tokens_left

    assert run(main) == pytest.approx(tokens_left)


@pytest.mark.parametrize(("usage", "cost"), [({"total_tokens": 30}, 30), (None, 100)])
def test_a_success_that_states_limits_is_settled_to_its_usage(usage, cost, run):
    """Its usage is charged, or the estimate where it tells none."""
    stack, _ = limited(tokens_per_minute=10_000)
    send = stack.around(Stating({"choices": [], "usage": usage}))

    async def main():
        await send(None, tokens=100)
        return stack.statistics().allowances[None]

    after = run(main)
    assert after.tokens_left == pytest.approx(10_000 / 60 - cost)
    assert (after.requests_per_minute, after.outstanding) == (60, 0)


def test_a_refusal_inside_gives_everything_back(run):
    """An open circuit was never sent: request and tokens come back at once."""
    from resilient_infe import Circuit

    server = FakeServer(default=502)
    stack = Stack(
        RateLimiter(requests_per_minute=60_000),
        CircuitBreaker(Circuit(consecutive_failures=1)),
        ErrorClassifier(),
    )
    send = stack.around(server)

    async def main():
        await all_at_once(send, range(101))
        return stack.statistics().allowances[None]

    left = run(main)
    assert len(server.sent) == 1
    assert left.requests_left == pytest.approx(999)
    assert left.outstanding == 0


def test_every_kind_has_a_settlement():
    """No kind is left without an answer to what becomes of its reservation."""
    assert set(SETTLEMENTS) == set(Kind)
    assert SETTLEMENTS[Kind.REFUSED] is Settlement.ALL_BACK


def test_cancelled_while_waiting_gives_everything_back(run):
    """A caller who leaves the queue leaves no reservation behind."""
    stack, _ = limited(requests_per_minute=60)
    send = stack.around(FakeServer())

    async def main():
        await send(None)
        for _ in range(5):
            with anyio.move_on_after(0.1):
                await send(None)
        await anyio.sleep(1.5)
        return stack.statistics().allowances[None]

    after = run(main)
    assert (after.waiting, after.outstanding) == (0, 0)
    assert after.requests_left == pytest.approx(1.0)


def test_a_call_that_cannot_make_its_deadline_is_refused_at_once(run):
    """A call that the rate cannot admit before its deadline is told now, not at the deadline."""
    server = FakeServer()
    stack = Stack(Deadline(5), RateLimiter(requests_per_minute=60), ErrorClassifier())

    async def main():
        results = await all_at_once(stack.around(server), range(20))
        return results, current().now()

    results, _ = run(main)
    refused = [r for r in results if isinstance(r, errors.DeadlineExceeded)]
    assert results.count("ok") == len(server.sent) == 5
    assert len(refused) == 15
    assert "at the earliest" in str(refused[0])
    assert refused[0].retry_after == pytest.approx(5.0)


def test_tokens_are_estimated_when_not_said(run):
    """A call without tokens is charged by its text and the output it asks for."""
    stack, _ = limited(tokens_per_minute=600_000)
    send = stack.around(FakeServer())

    async def main():
        await send({"messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 50})
        return stack.statistics().allowances[None].tokens_left

    used = 10_000 - run(main)
    assert 150 <= used <= 160


def test_stated_limits_are_followed(run):
    """A limit in the headers is adopted, and told."""
    seen = Remember()

    class Headers:
        async def handle(self, call):
            from resilient_infe import Reply

            headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59"}
            call.reply = Reply(200, headers, {"choices": []})
            return "ok"

        async def __call__(self, payload):
            raise AssertionError(payload)

    limiter = RateLimiter()
    stack = Stack(limiter, ErrorClassifier(), listeners=[seen])

    async def main():
        start = current().now()
        await stack.around(Headers())(None)
        await all_at_once(stack.around(Headers()), range(6))
        return current().now() - start

    assert run(main) == pytest.approx(5, abs=1.2)
    [changed] = seen.named("rate.limit_changed")
    assert (changed.old, changed.new) == (None, 60.0)


def test_resize_wakes_the_queue(run):
    """A higher limit serves those who wait at once, not at their old instants."""
    server = FakeServer()
    stack, limiter = limited(requests_per_minute=6)
    send = stack.around(server)

    async def main():
        start = current().now()
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(send, number)
            await anyio.sleep(1)
            limiter.resize(requests_per_minute=6_000)
        return current().now() - start

    assert run(main) < 2


def test_resize_before_the_first_call_makes_the_partition(run):
    """It has that limit from its first call on, and in every description."""
    server = FakeServer()
    stack, limiter = limited(allowance=Keyed(lambda: Allowance(requests_per_minute=60)))
    limiter.resize(requests_per_minute=600, partition="infe-titan")
    send = stack.around(server)
    run(lambda: all_at_once(partial(send, partition="infe-titan"), range(100)))
    assert server.sent[-1] - server.sent[0] < 10.0
    assert stack.statistics().allowances["infe-titan"].requests_per_minute == 600
    assert "60 requests per minute, per partition; infe-titan: 600" in str(stack)


def test_resize_of_one_partition_needs_an_allowance_of_its_own():
    """One allowance for all has no partitions."""
    _, limiter = limited(requests_per_minute=60)
    with pytest.raises(ConfigurationError, match="one limit serves all partitions"):
        limiter.resize(requests_per_minute=600, partition="infe-titan")


def test_limits_by_model(run):
    """Each model is kept below its own limit, in requests and in tokens."""
    server = FakeServer()
    stack, limiter = limited(
        requests_per_minute={"infe-pulse": 1_200, "*": 60}, tokens_per_minute={"infe-titan": 600}
    )
    send = stack.around(server)

    async def main():
        took = {}
        for model, tokens in (("infe-pulse", 0.0), ("infe-titan", 100.0), ("other", 0.0)):
            start = current().now()
            await all_at_once(partial(send, partition=model, tokens=tokens), range(9))
            took[model] = current().now() - start
        return took

    took = run(main)
    assert took["infe-pulse"] < 1.0
    assert took["infe-titan"] > 60.0
    assert 6.0 < took["other"] < 10.0
    found = limiter.statistics(0.0)
    assert [each.requests_per_minute for each in found.values()] == [1_200, 60, 60]
    assert [each.tokens_per_minute for each in found.values()] == [None, 600, None]


def test_a_model_without_a_declared_limit_has_a_learned_one():
    """A mapping without a star says nothing of the others."""
    _, limiter = limited(requests_per_minute={"infe-pulse": 1_200})
    assert limiter.describe() == (
        "no declared limit: learned, or as the server states it, per partition; "
        "infe-pulse: 1,200 requests per minute"
    )


def test_allowances_per_partition(run):
    """One partition's shut gate does not hold up another."""
    server = FakeServer([(429, {"retry-after": "60"})])
    stack = Stack(
        Retry(uniform=lambda: 0.0),
        RateLimiter(Keyed(lambda: Allowance(requests_per_minute=600))),
        ErrorClassifier(),
    )
    send = stack.around(server)
    ended = {}

    async def one(partition):
        await send(partition, partition=partition)
        ended[partition] = current().now()

    async def main():
        start = current().now()
        async with anyio.create_task_group() as group:
            group.start_soon(one, "shut")
            await anyio.sleep(0.1)
            group.start_soon(one, "open")
        return start

    start = run(main)
    assert ended["open"] - start < 1
    assert ended["shut"] - start >= 60


def test_a_stream_settles_when_it_is_closed(run):
    """A stream's reservation stays open to its end and settles with the real usage."""
    streams = FakeStreams()

    stack, _ = limited(tokens_per_minute=60_000)

    async def main():
        await stack.around(streams)(None, tokens=500)
        during = stack.statistics().allowances[None]
        streams.holds[0].close(Usage(10, 10, 20))
        return during, stack.statistics().allowances[None]

    during, after = run(main)
    assert (during.outstanding, during.tokens_left) == (1, pytest.approx(500))
    assert (after.outstanding, after.tokens_left) == (0, pytest.approx(980))


@pytest.mark.parametrize(("status", "left"), [(402, 1_000), (429, 1_000), (504, 500)])
def test_a_stream_that_is_an_error_settles_as_any_error(run, status, left):
    """A refusal costs no tokens, although its body is handed over open."""
    streams = FakeStreams(statuses=[status])
    stack, _ = limited(tokens_per_minute=60_000)

    async def main():
        await stack.around(streams)(None, tokens=500)
        after = stack.statistics().allowances[None]
        streams.holds[0].close()
        return after, stack.statistics().allowances[None]

    for each in run(main):
        assert (each.outstanding, each.tokens_left) == (0, pytest.approx(left))


def test_what_a_stream_gives_back_goes_to_who_waits_at_once(run):
    """Tokens that a closed stream did not use serve the next call in that instant."""
    streams = FakeStreams()
    stack, _ = limited(tokens_per_minute=6_000)
    send = stack.around(streams)

    opened = []

    async def waits():
        await send(None, tokens=50)
        opened.append(current().now())

    async def main():
        await send(None, tokens=100)
        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            await anyio.sleep(0.1)
            assert len(streams.holds) == 1
            streams.holds[0].close(Usage(5, 5, 10))
            return current().now()

    assert [run(main)] == opened


def test_waiting_is_told(run):
    """A call that waits for the rate says so, with the reason."""
    seen = Remember()
    stack, _ = limited(requests_per_minute=60, listeners=[seen])
    run(lambda: all_at_once(stack.around(FakeServer()), range(2)))
    [waiting] = seen.named("rate.waiting")
    assert waiting.delay == pytest.approx(1.0)
    assert "limit" in waiting.reason


def test_numbers_and_an_allowance_are_too_much():
    """Either an allowance or numbers: both together would hide one of them."""
    with pytest.raises(errors.ConfigurationError, match="not both"):
        RateLimiter(Allowance(), requests_per_minute=5)


def test_a_bounded_queue_refuses(run):
    """Beyond the allowance's max_waiting a call is refused, and told when there is room."""
    stack = Stack(RateLimiter(Allowance(requests_per_minute=60, max_waiting=1)), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(FakeServer()), range(3)))
    assert results[:2] == ["ok", "ok"]
    assert isinstance(results[2], errors.QueueFull)
    assert results[2].retry_after == pytest.approx(1.0, rel=0.1)  # when the queue's head is sent


def test_a_body_that_is_any_callable_is_called_for_its_estimate(run):
    """A layer of one's own may set a body whose ``text`` is something else."""

    class Body:
        def text(self):
            """Return nothing that is asked for."""

        def __call__(self):
            return {"prompt": "x" * 40, "max_tokens": 5}

    estimated = []

    async def describing(call, call_next):
        call.body = Body()
        result = await call_next(call)
        estimated.append(call.tokens)
        return result

    stack = Stack(describing, RateLimiter(tokens_per_minute=6e6), strict=False)
    run(lambda: stack.around(FakeServer())("x"))
    assert estimated == [15.0]


def test_beliefs_of_partitions_do_not_pace_a_shared_allowance(run):
    """What was learned of one partition is kept, and does not become the limit of them all."""
    beliefs = {"gpt": {"dimension": "requests", "per_minute": 600.0, "windowed": False,
                       "measured_by": 9.0}}  # fmt: skip
    rate = RateLimiter(Allowance(), beliefs=beliefs)
    send = Stack(rate, ErrorClassifier()).around(FakeServer())
    run(lambda: send("x", partition="gpt"))
    assert rate.beliefs()["gpt"] == beliefs["gpt"]
    assert rate.statistics(0.0)[None].learned is None


def test_beliefs_of_a_partition_at_rest_are_kept(run):
    """What was learned of a partition that made room for another is in the next run's beliefs."""
    limiter = RateLimiter(Keyed(Allowance, max_keys=1))
    send = Stack(limiter, ErrorClassifier()).around(FakeServer([429]))

    async def main():
        with pytest.raises(errors.RateLimitError):
            await send("x", partition="a", tokens=1.0)
        before = set(limiter.beliefs())
        await send("x", partition="b", tokens=1.0)
        return before, set(limiter.beliefs())

    before, after = run(main)
    assert before <= after


def test_a_call_larger_than_the_whole_limit_is_told_once(run):
    """It waits long, and nothing else would say why."""
    seen = Remember()
    stack, _ = limited(tokens_per_minute=100, listeners=[seen])
    send = stack.around(FakeServer())

    async def main():
        await send("small", tokens=50.0, partition="p")
        await send("large", tokens=150.0, partition="p", request_id="row-1")

    run(main)
    [event] = seen.named("rate.too_large")
    assert (event.request_id, event.partition, event.tokens) == ("row-1", "p", 150.0)
    assert event.reason == "more than the limit, 100 tokens per minute"
    assert not event.routine


@pytest.mark.parametrize("seed", [1, 2])
def test_calls_of_people_find_a_bucket_of_one(seed, run):
    """Of two that come together one is refused, once, although few are in flight."""
    draw, bucket, refused = random.Random(seed), make_limit("bucket", 60, 60.0, 1.0), []

    async def server(payload):
        await current().sleep_until(current().now() + draw.uniform(0.02, 0.05))
        now = current().now()
        if not bucket.fits(1.0, now):
            refused.append(now)
            raise errors.RateLimitError("too many", status=429)
        bucket.take(1.0, now)
        await anyio.sleep(draw.lognormvariate(0.0, 1.0))
        return payload

    async def main():
        retry = Retry(4, uniform=lambda: 0.5)
        stack = presets.service(requests_per_minute=60, deadline=3_600.0, retry=retry, log=False)
        send = stack.around(server)
        async with anyio.create_task_group() as calls:
            for number in range(300):
                await anyio.sleep(draw.expovariate(0.5))
                calls.start_soon(send, number)

    run(main)
    assert len(refused) <= 2
