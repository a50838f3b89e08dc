"""Files and rows of other forms: one sentence that says what to do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import prompts, rows_of

from resilient_infe.batch.forms import foreign_file, foreign_row, foreign_text
from resilient_infe.errors import BatchError

ONE = '{"prompt": "é"}\n{"prompt": "日本"}\n'


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"PAR1\x15\x04", "is Parquet: .*pandas.read_parquet"),
        (b"ARROW1\0\0", "is Arrow: .*read_feather"),
        (b"\xff\xff\xff\xff\x10", "is an Arrow stream"),
        (b"PK\x03\x04\x14\0", "is packed with zip: .*unzip -p"),
        (b"PK\x03\x04\x14\0[Content_Types].xml", "is an Excel file: .*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1", "is an old Excel file"),
        (b"\xfd7zXZ\0\0", "is packed with xz: .*xz -dc"),
        (b"BZh91AY", "is packed with bzip2"),
        (b"a" * 257 + b"ustar\0" + b"00", "is a tar archive: .*tar -xOf"),
        (ONE.encode("utf-16"), "is UTF-16: .*iconv -f UTF-16 -t UTF-8"),
        (ONE.encode("utf-16-le"), "is UTF-16LE"),
        (ONE.encode("utf-16-be"), "is UTF-16BE"),
        (ONE.encode("utf-32"), "is UTF-32: "),
        (ONE.encode("utf-32-be"), "is UTF-32BE"),
        (b"SQLite format 3\0", "is an SQLite database"),
        (b'{"prompt": "\0"}', "is a binary file"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b'{"prompt": "a"}\r{"prompt": "b"}\r', "end in CR alone: .*tr "),
        (b'{\n  "prompt": "a"\n}\n', "over several lines.*jq -c '.' FILE"),
        (b'{\n  "requests": [\n{"prompt": "a"}]\n}\n', "jq -c '.requests\\[\\]' FILE"),
        (b"{\n" + b' "a": "b",\n' * 2_000, "over several lines"),
        (b"id,question\n1,What is up?\n", "like CSV with the columns id, question: .*--prompt-col"),
        (b"What is up?\nHow are you?\n", "no JSON on any of its first lines: .*jq -R"),
    ],
)
def test_a_file_of_another_form_gets_one_line(raw, told):
    """Nothing is read of it, and the message says what to do."""
    with pytest.raises(BatchError, match=r"^x\.jsonl .*" + told):
        rows_of(raw)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"custom_id": "a", "params": {"messages": []}}, "Anthropic's Batches"),
        ({"requests": [{"custom_id": "a", "params": {}}]}, r"jq -c '.requests[]'"),
        ({"key": "a", "request": {"contents": []}}, "Gemini's"),
        ({"contents": [{"role": "user"}]}, "Gemini's"),
        ({"recordId": "a", "modelInput": {}}, "Bedrock's"),
        ({"recordId": "a", "modelInput": {}, "modelOutput": {}}, "a result, not a request"),
        ({"id": "b", "custom_id": "a", "response": None, "error": {}}, "a result, not a request"),
        ({"custom_id": "a", "result": {"type": "succeeded"}}, "a result, not a request"),
        ({"object": "chat.completion", "choices": []}, "a result, not a request"),
        ({"role": "user", "content": "hi"}, "a message, not a request"),
        ({"conversations": []}, "`conversations`"),
    ],
)
def test_a_row_of_another_form_says_what_to_do(row, told):
    """It is known by its fields; the same words stand for every line, so they are told once."""
    (found,) = rows_of(json.dumps(row).encode())
    assert told in str(found)


@pytest.mark.parametrize("more", [{"body": {}}, {"messages": []}, {"prompt": "x"}])
def test_a_request_with_such_fields_is_a_request(more):
    """Data of the user's own may have fields of any name."""
    assert (
        foreign_row({"custom_id": "a", "response": "x", "params": {}, "contents": 1} | more) is None
    )


def test_a_bad_first_line_is_no_form():
    """Where one of the first lines is JSON, each bad line is told by itself."""
    assert prompts(rows_of(b'oops\n{"prompt": "b"}\n')) == [
        "line 1: it is not JSON: Expecting value at character 1",
        "b",
    ]
    long = b'{"prompt": "' + b"x" * 9_000 + b"\n" + b'"ok"'
    assert str(rows_of(long)[0]).startswith("line 1: it is not JSON")


def test_files_that_were_put_together():
    """Each may have begun with a byte order mark; lines may be blank, or end in CR LF."""
    mark = b"\xef\xbb\xbf"
    raw = mark + b'{"prompt": "a"}\r\n\r\n' + mark + b'{"prompt": "b"}\n \n'
    assert prompts(rows_of(raw)) == ["a", "b"]
    assert rows_of(b"") == rows_of(b"\n \n") == []


@given(st.binary(max_size=80))
def test_no_bytes_raise(raw):
    """Whatever a file begins with, it is recognised or not."""
    for look in (foreign_file, foreign_text):
        found = look(raw)
        assert found is None or found


def test_texts_for_another_endpoint():
    """A text is the input of an endpoint that takes one."""
    (row,) = rows_of(b'"hi"', url="/v1/embeddings")
    assert row.body == {"model": "infe-pulse", "input": "hi"}
    (row,) = rows_of(b"prompt\nhi\n", "x.csv", url="/v1/embeddings")
    assert row.body == {"model": "infe-pulse", "input": "hi"}


def test_named_fields_of_objects():
    """The two that are named are the prompt and the id, and nothing else is sent."""
    raw = b'{"id": 7, "q": "hi", "label": "x"}\n{"id": 8}\n"text"\n'
    first, second, third = rows_of(raw, prompt_column="q", id_column="id")
    assert (first.custom_id, first.body) == (
        "7", {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]},
    )  # fmt: skip
    assert str(second) == "line 2: it has no field 'q'; its fields are id"
    assert third.custom_id == "line-3"
    (row,) = rows_of(b'{"id": "a", "prompt": "hi", "max_tokens": 5}', id_column="id")
    assert (row.custom_id, row.body["max_tokens"]) == ("a", 5)
    (row,) = rows_of(b'{"custom_id": "a", "q": "hi"}', prompt_column="q")
    assert row.custom_id == "a"
