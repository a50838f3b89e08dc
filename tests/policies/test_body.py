"""What is decoded of a body, in any encoding and with anything around it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.policies.body import LONGEST_BODY, decoded

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


def test_what_is_no_text_is_returned():
    """Something decoded already, or an SDK's own object."""
    value = {"a": 1}
    assert decoded(value) is value


def test_a_body_is_looked_at_up_to_64_kib():
    """A longer body is not parsed at all."""
    code = '{"error": {"code": "insufficient_quota"}}'
    assert decoded(code.ljust(LONGEST_BODY)) == {"error": {"code": "insufficient_quota"}}
    assert decoded(code.ljust(LONGEST_BODY + 1)) is None
