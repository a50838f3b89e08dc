"""The ids that were seen: against a plain set, and in their memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.store.keys import SeenIds, key_of


@given(st.lists(st.text(max_size=3), max_size=300))
def test_ids_are_kept(ids):
    """Every id that was added is known, whatever else was added since, and no other."""
    seen, plain = SeenIds(), set()
    for each in ids:
        assert (each in seen) == (each in plain)
        assert seen.add(each) == (each not in plain)
        plain.add(each)
    assert len(seen) == len(plain)
    assert all(each in seen for each in plain)


def test_an_id_takes_few_bytes():
    """So do all strings together, and none of the ids is lost."""
    seen = SeenIds()
    for number in range(30_000):
        assert seen.add(f"row-{number}")
    assert seen.size < 2_000_000 + 12 * len(seen)
    assert len(seen) == 30_000
    assert "row-12345" in seen
    assert "row-30000" not in seen
    assert not seen.add("row-12345")


def test_keys_of_odd_ids():
    """Any text has a key of its own."""
    ids = ["", "a", "\ud800", "\u2028", "x" * 100_000]
    assert len({key_of(each) for each in ids}) == len(ids)
