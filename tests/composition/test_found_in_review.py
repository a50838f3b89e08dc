"""Faults that were found by reading and running the whole, each kept from coming back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging

import anyio
import pytest
from fakes import FakeServer, FakeStreams, all_at_once

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    ExponentialBackoff,
    Hold,
    InfeTransport,
    Keyed,
    Kind,
    Limit,
    RateLimiter,
    Reply,
    RequestIdLogger,
    Retry,
    Slots,
    Stack,
    Usage,
    call_options,
    errors,
    presets,
    wrap,
)
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually

ASK = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: RateLimiter(600), "a number goes into requests_per_minute="),
        (lambda: RateLimiter(requests_per_minute="600"), "a number above 0"),
        (lambda: RateLimiter(Allowance(), burst=10), "not both"),
        (lambda: ConcurrencyLimiter(Slots), "not the class"),
        (lambda: ConcurrencyLimiter(3.5), "whole number"),
        (lambda: ConcurrencyLimiter("3"), "whole number"),
        (lambda: ConcurrencyLimiter(Keyed(Circuit)), "Slots"),
        (lambda: CircuitBreaker(Circuit), "not the class"),
        (lambda: Keyed(5), "a function that makes a policy"),
        (lambda: Retry(backoff=2.0), "ExponentialBackoff"),
        (lambda: Retry(budget=0.2), "RetryBudget"),
        (lambda: Retry(max_attempts=2.5), "whole number"),
        (lambda: Retry(rules={"server_error": None}), "Kind.SERVER_ERROR"),
        (lambda: Retry(rules={Kind.OVERLOADED: 3}), "KindRule"),
        (lambda: ExponentialBackoff(initial="1"), "above 0"),
        (lambda: Deadline("3"), "above 0"),
        (lambda: AttemptTimeout(None), "above 0"),
        (lambda: Stack(presets.batch(), ErrorClassifier()), "not a layer"),
        (lambda: Stack(ErrorClassifier(), listeners=print), "a list of callables"),
        (lambda: Stack(ErrorClassifier(), listeners=[3]), "a list of callables"),
        (lambda: wrap(all_at_once, presets.batch), r"presets.batch\(\)"),
        (lambda: call_options(deadline="3").__enter__(), "deadline"),
    ],
)
def test_values_of_a_wrong_type_are_told(make, told):
    """What cannot work is told when it is given, with what to give instead."""
    with pytest.raises(errors.ConfigurationError, match=told):
        make()


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (ConcurrencyLimiter(2), RateLimiter(), ErrorClassifier(), ConcurrencyLimiter(2)),
        lambda: (ErrorClassifier(), ConcurrencyLimiter(2)),
        lambda: (CircuitBreaker(), Deadline(5), ErrorClassifier()),
        lambda: (ConcurrencyLimiter(2), RequestIdLogger(), ErrorClassifier()),
        lambda: (ErrorClassifier(), AttemptTimeout(5), Deadline(5)),
    ],
)
def test_orders_that_look_harmless_are_refused(layers):
    """Every pair of layers has its order, not only neighbours."""
    with pytest.raises(errors.LayerOrderError, match="must stand outside"):
        Stack(*layers())


def test_a_dead_address_fails_a_batch(run):
    """A server that never answered is no outage: the batch ends with the real error."""
    server = FakeServer(default=lambda _: ConnectionRefusedError("nobody listens"))
    stack = presets.batch(requests_per_minute=6_000)

    async def main():
        with anyio.fail_after(600):
            await stack.around(server)(ASK)

    with pytest.raises(ConnectionRefusedError) as caught:
        run(main)
    assert "max_attempts=10" in caught.value.__notes__[0]


def test_over_estimates_do_not_refuse_calls(run):
    """A call is not refused for tokens that calls in flight are about to give back."""
    server = FakeServer(default={"usage": {"total_tokens": 20}}, latency=0.1)
    stack = Stack(Deadline(60), RateLimiter(tokens_per_minute=60_000), ErrorClassifier())
    send = stack.around(server)
    results = run(lambda: all_at_once(lambda p: send(p, tokens=4_000), range(8)))
    assert all(isinstance(result, dict) for result in results)


def test_honest_headers_stall_nobody():
    """What was granted after a slow call and given back since is not taken off what remains."""
    allowance = Allowance(tokens_per_minute=600_000)
    slow = allowance.reserve(0.0, 100.0)
    now = 0.0
    for _ in range(600):
        now = max(now + 0.1, allowance.earliest(now, 1_000.0))
        quick = allowance.reserve(now, 1_000.0)
        assert quick.granted
        allowance.settle(quick, now, 300.0)
    stated = [Limit("tokens", 600_000, remaining=599_900.0 - 600 * 300)]
    allowance.observe(stated, slow, now)
    assert allowance.earliest(now, 1_000.0) - now < 2.0


@pytest.mark.parametrize(
    "stated",
    [
        Limit("requests", 1e-6),
        Limit("requests", 1_000, window=86_400.0),
        Limit("tokens", 1.0),
        Limit("requests", 5.0, window=1e12),
    ],
)
def test_what_a_server_states_cannot_stop_a_partition(stated):
    """A limit of a day, or one that is next to nothing, is not paced by."""
    allowance = Allowance(requests_per_minute=600)
    first = allowance.reserve(0.0, 1.0)
    assert allowance.observe([stated], first, 0.0) == []
    assert allowance.earliest(0.0, 1_000.0) < 1.0


def test_of_two_stated_limits_the_tighter_holds():
    """Two policies in one dimension are one limit, in either order, and are told once."""
    burst, steady = Limit("requests", 100, window=1.0), Limit("requests", 1_200, window=60.0)
    for limits in ([burst, steady], [steady, burst]):
        allowance = Allowance()
        first = allowance.reserve(0.0)
        [change] = allowance.observe(limits, first, 0.0)
        assert change.new == 1_200.0
        assert allowance.observe(limits, first, 1.0) == []


def test_refunds_do_not_lift_a_later_windows_limit():
    """However much is given back late, no minute costs more than the limit and one burst."""
    allowance = Allowance(tokens_per_minute=60_000)
    charges: list[list[float]] = []
    open_ones = []
    now = 0.0
    while now < 240.0:
        reservation = allowance.reserve(now, 500.0)
        if not reservation.granted:
            allowance.cancel(reservation, now)
            now += 0.05
        else:
            lie = now < 40.0  # estimated twenty times too high, and told forty seconds late
            charges.append([now, 25.0 if lie else 500.0])
            open_ones.append((now + (40.0 if lie else 0.1), reservation, charges[-1][1]))
        for entry in [each for each in open_ones if each[0] <= now]:
            allowance.settle(entry[1], now, entry[2])
            open_ones.remove(entry)
    worst = max(
        sum(cost for at, cost in charges if start <= at < start + 60.0) for start, _ in charges
    )
    assert worst <= 61_000


@pytest.mark.parametrize(
    ("limit", "estimate", "real", "latency"),
    [(200_000, 4_096, 300, 3.0), (200_000, 4_096, 300, 0.5), (60_000, 1_000, 300, 3.0)],
)
def test_over_estimates_do_not_waste_the_rate(limit, estimate, real, latency, run):
    """With estimates far above the cost, over half of the limit is used all the same."""
    server = FakeServer(default={"usage": {"total_tokens": real}}, latency=latency)
    stack = Stack(ConcurrencyLimiter(64), RateLimiter(tokens_per_minute=limit), ErrorClassifier())
    send = stack.around(server)
    calls = 5 * limit // real // 2

    async def main():
        start = current().now()
        await all_at_once(lambda p: send(p, tokens=estimate), range(calls))
        return current().now() - start

    assert calls * real / (run(main) / 60.0) > 0.5 * limit


def test_an_overloaded_servers_hint_closes_the_gate(run):
    """Three 503s with Retry-After stop all senders, like three 429s with one, until a question."""
    server = FakeServer([(503, {"retry-after": "20"})] * 4, latency=0.1)
    stack = Stack(Retry(uniform=lambda: 0.0), RateLimiter(), ErrorClassifier())
    send = stack.around(server)

    async def main():
        async with anyio.create_task_group() as group:
            for name in ("first", "second", "third"):
                group.start_soon(send, name)
            await anyio.sleep(0.5)
            for name in ("question", "other"):
                group.start_soon(send, name)

    run(main)
    start = server.sent[0]
    asked, again = [at - start for at in server.sent[:5] if at > start]
    assert asked == pytest.approx(1.1, abs=0.2)  # the sends are paced
    assert again == pytest.approx(asked + 1.1)  # the question was refused: a second later


def test_what_was_refused_before_sending_says_nothing_to_the_circuit(run):
    """A payload that cannot be sent counts neither for nor against the server."""
    circuit = Circuit(consecutive_failures=1, probes=1, open_for=1.0)
    server = FakeServer([502, errors.InvalidRequestError("no JSON"), "ok"])
    stack = Stack(CircuitBreaker(circuit), ErrorClassifier())
    send = stack.around(server)

    async def main():
        await all_at_once(send, ["opens"])
        await anyio.sleep(1)
        await all_at_once(send, ["cannot be sent"])
        assert circuit.state == "half_open"
        return await send("probe")

    assert run(main) == "ok"


def test_a_streams_headers_are_learnt_from(run):
    """The limits in a stream's head are followed at the hand-over."""
    streams = FakeStreams(headers={"x-ratelimit-limit-requests": "60"})

    stack = Stack(RateLimiter(), ErrorClassifier())
    run(lambda: stack.around(streams)(None))
    assert stack.statistics().allowances[None].requests_per_minute == 60.0


