"""What is decoded of a body, in any encoding and with anything around it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.classify.body import LONGEST_BODY, decoded, ending

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _loaded(body):
    """Return what the standard library makes of a body."""
    try:
        return json.loads(body)
    except ValueError:
        return None


@given(JSON, st.sampled_from(["", " ", "\n\t"]), st.sampled_from(["", " \n", "x", "{}", "\0"]))
def test_a_text_is_decoded_as_by_the_standard_library(value, before, after):
    """With blanks around it, and with something after it that makes it no JSON."""
    text = before + json.dumps(value) + after
    assert decoded(text) == _loaded(text)


@given(JSON, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be", "latin-1"]))
def test_bytes_are_decoded_in_every_encoding_of_json(value, encoding):
    """A byte order mark or none, and what only looks like UTF-8."""
    body = json.dumps(value, ensure_ascii=encoding == "latin-1").encode(encoding, "surrogatepass")
    assert decoded(body) == _loaded(body) == value


@pytest.mark.parametrize("body", [b"{", b"", "", b'{"a": "\xff"}', "[" * 60_000, '{"a": ' * 10_000])
def test_what_cannot_be_decoded_is_none(body):
    """Cut off, empty, of no encoding, nested too deep: nothing raises."""
    assert decoded(body) is None


NAMES = st.sampled_from(["usage", "error", "choices", "a", 'say "usage": {', "\\"])
ANSWERS = st.dictionaries(
    NAMES,
    st.recursive(
        NAMES | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@given(ANSWERS, st.sampled_from([None, 1]), st.sampled_from(["", "\n", " \r\n"]))
def test_the_end_of_an_answer_tells_its_usage_or_nothing(answer, indent, after):
    """Wherever else the name stands: in a text, as a value, deeper down, before or behind."""
    found = ending((json.dumps(answer, indent=indent) + after).encode(), LONGEST_BODY, 0)
    if found is None:
        return
    assert found == dict(list(answer.items())[-len(found) :])
    assert "usage" in found
    assert "error" not in answer


@given(ANSWERS, st.integers(1, 200))
def test_an_answer_that_is_cut_off_has_no_end(answer, cut):
    """Whatever is missing of it."""
    body = json.dumps(answer).encode()
    assert ending(body[: -min(cut, len(body))], LONGEST_BODY, 0) is None


@pytest.mark.parametrize(
    "body", [b'{"usage": {"usage": 0}', b'{"a": [{"usage": {"total_tokens": 1}}]']
)
def test_an_answer_that_is_cut_off_after_a_usage_has_no_end(body):
    """What is there looks like the end of an outermost object, which is not closed."""
    assert ending(body, LONGEST_BODY, 0) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": 1, "usage": {}}\n{"id": 2, "usage": {}}',
        b'{"x\\"usage": {"total_tokens": 77}}',
        b'{"\\u0065rror": {"code": "server_error"}, "usage": {}}',
        b'{"usage": {}}\x0b',
        b'{"content": "}", "usage": {}}',
    ],
)
def test_an_end_that_looks_usual_and_may_not_be(body):
    """Two objects, an escaped quote, an escaped error, what is no blank, a brace in a text."""
    assert ending(body, LONGEST_BODY, 0) is None


def test_an_answer_that_is_too_long_or_too_short_has_no_end():
    """The upper bound is that of `decoded`; a short one is decoded whole."""
    body = b'{"usage": {}}'
    assert ending(body, len(body), 0) == {"usage": {}}
    assert ending(body, len(body) - 1, 0) is None
    assert ending(body, len(body)) is None


def test_the_usual_answer_is_decoded_from_its_end_alone():
    """A completion, with what providers put behind the usage."""
    answer = {"id": "x", "choices": [], "usage": {"total_tokens": 3}, "service_tier": None}
    assert ending(json.dumps(answer).encode(), LONGEST_BODY, 0) == {
        "usage": {"total_tokens": 3},
        "service_tier": None,
    }


@pytest.mark.parametrize(
    "body", [None, "{}", b"", b"[]", b"{}", b'{"usage": 1, "error": 2}', b"\xff"]
)
def test_where_the_end_does_not_tell(body):
    """What is not bytes, has no usage, or may hold an error."""
    assert ending(body, LONGEST_BODY, 0) is None


def test_what_is_no_text_is_returned():
    """Something decoded already, or an SDK's own object."""
    value = {"a": 1}
    assert decoded(value) is value


def test_a_body_is_looked_at_up_to_64_kib():
    """A longer body is not parsed at all."""
    code = '{"error": {"code": "insufficient_quota"}}'
    assert decoded(code.ljust(LONGEST_BODY)) == {"error": {"code": "insufficient_quota"}}
    assert decoded(code.ljust(LONGEST_BODY + 1)) is None
