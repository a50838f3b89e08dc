"""Answers of the wrong form: refused, asked for again, paid for, and no server's fault."""

from __future__ import annotations

import functools
import gc
import pickle

import pytest
from fakes import FakeServer, FakeStreams, Remember

from resilient_infe import (
    Allowance,
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    Fallback,
    Hedge,
    Kind,
    RateLimiter,
    Reply,
    Retry,
    RetryBudget,
    Stack,
    Target,
    errors,
    presets,
    run_batch,
    wrap,
)
from resilient_infe.core.verdict import Usage, added

COST = {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 40}


def said(text):
    """Return a completion."""
    return {"choices": [{"message": {"content": text}}], "usage": COST}


def is_json(answer):
    """Complain of an answer that is not an object of JSON."""
    text = answer["choices"][0]["message"]["content"]
    return None if text.startswith("{") else f"not JSON: {text}"


def checked(server, *layers, check=is_json, retry=None, listeners=(), **options):
    """Return a function that sends through a stack that checks answers."""
    retry = Retry(3, uniform=lambda: 0.0) if retry is None else retry
    stack = Stack(retry, *layers, ErrorClassifier(check=check, **options), listeners=listeners)
    return stack.around(server)


async def asked(send, payload=None):
    """Return the result or the exception of one call."""
    try:
        return await send({"model": "m", "messages": []} if payload is None else payload)
    except Exception as error:
        return error


@pytest.mark.parametrize("check", [is_json, lambda answer: is_json(answer) is None])
def test_a_refused_answer_is_asked_for_again(run, check):
    """The caller gets the answer that fits, and never sees the others."""
    server, seen = FakeServer([said("well,"), said("so,"), said("{}")]), Remember()
    result = run(lambda: asked(checked(server, check=check, listeners=[seen])))
    assert result == said("{}")
    assert len(server.sent) == 3
    assert [each.kind for each in seen.named("retry.scheduled")] == [Kind.MALFORMED] * 2
    assert [each.kind for each in seen.named("attempt.finished")][-1] is Kind.OK
    assert max(server.sent) - min(server.sent) < 0.01  # there is nothing to wait for


@pytest.mark.parametrize("more", [0, 1, 2, 5, 10])
def test_the_budget_is_small_and_its_own(run, more):
    """So many more attempts, whatever `max_attempts` is; then the last complaint is raised."""
    server = FakeServer(default=said("no"))
    result = run(lambda: asked(checked(server, retry=Retry(1), check_attempts=more)))
    assert isinstance(result, errors.MalformedAnswer)
    assert (result.complaint, result.answer) == ("not JSON: no", said("no"))
    assert str(result) == "the answer is not of the asked form: not JSON: no"
    assert len(server.sent) == 1 + more


def test_failures_of_the_server_keep_their_attempts(run):
    """Neither budget is used up by the other."""
    server = FakeServer([said("a"), 502, said("b"), 502, said("{}")])
    assert run(lambda: asked(checked(server))) == said("{}")


def test_a_retry_budget_is_not_touched(run):
    """It is for servers that fail."""
    budget = RetryBudget(ratio=0.01, minimum_per_second=0.0)
    server = FakeServer(default=said("no"))
    send = checked(server, retry=Retry(3, budget=budget), check_attempts=10)
    run(lambda: asked(send))
    assert len(server.sent) == 11


def test_retry_may_be_told_never(run):
    """A rule of `None` for the kind holds, as for any kind."""
    server = FakeServer(default=said("no"))
    run(lambda: asked(checked(server, retry=Retry(3, rules={Kind.MALFORMED: None}))))
    assert len(server.sent) == 1


def test_no_circuit_counts_it(run):
    """The server answers: its circuit stays closed, and hears of successes."""
    circuit = Circuit(consecutive_failures=2, minimum_calls=2)
    server = FakeServer(default=said("no"))
    send = checked(server, CircuitBreaker(circuit), check_attempts=9)
    run(lambda: asked(send))
    assert str(circuit.state) == "closed"
    assert circuit.answered


def test_what_refused_answers_cost_is_settled(run):
    """Each attempt is charged what it really used."""
    allowance = Allowance(tokens_per_minute=10_000, burst="window")
    server = FakeServer([said("a"), said("b")], default=said("{}"))
    run(lambda: asked(checked(server, RateLimiter(allowance))))
    assert allowance.statistics(0.0).outstanding == 0
    assert allowance._rates.tokens.ledger.total == 3 * 40


