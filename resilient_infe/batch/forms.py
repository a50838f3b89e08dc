"""Recognises files and rows that are not requests, and says what to do with each.

A file is recognised by its first bytes, a row by its fields. A wrong form is the same on every
line, so one sentence that names a command helps more than a complaint for each line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..adapters.http.masking import printable

BOM = b"\xef\xbb\xbf"

DELIMITERS = ",;\t|"
"""What separates the cells of a table; spreadsheets write semicolons in half of Europe."""

MOST_NAMES = 8
"""Names of columns or fields that a message shows."""

TO_UTF8 = "convert the file, as by iconv -f WINDOWS-1252 -t UTF-8 FILE > converted.jsonl"
"""What to do with a text that is not UTF-8."""

_FRAME = "write it as JSON lines, as by pandas: pandas.read_{}(FILE).to_json('converted.jsonl', \
orient='records', lines=True)"
_STREAM = "write it as JSON lines, as by polars: polars.read_ipc_stream(FILE).write_ndjson(\
'converted.jsonl')"
_ICONV = "convert it: iconv -f {} -t UTF-8 FILE > converted.jsonl"
_SAVE = "save the sheet as CSV UTF-8, then name the column: --prompt-column NAME"
_PIPE = "unpack it on the way: {} FILE | resilient-infe run - -o OUTPUT"

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xfe\0\0", "UTF-32", _ICONV.format("UTF-32")),  # before UTF-16, which begins alike
    (b"\0\0\xfe\xff", "UTF-32", _ICONV.format("UTF-32")),
    (b"\xff\xfe", "UTF-16", _ICONV.format("UTF-16")),
    (b"\xfe\xff", "UTF-16", _ICONV.format("UTF-16")),
    (b"PAR1", "Parquet", _FRAME.format("parquet")),
    (b"ARROW1", "Arrow", _FRAME.format("feather")),
    (b"FEA1", "Feather", _FRAME.format("feather")),
    (b"\xff\xff\xff\xff", "an Arrow stream", _STREAM),
    (b"ORC", "ORC", _FRAME.format("orc")),
    (b"Obj\x01", "Avro", "write it as JSON lines, as by avro-tools: avro-tools tojson FILE"),
    (b"\x89HDF\r\n", "HDF5", _FRAME.format("hdf")),
    (b"\x93NUMPY", "NumPy", "write it as JSON lines, a text or a request on each"),
    (b"\x80\x04\x95", "a pickle", "write it as JSON lines, a text or a request on each"),
    (b"\x80\x05\x95", "a pickle", "write it as JSON lines, a text or a request on each"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", _SAVE),
    (b"\xfd7zXZ\0", "packed with xz", _PIPE.format("xz -dc")),
    (b"BZh", "packed with bzip2", _PIPE.format("bzip2 -dc")),
    (b"7z\xbc\xaf\x27\x1c", "packed with 7-Zip", _PIPE.format("7z e -so")),
    (b"\x04\x22\x4d\x18", "packed with lz4", _PIPE.format("lz4 -dc")),
    (b"LZIP", "packed with lzip", _PIPE.format("lzip -dc")),
    (b"\x1f\x9d", "packed with compress", _PIPE.format("uncompress -c")),
    (b"\xff\x06\0\0sNaPpY", "packed with snappy", _PIPE.format("snzip -dc")),
    (b"Rar!\x1a", "packed with RAR", _PIPE.format("unrar p -inul")),
    (b"SQLite format 3\0", "an SQLite database",
     "give the file that the requests are in; the results of a run are no input"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file: git lfs pull"),
    (b"%PDF", "a PDF", "write its text as JSON lines, a text or a request on each"),
    (b"{\\rtf", "RTF", "save it as plain text"),
)  # fmt: skip

_TAR = "a tar archive", "unpack it on the way: tar -xOf FILE | resilient-infe run - -o OUTPUT"
_ZIP = "packed with zip", _PIPE.format("unzip -p")
_BINARY = "a binary file", "give JSON lines, a JSON array or CSV"

_MARKUP = (b"<!doctype", b"<html", b"<?xml")


def foreign_file(start: bytes) -> str | None:
    """Return what a file is that cannot be read, and what to do; None if it may be one of lines.

    Args:
        start: the first bytes of the file, unpacked; some hundred at least, or all of it.
    """
    for signature, what, advice in _SIGNATURES:
        if start.startswith(signature):
            return f"is {what}: {advice}"
    found = None
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        office = b"[Content_Types].xml" in start or b"xl/" in start
        found = (
            ("an Excel file", _SAVE) if office else ("packed with zip", _PIPE.format("unzip -p"))
        )
    elif start[257:262] == b"ustar":
        found = _TAR
    elif b"\0" in start:
        found = _of_wide_characters(start) or _BINARY
    elif start.lstrip()[:9].lower().startswith(_MARKUP):
        found = "a web page or XML", "was it downloaded without logging in? Give the data itself"
    return None if found is None else f"is {found[0]}: {found[1]}"


def _of_wide_characters(start: bytes) -> tuple[str, str] | None:
    """Recognise UTF-16 and UTF-32 without a byte order mark, by where the zeros are."""
    zeros = [not any(start[n : len(start) & ~3 : 4]) for n in range(4)]
    pairs = ((0, 1, "UTF-32BE"), (2, 3, "UTF-32LE"), (1, 3, "UTF-16LE"), (0, 2, "UTF-16BE"))
    name = next((name for one, other, name in pairs if zeros[one] and zeros[other]), None)
    begins = start[:2].strip(b"\0")
    if name is None and begins in (b"{", b"[", b'"'):  # some characters are not ASCII
        name = "UTF-16BE" if start[0] == 0 else "UTF-16LE"
    return None if name is None else (name, _ICONV.format(name))


def foreign_text(start: bytes) -> str | None:
    """Return what a text is whose first line is not JSON, and what to do; None if it may be lines.

    Args:
        start: the first bytes of the file.
    """
    start = start.removeprefix(BOM).lstrip()
    if b"\r" in start.rstrip(b"\r\n") and b"\n" not in start:
        return "has lines that end in CR alone: convert it: tr '\\r' '\\n' < FILE > converted.jsonl"
    lines = start.splitlines()
    if len(lines) < 2 or any(map(_is_row, lines)):
        return None
    if lines[0].startswith(b"{"):
        return _spread_object(start)
    if lines[0].startswith((b"[", b'"')) and lines[0].endswith((b",", b"]", b'"')):
        return None
    columns = columns_in(lines)
    if columns is not None:
        return (
            f"looks like CSV with the columns {named(columns)}: name the one with the prompt: "
            f"--prompt-column NAME"
        )
    return (
        "is no JSON on any of its first lines: for a file with a prompt on each line, "
        "jq -R . FILE > converted.jsonl"
    )


def _spread_object(start: bytes) -> str | None:
    """Recognise an object that stands on several lines."""
    text = start.decode(errors="replace")
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # One that is longer than the part that was looked at begins with its brace alone.
        first = text.partition("\n")[0].strip()
        found, end = {}, len(text) if first == "{" else 0
    if "\n" not in text[:end].strip():
        return None
    inner = next((name for name, each in found.items() if _is_list_of_rows(each)), None)
    wanted = "." if inner is None else f".{inner}[]"
    return (
        f"is a JSON object over several lines, and a request stands on one: "
        f"jq -c '{wanted}' FILE > converted.jsonl"
    )


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict | str)
    except (ValueError, RecursionError):
        return False


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def columns_in(lines: list[bytes]) -> list[str] | None:
    """Return the names of a table's columns; None if the lines do not look like a table."""
    try:
        first, second = (line.decode() for line in lines[:2])
        separator = delimiter_of(first)
        cells = next(csv.reader([first], delimiter=separator))
        others = next(csv.reader([second], delimiter=separator))
    except (ValueError, csv.Error, StopIteration):
        return None
    plain = all(cell.strip() and len(cell) < 50 for cell in cells)
    return cells if plain and len(cells) == len(others) > 1 else None


