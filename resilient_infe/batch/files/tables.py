"""Rows of a CSV file: one column is the prompt, one may be the id, and the others are not sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from ...errors import BatchError, RowError
from ..forms import TO_UTF8, delimiter_of, named
from ..request import PROMPT, Defaults
from .lines import broken_off

NOT_UTF8 = f"it is not UTF-8: save the sheet as CSV UTF-8, or {TO_UTF8}"

LARGEST_CELL = 2**31 - 1
"""Characters; the largest limit that the module takes on every system."""

_PACKED = (".gz", ".zst")
_NAMES = (".csv", ".tsv", ".tab")


def is_table(name: str, start: bytes, defaults: Defaults) -> bool:
    """Return whether a file is CSV: by its name, or because a column is named for what is no JSON.

    Args:
        name: the file's name.
        start: its first bytes without what is blank.
        defaults: may name a column.
    """
    if start.startswith((b"{", b"[")):
        return False
    return defaults.names_columns or _plain_name(name).endswith(_NAMES)


def table_rows(
    file: io.BufferedReader, name: str, start: bytes, defaults: Defaults
) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Yield each row's number, from 1 after the header, and the prompt and id in it.

    Args:
        file: opened in binary mode.
        name: the file's name.
        start: its first bytes; its first line decides what separates cells.
        defaults: names the columns, and bounds the length of a row.

    Raises:
        BatchError: a column is missing, or the file cannot be read to its end.
    """
    # One limit for the process is all that there is; at the usual 128 KiB a long prompt is refused.
    csv.field_size_limit(max(csv.field_size_limit(), min(defaults.longest, LARGEST_CELL)))
    # What is not UTF-8 comes as lone surrogates, so that it fails its own row and no other.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    rows = _Rows(text, name, _delimiter(name, start), defaults.longest)
    try:
        columns = _Columns(rows.header(), name, defaults)
        for number, cells in rows:
            yield number, cells if isinstance(cells, RowError) else columns.read(cells)
    finally:
        text.detach()  # or it would close the file


class _Rows:
    """The rows of a table that are not blank. State: how many were read."""

    def __init__(self, text: io.TextIOWrapper, name: str, delimiter: str, longest: int) -> None:
        self._name = name
        self._text = text
        self._longest = longest
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        self._number = 0

    def header(self) -> list[str]:
        """Return the names of the columns."""
        for _, cells in self:
            if isinstance(cells, RowError):
                raise BatchError(f"{self._name}: the header cannot be read: {cells}")
            if cells[0].startswith("sep=") and not any(cells[1:]):  # a line for Excel
                continue
            self._number = 0
            return [cell.strip() for cell in cells]
        return []

    def __iter__(self) -> Iterator[tuple[int, list[str] | RowError]]:
        """Yield each row's number and cells, or why it cannot be read."""
        while True:
            cells: list[str] | RowError
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells = RowError(
                    f"it is not CSV at line {self._reader.line_num} ({error}): is a quote missing, "
                    f"or one too many?"
                )
            except BatchError:
                raise
            except Exception as error:
                raise broken_off(error, self._name, f"row {self._number}") from None
            if isinstance(cells, RowError) or any(cell.strip() for cell in cells):
                self._number += 1
                yield self._number, cells

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(self._longest):
            if len(line) == self._longest and line[-1] not in "\r\n":
                raise BatchError(
                    f"{self._name}: a line after row {self._number} is longer than "
                    f"{self._longest:,} characters: is a line break missing? Else give a larger "
                    f"--max-line"
                )
            yield line


class _Columns:
    """Where the prompt and the id stand in a row."""

    def __init__(self, header: list[str], name: str, defaults: Defaults) -> None:
        """Find the columns.

        Raises:
            BatchError: one is missing, or is there twice.
        """
        self._width = len(header)
        self._name = name
        self._header = header
        self._prompt = PROMPT if defaults.prompt_column is None else defaults.prompt_column
        self._at_prompt = self._find(self._prompt, "--prompt-column")
        wanted = defaults.id_column
        if wanted is None and "custom_id" in header:
            wanted = "custom_id"
        self._at_id = None if wanted is None else self._find(wanted, "--id-column")

    def read(self, cells: list[str]) -> dict[str, Any] | RowError:
        """Return the prompt and the id of a row, or what is wrong with it."""
        if len(cells) != self._width:
            return RowError(
                f"its cells are {len(cells)} and the columns {self._width}: is a text with a "
                f"separator in it not in quotes?"
            )
        prompt = cells[self._at_prompt]
        found = {PROMPT: prompt}
        if not prompt.strip():
            return RowError(f"the column {self._prompt!r} is empty")
        if self._at_id is not None:
            found["custom_id"] = cells[self._at_id]
        return found if all(map(_is_utf8, found.values())) else RowError(NOT_UTF8)

    def _find(self, wanted: str, option: str) -> int:
        count = self._header.count(wanted)
        if count == 1:
            return self._header.index(wanted)
        if count:
            raise BatchError(f"{self._name} has the column {wanted!r} {count} times: rename one")
        known = f"it has {named(self._header)}" if self._header else "it is empty"
        raise BatchError(
            f"{self._name} has no column {wanted!r} ({known}): its first row must name the "
            f"columns; name the one that is meant with {option}"
        )


def _is_utf8(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain_name(name: str) -> str:
    name = name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name


def _delimiter(name: str, start: bytes) -> str:
    header = start.partition(b"\n")[0].decode(errors="replace")
    if header.startswith("sep=") and len(header.strip()) == len("sep=") + 1:
        return header[len("sep=")]
    return "," if _plain_name(name).endswith(_NAMES[:1]) and not header else delimiter_of(header)