@pytest.mark.parametrize("final", ["{}", "no"])
def test_the_books_of_a_batch_have_them(run, final, tmp_path):
    """A row's usage is that of all answers, also if the last one is refused too."""
    server = FakeServer([said("a"), said("b")], default=said(final))
    seen = Remember()
    [result] = run(lambda: _rows(checked(server, listeners=[seen])))
    assert seen.named("call.finished")[0].usage == result.usage
    assert result.usage == Usage(90, 30, 120)
    assert result.attempts == 3
    if final == "no":
        assert result.failure.kind is Kind.MALFORMED


async def _rows(send):
    return [each async for each in run_batch([{"model": "m"}], send)]


def test_usages_are_added():
    """Field by field; what is not stated adds nothing."""
    assert added(None, None) is None
    assert added(Usage(1, 2, 3), None) == added(None, Usage(1, 2, 3)) == Usage(1, 2, 3)
    assert added(Usage(1, 2, 3, 4), Usage(10, 20, 30, 40)) == Usage(11, 22, 33, 44)


def test_a_complaint_may_be_raised(run):
    """As validators do; the exception is the cause."""

    def check(answer):
        return int(answer["choices"][0]["message"]["content"])

    server = FakeServer(default=said("x"))
    result = run(lambda: asked(checked(server, check=check)))
    assert isinstance(result.__cause__, ValueError)
    assert "invalid literal" in result.complaint


@pytest.mark.parametrize(
    ("complaint", "fits"),
    [
        (None, True),
        (True, True),
        ("", True),
        (False, False),
        ("x", False),
        (["x"], False),
        (0, False),
    ],
)
def test_what_a_check_may_return(run, complaint, fits):
    """Nothing, True and an empty text mean that it fits."""
    server = FakeServer(default=said("{}"))
    result = run(lambda: asked(checked(server, check=lambda _: complaint)))
    assert (result == said("{}")) is fits


def test_the_request_may_be_mended(run):
    """The next attempt sends what the hook makes of a copy; the caller's own is untouched."""
    server = FakeServer([said("a"), said("b")], default=said("{}"))
    payload = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

    def mend(request, refusal):
        request["messages"].append({"role": "user", "content": refusal.complaint})

    run(lambda: asked(checked(server, mend=mend), payload))
    assert payload["messages"] == [{"role": "user", "content": "hi"}]
    assert [len(each["messages"]) for each in server.payloads] == [1, 2, 3]
    assert server.payloads[2]["messages"][2]["content"] == "not JSON: b"


def test_a_mended_request_may_be_another_object(run):
    """What the hook returns is sent, and the refused answer is there to be quoted."""
    server = FakeServer([said("a")], default=said("{}"))
    send = checked(server, mend=lambda request, refusal: {**request, "was": refusal.answer})
    run(lambda: asked(send))
    assert server.payloads[1]["was"] == said("a")


@pytest.mark.parametrize("bad", [lambda *_: 1 / 0, lambda *_: 7, lambda *_: [1]])
def test_a_hook_that_fails_is_logged_once(run, bad, caplog):
    """The same request is sent again, and the complaint is what the caller gets."""
    server = FakeServer(default=said("no"))
    result = run(lambda: asked(checked(server, mend=bad)))
    assert isinstance(result, errors.MalformedAnswer)
    assert server.payloads[0] == server.payloads[2]
    assert len([each for each in caplog.records if "mend" in each.message]) == 1


def test_a_fallback_keeps_what_was_mended(run):
    """The next attempt, at its own model and at another one, sends the mended request."""

    def answer(now):
        model = server.payloads[-1]["model"]
        return (
            503
            if model == "m" and len(server.payloads) > 1
            else said("{}" if model == "n" else "a")
        )

    server = FakeServer(default=answer)
    send = checked(server, Fallback(Target(model="n")), mend=lambda request, _: {**request, "x": 1})
    assert run(lambda: asked(send)) == said("{}")
    assert [(each["model"], each.get("x")) for each in server.payloads] == [
        ("m", None),
        ("m", 1),
        ("n", 1),
    ]


def test_a_hedge_may_win_against_a_refused_answer(run):
    """The second attempt decides while it is under way."""
    server = FakeServer([said("no")], default=said("{}"), latency=2.0)
    assert run(lambda: asked(checked(server, Hedge(after=1.0)))) == said("{}")
    assert len(server.sent) == 2


def test_open_streams_are_not_checked(run):
    """There is nothing to look at yet."""
    assert run(lambda: asked(checked(FakeStreams(), check=lambda _: "never"))) == 200


