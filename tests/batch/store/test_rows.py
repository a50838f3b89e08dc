"""The columns of a row: written, read back, and known when they changed."""

from __future__ import annotations

import enum
import sqlite3
from http import HTTPStatus
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.plain import to_json
from resilient_infe.batch.result import Failure, Result
from resilient_infe.batch.store.rows import COLUMNS, Ended, Entry, crc_of, packed, result_of
from resilient_infe.batch.store.schema import TABLES, insertion
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
        sent_for=st.floats(0, 1e6),
        usage=st.none() | usage,
        status=st.none() | st.integers(100, 599),
        request_ids=st.lists(TEXTS, max_size=3).map(tuple),
    )


@given(results(), st.none() | TEXTS.map(ascii))
def test_a_result_comes_back_as_it_was(result, digest):
    """Whatever is in a result, SQLite takes it, and it reads back as the same result."""
    if result.failure is not None:
        result.value = None
    else:
        result.encoded = to_json(result.value)
    *columns, crc, value, value_crc = stored(packed(Ended(result, digest, 1e9)))
    entry = Entry(*columns)
    assert crc_of(entry) == crc
    assert entry.digest == digest
    if value is not None:
        value = value.encode()
        assert crc32(value, crc) == value_crc
    found = result_of(entry, value, result.index, "row")
    for name in ("index", "id", "value", "failure", "attempts", "usage", "status", "request_ids",
                 "seconds", "sent_for"):  # fmt: skip
        assert getattr(found, name) == getattr(result, name)
        assert type(getattr(found, name)) is type(getattr(result, name))
    assert found.replayed
    assert found.row == "row"


def stored(line):
    """A line as SQLite gives it back, with the affinities of the columns."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in TABLES:
        db.execute(statement)
    db.execute(insertion(1), line)
    found = db.execute("SELECT * FROM inbox").fetchone()
    if found is None:
        found = db.execute(f"SELECT {', '.join(COLUMNS)}, crc, NULL, NULL FROM rows").fetchone()
    db.close()
    return found


@given(results(), st.integers(0, 12))
def test_a_changed_column_is_seen(result, place):
    """A row of which one column was changed does not have its checksum any more."""
    result.encoded = b"1"
    *columns, crc, _, _ = packed(Ended(result, "d", 1e9))
    assert crc_of(Entry(*columns)) == crc
    columns[place] = f"{columns[place]}x"
    assert crc_of(Entry(*columns)) != crc


class Name(enum.StrEnum):
    """Ids that are members of an enumeration."""

    FIRST = "first"


def test_texts_and_numbers_of_other_classes():
    """What prints as something else is written as what it is, and has the same checksum then."""
    result = Result(0, Name.FIRST, None, 1, status=HTTPStatus.OK, encoded=b"1")
    *columns, crc, _, _ = stored(packed(Ended(result, None, 0.0)))
    assert crc_of(Entry(*columns)) == crc
    assert columns[0] == "first"


def test_an_unknown_field_is_passed_over():
    """A journal of a later version may say more of a usage or a failure than is known here."""
    usage = Result(0, "a", None, 1, usage=Usage(1, 2, 3), encoded=b"1")
    entry = Entry(*packed(Ended(usage, None, 0.0))[: len(COLUMNS)])
    entry = entry._replace(usage=entry.usage.replace("{", '{"of_a_later_version":1,'))
    assert result_of(entry, b"1", 0, None).usage == Usage(1, 2, 3)


@pytest.mark.parametrize(
    ("entry", "digest", "retry_failed", "pending"),
    [
        (("ok", 0), "d", False, False),
        (("ok", 0), "other", True, False),
        (("timeout", 0), "d", False, True),
        (("invalid", 1), "d", False, False),
        (("invalid", 1), "d", True, True),
        (("invalid", 1), "other", False, True),
        (("invalid", 1), None, False, False),
    ],
)
def test_what_is_sent_again(entry, digest, retry_failed, pending):
    """A value stands, and a permanent failure does until its request changes."""
    kind, permanent = entry
    row = Entry("", 0, kind, permanent, "d", 0.0, 1, 0.0, 0.0, 200, "[]", None, None)
    assert row.is_pending(digest, retry_failed=retry_failed) == pending
