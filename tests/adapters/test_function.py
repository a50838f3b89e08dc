"""`wrap` of an async def: its signature, its own reading of results, its hints and its options."""

from __future__ import annotations

import functools
import inspect

import pytest
from fakes import FakeServer, Remember

from resilient_infe import (
    ErrorClassifier,
    Kind,
    RateLimiter,
    Retry,
    Stack,
    Verdict,
    call_options,
    errors,
    wrap,
)


def quick(*layers, **options):
    """Return a stack that tries three times."""
    return Stack(Retry(3, uniform=lambda: 0.0), *layers, ErrorClassifier(), **options)


def scripted(*outcomes):
    """Return an async function that gives each outcome in turn, and the arguments it was given."""
    left, given = list(outcomes), []

    async def ask(*args, **kwargs):
        given.append((args, kwargs))
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return ask, given


def test_a_function_keeps_its_signature(run):
    """An async def comes back with its name, its signature and its result."""
    tries = []

    async def ask(prompt: str, *, loud: bool = False) -> str:
        """Ask."""
        tries.append(prompt)
        if len(tries) < 3:
            raise ConnectionResetError
        return prompt.upper() if loud else prompt

    resilient = wrap(ask, quick())
    assert run(lambda: resilient("hi", loud=True)) == "HI"
    assert len(tries) >= 3
    assert (resilient.__name__, resilient.__doc__) == ("ask", "Ask.")
    assert inspect.signature(resilient) == inspect.signature(ask)
    assert inspect.iscoroutinefunction(resilient)


def test_whatever_is_async_and_callable_is_wrapped(run):
    """A method, an object with an async call, a partial and a decorated function all work."""

    class Client:
        def __init__(self):
            self.tries = 0

        async def ask(self, prompt):
            self.tries += 1
            if self.tries < 2:
                raise ConnectionResetError
            return f"{prompt}!"

        async def __call__(self, prompt):
            return await self.ask(prompt)

    async def plain(prompt):
        return f"{prompt}!"

    @functools.wraps(plain)
    def decorated(*args):
        return plain(*args)

    class Unsigned(Client):
        __signature__ = "none that can be read"

    methods = Client().ask, Client(), Unsigned(), functools.partial(Client().ask)
    wrappable = *methods, plain, decorated
    for each in wrappable:
        assert run(lambda each=each: wrap(each, quick())("hi")) == "hi!"


def test_a_function_around_a_transport_keeps_its_hints(run):
    """A typed error that passes through a user's own function still carries its hint."""
    server, seen = FakeServer([(429, {"retry-after": "7", "x-request-id": "infe-9"})]), Remember()

    async def ask(payload):
        return await server(payload)

    assert run(lambda: wrap(ask, quick(listeners=[seen]))(None)) == "ok"
    [attempt, _] = seen.named("attempt.finished")
    assert (attempt.retry_after, attempt.server_request_id) == (7.0, "infe-9")


def test_options_reach_a_wrapped_function(run):
    """call_options says what a wrapped function's signature cannot."""
    seen = Remember()
    ask, _ = scripted("ok")
    resilient = wrap(ask, quick(listeners=[seen]))

    async def main():
        with call_options(request_id="row-17", partition="p"):
            await resilient()

    run(main)
    assert (seen.events[0].request_id, seen.events[0].partition) == ("row-17", "p")


@pytest.mark.parametrize(
    ("args", "kwargs", "partition"),
    [
        (("hi", "infe-titan"), {}, "infe-titan"),
        (("hi",), {"model": "infe-titan"}, "infe-titan"),
        (("hi",), {}, None),
        (("hi", None), {}, None),
        (("hi", "in\nfe \u202e"), {}, "in_fe__"),
        (("hi", "x" * 500), {}, "x" * 128),
    ],
)
def test_a_model_among_the_arguments_is_the_partition(args, kwargs, partition, run):
    """The argument named `model`, by position or by name, made safe to log."""
    seen = Remember()

    async def ask(prompt, model=None):
        return "ok"

    run(lambda: wrap(ask, quick(listeners=[seen]))(*args, **kwargs))
    assert seen.events[0].partition == partition


async def usual(prompt, model="infe-pulse"):
    """Answer, from the usual model if no other is named."""
    return "ok"


async def post(body, timeout=None):
    """Answer a body."""
    return "ok"


async def answer(body, model="infe-pulse"):
    """Answer a body, from the usual model if it names none."""
    return "ok"


TITAN = {"model": "infe-titan"}
BODY = {"messages": []} | TITAN


@pytest.mark.parametrize(
    ("function", "args", "partition"),
    [
        (usual, ["hi"], "infe-pulse"),
        (usual, ["hi", "infe-titan"], "infe-titan"),
        (usual, ["hi", [1]], None),
        (usual, ["hi", None], None),
        (functools.partial(usual, **TITAN), ["hi"], "infe-titan"),
        (functools.partial(usual, "hi", "infe-titan"), [], "infe-titan"),
        (functools.partial(functools.partial(usual, "hi"), "infe-titan"), [], "infe-titan"),
        (functools.partial(usual, "hi"), ["infe-titan"], "infe-titan"),
        (post, [BODY], "infe-titan"),
        (functools.partial(post, timeout={}), [BODY], "infe-titan"),
        (post, [{"messages": []}], None),
        (post, [{"make": "Ford", "model": "Transit"}], None),
        (post, [[TITAN]], None),
        (answer, [BODY], "infe-titan"),
        (answer, [BODY, "infe-nova"], "infe-nova"),
        (answer, [BODY, None], "infe-titan"),
        (answer, [{"messages": []}], "infe-pulse"),
        (answer, [{"messages": [], "model": None}], "infe-pulse"),
    ],
)
def test_a_model_by_default_bound_or_in_a_body(function, args, partition, run):
    """The model that is given or bound, or the body's, or the usual one; not that of any dict."""
    seen = Remember()
    run(lambda: wrap(function, quick(listeners=[seen]))(*args))
    assert seen.events[0].partition == partition


