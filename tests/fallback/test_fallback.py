"""The layer: who answers, what is passed on, and what each target keeps to itself."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest
from fakes import Remember, answer

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Call,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Fallback,
    Hedge,
    Hold,
    Keyed,
    Kind,
    RateLimiter,
    Reply,
    Retry,
    Slots,
    Stack,
    Target,
    call_options,
    errors,
    wrap,
)
from resilient_infe.aio import current


class Models:
    """A transport that answers by model: seconds and an outcome, or a function that returns both.

    An outcome of None is the name of the model.
    """

    def __init__(self, streams=False, **models):
        self.models, self.streams = models, streams
        self.asked, self.holds = [], []

    async def handle(self, call):
        """Make one attempt."""
        model = call.payload["model"]
        self.asked.append(model)
        does = self.models[model]
        seconds, outcome = does(current().now()) if callable(does) else does
        await anyio.sleep(seconds)
        if self.streams and outcome is None:
            call.hold = Hold()
            self.holds.append(call.hold)
        return model if outcome is None else answer(call, outcome)

    async def __call__(self, payload):
        """Be callable, as a transport is; the stack uses `handle`."""
        raise NotImplementedError


def stack_of(*layers, deadline=None, retry=1, listeners=()):
    """Return the usual layers with limits and circuits for each partition."""
    return Stack(
        Deadline(deadline),
        Retry(retry, uniform=lambda: 0.0),
        *layers,
        ConcurrencyLimiter(Keyed(lambda: Slots(8))),
        RateLimiter(Keyed(lambda: Allowance(requests_per_minute=6_000))),
        CircuitBreaker(Keyed(lambda: Circuit(consecutive_failures=5, open_for=5.0))),
        ErrorClassifier(),
        AttemptTimeout(10.0),
        listeners=listeners,
    )


def circuit_of(stack, partition):
    """Return the circuit of a partition, which is made if it has had no call."""
    [breaker] = [each for each in stack.layers if isinstance(each, CircuitBreaker)]
    return breaker.circuits.to_resize(partition)


async def asked(send, payload=None, **options):
    """Return the result or the exception of one call for model `a`."""
    try:
        return await send({"model": "a"} if payload is None else payload, **options)
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("first", "expected", "tried"),
    [
        ((0.1, None), "a", ["a"]),
        ((0.1, 503), "b", ["a", "b"]),
        ((99.0, None), "b", ["a", "b"]),  # the attempt's timeout
        ((0.1, 500), errors.ServerError, ["a"]),
        ((0.1, 400), errors.InvalidRequestError, ["a"]),
        ((0.1, 429), errors.RateLimitError, ["a"]),
        ((0.1, (429, {"retry-after": "5"})), errors.RateLimitError, ["a"]),
        ((0.1, (429, {"retry-after": "120"})), "b", ["a", "b"]),
    ],
)
def test_which_failures_go_elsewhere(run, first, expected, tried):
    """An overload, a timeout, and a wait that ends after the deadline."""
    server = Models(a=first, b=(0.1, None))
    result = run(lambda: asked(stack_of(Fallback("b"), deadline=60.0).around(server)))
    assert result == expected or type(result) is expected
    assert server.asked == tried


def test_what_was_tried_is_told(run):
    """In the tag, the events, the statistics and the note."""
    server, seen = Models(a=(0.1, 503), b=(0.1, 529), c=(0.1, None)), Remember()
    stack = stack_of(Fallback("b", "c"), listeners=[seen])
    payload = {"model": "a"}
    assert run(lambda: asked(stack.around(server), payload, tags={"team": "x"})) == "c"
    assert payload == {"model": "a"}
    first, second = seen.named("fallback.tried")
    assert (first.partition, first.target, first.kind, first.status) == (
        "a",
        "b",
        "overloaded",
        503,
    )
    assert (second.partition, second.target, second.status, second.attempt) == ("b", "c", 529, 3)
    [finished] = seen.named("call.finished")
    assert finished.tags == {"team": "x", "fallback": "a -> b -> c"}
    assert (finished.partition, finished.attempts, finished.kind) == ("c", 3, "ok")
    found = stack.statistics().fallbacks
    assert {name: (each.tried, each.answered) for name, each in found.items()} == {
        "b": (1, 0),
        "c": (1, 1),
    }
    server.models["c"] = (0.1, 503)
    error = run(lambda: asked(stack.around(server)))
    assert "tried: a (overloaded), b (overloaded), c (overloaded)" in error.__notes__[0]
    assert len(error.__notes__) == 1


@pytest.mark.parametrize(("second", "status"), [(503, 503), (404, 503), (500, 503), (None, None)])
def test_the_first_failure_is_passed_on(run, second, status):
    """A target that fails too, for whatever reason, does not hide why the call went there."""
    server = Models(a=(0.1, 503), b=(0.1, second))
    result = run(lambda: asked(stack_of(Fallback("b")).around(server)))
    assert getattr(result, "status", None) == status


def test_a_refusal_gives_way_to_an_answer(run):
    """The first model's circuit is open: what the second one answers is passed on, and retried."""
    server = Models(b=lambda now: (0.1, 503 if now < 0.05 else None))
    stack = stack_of(Fallback("b"), retry=2)
    circuit_of(stack, "a").force_open()
    assert run(lambda: asked(stack.around(server))) == "b"
    assert server.asked == ["b", "b"]
    circuit_of(stack, "b").force_open()
    error = run(lambda: asked(stack.around(server)))
    assert "tried: a (CircuitOpen), b (CircuitOpen)" in error.__notes__[0]