def test_a_callback_that_raises_holds_nothing_back():
    """What else hangs on a hold is released although one release fails."""
    hold, released = Hold(), []
    hold.on_close(lambda usage: 1 / 0)
    hold.on_close(released.append)
    with pytest.raises(ZeroDivisionError):
        hold.close(Usage(1, 1, 2))
    assert released == [Usage(1, 1, 2)]


def test_a_listener_that_ends_the_program_leaves_no_ghost(run):
    """A listener that raises out of a wait leaves no reservation behind."""

    def exit_when_waiting(event):
        if event.name == "rate.waiting":
            raise KeyboardInterrupt

    stack = Stack(
        RateLimiter(requests_per_minute=60), ErrorClassifier(), listeners=[exit_when_waiting]
    )
    send = stack.around(FakeServer())

    async def main():
        await send(None)
        with contextlib.suppress(KeyboardInterrupt):
            await send(None)
        return stack.statistics().allowances[None]

    after = run(main)
    assert (after.waiting, after.outstanding) == (0, 0)


def test_a_late_comer_is_no_retry(run):
    """An older call that comes late for the first time does not pass a full queue as a retry."""

    async def slow_for_some(call, call_next):
        await call.runtime.sleep_until(call.started + (1.0 if call.payload < 9 else 0.0))
        return await call_next(call)

    stack = Stack(slow_for_some, ConcurrencyLimiter(Slots(1, max_waiting=1)), ErrorClassifier())
    results = run(lambda: all_at_once(stack.around(FakeServer(latency=5.0)), range(11)))
    assert sum(isinstance(result, errors.QueueFull) for result in results) == 9


