"""From a file to requests: lines of every kind, and what is said of the bad ones."""

from __future__ import annotations

import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.files import lines
from resilient_infe.batch.files.check import check
from resilient_infe.batch.files.lines import LONGEST, NumberedLine, numbered, opened
from resilient_infe.batch.files.request import CHAT, Defaults, parsed
from resilient_infe.batch.journal.table import FAILED, PERMANENT, RowTable, key_of
from resilient_infe.errors import BatchError, RowError

WITH_MODEL = Defaults(model="infe-pulse")
MESSAGES = [{"role": "user", "content": "hi"}]


def request(value, defaults=WITH_MODEL, number=7):
    """The request of a line."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parsed(NumberedLine(number, raw), defaults)


def test_the_batch_form():
    """A line of OpenAI's Batch is taken as it is."""
    body = {"model": "m", "input": "text"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}
    found = request(line)
    assert (found.custom_id, found.line, found.url, found.body) == ("a", 7, "/v1/embeddings", body)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ({"model": "m", "messages": MESSAGES}, {"model": "m", "messages": MESSAGES}),
        ({"prompt": "hi"}, {"model": "infe-pulse", "messages": MESSAGES}),
        ("hi", {"model": "infe-pulse", "messages": MESSAGES}),
        (
            {"prompt": "hi", "max_tokens": 5, "model": "m"},
            {"model": "m", "messages": MESSAGES, "max_tokens": 5},
        ),
        ({"body": {"prompt": "hi"}}, {"model": "infe-pulse", "messages": MESSAGES}),
    ],
)
def test_plain_lines(line, body):
    """Just a body, a prompt or a text is a chat, and its id is made from the line's number."""
    found = request(line)
    assert found.body == body
    assert (found.custom_id, found.url) == ("line-7", CHAT)


def test_another_endpoint_by_default():
    """What the lines leave open is filled in; a prompt stays one where it is the API's own."""
    found = request({"prompt": "hi", "custom_id": "x"}, Defaults("m", "/v1/completions"))
    assert (found.url, found.body) == ("/v1/completions", {"model": "m", "prompt": "hi"})
    assert found.custom_id == "x"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json\n", "not JSON: Expecting value at character 1"),
        (b'{"a": \n', "not JSON"),
        (b"\xff{}\n", "not UTF-8 at byte 1"),
        (b"[" * 100_000 + b"\n", "JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}\n", "not JSON"),
        ([1], "a list, not an object or a text"),
        (5, "a number"),
        (None, "null"),
        (True, "true or false"),
        ({"custom_id": "a"}, "neither `messages` nor `prompt`"),
        ({"custom_id": 5, "prompt": "x"}, "`custom_id` is a number"),
        ({"custom_id": "", "prompt": "x"}, "`custom_id` is a text, not"),
        ({"method": "POST"}, "`body` is missing"),
        ({"body": "x"}, "`body` is a text"),
        ({"body": {"prompt": "x"}, "method": "GET"}, "only POST"),
        ({"body": {"prompt": "x"}, "url": "https://other/v1"}, "--base-url"),
        ({"body": {"prompt": "x"}, "url": "//other/v1"}, "--base-url"),
        ({"body": {"prompt": 5}}, "`prompt` is a number"),
        ({"messages": []}, "`messages`"),
        ({"messages": "hi"}, "`messages`"),
        ({"prompt": "x", "stream": True}, "`stream`"),
        ({"prompt": "x", "model": 5}, "--model"),
        ({"body": {"x": 1}, "url": "/v1/embeddings"}, "none of"),
    ],
)
def test_bad_lines_say_what_is_wrong(line, told):
    """Each names its number and what to mend, and does not quote what may be secret."""
    with pytest.raises(RowError, match="line 7: ") as raised:
        request(line)
    assert told in str(raised.value)
    assert raised.value.line == 7


