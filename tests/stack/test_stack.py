"""Stack: linking, order, description, statistics, options, draining."""

from __future__ import annotations

import contextvars
import re
import types
import warnings

import anyio
import pytest
from fakes import FakeServer, Remember, all_at_once

from resilient_infe import (
    AttemptTimeout,
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Fallback,
    Hedge,
    Keyed,
    Kind,
    RateLimiter,
    RequestIdLogger,
    Retry,
    RetryBudget,
    Stack,
    Verdict,
    call_options,
    errors,
    presets,
)
from resilient_infe.stack.options import current_options
from resilient_infe.stack.order import ORDER, OUTSIDE


def full(**options):
    """Return the design's default stack."""
    return Stack(
        RequestIdLogger(log=False),
        Deadline(120.0),
        Retry(max_attempts=6),
        ConcurrencyLimiter(64),
        RateLimiter(requests_per_minute=600, tokens_per_minute=200_000),
        CircuitBreaker(),
        ErrorClassifier(),
        AttemptTimeout(60.0),
        **options,
    )


def test_layers_run_outermost_first(run):
    """Each layer sees the call before those inside it, and the result after them."""
    log = []

    def layer(name):
        async def traced(call, call_next):
            log.append(name)
            result = await call_next(call)
            log.append(name.upper())
            return result

        return traced

    stack = Stack(layer("a"), layer("b"), ErrorClassifier())
    run(lambda: stack.around(FakeServer())(None))
    assert "".join(log) == "abBA"


def test_the_transports_result_comes_back(run):
    """What the transport returns is what the caller gets, the same object."""
    thing = object()
    assert run(lambda: full().around(FakeServer(default=thing))(None)) is thing


def test_any_callable_that_returns_an_awaitable(run):
    """A plain function that returns an awaitable is a transport."""

    async def inner(payload):
        return payload * 2

    assert run(lambda: full().around(lambda payload: inner(payload))(21)) == 42


def test_handler_gives_the_call_itself(run):
    """An adapter gets the Call, and may make it."""

    async def inner(call):
        return call.payload, call.partition, call.attempt

    handler = full().handler(inner)
    assert run(lambda: handler(Call("x", partition="p"))) == ("x", "p", 1)


def test_one_call_has_one_set_of_values(run):
    """Arguments come before call_options, an inner block before an outer one."""
    seen = []

    async def look(call, call_next):
        seen.append((call.tokens, call.partition, call.request_id, call.tags))
        return await call_next(call)

    send = Stack(look, ErrorClassifier()).around(FakeServer())

    async def main():
        with call_options(tokens=5, partition="outer", tags={"a": 1, "b": 1}):
            await send(None)
            with call_options(partition="inner", tags={"b": 2}):
                await send(None, tokens=7, request_id="row-1", tags={"c": 3})
        await send(None)

    run(main)
    assert seen == [
        (5, "outer", None, {"a": 1, "b": 1}),
        (7, "inner", "row-1", {"a": 1, "b": 2, "c": 3}),
        (None, None, None, {}),
    ]


@pytest.mark.parametrize(
    "options", [{"tokens": -1}, {"tokens": float("nan")}, {"deadline": 0}, {"partition": 3}]
)
def test_odd_call_values_are_refused(options, run):
    """A value that cannot be is told before anything is sent."""
    with pytest.raises(errors.ConfigurationError, match=r"tokens|deadline|partition"):
        full().around(FakeServer())(None, **options)
    with pytest.raises(errors.ConfigurationError, match=next(iter(options))):
        call_options(**options).__enter__()


@pytest.mark.parametrize("most", [0, -1, 1.5, "1"])
def test_an_odd_number_of_attempts_is_refused(most):
    """`call_options` takes whole numbers from 1."""
    with pytest.raises(errors.ConfigurationError, match="max_attempts"):
        call_options(max_attempts=most).__enter__()


