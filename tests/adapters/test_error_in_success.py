"""An error inside a success is an error, and the same one, through every client."""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager

import openai
import pytest
from askers import FUNCTIONS, HTTP_CLIENTS, SDKS
from fakes import Remember
from loopback import ANSWER, ASK, COMPLETION, KEY, against, in_turn, quick, response

from resilient_infe import (
    Circuit,
    CircuitBreaker,
    ErrorClassifier,
    InfeTransport,
    Kind,
    Retry,
    Stack,
    errors,
    run_batch,
)

pytestmark = pytest.mark.network

STATED = {"message": "m", "code": 429}
[CHOICE] = COMPLETION["choices"]

INSIDE = [
    ({"error": STATED}, Kind.RATE_LIMITED),
    ({"error": {"message": "m", "code": "402"}}, Kind.QUOTA),
    ({"error": {"message": "m", "code": "invalid_api_key"}}, Kind.AUTH),
    ({"error": {"message": "m", "type": "overloaded_error"}}, Kind.OVERLOADED),
    ({"id": None, "choices": None, "error": STATED}, Kind.RATE_LIMITED),
    (COMPLETION | {"choices": [], "error": STATED}, Kind.RATE_LIMITED),
    (COMPLETION | {"error": STATED}, Kind.RATE_LIMITED),
    (COMPLETION | {"choices": [CHOICE, CHOICE | {"index": 1, "error": {"code": 502}}]},
     Kind.TRANSIENT),
    (COMPLETION | {"choices": [CHOICE | {"finish_reason": "error"}]}, Kind.TRANSIENT),
    ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, Kind.INVALID),
    ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "m"}}, Kind.QUOTA),
    ({"error_code": 18, "error_msg": "m"}, Kind.RATE_LIMITED),
    ({"code": 503, "message": "m"}, Kind.OVERLOADED),
    ({"status": 429, "title": "Too Many Requests", "detail": "m"}, Kind.RATE_LIMITED),
    ({"errors": [{"code": "rate_limit_exceeded", "message": "m"}]}, Kind.RATE_LIMITED),
    ({"error": "upstream went away"}, Kind.TRANSIENT),
    ({"detail": "Not Found"}, Kind.TRANSIENT),
    ({"choices": "text"}, Kind.TRANSIENT),
    ({}, Kind.TRANSIENT),
    ({"id": "x"}, Kind.TRANSIENT),
    (dict.fromkeys(COMPLETION), Kind.TRANSIENT),
    (COMPLETION | {"choices": []}, Kind.UNKNOWN),
    (COMPLETION | {"choices": [], "padding": "x" * 9_000, "usage": {"total_tokens": 3}},
     Kind.UNKNOWN),
    (COMPLETION | {"padding": "x" * 9_000, "usage": {"total_tokens": 3}}, Kind.OK),
    (COMPLETION | {"error": None, "base_resp": {"status_code": 0}}, Kind.OK),
]  # fmt: skip
"""Bodies of a 200 for a chat completion, and what each of them means."""


@asynccontextmanager
async def infe(url, stack):
    """`InfeTransport`."""
    async with InfeTransport(KEY, base_url=url) as transport:
        send = stack.around(transport)
        yield lambda **more: send(ASK | more)


ALL = {"infe": infe, **HTTP_CLIENTS}
every_client = pytest.mark.parametrize("asker", ALL.values(), ids=ALL)


def kinds_of(asker, *answers):
    """Return the kind of each answer, through a client."""
    seen = Remember()
    stack = Stack(Retry(1), ErrorClassifier(), listeners=[seen])

    async def test(url):
        async with asker(url, stack) as ask:
            for _ in answers:
                with contextlib.suppress(errors.InfeError, openai.APIError):
                    await ask()

    against(in_turn(*answers), test)
    return [each.kind for each in seen.named("attempt.finished")]


@every_client
def test_a_body_means_the_same_through_every_client(asker):
    """Each body of a 200 has one meaning, whoever sent the request."""
    kinds = kinds_of(asker, *(response(200, body) for body, _ in INSIDE))
    assert list(zip((body for body, _ in INSIDE), kinds, strict=True)) == INSIDE


def test_an_sdks_method_is_judged_by_its_completion():
    """A completion without choices, or with an error in or beside them, is no answer."""
    inside = [(body, kind) for body, kind in INSIDE if body.get("object") == "chat.completion"]
    kinds = kinds_of(FUNCTIONS["sdk-method"], *(response(200, body) for body, _ in inside))
    assert list(zip((body for body, _ in inside), kinds, strict=True)) == inside


@every_client
@pytest.mark.parametrize("body", [b"{}", b'{"id": "x"}', b'{"choices": null}', b"<html>", b'{"cho'])
def test_what_no_model_made_is_retried(asker, body):
    """A body without choices is malformed, and the next attempt brings the answer."""
    stack = quick()

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()

    server = against(in_turn(response(200, body), ANSWER), test)
    assert len(server.asked) == 2
    assert stack.statistics().outcomes == {Kind.OK: 1}


