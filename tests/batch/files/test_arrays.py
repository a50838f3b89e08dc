"""A JSON array: one element at a time, however it is laid out."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import opened_bytes, prompts, rows_of

from resilient_infe.batch.files import arrays
from resilient_infe.batch.files.arrays import array_rows
from resilient_infe.batch.request import Defaults
from resilient_infe.errors import BatchError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(allow_nan=False,
    allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
    max_size=3), max_leaves=8)  # fmt: skip


@pytest.fixture(params=[1, 7, 4096])
def piece(request, monkeypatch):
    """Files are read in pieces of so many bytes."""
    monkeypatch.setattr(arrays, "PIECE", request.param)
    return request.param


def elements(raw, longest=10_000):
    """The elements of an array."""
    return list(array_rows(opened_bytes(raw), "x.json", Defaults(longest=longest)))


@given(st.lists(VALUES, max_size=4), st.none() | st.integers(0, 3), st.booleans())
@pytest.mark.parametrize("size", [1, 64])
def test_every_array_is_read(size, values, indent, ascii_only):
    """What was written comes out, also where an element is read in many pieces."""
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "ignore")
    before, arrays.PIECE = arrays.PIECE, size
    try:
        found = elements(b"\xef\xbb\xbf " + raw + b"\n")
    finally:
        arrays.PIECE = before
    assert found == list(enumerate(json.loads(raw), 1))


def test_elements_are_rows(piece):
    """Texts, prompts, bodies and lines of OpenAI's Batch; ids are made from the row's number."""
    rows = rows_of(json.dumps(["a", {"prompt": "b"}, {"custom_id": "c", "body": {"prompt": "c"}},
                               5]).encode(), "x.json")  # fmt: skip
    assert prompts(rows) == ["a", "b", "c", "row 4: it is a number, not an object or a text"]
    assert [row.custom_id for row in rows[:3]] == ["row-1", "row-2", "c"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"[", "breaks off at row 1"),
        (b'[{"a": 1}', "breaks off at row 1"),
        (b'[{"a": 1},{"b', "breaks off at row 2"),
        (b'["a",\n{"b" 5}]', r"row 2 \(line 2\): it is not JSON: Expecting ':' delimiter"),
        (b'["a",]', "row 2 .*not JSON"),
        (b'["a" "b"]', "row 1 .*there is '\"' where , or ] should be"),
        (b'[{"a": NaN}]', "row 1 .*NaN is not JSON"),
        (b'[{"a": 1, "a": 2}]', "row 1 .*the key 'a' stands twice"),
        (b'[{"a": ' + b"9" * 5_000 + b"}]", "row 1 .*over 4,300 digits"),
        (b"[" * 50_000, "row 1 .*nested too deeply"),
        (b'["a"]\n["b"]\n', r"goes on after its array, at line 2: .*messages: \."),
        (b'["' + b"x" * 20_000 + b'"]', "row 1 .*longer than 10,000 bytes: .*--max-line"),
        ('["é"]'.encode("latin-1"), "is not UTF-8"),
    ],
)
def test_an_array_that_cannot_be_read(piece, raw, told):
    """It is refused in one line that says where; what follows an error cannot be read."""
    with pytest.raises(BatchError, match=told):
        elements(raw)


def test_an_early_error_is_not_read_past(piece):
    """A mistake in the first element is found before the rest is read."""
    file = io.BufferedReader(io.BytesIO(b'[{"a" 5}' + b" " * 10_000_000), 1_024)
    with pytest.raises(BatchError, match="row 1"):
        list(array_rows(file, "x.json", Defaults()))
    assert file.tell() < 50_000
