"""The lines of docs/howto/engines.md for DBOS."""

from __future__ import annotations

import sqlite3

import pytest

PAGE = "engines"


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 40), reason="DBOS needs a newer SQLite")
def test_each_step_is_sent_once(place):
    """Every row is answered, once, and no 429 comes."""
    last = f"len(main('sqlite:///{place.folder}/steps.db', {place.prompts!r}))"
    assert place.run("DBOS", last) == "100"
    assert (place.model.books.sends, place.model.books.rejected) == (100, 0)