class Odd:
    """Has no truth value, as an array has none."""

    def __bool__(self):
        raise ValueError("ambiguous")


def test_a_model_that_is_no_text_is_none(run):
    """An argument of that name may be anything."""
    assert run(lambda: wrap(usual, quick())("hi", Odd())) == "ok"


def test_what_a_partial_binds_is_counted(run):
    """A prompt that a partial has bound costs tokens like one that is given."""
    given = []
    limiter = RateLimiter(tokens_per_minute=6e6, estimate=lambda all_: given.append(all_) or 5)
    run(wrap(functools.partial(usual, "hi"), quick(limiter)))
    assert given == [{"prompt": "hi"}]


def test_tokens_are_estimated_from_arguments_by_name(run):
    """A counter of one's own is given the arguments by name, however they were given."""
    given = []

    def estimate(arguments):
        given.append(arguments)
        return 5

    async def ask(prompt, /, count, *rest, model="m", **more):
        return "ok"

    limiter = RateLimiter(tokens_per_minute=6e6, estimate=estimate)
    resilient = wrap(ask, quick(limiter))

    async def main():
        await resilient("hi", 3, "unnamed", model="n", extra=1)
        await resilient("hi", count=3)

    run(main)
    assert given == [
        {"prompt": "hi", "count": 3, "model": "n", "extra": 1},
        {"prompt": "hi", "count": 3},
    ]


class Busy(Exception):
    """What a user's own client raises when it is told to wait."""

    wait = 7.0


def test_a_verdict_of_ones_own(run):
    """`classify` says what the function's exceptions mean, with a hint."""

    def classify(result, error):
        if isinstance(error, Busy):
            return Verdict(Kind.RATE_LIMITED, retryable=True, retry_after=error.wait)
        return None

    ask, given = scripted(Busy(), "ok")
    seen = Remember()
    assert run(lambda: wrap(ask, quick(listeners=[seen]), classify=classify)()) == "ok"
    assert len(given) >= 2
    assert seen.named("retry.scheduled")[0].delay >= 7.0


@pytest.mark.parametrize(
    ("kind", "tries"),
    [(Kind.OVERLOADED, 3), (Kind.TRANSIENT, 3), (Kind.INVALID, 1), (Kind.UNKNOWN, 1)],
)
def test_a_kind_is_short_for_a_verdict(kind, tries, run):
    """Just a kind will do; the ones for which another attempt may help are tried again."""
    seen = Remember()
    stack = quick(listeners=[seen])
    ask, given = scripted("busy")

    def classify(result, error):
        return kind if result == "busy" else None

    assert run(lambda: wrap(ask, stack, classify=classify)()) == "busy"
    assert len(given) == tries
    assert stack.statistics().outcomes == {kind: 1}


@pytest.mark.parametrize("answer", [None, "nonsense", 5, True, RuntimeError("a bug in the rule")])
def test_no_verdict_is_the_usual_reading(answer, run, caplog):
    """None, something else, or a rule that raises: the usual table applies, and a bug is told."""

    def classify(result, error):
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask, given = scripted(ConnectionResetError(), KeyError("x"))
    with pytest.raises(KeyError):
        run(lambda: wrap(ask, quick(), classify=classify)())
    assert len(given) == 2
    assert caplog.text.count("reported once") == (answer is not None)


def test_the_rule_comes_before_the_stacks_own(run):
    """The function's rule decides before the classifier's, which decides before the table."""
    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(lambda *_: Kind.INVALID))
    for rule, tries in (lambda *_: Kind.TRANSIENT, 3), (lambda *_: None, 1):
        ask, given = scripted(ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            run(lambda ask=ask, rule=rule: wrap(ask, stack, classify=rule)())
        assert len(given) == tries


def test_the_last_exception_passes_with_a_note(run):
    """The function's own exception comes through, told how often it was tried."""
    last = ConnectionResetError("mine")
    ask, _ = scripted(ConnectionResetError(), ConnectionResetError(), last)
    last.add_note("my own")
    resilient = wrap(ask, quick())
    for _ in range(2):
        with pytest.raises(ConnectionResetError) as caught:
            run(resilient)
        assert caught.value is last
        [mine, ours] = last.__notes__
        assert mine == "my own"
        assert "3 attempts" in ours


def test_a_cancellation_is_not_for_the_rule(run):
    """A rule is asked about results and errors, never about a caller who left."""
    import anyio

    asked = []

    async def ask():
        await anyio.sleep_forever()

    resilient = wrap(ask, quick(), classify=lambda *each: asked.append(each))

    async def main():
        with anyio.move_on_after(1):
            await resilient()

    run(main)
    assert asked == []


def test_classify_must_be_a_function():
    """A rule that cannot be called is told when it is given."""
    ask, _ = scripted("ok")
    with pytest.raises(errors.ConfigurationError, match="classify is a function"):
        wrap(ask, quick(), classify="busy")
