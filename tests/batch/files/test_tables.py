"""CSV: which column is what, and what is said of rows that cannot be read."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import opened_bytes, prompts, rows_of

from resilient_infe.batch.files.lines import unpacked
from resilient_infe.batch.files.rows import requests_in
from resilient_infe.batch.request import Defaults
from resilient_infe.errors import BatchError


def read(raw, name="x.csv", **defaults):
    """The prompts of a table."""
    return prompts(rows_of(raw, name, **defaults))


@pytest.mark.parametrize(
    ("raw", "name", "found"),
    [
        (b'prompt,label\n"hi, there",x\n"two\nlines",y\n', "x.csv", ["hi, there", "two\nlines"]),
        (b"\xef\xbb\xbfprompt;label\r\nhi, there;x\r\n", "X.CSV", ["hi, there"]),
        (b"label\tprompt\n1\thi\n", "x.tsv", ["hi"]),
        (b"sep=;\nprompt;x\na;1\n", "x.csv", ["a"]),
        (b" prompt ,x\n,\n\na,1\n , \n", "x.csv", ["a"]),
        (b"prompt,x\ra,1\rb,2\r", "x.csv", ["a", "b"]),
        (b'prompt\n"say ""hi"""\n', "x.csv", ['say "hi"']),
        (b"prompt,x\n", "x.csv", []),
        (b'{"prompt": "a"}\n', "x.csv", ["a"]),
        (b'prompt\n"' + b"x" * 200_000 + b'"\n', "x.csv", ["x" * 200_000]),
    ],
)
def test_tables_as_programs_write_them(raw, name, found):
    """Commas, semicolons, tabs, marks, quotes, breaks inside of cells, blank rows, long cells."""
    assert read(raw, name) == found


def test_columns_are_named():
    """A column that is named makes a table of what is no JSON; ids are those of their column."""
    raw = b"id,review\n7,good\n8,bad\n"
    rows = rows_of(raw, "-", prompt_column="review", id_column="id")
    assert [row.custom_id for row in rows] == ["7", "8"]
    assert prompts(rows) == ["good", "bad"]
    rows = rows_of(b"custom_id,prompt\na,x\n,y\n", "x.csv.gz")
    assert rows[0].custom_id == "a"
    assert str(rows[1]).startswith("row 2: `custom_id` is empty")
    assert [row.custom_id for row in rows_of(b"prompt\nx\ny\n", "x.csv")] == ["row-1", "row-2"]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"id,review\n1,x\n", r"no column 'prompt' \(it has id, review\): .*--prompt-column"),
        (b"", r"no column 'prompt' \(it is empty\)"),
        (b"prompt,prompt\na,b\n", "the column 'prompt' 2 times"),
        (b"prompt\n" + b"x" * 3_000, "longer than 2,000 characters: .*--max-line"),
        (b'"prompt\n', "the header cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read(raw, told):
    """It is refused in one line."""
    with pytest.raises(BatchError, match=told):
        read(raw, longest=2_000)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("prompt\ncafé\nok\n".encode("cp1252"), "it is not UTF-8: save the sheet as CSV UTF-8"),
        (b"id,prompt\n1\n2,ok\n", "its cells are 1 and the columns 2"),
        (b"id,prompt\n1,a,b\n2,ok\n", "its cells are 3 and the columns 2"),
        (b'prompt\n"a"b\nok\n', "it is not CSV at line 2"),
        (b"id,prompt\n1,\n2,ok\n", "the column 'prompt' is empty"),
    ],
)
def test_bad_rows_are_told_by_themselves(raw, told):
    """The rows after one are read."""
    bad, good = read(raw)
    assert bad.startswith(f"row 1: {told}")
    assert good == "ok"


def test_a_packed_table_that_breaks_off():
    """It is refused as any packed file is."""
    packed = gzip.compress(b"prompt\n" + b"abc\n" * 9_000)[:-20]
    file = unpacked(opened_bytes(packed), "x.csv.gz")
    with pytest.raises(BatchError, match="get the whole file"):
        list(requests_in(file, "x.csv.gz", Defaults("m")))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.tuples(CELLS.filter(str.strip), CELLS), min_size=1, max_size=4))
def test_what_the_standard_library_writes_is_read(rows):
    """Each prompt comes out as it went in."""
    text = io.StringIO()
    csv.writer(text).writerows([("prompt", "other"), *rows])
    assert read(text.getvalue().encode()) == [prompt for prompt, _ in rows]