@every_client
@pytest.mark.parametrize("kind", ["", "text/plain", "text/html"])
def test_a_broken_body_without_a_type_is_retried(asker, kind):
    """A completion is read inside the attempt whatever its type, and a broken one is retried."""
    stack = quick()
    broken = response(200, b'{"choices": [{"ind', kind)
    if not kind:
        broken = broken.replace(b"content-type: \r\n", b"")

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()

    server = against(in_turn(broken, ANSWER), test)
    assert len(server.asked) == 2


@every_client
def test_an_empty_answer_says_nothing_to_the_circuit(asker):
    """A whole answer without choices is not retried, and is no outage."""
    circuit = Circuit(minimum_calls=2)
    stack = Stack(Retry(3), CircuitBreaker(circuit), ErrorClassifier())

    async def test(url):
        async with asker(url, stack) as ask:
            for _ in range(4):
                with contextlib.suppress(errors.InfeError, openai.APIError):
                    await ask()

    server = against(response(200, COMPLETION | {"choices": []}), test)
    assert len(server.asked) == 4
    [statistics] = stack.statistics().circuits.values()
    assert (statistics.successes, statistics.failures, statistics.state) == (0, 0, "closed")


@pytest.mark.parametrize("body", [body for body, kind in INSIDE if kind is not Kind.OK])
def test_no_error_inside_a_success_is_a_batchs_result(body):
    """A batch has a failure for such a row, not a value."""
    results = []

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            send = Stack(Retry(1), ErrorClassifier()).around(transport)
            results.extend([each async for each in run_batch([ASK], send, keep_going=True)])

    against(response(200, body), test)
    [result] = results
    assert not result.ok
    assert result.failure.kind is dict_of(INSIDE, body)


def dict_of(pairs, key):
    """Return the value that belongs to a key, which need not be hashable."""
    return next(value for each, value in pairs if each == key)


TYPED = [
    ({"error": {"message": "slow", "code": 429}}, openai.RateLimitError, "429"),
    ({"error": {"message": "slow", "code": "1113"}}, openai.APIStatusError, "1113"),
    ({"error": {"message": "slow", "code": "invalid_api_key"}}, openai.AuthenticationError,
     "invalid_api_key"),
    (COMPLETION | {"choices": [CHOICE | {"error": {"message": "slow", "code": 400}}]},
     openai.BadRequestError, "400"),
    ({"error": "too slow"}, openai.InternalServerError, "error_in_success"),
    ({"status": 429, "detail": "slow"}, openai.RateLimitError, "429"),
    ({"errors": [{"code": "rate_limit_exceeded", "message": "slow"}]}, openai.RateLimitError,
     "rate_limit_exceeded"),
    ({"error": {"code": 429, "message": "slow" + "x" * 70_000}}, openai.RateLimitError, "429"),
]  # fmt: skip


@pytest.mark.parametrize("asker", SDKS)
@pytest.mark.parametrize(("body", "cls", "code"), TYPED)
def test_an_sdk_raises_its_own_error_for_it(asker, body, cls, code):
    """The error has the class of its kind, the server's message, its code, and the hint."""

    async def test(url):
        async with asker(url, Stack(Retry(1), ErrorClassifier())) as ask:
            with pytest.raises(cls, match="slow") as caught:
                await ask()
            assert caught.value.code == code
            assert caught.value.request_id == "req-7"
            assert caught.value.response.headers["retry-after"] == "3.000"

    server = against(response(200, body, x_request_id="req-7", retry_after="3"), test)
    assert len(server.asked) == 1


@pytest.mark.parametrize("asker", SDKS)
def test_an_sdk_returns_an_answer_without_choices_as_it_came(asker):
    """Nobody but the caller knows what it means that a whole answer has no choices."""
    stack = quick()

    async def test(url):
        async with asker(url, stack) as ask:
            assert (await ask()).choices == []

    assert len(against(response(200, COMPLETION | {"choices": []}), test).asked) == 1
    assert stack.statistics().outcomes == {Kind.UNKNOWN: 1}


RULES = [{"names": ["flaky_backend"], "status": 400, "kind": "transient", "source": "mine"}]


@every_client
def test_a_row_of_ones_own_holds_through_every_client(asker):
    """`rules=` reads the code of a body that the client alone would read."""
    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(rules=RULES))
    flaky = response(400, {"error": {"message": "m", "code": "flaky_backend"}})

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()

    server = against(in_turn(flaky, flaky, ANSWER), test)
    assert len(server.asked) == 3


@every_client
def test_a_rule_sees_the_decoded_body(asker):
    """A rule that asks for content is given the body, not the client's response."""
    seen = []

    def rule(result, error):
        seen.append(result)
        empty = isinstance(result, dict) and not result["choices"][0]["message"]["content"]
        return Kind.TRANSIENT if empty else None

    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(rule))
    nothing = CHOICE | {"message": {"role": "assistant", "content": ""}}

    async def test(url):
        async with asker(url, stack) as ask:
            await ask()

    server = against(in_turn(response(200, COMPLETION | {"choices": [nothing]}), ANSWER), test)
    assert len(server.asked) == 2
    assert seen == [COMPLETION | {"choices": [nothing]}, COMPLETION]