def test_a_model_that_is_down_is_skipped_at_once(run):
    """No call fails while the model is down, and hardly one is slower."""
    server = Models(
        a=lambda now: (0.3, 503 if 5.0 <= now < 65.0 else None), b=lambda now: (0.4, None)
    )
    stack = stack_of(Fallback("b"))
    send, took = stack.around(server), []

    async def one():
        began = current().now()
        assert await send({"model": "a"}) in ("a", "b")
        took.append((began, current().now() - began))

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(800):
                group.start_soon(one)
                await anyio.sleep(0.1)

    run(main)
    down = sorted(seconds for began, seconds in took if 6.0 <= began < 65.0)
    assert len(took) == 800
    assert down[int(0.99 * len(down))] <= 0.3 + 0.5
    assert server.asked.count("a") < 800 - 590 + 60  # probes, and those before the circuit opened
    assert stack.statistics().outcomes == {Kind.OK: 800}
    assert server.asked[-1] == "a"


def test_each_target_has_its_own_limits(run):
    """The attempt at another model takes from that one's limits alone, and gives back."""
    server = Models(a=(0.1, 503), b=(0.1, None), streams=True)
    stack = stack_of(Fallback("b"))

    async def main():
        assert await asked(stack.around(server)) == "b"
        now = stack.statistics()
        assert (now.slots["a"].held, now.slots["b"].held) == (0, 1)
        assert (now.allowances["a"].outstanding, now.allowances["b"].outstanding) == (0, 1)
        server.holds[0].close()
        now = stack.statistics()
        assert (now.in_flight, now.slots["b"].held, now.allowances["b"].outstanding) == (0, 0, 0)

    run(main)


def test_a_retry_begins_with_the_calls_own_model(run):
    """If no target answers, the next attempt goes through all of them again."""
    server = Models(a=lambda now: (0.1, 503 if now < 0.15 else None), b=(0.1, 503))
    assert run(lambda: asked(stack_of(Fallback("b"), retry=3).around(server))) == "a"
    assert server.asked[:3] == ["a", "b", "a"]


def test_another_transport(run):
    """A target may have a transport of its own, which gets the same payload."""
    seen = []

    async def other(payload):
        seen.append(payload)
        return "other"

    server, spare = Models(a=(0.1, 503)), Models(c=(0.1, None))

    async def main():
        send = stack_of(Fallback(Target(partition="eu", transport=other))).around(server)
        assert await asked(send) == "other"
        stack = stack_of(Fallback(Target("c", transport=spare)), retry=2)
        assert await asked(stack.around(server)) == "c"

    run(main)
    assert seen == [{"model": "a"}]


