"""The lines of docs/howto/engines.md for DBOS."""

from __future__ import annotations

import sqlite3
import sys

import pytest

PAGE = "engines"


OLD = sys.version_info >= (3, 13) and sqlite3.sqlite_version_info < (3, 42)
"""Whether DBOS finds no milliseconds in this SQLite, and uses them: on 3.13, not on 3.11."""


@pytest.mark.skipif(OLD, reason="DBOS needs SQLite 3.42 on Python 3.13")
def test_each_step_is_sent_once(place):
    """Every row is answered, once, and no 429 comes."""
    last = f"len(main('sqlite:///{place.folder}/steps.db', {place.prompts!r}))"
    assert place.run("DBOS", last) == "100"
    assert (place.model.books.sends, place.model.books.rejected) == (100, 0)