@pytest.mark.parametrize(("outer", "inner", "why"), OUTSIDE)
def test_a_wrong_order_is_refused_and_explained(outer, inner, why):
    """Every pair that must not be turned round is refused, with its reason."""
    made = {
        RequestIdLogger: RequestIdLogger,
        Deadline: lambda: Deadline(5),
        Retry: Retry,
        Fallback: lambda: Fallback("b"),
        Hedge: Hedge,
        ConcurrencyLimiter: lambda: ConcurrencyLimiter(5),
        RateLimiter: RateLimiter,
        CircuitBreaker: lambda: CircuitBreaker(Keyed(Circuit)),
        ErrorClassifier: ErrorClassifier,
        AttemptTimeout: lambda: AttemptTimeout(5),
    }
    layers = [made[inner](), made[outer]()]
    if ErrorClassifier not in (outer, inner):
        layers.append(ErrorClassifier())
    with pytest.raises(errors.LayerOrderError, match=r"must stand outside") as error:
        Stack(*layers)
    assert why in str(error.value)
    assert repr(Stack(*layers, strict=False)).startswith("<Stack ")


def test_the_order_itself_is_allowed():
    """The order of the design is accepted, and every neighbour in it is covered by a rule."""
    layers = list(full().replace(CircuitBreaker(Keyed(Circuit))).layers)
    layers[3:3] = [Fallback("b"), Hedge()]
    assert [type(layer) for layer in Stack(*layers).layers] == list(ORDER)
    named = {cls for outer, inner, _ in OUTSIDE for cls in (outer, inner)}
    assert named == set(ORDER)


def test_a_second_inner_concurrency_limit_is_allowed():
    """A cap over all partitions stands inside the rate limiter."""
    Stack(ConcurrencyLimiter(5), RateLimiter(), ConcurrencyLimiter(9), ErrorClassifier())


def test_two_retries_are_refused():
    """Attempts would multiply."""
    with pytest.raises(errors.LayerOrderError, match="multiply"):
        Stack(Retry(), Retry(), ErrorClassifier())


def test_no_classifier_is_refused():
    """Without a classifier no layer would react to anything."""
    with pytest.raises(errors.LayerOrderError, match="Add ErrorClassifier"):
        Stack(Retry())


@pytest.mark.parametrize("thing", [Retry, 5, "retry", None])
def test_what_is_no_layer_is_refused(thing):
    """A class, or something that cannot be called, is told what to give."""
    with pytest.raises(errors.ConfigurationError, match="not a layer"):
        Stack(thing, ErrorClassifier())


def test_what_cannot_be_called_is_no_transport():
    """A transport that cannot be called is told what to give."""
    with pytest.raises(errors.ConfigurationError, match="transport must be an async def"):
        full().around(5)


def test_a_layer_is_replaced_by_one_of_its_kind():
    """The others stay the same objects, in their places; a derived class is of the same kind."""

    class Patient(Retry):
        pass

    seen = []
    stack = presets.service(listeners=[seen.append])
    mine, bound = Patient(9), AttemptTimeout(5.0)
    other = stack.replace(mine, bound)
    assert [type(each).__name__ for each in other.layers] == [
        "Patient" if isinstance(each, Retry) else type(each).__name__ for each in stack.layers
    ]
    changed = {id(mine), id(bound)}
    assert {id(each) for each in other.layers} - {id(each) for each in stack.layers} == changed
    assert other.listeners == stack.listeners
    again = other.replace(Retry(2))
    assert not any(isinstance(each, Patient) for each in again.layers)


def test_a_layer_is_left_out():
    """The rest stands as it stood, and an order that cannot work is still refused."""
    stack = presets.batch()
    other = stack.without(CircuitBreaker, RateLimiter)
    assert other.layers == tuple(
        each for each in stack.layers if not isinstance(each, CircuitBreaker | RateLimiter)
    )
    with pytest.raises(errors.LayerOrderError, match="no ErrorClassifier"):
        stack.without(ErrorClassifier)
    loose = Stack(Retry(), ErrorClassifier(), strict=False)
    assert loose.without(ErrorClassifier).layers == loose.layers[:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda stack: stack.replace(CircuitBreaker()),
            "one layer of the kind CircuitBreaker; it has none",
        ),
        (
            lambda stack: stack.replace(ConcurrencyLimiter(1)),
            "one layer of the kind ConcurrencyLimiter; it has 2",
        ),
        (lambda stack: stack.replace(Retry), "not a layer: pass an instance"),
        (lambda stack: stack.without(Deadline), "Its layers are ConcurrencyLimiter, RateLimiter"),
        (lambda stack: stack.without(Retry()), "takes classes of layers"),
        (lambda stack: Stack(list(stack.layers)), r"separate arguments: Stack\(\*layers\)"),
    ],
)
def test_a_change_that_cannot_be_made_is_explained(change, message):
    """The error says which layers there are, and what to do instead."""
    limits = ConcurrencyLimiter(4), RateLimiter(), ConcurrencyLimiter(2)
    with pytest.raises(errors.ConfigurationError, match=message):
        change(Stack(*limits, ErrorClassifier()))


