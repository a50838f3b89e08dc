"""Inputs of batches, given as bytes."""

from __future__ import annotations

import io

from resilient_infe.batch.files.rows import requests_in
from resilient_infe.batch.request import Defaults
from resilient_infe.errors import RowError


def opened_bytes(raw):
    """A file that holds some bytes."""
    return io.BufferedReader(io.BytesIO(raw))


def rows_of(raw, name="x.jsonl", **defaults):
    """All rows of a file: requests, and what is wrong with the others."""
    how = Defaults(**({"model": "infe-pulse"} | defaults))
    return list(requests_in(opened_bytes(raw), name, how))


def prompts(rows):
    """The prompts of rows, and what is said of the bad ones."""
    return [
        str(row) if isinstance(row, RowError) else row.body["messages"][0]["content"]
        for row in rows
    ]
