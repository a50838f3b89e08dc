"""What an error looks like inside a body, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Kind
from resilient_infe.classify.error_body import is_error, message_in, stated_in
from resilient_infe.classify.table import classify_reply
from resilient_infe.core.ids import clean_id

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
        ({"error": TOLD, "choices": []}, True),
        ({"error": TOLD, "choices": None}, True),
        ({"error": TOLD, "object": "chat.completion", "choices": [{"message": {}}]}, True),
        ({"choices": [{"message": {}}, {"error": TOLD}]}, True),
        ({"choices": [{"message": {}, "finish_reason": "error"}]}, True),
        ({"choices": [{"message": {}, "error": None}], "error": None}, False),
        ({"choices": [{"message": {}}], "error": {"code": None, "message": ""}}, False),
        ({"choices": [{"message": {}, "error": {"code": None}}]}, False),
        ({"choices": [{"message": {}}], "error": {"code": 0, "message": "x"}}, True),
        ({"error": {"code": None}}, True),
        ({"object": "error", "message": "x", "code": 400}, True),
        ({"type": "error", "message": "x"}, True),
        ({"base_resp": {"status_code": 1008}, "choices": None}, True),
        ({"base_resp": {"status_code": 1008}, "choices": [{"message": {}}]}, True),
        ({"base_resp": {"status_code": 0}, "choices": [{"message": {}}]}, False),
        ({"base_resp": {"status_code": 0}, "vectors": [[1.0]]}, False),
        ({"base_resp": 5}, False),
        ({"error_code": 18, "error_msg": "x"}, True),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "x"}, True),
        ({"error_code": 0, "error_msg": ""}, False),
        ({"error_code": 18, "result": "text"}, False),
        ({"code": 500, "message": "x"}, True),
        ({"code": "InvalidApiKey", "message": "x", "request_id": "r"}, True),
        ({"code": 20012, "message": "x", "data": None}, True),
        ({"code": 0, "message": "ok", "data": None}, False),
        ({"code": 200, "message": "ok"}, False),
        ({"code": 20000, "message": "ok"}, False),
        ({"code": "success", "message": "ok"}, False),
        ({"code": 500, "message": "x", "data": [1]}, False),
        ({"code": 5}, False),
        ({"success": False, "errors": [{"code": 10000, "message": "x"}]}, True),
        ({"success": False, "message": "x"}, True),
        ({"success": True, "errors": []}, False),
        ({"error": None}, False),
        ({"error": {}}, False),
        ({"object": "error"}, True),
        ({}, False),
    ],
)
def test_an_error_in_an_answers_place(content, wrong):
    """What is kept under an id, and says what it is, has an error of its own; all else is one."""
    assert is_error(content) is wrong
    verdict = classify_reply(200, {}, content)
    assert (verdict.kind is Kind.OK) is not wrong


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3)
    ),
    max_leaves=10,
)
NAMES = st.sampled_from(["error", "object", "choices", "id", "code", "message", "base_resp",
                         "error_code", "errors", "detail", "success", "response", "x"])  # fmt: skip


@given(st.dictionaries(NAMES, values, max_size=6))
def test_any_object_is_told_apart(content):
    """Whatever an object holds, nothing raises, and what is found is safe to log."""
    assert is_error(content) in (True, False)
    stated = stated_in(content)
    named = [each.rpartition(":")[2] for each in (stated.code, stated.type, *stated.names) if each]
    assert all(clean_id(each) == each for each in named)
    assert message_in(content) is None or isinstance(message_in(content), str)


@given(
    st.dictionaries(st.sampled_from(["error", "object", "id", "x"]), values), st.text(max_size=5)
)
def test_what_is_stored_is_no_error(content, kept_as):
    """What is kept under an id, and says what it is, has an `error` of its own."""
    content |= {"object": "my.thing", "id": f"my-{kept_as}"}
    assert not is_error(content)


@pytest.mark.parametrize(
    ("content", "code", "error_type", "status", "names"),
    [
        ({"error": {"code": "a", "type": "b"}}, "a", "b", None, ["a", "b"]),
        ([{"error": {"code": 429, "status": "X_Y"}}], None, "X_Y", 429, ["x_y"]),
        ({"code": "a", "type": "b", "message": "m"}, "a", "b", None, ["a", "b"]),
        ({"type": "error", "error": {"type": "b"}}, None, "b", None, ["b"]),
        ({"error": "busy", "error_type": "overloaded"}, "busy", "overloaded", None,
         ["busy", "overloaded"]),
        ({"error": "a whole sentence", "code": "the same"}, None, None, None, []),
        ({"detail": {"error": {"code": "a"}}}, "a", None, None, ["a"]),
        ({"detail": {"code": "a"}}, "a", None, None, ["a"]),
        ({"errors": [{"code": 10000, "message": "m"}]}, "10000", None, None, ["10000"]),
        ({"error_code": 18}, "18", None, None, ["error_code:18"]),
        ({"error_code": "A_B"}, "A_B", None, None, ["a_b"]),
        ({"base_resp": {"status_code": 1008}}, "1008", None, None, ["base_resp:1008"]),
        ({"error": [{"code": 2003, "message": "m"}]}, "2003", None, None, ["2003"]),
        ({"error": {"code": 403, "errors": [{"reason": "quotaExceeded"}]}}, None, None, 403,
         ["quotaexceeded"]),
        ({"choices": [{"error": {"code": 502}}]}, None, None, 502, []),
        ({"__type": "com.amazon.coral#ThrottlingException"}, None, "ThrottlingException", None,
         ["throttlingexception"]),
        ({"error": {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}}, None, None, 400,
         ["api_key_invalid"]),
        ({"error": {"code": "400", "type": "None"}}, "400", None, 400, ["400"]),
        ({"error": {"code": True, "type": 5}}, None, None, None, []),
        ("text", None, None, None, []),
    ],
)  # fmt: skip
def test_fields_of_an_error_in_every_place(content, code, error_type, status, names):
    """The code, the type, the status and the names, wherever a server puts them."""
    assert stated_in(content) == (code, error_type, status, tuple(names))


def test_the_type_of_an_error_may_stand_in_a_header():
    """AWS puts it there, with an address behind it."""
    stated = stated_in({"message": "m"}, "ThrottlingException:http://internal.example/coral/")
    assert (stated.type, stated.names) == ("ThrottlingException", ("throttlingexception",))