def delimiter_of(header: str) -> str:
    """Return what separates the cells of a header: the most frequent, a comma if there is none."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def named(names: Iterable[object]) -> str:
    """Return names for a message, not all of them if there are many."""
    every = [printable(str(each))[:60] for each in names]
    more = f" and {len(every) - MOST_NAMES} more" if len(every) > MOST_NAMES else ""
    return ", ".join(every[:MOST_NAMES]) + more


_RESULT = (
    "it is a result, not a request: give the file that the requests were in (a failed row is sent "
    "again when the same command runs again)"
)
_ANTHROPIC = (
    "it is a request of Anthropic's Batches, whose `params` is the body: "
    "jq -c '{custom_id, body: .params}' FILE > converted.jsonl, and check its model"
)
_GEMINI = (
    "it is a request of Gemini's: write each of its `contents` as one of `messages`, like "
    '{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "..."}]}}'
)
_BEDROCK = (
    "it is a record of Bedrock's: jq -c '{custom_id: .recordId, body: .modelInput}' FILE > "
    "converted.jsonl, and give --model"
)
_MESSAGE = 'it is a message, not a request: write {"messages": [...]} around a conversation'
_CONVERSATION = (
    'it has `conversations`, not `messages`: write each turn as {"role": "user", "content": "..."}'
)


def foreign_row(row: Mapping[str, Any]) -> str | None:
    """Return what a row is that is not a request, and what to do; None if it may be a request."""
    if "body" in row or "messages" in row or "prompt" in row:
        return None
    inner = row.get("request")
    cases = (
        (_is_result(row), _RESULT),
        (isinstance(row.get("params"), Mapping), _ANTHROPIC),
        ("contents" in row or (isinstance(inner, Mapping) and "contents" in inner), _GEMINI),
        ("modelInput" in row, _BEDROCK),
        ("role" in row and "content" in row, _MESSAGE),
        ("conversations" in row, _CONVERSATION),
    )
    found = next((told for holds, told in cases if holds), None)
    if found is None:
        name = next((name for name, each in row.items() if _is_list_of_rows(each)), None)
        if name in ("requests", "data", "rows", "items", "prompts"):
            found = f"it holds many: jq -c '.{name}[]' FILE > converted.jsonl"
    return found


def _is_result(row: Mapping[str, Any]) -> bool:
    """Whether a row is what came of a request: OpenAI's form (and ours), or another provider's."""
    if "modelOutput" in row or "choices" in row:
        return True
    answered = "response" in row and ("custom_id" in row or "error" in row or "key" in row)
    result = row.get("result")
    return answered or (isinstance(result, Mapping) and "type" in result and "custom_id" in row)