def test_an_empty_custom_id_reads_well():
    """A line that names no model is told how to name one."""
    with pytest.raises(RowError, match="give --model"):
        request({"prompt": "x"}, Defaults())


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.text() | st.integers(),
    lambda x: st.dictionaries(st.sampled_from(["custom_id", "body", "url", "method", "prompt",
                                               "messages", "model", "stream"]), x) | st.lists(x),
).map(lambda x: json.dumps(x).encode()))  # fmt: skip
def test_no_line_raises_anything_else(raw):
    """Whatever stands on a line, it is a request or a bad line."""
    try:
        found = parsed(NumberedLine(1, raw), WITH_MODEL)
    except RowError:
        return
    assert found.custom_id
    assert isinstance(found.body["model"], str)


def test_lines_end_at_lf_alone():
    """A line separator inside a text does not cut it, blank lines are no lines, a BOM is none."""
    raw = b'\xef\xbb\xbf"a\xe2\x80\xa8b"\n\n  \r\n"c"\r\n"d"'
    found = list(numbered(io.BytesIO(raw), "x"))
    assert [line.number for line in found] == [1, 4, 5]
    assert [json.loads(line.content) for line in found] == ["a\u2028b", "c", "d"]


def test_a_line_without_end(monkeypatch):
    """A line that is too long is told of with its number, and the next ones are read."""
    monkeypatch.setattr(lines, "LONGEST", 100)
    raw = b'"' + b"x" * 1_000 + b'"\n"ok"\n' + b"y" * 250
    found = list(numbered(io.BytesIO(raw), "x"))
    assert [(line.number, line.content) for line in found] == [(1, None), (2, b'"ok"\n'), (3, None)]
    with pytest.raises(RowError, match=f"longer than {LONGEST // 2**20} MiB"):
        parsed(found[0], WITH_MODEL)


def test_packed_files_are_read_as_they_are(tmp_path):
    """Gzip is known by its first bytes, whatever the name; one that breaks off is told."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(gzip.compress(b'"a"\n"b"\n' * 2_000))
    with opened(str(path)) as file:
        assert len(list(numbered(file, "x"))) == 4_000
    path.write_bytes(path.read_bytes()[:-12])
    with opened(str(path)) as file, pytest.raises(BatchError, match="breaks off after line"):
        list(numbered(file, "x"))


def test_zstd(tmp_path):
    """Zstd is read where something unpacks it, and a word says what to install elsewhere."""
    path = tmp_path / "requests.jsonl.zst"
    try:
        import zstandard
    except ImportError:
        path.write_bytes(b"\x28\xb5\x2f\xfd rest")
        with pytest.raises(BatchError, match=r"resilient-infe\[zstd\]"):
            opened(str(path)).__enter__()
        return
    path.write_bytes(zstandard.compress(b'"a"\n' * 500))
    with opened(str(path)) as file:
        assert len(list(numbered(file, "x"))) == 500
    path.write_bytes(path.read_bytes()[:-5] + b"12345")
    with opened(str(path)) as file, pytest.raises(BatchError, match="breaks off"):
        list(numbered(file, "x"))


def test_a_file_that_is_not_there():
    """It is told with its name."""
    with pytest.raises(BatchError, match=r"nowhere\.jsonl cannot be read: No such file"):
        opened("nowhere.jsonl").__enter__()


def test_a_check_finds_all_that_is_wrong():
    """Bad lines and duplicates are counted and the first told; the rest is what is to be sent."""
    rows = [json.dumps({"custom_id": f"r{n}", "prompt": "x" * 400}) for n in range(10)]
    raw = "\n".join([*rows, rows[3], *["oops"] * 30]).encode()

    def recorded():
        table = RowTable()
        table.record(key_of("r1"), 0)
        table.record(key_of("r2"), 0, FAILED)
        table.record(key_of("r4"), 0, FAILED | PERMANENT)
        return table

    found = check(io.BytesIO(raw), "x", WITH_MODEL, recorded(), estimate=True)
    assert (found.rows, found.pending, found.bad) == (10, 8, 31)
    assert found.problems[0] == "line 11: the custom_id 'r3' was used before"
    assert len(found.problems) == 10
    assert found.models == {"infe-pulse": 8}
    assert found.tokens == 8 * (101 + 256)  # the role is a word too
    again = check(io.BytesIO(raw), "x", WITH_MODEL, recorded(), retry_failed=True)
    assert (again.pending, again.tokens) == (9, 0.0)
