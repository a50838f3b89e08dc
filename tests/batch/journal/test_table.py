"""The table of rows: against a plain dict, and in its memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.journal.table import (
    CHECKED,
    FAILED,
    OFFSET,
    PERMANENT,
    TAKEN,
    RowTable,
    key_of,
)

KEYS = st.one_of(st.integers(1, 50), st.integers(1, 2**64 - 1))


@given(st.lists(st.tuples(KEYS, st.sampled_from([TAKEN, CHECKED])), max_size=300))
def test_marks_are_kept(steps):
    """Every flag that was set is told, whatever else was added since, and no other."""
    table, plain = RowTable(), {}
    for key, flag in steps:
        assert table.mark(key, flag) == plain.get(key, 0)
        plain[key] = plain.get(key, 0) | flag
    assert len(table) == len(plain)
    assert all(table.get(key) == word for key, word in plain.items())


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 10**9), st.booleans()), max_size=60))
def test_the_first_success_stands(records):
    """A record replaces a failure, and nothing replaces a success."""
    table, plain = RowTable(), {}
    for key, offset, failed in records:
        table.record(key, offset, FAILED if failed else 0)
        if plain.get(key, (0, True))[1]:
            plain[key] = (offset, failed)
    for key, (offset, failed) in plain.items():
        word = table.get(key)
        assert (word & OFFSET) - 1 == offset
        assert bool(word & FAILED) == failed


def test_flags_and_records_do_not_touch_each_other():
    """A mark survives a record, and a record a mark; both can be counted by."""
    table = RowTable()
    table.mark(7, TAKEN)
    table.record(7, 0, FAILED | PERMANENT)
    table.mark(7, CHECKED)
    assert table.get(7) == TAKEN | CHECKED | FAILED | PERMANENT | 1
    table.record(8, 5)
    assert table.count(OFFSET, FAILED) == table.count(TAKEN, 0) == 1
    assert table.count(OFFSET, CHECKED | FAILED) == 1
    assert table.count(OFFSET, 0) == 2


def test_a_row_takes_32_bytes_at_most():
    """At every size from the first growth on, and none of the rows is lost."""
    table = RowTable()
    for number in range(30_000):
        table.mark(key_of(f"row-{number}"), TAKEN)
        assert number < 1_000 or table.size <= 32 * len(table)
    assert len(table) == 30_000
    assert table.get(key_of("row-12345")) == TAKEN
    assert table.get(key_of("row-30000")) == 0


def test_keys_of_odd_ids():
    """Any text has a key, and it is never the 0 that stands for an empty slot."""
    ids = ["", "a", "\ud800", "\u2028", "x" * 100_000]
    assert len({key_of(each) for each in ids}) == len(ids)
    assert all(key_of(each) for each in ids)