def test_failures_are_not_checked(run):
    """An error of the server is what it is."""
    result = run(lambda: asked(checked(FakeServer(default=400), check=lambda _: "never")))
    assert isinstance(result, errors.InvalidRequestError)


def test_a_function_gets_its_arguments_mended(run):
    """By position and by name, each where it was."""
    asked_for = []

    async def ask(prompt, size=1, *, tone="dry"):
        asked_for.append((prompt, size, tone))
        return prompt

    stack = Stack(
        Retry(),
        ErrorClassifier(
            check=lambda answer: answer.count("!") >= 2 or "too calm",
            mend=lambda request, _: {**request, "prompt": request["prompt"] + "!", "tone": "wet"},
        ),
    )
    assert run(lambda: wrap(ask, stack)("hi", tone="dry")) == "hi!!"
    assert asked_for == [("hi", 1, "dry"), ("hi!", 1, "wet"), ("hi!!", 1, "wet")]


def test_the_arguments_of_a_partial_stay_bound(run):
    """They are in what `mend` gets, and are passed once; those by name may change."""
    asked_for = []

    async def ask(options, prompt, *more, tone="dry"):
        asked_for.append((options, prompt, more, tone))
        return prompt

    def mend(request, _):
        assert request["options"] == {"a": [1]}
        return {**request, "prompt": request["prompt"] + "!", "tone": "wet"}

    bound = functools.partial(ask, {"a": [1]}, tone="calm")
    layer = ErrorClassifier(check=lambda answer: answer.endswith("!"), mend=mend)
    assert run(lambda: wrap(bound, Stack(Retry(), layer))("hi", 1, 2)) == "hi!"
    assert asked_for == [({"a": [1]}, "hi", (1, 2), "calm"), ({"a": [1]}, "hi!", (1, 2), "wet")]


def test_a_rule_may_name_the_kind(run):
    """`classify` may return it, and has the same budget."""
    server = FakeServer(default=said("no"))
    stack = Stack(Retry(6), ErrorClassifier(lambda *_: Kind.MALFORMED))
    assert run(lambda: asked(stack.around(server))) == said("no")
    assert len(server.sent) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"mend": lambda request, refusal: request},
        {"check": is_json, "check_attempts": -1},
        {"check": is_json, "check_attempts": 11},
        {"check": is_json, "check_attempts": True},
        {"check": 7},
        {"check": lambda: None},
        {"check": is_json, "mend": lambda request: request},
    ],
)
def test_what_cannot_work_is_refused(options):
    """When the layer is made."""
    with pytest.raises(errors.ConfigurationError):
        ErrorClassifier(**options)


def test_an_async_check_is_refused():
    """Its complaint would never be heard."""

    async def check(answer):
        return None

    with pytest.raises(errors.ConfigurationError, match="must not be async"):
        ErrorClassifier(check=check)


def test_a_key_in_the_answer_is_masked(run):
    """A server may quote it, and a check may quote the server."""

    class Mask:
        def __call__(self, text):
            return text

        def error(self, error):
            error.args = ("***",)
            error.complaint = "***"

    class Keyed(FakeServer):
        async def handle(self, call):
            call.state.mask = Mask()
            call.reply = Reply(200, {}, said("sk-secret"))
            return said("sk-secret")

    result = run(lambda: asked(checked(Keyed())))
    assert "secret" not in str(result)


def test_a_long_complaint_is_cut(run):
    """A validator may quote all of a long answer."""
    server = FakeServer(default=said("x" * 10_000))
    assert len(run(lambda: asked(checked(server))).complaint) == 2_000


def test_the_exception_can_be_pickled():
    """It survives the way back from a process pool."""
    copy = pickle.loads(pickle.dumps(errors.MalformedAnswer("no", {"a": 1})))
    assert (copy.complaint, copy.answer) == ("no", {"a": 1})


def test_a_refusal_leaves_no_cycle(run):
    """What is raised is freed when the caller lets go of it."""

    def check(answer):
        raise ValueError("no")

    async def test():
        result = await asked(checked(FakeServer(default=said("no")), check=check))
        gc.collect()
        gc.disable()
        try:
            del result
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            return [each for each in gc.garbage if isinstance(each, Exception)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    assert run(test) == []


def test_presets_take_the_layer():
    """By `replace`, and say so."""
    stack = presets.batch(requests_per_minute=60).replace(ErrorClassifier(check=is_json))
    assert "answers are checked, 2 more attempts" in str(stack)
