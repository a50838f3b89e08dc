"""The rows of an input, whatever its form: JSON lines, a JSON array, or a table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from ...errors import BatchError, RowError
from ..forms import BOM, foreign_file, foreign_text
from ..request import PROMPT, Defaults, Request, request_of
from .arrays import array_rows
from .decode import decoded
from .lines import broken_off, numbered
from .tables import is_table, table_rows

LOOK = 4096
"""Bytes of a file that show what it is."""


def requests_in(
    file: io.BufferedReader, name: str, defaults: Defaults
) -> Iterator[Request | RowError]:
    """Yield the request of each row, or an error that says why the row is not valid.

    Args:
        file: the input, opened in binary mode, at its beginning.
        name: the file's name.
        defaults: how rows are read, and the values for fields that they omit.

    Raises:
        BatchError: the file cannot be read to its end, or has a form that is not read.
    """
    try:
        start = file.peek(LOOK)[:LOOK]
    except Exception as error:
        raise broken_off(error, name, "its beginning") from None
    foreign = foreign_file(start)
    if foreign is not None:
        raise BatchError(f"{name} {foreign}")
    start = start.removeprefix(BOM).lstrip()
    if start.startswith(b"["):
        yield from _requests("row", array_rows(file, name, defaults), defaults)
    elif is_table(name, start, defaults):
        rows = table_rows(file, name, start, defaults)
        # The columns are found: what they hold has the usual names.
        found = Defaults(defaults.model, defaults.url, PROMPT, longest=defaults.longest)
        yield from _requests("row", rows, found)
    else:
        yield from _requests("line", _json_lines(file, name, start, defaults), defaults)


def _requests(
    word: str, rows: Iterator[tuple[int, Any]], defaults: Defaults
) -> Iterator[Request | RowError]:
    for number, value in rows:
        try:
            if isinstance(value, RowError):
                raise value
            yield request_of(value, f"{word}-{number}", number, defaults)
        except RowError as error:
            yield RowError(f"{word} {number}: {error}", number)


def _json_lines(
    file: io.BufferedReader, name: str, start: bytes, defaults: Defaults
) -> Iterator[tuple[int, Any]]:
    is_first = True
    for line in numbered(file, name, defaults.longest):
        value: Any
        try:
            value = decoded(line.content, defaults.longest, checked=defaults.checked)
        except RowError as error:
            foreign = foreign_text(start) if is_first else None
            if foreign is not None:
                raise BatchError(f"{name} {foreign}") from None
            value = error
        is_first = False
        yield line.number, value
