"""The journal's lines: sealed, read back, and known when they changed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.journal.record import (
    content_of,
    head_of,
    note,
    result_of,
    sealed,
    unsealed,
)
from resilient_infe.batch.plain import to_json
from resilient_infe.batch.result import Failure, Result
from resilient_infe.core.verdict import Kind, Usage

TEXTS = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ['","value":', "a\u2028b", "\ud800", "\r\n", '"}', ""]
)


def results():
    """Results of any shape."""
    failure = st.builds(
        Failure,
        st.sampled_from(Kind),
        TEXTS,
        st.none() | st.integers(100, 599),
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.none() | st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=3),
        st.booleans(),
    )
    usage = st.builds(Usage, *[st.integers(0, 10**9)] * 3)
    return st.builds(
        Result,
        st.integers(0, 10**9),
        TEXTS.filter(bool),
        st.none(),
        st.none() | TEXTS | st.dictionaries(TEXTS, TEXTS, max_size=3),
        st.none() | failure,
        attempts=st.integers(0, 99),
        seconds=st.floats(0, 1e6),
        usage=st.none() | usage,
        status=st.none() | st.integers(100, 599),
        request_ids=st.lists(TEXTS, max_size=3).map(tuple),
    )


@given(results(), st.none() | TEXTS)
def test_a_result_comes_back_as_it_was(result, digest):
    """Whatever is in a result, its line is whole JSON, and reads back as the same result."""
    if result.failure is not None:
        result.value = None
    else:
        result.encoded = to_json(result.value)
    line = sealed(content_of(result, digest, 1e9, 5))
    assert line.count(b"\n") == 1
    content = unsealed(line)
    assert json.loads(line)["id"] == result.id
    assert head_of(content)["digest"] == digest
    found = result_of(content, result.index, "row")
    for name in ("index", "id", "value", "failure", "attempts", "usage", "status", "request_ids"):
        assert getattr(found, name) == getattr(result, name)
    assert found.replayed
    assert found.row == "row"


@given(st.binary(max_size=200))
def test_whatever_is_read_is_a_line_or_none(raw):
    """No bytes raise; what is taken for a line is one that was sealed."""
    content = unsealed(raw)
    assert content is None or sealed(content) == raw


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_seen(place, mask):
    """A line of which one byte was changed is not whole any more."""
    line = sealed(note("sample", ok=5, words="a word"))
    place %= len(line)
    changed = bytes([*line[:place], line[place] ^ mask, *line[place + 1 :]])
    assert unsealed(changed) is None


def test_a_value_is_not_decoded_for_its_head():
    """The head is told without the value, also where the value has fields of those names."""
    result = Result(0, "a", None, {"value": 1, "id": "b"}, encoded=b'{"value":1,"id":"b"}')
    head = head_of(content_of(result, None, 0.0, 0))
    assert head["id"] == "a"
    assert "value" not in head