@pytest.mark.parametrize(
    ("arguments", "options", "shown"),
    [
        ((), {"model": "m", "messages": []}, "await send({'model': ..., 'messages': ...})"),
        ((), {}, "await send({...})"),
        (("x",), {"timeout": 3}, "'timeout' is not an option: put it into the payload"),
    ],
)
def test_a_requests_fields_belong_into_the_payload(arguments, options, shown):
    """Who calls it as an SDK's method is shown how it is called."""
    send = Stack(ErrorClassifier()).around(FakeServer())
    with pytest.raises(errors.ConfigurationError, match=re.escape(shown)):
        send(*arguments, **options)


def test_a_transport_that_returns_no_awaitable_is_explained(run):
    """It is not tried again, and the error says what to write."""
    calls = []
    send = presets.batch().around(calls.append)
    with pytest.raises(
        errors.ConfigurationError, match="returned NoneType, which cannot be awaited"
    ):
        run(lambda: send("x"))
    assert calls == ["x"]


def test_description_reads_well():
    """print(stack) names each layer in order, the worst case, and what fits the deadline."""
    text = str(full())
    names = [cls.__name__ for cls in ORDER if cls not in (Fallback, Hedge)]
    assert [line.split()[1] for line in text.splitlines()[1:9]] == names
    assert "worst case: 6 attempts of 60 s" in text
    assert "limited by the 120 s deadline" in text
    assert "600 requests per minute and 200,000 tokens per minute" in text
    assert "up to 1,200 calls can be sent within the 120 s deadline" in text
    assert max(len(line) for line in text.splitlines()) <= 132


@pytest.mark.parametrize(
    ("retry", "line"),
    [
        (Retry(), None),
        (Retry(wait_out_refusals=True), "waiting for an open circuit does not use up attempts"),
        (
            presets.batch().layers[2],
            "waiting for an open circuit or after a 429 does not use up attempts",
        ),
    ],
)
def test_the_description_says_which_waits_are_free(retry, line):
    """A 429 uses up an attempt unless a rule says otherwise."""
    lines = [each.strip() for each in str(Stack(retry, ErrorClassifier())).splitlines()]
    assert [each for each in lines if "use up attempts" in each] == ([] if line is None else [line])


def test_description_of_own_layers():
    """A user's function appears by its name."""

    async def tag_team(call, call_next):
        return await call_next(call)

    assert "tag_team" in str(Stack(tag_team, ErrorClassifier()))


def test_statistics_tell_what_is_going_on(run):
    """The snapshot counts calls, queues, tokens, gates, circuits and outcomes."""
    stack = Stack(
        Retry(budget=RetryBudget()),
        ConcurrencyLimiter(2),
        RateLimiter(requests_per_minute=6_000, tokens_per_minute=60_000),
        CircuitBreaker(),
        ErrorClassifier(),
    )
    server = FakeServer([401], latency=1.0)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(all_at_once, lambda p: stack.around(server)(p, tokens=10), range(6))
            await anyio.sleep(0.5)
            during = stack.statistics()
        return during, stack.statistics()

    during, after = run(main)
    assert (during.in_flight, during.waiting, during.calls) == (6, 4, 0)
    assert during.slots[None].held == 2
    assert during.allowances[None].outstanding == 2
    assert (after.in_flight, after.calls, after.attempts) == (0, 6, 6)
    assert after.outcomes == {Kind.AUTH: 1, Kind.OK: 5}
    assert after.circuits[None].state == "closed"
    assert after.budget.withdrawn == 0
    with pytest.raises(AttributeError):
        after.calls = 5