def test_one_exception_raised_often_keeps_one_note(run):
    """An exception object that is raised for call after call does not collect notes."""
    mine = ConnectionResetError()
    mine.add_note("the user's own")
    server = FakeServer(default=lambda _: mine)
    stack = Stack(Retry(1), ErrorClassifier())

    async def main():
        for _ in range(20):
            await all_at_once(stack.around(server), [None])

    run(main)
    assert len(mine.__notes__) == 2


def test_a_timeout_holds_without_a_deadline_layer(run):
    """An attempt's timeout streams.holds although a layer of the user's set a deadline."""

    async def hasty(call, call_next):
        call.deadline = call.runtime.now() + 0.5
        return await call_next(call)

    stack = Stack(hasty, ErrorClassifier(), AttemptTimeout(1.0))

    async def main():
        start = current().now()
        [error] = await all_at_once(stack.around(FakeServer(latency=50)), [None])
        return error, current().now() - start

    error, took = run(main)
    assert isinstance(error, errors.AttemptTimedOut)
    assert took == pytest.approx(1.0)


def test_a_cancelled_call_is_no_warning(run, caplog):
    """A program that cancels thousands of calls at its end does not flood its log."""
    caplog.set_level(logging.WARNING, "resilient_infe")
    send = Stack(RequestIdLogger(), ErrorClassifier()).around(FakeServer(latency=50))

    async def main():
        with anyio.move_on_after(1):
            await send(None)

    run(main)
    assert not caplog.records


