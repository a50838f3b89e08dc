"""ErrorClassifier: one verdict per attempt, from whatever the transport gives."""

from __future__ import annotations

import contextlib

import pytest
from fakes import FakeServer

from resilient_infe import ErrorClassifier, Kind, Stack, Verdict


async def verdict_of(transport, classifier=None):
    """Return the verdict that one attempt ends with."""
    calls = []

    async def look(call, call_next):
        calls.append(call)
        return await call_next(call)

    stack = Stack(look, classifier or ErrorClassifier())
    with contextlib.suppress(Exception):
        await stack.around(transport)(None)
    return calls[0].verdict


class Response:
    """What httpx's and aiohttp's responses have in common."""

    def __init__(self, status, headers=None):
        self.status_code = status
        self.headers = headers or {}


class SdkError(Exception):
    """What an SDK's typed errors have in common."""

    def __init__(self, status, code):
        super().__init__("no")
        self.status_code = status
        self.body = {"code": code, "message": "secret"}
        self.response = Response(status, {"retry-after": "3"})


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("text", Kind.OK),
        (None, Kind.OK),
        ({"choices": []}, Kind.OK),
        ({"error": {"code": "api_error"}}, Kind.SERVER_ERROR),
        ({"error": {"code": "rate_limit_exceeded"}}, Kind.RATE_LIMITED),
        (Response(200), Kind.OK),
        (Response(429), Kind.RATE_LIMITED),
        (Response(503), Kind.OVERLOADED),
        (SdkError(429, "insufficient_quota"), Kind.QUOTA),
        (SdkError(429, "rate_limit_exceeded"), Kind.RATE_LIMITED),
        (SdkError(404, "model_not_found"), Kind.NOT_FOUND),
        (ConnectionRefusedError(), Kind.TRANSIENT),
        (TimeoutError(), Kind.TIMEOUT),
        (KeyError("x"), Kind.UNKNOWN),
    ],
)
def test_reads_what_it_is_given(outcome, kind, run):
    """Results, responses, SDK errors and plain exceptions are all read."""
    assert run(lambda: verdict_of(FakeServer([outcome]))).kind is kind


def test_hints_and_codes_of_a_foreign_error(run):
    """An SDK's error yields its code and its response's hint, and no message."""
    verdict = run(lambda: verdict_of(FakeServer([SdkError(429, "rate_limit_exceeded")])))
    assert (verdict.code, verdict.retry_after) == ("rate_limit_exceeded", 3.0)
    assert "secret" not in repr(verdict)


def test_usage_of_a_foreign_result(run):
    """An SDK's result object yields its usage."""

    class Usage:
        prompt_tokens, completion_tokens, total_tokens = 3, 4, 7

    class Completion:
        usage = Usage()

    assert run(lambda: verdict_of(FakeServer([Completion()]))).usage.total_tokens == 7


def test_an_own_rule_comes_first(run):
    """A user's rule decides where it wants to, and leaves the rest to the table."""

    def mine(result, error):
        return Verdict(Kind.OVERLOADED, retryable=True) if result == "busy" else None

    own = ErrorClassifier(mine)
    assert run(lambda: verdict_of(FakeServer(["busy"]), own)).kind is Kind.OVERLOADED
    assert run(lambda: verdict_of(FakeServer(["fine"]), own)).kind is Kind.OK
    assert "your own rule" in own.describe()


def test_an_own_rule_that_raises_changes_nothing(run):
    """A rule with a bug does not turn an answer into a failure."""

    def mine(result, error):
        raise ZeroDivisionError

    assert run(lambda: verdict_of(FakeServer(["fine"]), ErrorClassifier(mine))).kind is Kind.OK


def test_hostile_objects_are_survived(run):
    """A result or an exception whose properties raise is read as far as it goes."""

    class Hostile:
        @property
        def status_code(self):
            raise RuntimeError

    class HostileError(Exception):
        @property
        def response(self):
            raise RuntimeError

    assert run(lambda: verdict_of(FakeServer([Hostile()]))).kind is Kind.OK
    assert run(lambda: verdict_of(FakeServer([HostileError()]))).kind is Kind.UNKNOWN
