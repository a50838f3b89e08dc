"""Which headers state a limit or an id, by the words of their names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.classify.headers import limits, names_of, request_id
from resilient_infe.classify.names import REQUEST_IDS, read_names
from resilient_infe.classify.table import classify_reply
from resilient_infe.core.verdict import DAY, Limit

WORDS = ("limit", "remaining", "reset", "requests", "tokens", "input", "output", "minute", "day",
         "second", "cost", "used", "policy", "x", "")  # fmt: skip

names = st.lists(st.sampled_from(WORDS), max_size=4).flatmap(
    lambda after: st.sampled_from(("x-", "", "vendor-", "up_x-")).map(
        lambda before: "-".join([f"{before}ratelimit", *after])
    )
)
values = st.one_of(
    st.integers(-2, 10**15).map(str),
    st.sampled_from(
        ["5, 5;w=1", "1m30s", "2026-11-30T02:40:33Z", "?", "9" * 40, ",;=", "1796006430"]
    ),
    st.text(max_size=8),
)


@given(st.dictionaries(names, values, max_size=8), st.one_of(st.none(), st.floats(0, 1e11)))
def test_any_names_state_limits_that_make_sense(headers, wall):
    """Nothing raises, and every number is unknown, or finite and from 0."""
    for stated in limits(headers, wall):
        for number in (stated.limit, stated.remaining, stated.reset, stated.window):
            assert number is None or 0 <= number < math.inf
        assert stated.limit != 0
        assert stated.limit is None or (stated.window or 60.0) <= DAY or "ratelimit" in headers


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        ({"x-ratelimit-limit-requests-minute": "60"}, [Limit("requests", 60, window=60.0)]),
        ({"x-ratelimit-limit-tokens-second": "9"}, [Limit("tokens", 9, window=1.0)]),
        ({"x-ratelimit-limit-requests-hour": "60"}, [Limit("requests", 60, window=3_600.0)]),
        ({"x-ratelimit-limit-requests-day": "60"}, [Limit("requests", 60, window=DAY)]),
        ({"x-ratelimit-limit-requests-month": "60"}, []),
        ({"x-ratelimit-limit-requests-month": "60", "x-ratelimit-remaining-requests-month": "0"},
         [Limit("requests", None, 0)]),
        ({"x-ratelimit-limit-project-tokens": "60"}, []),
        ({"x-ratelimit-used": "60"}, []),
        ({"x-ratelimit-limit-limit": "60"}, []),
        ({"x-ratelimit-limit": "60"}, []),
        ({"x-ratelimit-limit": "60", "x-ratelimit-reset": "30"}, [Limit("requests", 60, reset=30)]),
        ({"x-ratelimit-limit": "60", "x-ratelimit-reset": "1"}, [Limit("requests", 60, reset=1)]),
        ({"x-ratelimit-limit": "60", "x-ratelimit-reset": "3000"},
         [Limit("requests", reset=3000)]),
        ({"x-ratelimit-limit": "60", "x-ratelimit-reset": "3000", "x-ratelimit-remaining": "0"},
         [Limit("requests", 60, 0, 3000)]),
        ({"x-ratelimit-limit": "60;w=30"}, [Limit("requests", 60, window=30)]),
        ({"vendor-ratelimit-requests-limit": "60"}, [Limit("requests", 60)]),
        ({"vendor-ratelimit-input-tokens-limit": "60"}, [Limit("input_tokens", 60)]),
        ({"vendor-ratelimit-output-tokens-limit": "60"}, [Limit("output_tokens", 60)]),
        ({"vendor-ratelimit-tokens-limit": "90", "vendor-ratelimit-input-tokens-limit": "60"},
         [Limit("tokens", 90), Limit("input_tokens", 60)]),
    ],
)  # fmt: skip
def test_what_a_name_says(headers, stated):
    """What is counted, over which period, and whether it is a rate to follow."""
    assert list(limits(headers)) == stated


def test_a_limit_per_day_that_is_not_called_so():
    """Of 14,400 requests 30 were used, and all are back in 180 s: it is a day's.

    If they are back within a minute, it may be a window of a minute that ends: nothing is stated.
    """
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
    }
    assert limits(headers) == (Limit("requests", 14_400, 14_370, 179.56, DAY),)
    few = {"x-ratelimit-remaining-requests": "14399", "x-ratelimit-reset-requests": "6s"}
    assert limits(headers | few) == ()
    assert limits(headers | {"x-ratelimit-reset-requests": "125ms"})[0].window is None


@pytest.mark.parametrize("name", REQUEST_IDS)
def test_every_form_of_request_id(name):
    """The id is found in each of the headers, however the name is written."""
    assert classify_reply(500, {name.title(): "id-1"}, b"").request_id == "id-1"
    assert classify_reply(200, {name: "id-1"}, None).request_id == "id-1"


def test_the_best_id_is_taken():
    """`x-request-id` comes first; one that is not safe to log is passed over; the body is last."""
    headers = {"cf-ray": "c", "request-id": "b", "x-request-id": "a b"}
    assert request_id(headers, names_of(headers).ids) == "b"
    assert classify_reply(500, headers, b"").request_id == "b"
    assert classify_reply(500, {}, {"request_id": "d"}).request_id == "d"


def test_a_long_list_of_names_is_not_remembered():
    """A server cannot fill the cache with names."""
    read_names.cache_clear()
    limits({f"x-{number}-{'y' * 100}": "1" for number in range(100)})
    assert read_names.cache_info().currsize == 0
