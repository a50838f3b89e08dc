"""Values from outside on one line of JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.plain import (
    NumberTooLong,
    as_read_back,
    digest_of,
    one_line,
    text,
    to_json,
)
from resilient_infe.errors import ConfigurationError

TEXTS = st.text(st.characters(codec=None), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


def without_nan(value):
    """What JSON can tell of a value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    return value


@given(VALUES)
def test_anything_is_one_line_of_ascii(value):
    """Whatever is in a value, it is one line, and reads back as it was but for NaN."""
    written = to_json(value)
    assert written.isascii()
    assert len(written.splitlines()) == 1
    assert json.loads(written, parse_constant=pytest.fail) == without_nan(value)


@given(VALUES, st.sampled_from([None, 2]))
def test_what_stands_on_a_line_already_is_kept(value, indent):
    """Raw JSON is either put on one line, or handed to the encoder."""
    raw = json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")
    line = one_line(raw)
    if line is not None:
        assert line.isascii()
        assert len(line.splitlines()) == 1
        assert json.loads(line) == json.loads(raw)
    else:
        assert not raw.isascii() or b"NaN" in raw or b"Infinity" in raw


@given(TEXTS)
def test_a_text_is_what_json_makes_of_it(value):
    """The short way for texts writes the same."""
    assert text(value) == to_json(value)


def test_other_encodings_are_not_taken_as_they_are():
    """JSON in UTF-16 is ASCII byte by byte, and no line of ours."""
    assert one_line('{"a": "b"}'.encode("utf-16-le")) is None


def test_nothing_is_null():
    """No text is null."""
    assert text(None) == b"null"


def test_enormous_values_are_written():
    """A number beyond what Python prints, and a value nested too deeply, do not raise."""
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    assert json.loads(to_json({"n": 10**5000})) == {"n": None}
    assert to_json(deep).startswith(b"[[[")


def test_what_is_recorded_is_never_null_for_its_size():
    """An integer is kept as long as it can be read back, whatever stands beside it."""
    long = 10**4_299
    for value in (2**70, long, [math.nan, long], {"n": -long, "x": math.inf}, {long: math.nan}):
        found, encoded = as_read_back(value)
        assert json.loads(encoded) == found
        assert str(long) in str(found) or found == value
    for value in (10**4_300, [10**5_000], {10**5_000: 1}, {"a": (1, -(10**9_000))}):
        with pytest.raises(NumberTooLong, match=r"over 4,300 digits.*record="):
            as_read_back(value)


@given(st.dictionaries(st.integers() | st.booleans() | st.floats(allow_nan=False), st.none()))
def test_keys_do_not_depend_on_what_stands_beside_them(value):
    """A key is the same text whether NaN is among the values or not."""
    assert list(as_read_back([value, math.nan])[0][0]) == list(as_read_back([value])[0][0])


def test_an_sdk_object_is_written_by_its_own_dump():
    """What has a model_dump is written as that; what has no form at all is told."""

    class Reply:
        def model_dump(self, mode):
            return {"mode": mode}

    assert to_json([Reply()]) == b'[{"mode":"json"}]'
    with pytest.raises(ConfigurationError, match="record="):
        to_json(object())


def test_a_digest_does_not_see_white_space():
    """Two ways to write the same request have one digest; another request has another."""
    a, b = json.loads('{"a": [1, 2.5], "b": "\\u00e9"}'), json.loads('{"a":[1,2.5],"b":"é"}')
    assert digest_of(a) == digest_of(b)
    assert digest_of(a) != digest_of({"a": [1, 2.5], "b": "e"})
    assert digest_of(object()) is None
