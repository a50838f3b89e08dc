"""What a 429 is about: the rate, the calls in progress, or the request itself."""

import pytest

from resilient_infe.core.rejection import is_crowded, is_refusal, is_steep, too_large
from resilient_infe.core.verdict import Kind, Limit, Verdict

FULL, EMPTY = 6_000.0, 0.0
REQUESTS = Limit("requests", 600.0, 599.0)


def refused(*limits):
    """Return the verdict on a 429 that states these limits."""
    return Verdict(Kind.RATE_LIMITED, limits=limits)


@pytest.mark.parametrize(
    "limits",
    [
        [Limit("tokens", 6_000.0, FULL)],
        [REQUESTS, Limit("tokens", 6_000.0, FULL)],
        [Limit("tokens", 6_000.0, 100.0, requested=6_001.0)],
        [Limit("requests", 1.0, requested=2.0)],
    ],
)
def test_a_request_that_can_never_pass(limits):
    """All tokens of the limit remain, or more was requested than the limit is."""
    assert too_large(refused(*limits))


@pytest.mark.parametrize(
    "limits",
    [
        [],
        [Limit("tokens", 6_000.0, 5_999.0)],
        [Limit("tokens", 6_000.0)],
        [Limit("tokens", None, FULL)],
        [Limit("requests", 600.0, EMPTY), Limit("tokens", 6_000.0, FULL)],
        [Limit("requests", 600.0, 600.0), Limit("tokens", 6_000.0, EMPTY)],
        [Limit("requests", 600.0, 600.0)],
        [Limit("tokens", 6_000.0, EMPTY, requested=6_000.0)],
        [Limit("tokens", None, EMPTY, requested=6_000.0)],
    ],
)
def test_a_request_that_may_pass_later(limits):
    """Part of the tokens is spent, or another limit is used up, or nothing is stated."""
    assert too_large(refused(*limits)) is None


def test_why_it_can_never_pass_is_said_in_numbers():
    """The texts end the call, so they say what to change."""
    assert too_large(refused(Limit("tokens", 6_000.0, FULL))) == (
        "refused although all 6,000 tokens of the limit remain"
    )
    assert too_large(refused(Limit("tokens", 6_000.0, requested=70_000.0))) == (
        "the server counted 70,000 tokens in this request, and its limit is 6,000"
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, (True, False, False)),
        ("rate_limit_exceeded", (True, False, False)),
        ("too_many_concurrent_requests", (False, True, False)),
        ("slow_down", (False, False, True)),
    ],
)
def test_only_a_429_about_the_rate_is_a_refusal(code, expected):
    """One about the calls in progress, or about a steep rise, says nothing of this request."""
    verdict = Verdict(Kind.RATE_LIMITED, code=code)
    assert (is_refusal(verdict), is_crowded(verdict), is_steep(verdict)) == expected
    assert not is_refusal(Verdict(Kind.OVERLOADED, code=code))
