"""What an error looks like inside a body, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Kind
from resilient_infe.policies.classify import classify_reply
from resilient_infe.policies.error_body import error_fields, is_error

TOLD = {"code": "server_error", "message": "boom"}


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ({"error": TOLD}, True),
        ({"error": "no"}, True),
        ({"error": TOLD, "type": "error", "request_id": "r"}, True),
        ({"error": TOLD, "user_id": "u"}, True),
        ({"error": TOLD, "object": "error"}, True),
        ({"error": TOLD, "object": "list"}, True),
        ({"error": TOLD, "object": "chat.completion", "id": "c"}, True),
        ({"error": TOLD, "object": None}, True),
        ({"error": TOLD, "object": "response", "status": "failed"}, False),
        ({"error": TOLD, "object": "fine_tuning.job"}, False),
        ({"error": {"code": None, "message": None}, "object": "fine_tuning.job"}, False),
        ({"error": TOLD, "choices": []}, False),
        ({"error": None}, False),
        ({"error": {}}, False),
        ({"object": "error"}, False),
        ({}, False),
    ],
)
def test_an_error_in_an_answers_place(content, wrong):
    """An object that says what it is has an error of its own; one that is nothing else is one."""
    assert is_error(content) is wrong
    verdict = classify_reply(200, {}, content)
    assert (verdict.kind is Kind.OK) is not wrong


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each))
NAMES = st.sampled_from(["error", "object", "choices", "x"])


@given(st.dictionaries(NAMES, values))
def test_any_object_is_told_apart(content):
    """Whatever an object holds: only one with an `error`, and without `choices`, can be one."""
    wrong = is_error(content)
    assert not wrong or (bool(content["error"]) and "choices" not in content)
    assert all(field is None or isinstance(field, str) for field in error_fields(content))
