"""Functions of the user's own that layers ask: none turns an answer into a failure."""

from __future__ import annotations

import math

import pytest

from resilient_infe import Kind, Limit, Usage, Verdict, errors, presets, wrap
from resilient_infe.classify.rule import Rule
from resilient_infe.classify.table import RETRYABLE
from resilient_infe.rate.estimate import TokenCount, estimate_tokens

BODY = {"messages": [{"role": "user", "content": "hi"}]}


def raising(*_):
    """Fail as a function with a bug does."""
    raise ZeroDivisionError


def test_a_verdict_is_taken_as_it_is():
    """What the user says in full is not touched."""
    verdict = Verdict(Kind.OVERLOADED, retryable=True, retry_after=7.0, advice="wait")
    assert Rule(lambda *_: verdict)("result", None) is verdict


@pytest.mark.parametrize("kind", list(Kind))
def test_a_kind_is_made_a_verdict(kind):
    """Just a kind is retryable as that kind usually is, and names the exception."""
    rule = Rule(lambda *_: kind)
    assert rule("result", None) == Verdict(kind, retryable=kind in RETRYABLE)
    assert rule(None, KeyError("secret")) == Verdict(
        kind, retryable=kind in RETRYABLE, error="KeyError"
    )


def test_the_rule_is_given_the_result_or_the_error():
    """One of the two is None, and falsy results are results."""
    given = []
    rule = Rule(lambda *each: given.append(each))
    error = KeyError()
    rule(0, None)
    rule(None, error)
    assert given == [(0, None), (None, error)]


def test_who_says_when_says_that_it_is_to_be():
    """A hint makes a verdict retryable where its kind is; without one it is as it says."""
    hinted = Verdict(Kind.RATE_LIMITED, retry_after=3.0)
    assert Rule(lambda *_: hinted)("result", None) == Verdict(
        Kind.RATE_LIMITED, retryable=True, retry_after=3.0
    )
    for final in (Verdict(Kind.RATE_LIMITED), Verdict(Kind.AUTH, retry_after=3.0)):
        assert Rule(lambda *_, final=final: final)("result", None) is final


@pytest.mark.parametrize("hint", ["3", -5, math.nan, math.inf, True, [3], 10**400])
@pytest.mark.parametrize("retryable", [True, False])
def test_a_hint_that_is_none_is_left_out(hint, retryable, caplog):
    """A hint that is no number of seconds above 0 is told of once, and the rest still counts."""
    said = Verdict(Kind.OVERLOADED, retryable=retryable, retry_after=hint)
    rule = Rule(lambda *_: said)
    for _ in range(2):
        assert rule("result", None) == Verdict(Kind.OVERLOADED, retryable=retryable)
    [record] = caplog.records
    assert "retry_after" in str(record.exc_info[1])
    assert said.retry_after is hint  # the user's own is left alone


@pytest.mark.parametrize("zero", [0, 0.0])
def test_a_hint_of_nothing_is_no_hint(zero, caplog):
    """Zero seconds are no hint, as in a header, and nothing to tell of."""
    for retryable in (True, False):
        said = Verdict(Kind.OVERLOADED, retryable=retryable, retry_after=zero)
        assert Rule(lambda *_, said=said: said)("result", None) == Verdict(
            Kind.OVERLOADED, retryable=retryable
        )
    assert not caplog.records


HUGE = 10**400


class Odd:
    """Has no truth value, as an array has none."""

    def __bool__(self):
        raise ValueError("ambiguous")