def test_nothing_is_sent_again_that_must_not_be(run):
    """A body that can be read once, and a call that may be sent once; an unsent one goes on."""

    async def once(call, call_next):
        call.replayable = False
        return await call_next(call)

    async def main():
        server = Models(a=(0.1, 503), b=(0.1, None))
        stack = Stack(once, *stack_of(Fallback("b")).layers)
        assert isinstance(await asked(stack.around(server)), errors.OverloadedError)
        with call_options(max_attempts=1):
            send = stack_of(Fallback("b")).around(server)
            assert isinstance(await asked(send), errors.OverloadedError)
        assert server.asked == ["a", "a"]
        circuit_of(stack, "a").force_open()
        assert await asked(stack.around(server)) == "b"

    run(main)


def test_a_cancelled_call_goes_nowhere(run):
    """Neither a cancellation nor the deadline is a failure of the model."""
    server = Models(a=(9.0, None), b=(0.1, None))

    async def main():
        send = stack_of(Fallback("b"), deadline=5.0).around(server)
        with anyio.move_on_after(1.0):
            await send({"model": "a"})
        assert isinstance(await asked(send), errors.DeadlineExceeded)

    run(main)
    assert server.asked == ["a", "a"]


def test_a_result_that_was_kept_is_closed(run):
    """A failed result whose body is open is let go of when the call is cancelled elsewhere."""
    hold = Hold()

    async def transport(call):
        if call.partition == "b":
            await anyio.sleep(60.0)
        call.hold, call.reply = hold, Reply(503, {})
        return "open"

    async def main():
        send = stack_of(Fallback("b")).handler(transport)
        with anyio.move_on_after(1.0):
            await send(Call({"model": "a"}))
        return hold.closed

    assert run(main)


def test_with_hedges_inside(run):
    """The second attempt goes where the first goes, and all of both are counted."""
    server = Models(a=(0.1, 503), b=lambda now: (60.0 if now < 1.0 else 0.1, None))
    stack = stack_of(Fallback("b"), Hedge(1.0))
    assert run(lambda: asked(stack.around(server))) == "b"
    assert server.asked == ["a", "b", "b"]
    now = stack.statistics()
    assert (now.attempts, now.in_flight, now.outcomes) == (3, 0, {"ok": 1})


def test_a_wrapped_function_is_called_with_the_other_model(run):
    """Its argument `model` is that of the target."""

    async def ask(*, model):
        if model == "a":
            raise errors.OverloadedError("down", status=503)
        return model

    assert run(lambda: wrap(ask, stack_of(Fallback("b")))(model="a")) == "b"


def test_one_circuit_for_all_is_refused():
    """An open one would stop the targets too."""
    with pytest.raises(errors.LayerOrderError, match=r"Keyed\(Circuit\)"):
        Stack(Fallback("b"), CircuitBreaker(), ErrorClassifier())


def test_a_target_that_is_the_calls_own_is_left_out(run):
    """One list serves the calls of each model in it."""
    server = Models(a=(0.1, 503), b=(0.1, 503))
    send = stack_of(Fallback("a", "b")).around(server)

    async def main():
        await asked(send)
        await asked(send, {"model": "b"})

    run(main)
    assert server.asked == ["a", "b", "b", "a"]


def test_a_rate_limit_without_room_before_the_deadline(run):
    """The call goes elsewhere at once, and takes nothing of its own model's limit."""
    server = Models(a=(0.1, None), b=(0.1, None))
    limits = {"a": 1.0, "b": 600.0}
    stack = Stack(
        Deadline(20.0),
        Fallback("b"),
        RateLimiter(Keyed(lambda model: Allowance(requests_per_minute=limits[model]))),
        ErrorClassifier(),
    )
    send = stack.around(server)

    async def main():
        return await asked(send), await asked(send), current().now()

    assert run(main) == ("a", "b", pytest.approx(0.2))
    assert stack.statistics().allowances["a"].waiting == 0


def test_no_call_is_left_to_the_garbage_collector(run):
    """What an attempt raised is freed when the caller lets go of it."""
    server = Models(a=(0.1, 503), b=(0.1, 503))
    send = stack_of(Fallback("b")).around(server)

    async def main():
        error = await asked(send)
        found = weakref.ref(error)
        del error
        return found

    gc.collect()
    gc.disable()
    try:
        assert run(main)() is None
    finally:
        gc.enable()


def test_the_worst_case_counts_the_targets():
    """The description of a stack says how often each attempt may be sent."""
    text = str(stack_of(Fallback("b", "c"), retry=4))
    assert "worst case: 4 attempts of 10 s at each of 3 targets" in text