def test_drain_waits_for_those_under_way(run):
    """Draining refuses new calls, lets the others end, and says how many are left."""
    stack = full()
    send = stack.around(FakeServer(latency=5.0))

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(send, None)
            await anyio.sleep(1)
            assert await stack.drain(1) == 1
            with pytest.raises(errors.Draining):
                await send(None)
            assert await stack.drain() == 0
            assert stack.statistics().draining

    run(main)


def test_drain_with_nothing_under_way(run):
    """Draining an idle stack ends at once."""
    assert run(lambda: full().drain(5)) == 0


def fails_once(transport):
    """Return a transport whose first attempt fails, so that Retry makes another."""
    calls = 0

    async def failing(payload):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionResetError
        return await transport(payload)

    return failing


def test_a_stack_around_a_stack_is_noticed(run):
    """Two Retry layers around each other warn once, at build or at run time."""
    inner = full().around(FakeServer())
    with pytest.warns(errors.NestedStackWarning, match="multiply"):
        full().around(inner)

    another = full().around(FakeServer())

    @fails_once
    async def transport(payload):
        return await another(payload)

    hidden = full().around(transport)

    async def main():
        with pytest.warns(errors.NestedStackWarning, match="multiply"):
            await hidden(None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await hidden(None)

    run(main)


def test_a_nested_stack_is_told_at_the_line_that_calls_it(run):
    """The warning points into the transport that calls another stack, not into the library."""
    inner = full().around(FakeServer())

    @fails_once
    async def transport(payload):
        return await inner(payload)

    async def main():
        with pytest.warns(errors.NestedStackWarning) as told:
            await full().around(transport)(None)
        assert [each.filename for each in told] == [__file__]

    run(main)


def test_a_call_that_is_dropped_leaves_the_options_of_others_alone(run):
    """A coroutine that nobody awaits any more is closed wherever it happens to be collected."""
    stack = Stack(ErrorClassifier())

    @types.coroutine
    def hang(payload):
        yield payload

    async def main():
        coroutine = stack.around(hang)(None)
        contextvars.copy_context().run(coroutine.send, None)  # as a task does, as far as it goes
        with call_options(partition="mine"):
            coroutine.close()
            kept = current_options()
        assert kept is not None
        assert kept.partition == "mine"

    run(main)


def test_a_kind_of_the_users_own_is_counted(run):
    """A layer may leave a verdict that the table of kinds does not know; no answer is lost."""

    async def strange(call, call_next):
        result = await call_next(call)
        call.verdict = Verdict("strange")
        return result

    stack = Stack(strange, strict=False)

    async def main():
        assert await stack.around(FakeServer())("x") is not None
        assert await stack.around(FakeServer())("x") is not None

    run(main)
    assert stack.statistics().outcomes == {"strange": 2}
    assert stack.statistics().in_flight == 0


def test_options_given_inside_of_a_call_hide_no_stack(run):
    """`call_options` inside of a stack's call reach the inner stack, which is noticed all the same.

    And options around the outer call reach the inner one too.
    """
    seen = []

    async def look(call, call_next):
        seen.append((call.partition, call.tags))
        return await call_next(call)

    inner = Stack(look, Retry(), ErrorClassifier()).around(FakeServer())

    @fails_once
    async def transport(payload):
        with call_options(partition="inner"):
            return await inner(payload)

    outer = full().around(transport)

    async def main():
        with call_options(tags={"of": "outer"}), pytest.warns(errors.NestedStackWarning):
            await outer(None)

    run(main)
    assert seen == [("inner", {"of": "outer"})]


def test_a_stack_without_retry_inside_is_fine(run):
    """A second stack that does not retry multiplies nothing."""
    inner = Stack(ConcurrencyLimiter(3), ErrorClassifier()).around(FakeServer())
    assert run(lambda: full().around(inner)(None)) == "ok"


def test_listeners_get_ids_without_a_logger(run):
    """A stack with listeners and no RequestIdLogger still names its calls."""
    seen = Remember()
    stack = Stack(ErrorClassifier(), listeners=[seen])
    run(lambda: stack.around(FakeServer())(None, tags={"team": "evals"}))
    started, attempt, finished = seen.events
    assert [e.name for e in seen.events] == ["call.started", "attempt.finished", "call.finished"]
    assert started.request_id == attempt.request_id == finished.request_id is not None
    assert finished.tags == {"team": "evals"}
    assert finished.kind is Kind.OK


def test_a_listener_that_raises_is_told_once(run, caplog):
    """A listener with a bug is reported once and changes nothing else."""

    def broken(_):
        raise ZeroDivisionError

    seen = Remember()
    stack = Stack(ErrorClassifier(), listeners=[broken, seen])
    results = run(lambda: all_at_once(stack.around(FakeServer()), range(5)))
    assert results == ["ok"] * 5
    assert len(seen.events) == 15
    assert len([r for r in caplog.records if "listener failed" in r.message]) == 1


def test_finished_tells_the_whole_story(run):
    """call.finished has attempts, waits, usage and the server's ids of every attempt."""
    from resilient_infe.testing import Faults, InfeModel, InProcessInfe

    seen = Remember()
    model = InfeModel(faults=Faults(script=[502, 502]), latency=0.5)
    stack = Stack(Retry(uniform=lambda: 0.5), ErrorClassifier(), listeners=[seen])
    payload = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}
    run(lambda: stack.around(InProcessInfe(model))(payload, request_id="row-17"))
    [finished] = seen.named("call.finished")
    assert (finished.request_id, finished.attempts) == ("row-17", 3)
    assert finished.sent_for == pytest.approx(1.5)
    assert finished.waited == pytest.approx(0.5 + 1.0)
    assert finished.usage.total_tokens > 0
    assert finished.server_request_ids == ("infe-00000001", "infe-00000002", "infe-00000003")