def test_a_functions_own_dict_is_its_own_business(run):
    """A function that returns {"error": ...} without a code is not taken for a failing server."""
    server = FakeServer(default={"error": "none of yours"})
    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier())
    assert run(lambda: stack.around(server)(None)) == {"error": "none of yours"}
    assert len(server.sent) == 1


@pytest.mark.parametrize("status", ["429", None, 2.5])
def test_a_foreign_adapters_status_may_be_anything(status, run):
    """A reply whose status is no number does not raise out of the classifier."""

    async def inner(call):
        call.reply = Reply(status, {})
        return "as it is"

    stack = Stack(ErrorClassifier())
    assert run(lambda: stack.handler(inner)(Call(None))) == "as it is"


@pytest.mark.network
def test_a_malformed_answer_does_not_leak_the_key():
    """Aiohttp's own exceptions hold the request's headers; none of them hangs on ours."""
    key = "sk-canary-4242424242"

    async def main():
        async def nonsense(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/9.9 what\r\nA:\x00\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, InfeTransport(key, base_url=f"http://127.0.0.1:{port}/v1") as infe:
            for transport in (infe, infe.stream):
                with pytest.raises(errors.TransportError) as caught:
                    await transport(ASK)
                error = caught.value
                assert error.__cause__ is None
                assert error.__context__ is None
                assert key not in f"{error} {error!r} {vars(error)}"

    asyncio.run(main())


def test_a_stream_is_asked_for_by_its_own_transport(run):
    """A payload with `stream` is refused before it is sent and billed, with what to use."""
    infe = InfeTransport("sk-x", base_url="http://127.0.0.1:9/v1")
    send = presets.batch().around(infe)
    with pytest.raises(errors.InvalidRequestError, match=r"transport\.stream"):
        run_virtually(lambda: send({**ASK, "stream": True}))


def test_the_http_transport_says_that_it_needs_asyncio():
    """Under trio InfeTransport says what to use instead."""
    infe = InfeTransport("sk-x", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(errors.ConfigurationError, match="needs asyncio"):
        run_virtually(lambda: infe(ASK), "trio")


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_transport_that_was_not_closed_says_so():
    """A transport left open by one asyncio.run tells the next one what to do."""
    from resilient_infe.testing import InfeModel
    from resilient_infe.testing.server import InfeServer

    infe = InfeTransport("sk-x")

    async def main():
        async with InfeServer(InfeModel(latency=0.0)).running() as url:
            infe.base_url = url
            return await infe(ASK)

    assert asyncio.run(main())["choices"]
    with pytest.raises(errors.WrongLoopError, match="close it there"):
        asyncio.run(main())
    infe._session = None
    gc.collect()
