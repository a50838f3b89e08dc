"""Where an event of a stream keeps its error, and what a code that is a status means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Kind
from resilient_infe.classify.error_body import error_in_event, status_in
from resilient_infe.classify.table import classify_reply

ERROR = {"message": "no", "code": 402}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"error": ERROR}, ERROR),
        ({"error": "no"}, "no"),
        ({"error": ERROR, "choices": []}, ERROR),
        ({"type": "error", "error": ERROR}, ERROR),
        ({"object": "error", **ERROR}, {"object": "error", **ERROR}),
        ({"type": "error", **ERROR}, {"type": "error", **ERROR}),
        ({"type": "response.failed", "response": {"status": "failed", "error": ERROR}}, ERROR),
        ({"choices": [{"delta": {}}, {"error": ERROR, "finish_reason": "error"}]}, ERROR),
    ],
)
def test_an_error_is_found_in_every_place(content, error):
    """In the event, as the event, in a failed response, and in a choice."""
    assert error_in_event(content) == {"error": error}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, Kind.TRANSIENT),
        ({"choices": [], "base_resp": {"status_code": 1008}}, Kind.QUOTA),
        ({"error_code": 18, "error_msg": "m"}, Kind.RATE_LIMITED),
    ],
)
def test_an_event_with_a_code_alone_is_an_error(content, kind):
    """A choice that ended in an error, and a code in the place of an answer."""
    assert error_in_event(content) is content
    assert classify_reply(200, {}, content).kind is kind


@pytest.mark.parametrize(
    "content",
    [
        {"choices": [], "usage": {"total_tokens": 3}}, {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"delta": {}}], "base_resp": {"status_code": 0}},
        {}, None, [], "error", 5, {"error": None}, {"error": ""}, {"error": {}}, {"error": True},
        {"choices": [{"error": None}]}, {"choices": None}, {"choices": ["error"]},
        {"response": {"status": "completed", "error": ERROR}}, {"response": "failed"},
        {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "error"}}]},
    ],
)  # fmt: skip
def test_what_is_no_error_is_none(content):
    """An empty or missing error, and the word in another place, are not an error."""
    assert error_in_event(content) is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "choices", "response", "status", "type", "object", "code"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(junk)
def test_events_of_any_shape_are_survived(content):
    """Whatever the event is, nothing is raised, and what is found can be classified."""
    found = error_in_event(content)
    if found is not None:
        assert classify_reply(200, {}, found).kind is not Kind.OK


@pytest.mark.parametrize(
    ("code", "status"),
    [(402, 402), ("402", 402), (599, 599), (100, 100), (99, None), (600, None), (True, None),
     (402.0, None), ("٤٠٢", None), (" 402", None), ("4e2", None), (10**400, None), (None, None)],
)  # fmt: skip
def test_a_code_that_is_a_status(code, status):
    """A whole number from 100 to 599, or its three digits as text."""
    assert status_in(code) == status


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 402}, Kind.QUOTA),
        ({"code": "402"}, Kind.QUOTA),
        ({"code": 401}, Kind.AUTH),
        ({"code": 429}, Kind.RATE_LIMITED),
        ({"code": 429, "type": "insufficient_quota"}, Kind.QUOTA),
        ({"code": 502}, Kind.TRANSIENT),
        ({"code": 503, "type": "whatever"}, Kind.OVERLOADED),
        ({"code": 404}, Kind.NOT_FOUND),
        ({"code": 200}, Kind.TRANSIENT),
        ({"code": 7}, Kind.TRANSIENT),
        ({"code": None, "type": "overloaded_error"}, Kind.OVERLOADED),
    ],
)
def test_an_error_inside_a_200_by_its_number(error, kind):
    """A code that is a status counts as that status; the reply keeps its own."""
    verdict = classify_reply(200, {}, {"error": error})
    assert (verdict.kind, verdict.status) == (kind, 200)
    assert verdict.code == (None if error["code"] is None else str(error["code"]))
