"""What an error looks like inside a body, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Kind
from resilient_infe.classify.error_body import error_fields, is_error
from resilient_infe.classify.table import classify_reply

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
        ({"error": TOLD, "object": None, "id": "x"}, True),
        ({"error": TOLD, "object": "", "id": "", "data": None}, True),
        ({"error": TOLD, "object": "chat.completions", "id": "c"}, True),
        ({"error": TOLD, "object": "embedding", "id": "e"}, True),
        ({"error": TOLD, "object": "response"}, True),
        ({"error": TOLD, "object": "response", "id": 5}, True),
        ({"error": TOLD, "object": "response", "id": "r", "status": "failed"}, False),
        ({"error": TOLD, "object": "fine_tuning.job", "id": "j"}, False),
        ({"error": {"code": None}, "object": "fine_tuning.job", "id": "j"}, False),
        ({"error": TOLD, "choices": []}, False),
        ({"error": None}, False),
        ({"error": {}}, False),
        ({"object": "error"}, False),
        ({}, False),
    ],
)
def test_an_error_in_an_answers_place(content, wrong):
    """What is kept under an id, and says what it is, has an error of its own; all else is one."""
    assert is_error(content) is wrong
    verdict = classify_reply(200, {}, content)
    assert (verdict.kind is Kind.OK) is not wrong


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(st.text(), each))
NAMES = st.sampled_from(["error", "object", "choices", "id", "x"])


@given(st.dictionaries(NAMES, values), st.text(max_size=5), st.text(max_size=5))
def test_any_object_is_told_apart(content, named, kept_as):
    """Whatever an object holds, nothing raises; and what is kept under a name is no error."""
    assert not (is_error(content) and "choices" in content)
    assert all(field is None or isinstance(field, str) for field in error_fields(content))
    content |= {"object": f"my.{named}", "id": f"my-{kept_as}"}
    assert not is_error(content)
