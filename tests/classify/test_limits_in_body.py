"""Limits that the body of a 429 states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.classify.limits_in_body import limits_in_body
from resilient_infe.classify.table import classify_reply
from resilient_infe.core.verdict import DAY, Limit

json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=10,
)


def _quotas(*violations):
    """Return an error with a QuotaFailure of Google's."""
    listed = [{"quotaId": name, "quotaValue": value} for name, value in violations]
    return {"details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                         "violations": listed}]}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"requests_per_minute": 60}, [Limit("requests", 60.0)]),
        ({"tokens_per_minute": "90000"}, [Limit("tokens", 90_000.0)]),
        (
            {"limit": 10, "unit": "requests", "remaining": 0, "reset": 4, "window": 10},
            [Limit("requests", 10.0, 0.0, 4.0, 10.0)],
        ),
        ({"limit": 500, "limit_type": "TPM"}, [Limit("tokens", 500.0)]),
        (
            {"limit": 500, "limit_type": "TPM", "requested": "900"},
            [Limit("tokens", 500.0, requested=900.0)],
        ),
        ({"limit": 500, "limit_type": "TPM", "requested": -9}, [Limit("tokens", 500.0)]),
        (
            {"metadata": {"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0",
                                      "X-RateLimit-Reset": "1741305600000"}}},
            [Limit("requests", 20.0, 0.0, 30.0)],
        ),
        (
            {"metadata": {"headers": {"x-ratelimit-limit-tokens": "900"}}},
            [Limit("tokens", 900.0)],
        ),
        (_quotas(("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10")),
         [Limit("requests", 10.0, window=60.0)]),
        (_quotas(("GenerateContentInputTokensPerModelPerMinute", 250_000),
                 ("GenerateRequestsPerDayPerProjectPerModel", "50")),
         [Limit("tokens", 250_000.0, window=60.0), Limit("requests", 50.0, window=DAY)]),
        (_quotas(("Parrots", "1"), ("RequestsPerMinute", "no"), (5, "1"), ("RequestsPerMinute", 0)),
         []),
        ({"details": [5, {"violations": 5}, {"violations": [5]}]}, []),
        ({"limit": 10}, []),
        ({"limit": 10, "unit": "parrots"}, []),
        ({"limit": True, "unit": "requests"}, []),
        ({"limit": -1, "unit": "requests"}, []),
        ({"metadata": {"headers": "no"}}, []),
        ({"metadata": 5}, []),
    ],
)  # fmt: skip
def test_the_forms_that_are_read(error, expected):
    """Numbers beside the code, and headers that a gateway put into the body."""
    assert list(limits_in_body({"error": error}, 1741305570.0)) == expected


@pytest.mark.parametrize("content", [None, [], "text", 5, {"error": "text"}, {"error": []}, {}])
def test_a_body_of_another_shape_states_nothing(content):
    """No error, no limit."""
    assert limits_in_body(content) == ()


@given(json_like, st.sampled_from(["requests", None, 3]))
def test_no_body_raises(value, unit):
    """Whatever stands there is left out if it makes no sense."""
    fields = ("limit", "remaining", "reset", "window", "requested", "requests_per_minute",
              "metadata")  # fmt: skip
    for field in fields:
        body = {"error": {"limit": 5, "unit": unit, field: value}}
        assert all(each.limit is None or each.limit > 0 for each in limits_in_body(body, 1e9))
    limits_in_body({"error": {"metadata": {"headers": {"x-ratelimit-limit": value}}}})


def test_the_headers_come_first():
    """What the headers state is not asked of the body, and only a 429's body is."""
    body = {"error": {"code": "rate_limit_exceeded", "requests_per_minute": 60}}
    assert classify_reply(429, {}, body).limits == (Limit("requests", 60.0),)
    headers = {"x-ratelimit-limit-requests": "70"}
    assert classify_reply(429, headers, body).limits == (Limit("requests", 70.0),)
    assert classify_reply(500, {}, body).limits == ()
    inside = {"error": {**body["error"], "code": 429}}
    assert classify_reply(200, {}, inside).limits == (Limit("requests", 60.0),)