WRONG = [
    {"usage": "5"},
    {"usage": {"total_tokens": 5}},
    {"usage": Usage("a", "b", "c")},
    {"usage": Usage(1, 2, HUGE)},
    {"usage": Usage(-1, 2, 1)},
    {"limits": 5},
    {"limits": (5,)},
    {"limits": (Limit("requests", 5), Limit("tokens", "5"))},
    {"limits": (Limit("requests", 5, HUGE),)},
    {"limits": (Limit("requests", 5, 5, -1.0),)},
    {"limits": (Limit("requests", 5, 5, 1.0, math.nan),)},
    {"limits": (Limit("images", 5),)},
    {"limits": (Limit([], 5),)},
    {"code": ["x"]},
    {"status": "500"},
    {"request_id": 5},
    {"request_id": "a\r\nb"},
    {"error": b"x"},
    {"advice": 5},
    {"retryable": 1},
    {"sent": 0},
    {"sent": Odd()},
    {"retryable": Odd()},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_a_layer_could_not_count_with_is_left_out(wrong, caplog):
    """What would raise inside of a layer is told of, and left out."""
    rule = Rule(lambda *_: Verdict(Kind.OK, **wrong))
    assert rule("result", None) == Verdict(Kind.OK)
    [record] = caplog.records
    assert next(iter(wrong)) in str(record.exc_info[1])


@pytest.mark.parametrize("wrong", [*WRONG, {"retry_after": HUGE}], ids=str)
@pytest.mark.parametrize("kind", [Kind.OK, Kind.RATE_LIMITED])
def test_no_layer_raises_for_what_a_rule_says(kind, wrong, run):
    """Through every layer, a rule that says anything leaves the answer an answer."""
    stack = presets.batch(requests_per_minute=600, tokens_per_minute=100_000)

    async def ask(prompt):
        return prompt

    resilient = wrap(ask, stack, classify=lambda *_: Verdict(kind, **wrong))
    assert run(lambda: resilient("hi")) == "hi"


def test_a_verdict_of_a_class_of_ones_own():
    """A class derived from `Verdict` stays what it is, also where something is mended."""

    class Mine(Verdict):
        def __init__(self, why, hint):
            super().__init__(Kind.OVERLOADED, retry_after=hint)
            self.why = why

    [kept, mended] = [Rule(lambda *_, h=h: Mine("full", h))("result", None) for h in (3.0, -3.0)]
    assert (type(kept), kept.why, kept.retryable, kept.retry_after) == (Mine, "full", True, 3.0)
    assert (type(mended), mended.why, mended.retryable, mended.retry_after) == (
        Mine,
        "full",
        False,
        None,
    )


def test_nothing_to_say():
    """None is the usual reading."""
    assert Rule(lambda *_: None)("result", None) is None


NO_VERDICTS = [True, 0, "ok", "overloaded", Kind, Verdict, object(), Verdict("overloaded")]


@pytest.mark.parametrize("answer", NO_VERDICTS)
def test_anything_else_is_the_usual_reading(answer, caplog):
    """What is no verdict and no kind says nothing, and is told of; a kind's name is no kind."""
    rule = Rule(lambda *_: answer)
    assert rule("result", None) is rule("result", None) is None
    [record] = caplog.records
    assert "Kind" in str(record.exc_info[1])


@pytest.mark.parametrize("function", [lambda: None, lambda result: None, lambda *, error: None])
def test_a_rule_of_another_signature_is_told(function):
    """A rule that cannot take a result and an error is told when it is given."""
    with pytest.raises(errors.ConfigurationError, match=r"\(result, error\); .* does not take"):
        Rule(function)
    with pytest.raises(errors.ConfigurationError, match=r"of the body; .* does not take"):
        TokenCount(lambda: 5)


def test_a_rule_that_raises_is_told_of_once(caplog):
    """A rule with a bug says nothing, and that is logged once with its traceback."""
    rule = Rule(raising)
    for _ in range(3):
        assert rule("result", None) is None
    [record] = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("ERROR", ZeroDivisionError)
    assert "reported once" in record.message


def test_a_rule_that_stops_the_program_stops_it():
    """An interrupt inside a rule is no bug of the rule's."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Rule(interrupted)("result", None)


@pytest.mark.parametrize("function", [None, "busy", 5, Kind.OK])
def test_what_cannot_be_called_is_told(function):
    """A rule or a counter that is no function is told when it is given."""
    with pytest.raises(errors.ConfigurationError, match="classify is a function"):
        Rule(function)
    with pytest.raises(errors.ConfigurationError, match="estimate must be a function"):
        TokenCount(function)


@pytest.mark.parametrize("function", ["async def", "object"])
def test_a_rule_that_is_async_is_told(function):
    """A rule decides at once: one that has to be awaited could only be ignored."""

    async def classify(*_):
        return Kind.OK

    class Classify:
        async def __call__(self, *_):
            return Kind.OK

    wrong = classify if function == "async def" else Classify()
    with pytest.raises(errors.ConfigurationError, match="async"):
        Rule(wrong)
    with pytest.raises(errors.ConfigurationError, match="async"):
        TokenCount(wrong)


@pytest.mark.parametrize("count", [0, 1, 17, 2.5, 10**9])
def test_a_count_is_taken(count):
    """Any number of tokens from 0 is taken, as a float."""
    counted = TokenCount(lambda _: count)(BODY)
    assert (counted, type(counted)) == (count, float)


@pytest.mark.parametrize("count", [None, True, -1, math.nan, math.inf, -math.inf, "17", [17], 1j])
def test_no_count_is_the_usual_estimate(count, caplog):
    """What is no number of tokens is told once; the usual estimate is taken."""
    counter = TokenCount(lambda _: count)
    for _ in range(3):
        assert counter(BODY) == estimate_tokens(BODY)
    [record] = caplog.records
    assert "logged once" in record.message


def test_a_counter_that_raises_is_told_of_once(caplog):
    """A counter with a bug loses no call."""
    counter = TokenCount(raising)
    for _ in range(3):
        assert counter(BODY) == estimate_tokens(BODY)
    [record] = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


def test_a_counter_is_given_the_body_itself():
    """The body is handed over as it is."""
    given = []
    TokenCount(lambda body: given.append(body) or 1)(BODY)
    assert given[0] is BODY


@pytest.mark.parametrize("body", [None, [], "text", {}, {"messages": None}, {"messages": 5}])
def test_the_usual_estimate_of_anything(body):
    """Whatever a body is, falling back gives a number."""
    assert TokenCount(raising)(body) >= 0