def test_the_same_stack_in_one_run_after_another():
    """A stack used in one asyncio.run serves the next, and trio after it."""
    from resilient_infe.testing import run_virtually

    stack = presets.batch(requests_per_minute=600)
    send = stack.around(FakeServer(latency=0.1))
    for backend in ("asyncio", "asyncio", "trio", "trio", "asyncio"):
        results = run_virtually(lambda: all_at_once(send, range(15)), backend)
        assert results == ["ok"] * 15
    assert stack.statistics().calls == 75


def test_a_nesting_is_noticed_when_it_multiplies(run):
    """While the outer stack's first attempts succeed nothing is multiplied, and nothing is said."""
    inner = Stack(Retry(), ErrorClassifier()).around(FakeServer())
    outer = Stack(Retry(uniform=lambda: 0.0), ErrorClassifier())

    async def main():
        for number in range(5):
            await outer.around(lambda payload: inner(payload))(number)
        with pytest.warns(errors.NestedStackWarning):
            await outer.around(fails_once(inner))("x")
        await outer.around(fails_once(inner))("it is said once")

    run(main)


def test_a_call_after_a_retry_is_not_nested(run):
    """What was set for a further attempt is gone when its call has ended, well or not."""
    stack = Stack(Retry(2, uniform=lambda: 0.0), ErrorClassifier())
    server = FakeServer([502, "ok", 502, 502, "ok"])

    async def main():
        send = stack.around(server)
        assert await send("x") == "ok"
        with pytest.raises(errors.UpstreamError):
            await send("x")
        return await send("x")

    assert run(main) == "ok"


def test_an_error_that_is_false_is_still_an_error(run):
    """An exception class may have a length; one that is empty ends its call as any other does."""

    class Empty(Exception):
        def __len__(self):
            return 0

    seen = Remember()
    stack = Stack(ErrorClassifier(), listeners=[seen])

    async def fails(call, call_next):
        await call_next(call)
        raise Empty

    async def main():
        with pytest.raises(Empty):
            await Stack(fails, *stack.layers, listeners=[seen]).around(FakeServer())("x")
        with pytest.raises(Empty):
            await stack.around(FakeServer(default=Empty()))("x")

    run(main)
    assert stack.statistics().outcomes == {Kind.UNKNOWN: 1}
    assert [each.kind for each in seen.named("call.finished")][-1] is Kind.UNKNOWN
