"""A payload as JSON: the same value, whichever package writes it."""

from __future__ import annotations

import enum
import json
import math
import sys
import types
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.adapters.infe import encode
from resilient_infe.errors import InvalidRequestError

LARGEST = 2**64
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
    max_size=3), max_leaves=6)  # fmt: skip


class Level(enum.StrEnum):
    """A text that is a constant."""

    LOW = "low"


def plain(value):
    """Return what is written of a value."""
    if isinstance(value, str):
        value.encode()
    if type(value) not in (dict, list, tuple, str, int, float, bool, type(None)):
        raise TypeError("Type is not JSON serializable")
    if type(value) is int and not -LARGEST / 2 <= value < LARGEST:
        raise TypeError("Integer exceeds 64-bit range")
    if type(value) is float and not math.isfinite(value):
        return None
    if type(value) is dict:
        if not all(type(name) is str for name in value):
            raise TypeError("Dict key must be str")
        return {plain(name): plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if type(value) in (list, tuple) else value


def stand_in():
    """What orjson does: no integers over 64 bits, no half characters, and null for NaN."""

    def dumps(value, _default, _options):
        try:
            return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            raise TypeError("str is not valid UTF-8: surrogates not allowed") from None

    module = types.ModuleType("orjson")
    module.dumps = dumps
    for name in ("DATACLASS", "DATETIME", "SUBCLASS"):
        setattr(module, f"OPT_PASSTHROUGH_{name}", 0)
    return module


@pytest.fixture(params=["json", "orjson"])
def package(request, monkeypatch):
    """With orjson, and without; where it is not installed, with what behaves like it."""
    if request.param == "orjson" and encode._fast is None:
        monkeypatch.setitem(sys.modules, "orjson", stand_in())
        monkeypatch.setattr(encode, "_fast", encode._by_orjson())
    elif request.param == "json":
        monkeypatch.setattr(encode, "_fast", None)


def as_json(value):
    """What is sent, or None if it is refused."""
    try:
        return json.loads(encode.encoded(value))
    except InvalidRequestError:
        return None


def test_both_write_the_same(package):
    """What json writes is read as the same value, and what it refuses is refused."""
    plain = json.JSONEncoder(allow_nan=False)

    @given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3))
    def check(payload):
        try:
            expected = json.loads(plain.encode(payload))
        except ValueError:
            expected = None
        assert as_json(payload) == expected

    check()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**70, 2**70),
        ("\ud800", "\ud800"),
        ("é", "é"),
        (Level.LOW, "low"),
        ((1, 2), [1, 2]),
        (None, None),
        ("null", "null"),
        ({1: 2}, {"1": 2}),
    ],
)
def test_what_orjson_refuses_is_written(package, value, expected):
    """Integers of any length, half characters, constants, keys that are numbers."""
    assert as_json({"x": value}) == {"x": expected}


@pytest.mark.parametrize("value", [math.nan, math.inf, datetime(2026, 1, 1, tzinfo=UTC), object()])
def test_what_json_refuses_is_refused(package, value):
    """A program does not depend on what is installed."""
    with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
        encode.encoded({"x": value})


def test_a_payload_is_a_mapping(package):
    """Other types are named."""
    with pytest.raises(InvalidRequestError, match=r"must be a mapping.*got list"):
        encode.encoded([])
