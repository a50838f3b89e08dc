"""From a file to requests: lines of every kind, and what is said of the bad ones."""

from __future__ import annotations

import gzip
import io
import json
import sys
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import opened_bytes, rows_of

from resilient_infe.batch.files.check import check_file
from resilient_infe.batch.files.decode import decoded
from resilient_infe.batch.files.lines import numbered, opened
from resilient_infe.batch.request import CHAT, Defaults
from resilient_infe.batch.store import Entry
from resilient_infe.errors import BatchError, RowError

WITH_MODEL = Defaults(model="infe-pulse")
MESSAGES = [{"role": "user", "content": "hi"}]


def entry(kind, *, permanent=0, digest=None):
    """What a journal has recorded of a row."""
    return Entry("", 0, kind, permanent, digest, 0.0, 1, 0.0, 0.0, 200, "[]", None, None)


def request(value, defaults=WITH_MODEL, number=7):
    """The request of a line."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    (found,) = rows_of(b"\n" * (number - 1) + raw, model=defaults.model, url=defaults.url)
    if isinstance(found, RowError):
        raise found
    return found


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
        (b'{"a": ' + b"[" * 100_000 + b"\n", "JSON is nested too deeply"),
        (
            b'{"n": ' + b"9" * 5000 + b"}\n",
            "a number in it has over 4,300 digits: put it in quotes",
        ),
        ({"prompt": [1]}, "`prompt` is a list"),
        (5, "a number"),
        (None, "null"),
        (True, "true or false"),
        ({"custom_id": "a"}, "neither `messages` nor `prompt`"),
        ({"custom_id": 5, "prompt": "x"}, "`custom_id` is a number"),
        ({"custom_id": "", "prompt": "x"}, "`custom_id` is empty: leave it out"),
        ({"custom_id": "\ud800", "prompt": "x"}, "`custom_id` has half a character"),
        ({"model": "\udfff", "prompt": "x"}, "`model` has half a character"),
        ({"body": {"prompt": "x"}, "url": "/v1/ö"}, "outside of ASCII"),
        (b'{"prompt": "x", "prompt": "y"}', "the key 'prompt' stands twice in an object"),
        (b'{"messages": [{"role": "user", "role": "user"}]}', "the key 'role' stands twice"),
        (b'{"prompt": "x", "n": NaN}', "NaN is not JSON: write null"),
        (b'{"prompt": "x", "n": -Infinity}', "-Infinity is not JSON"),
        (b'{"prompt": "x", "n": 1e999}', "the number 1e999 is too large"),
        (b'{"prompt": "x", "n": ' + b"[" * 250 + b"]" * 250 + b"}", "over 200 levels deep"),
        (b'{"prompt": "x"},', "ends with a comma"),
        (b"{'prompt': 'x'}", "json.dumps"),
        ({"question": "x"}, "its fields are question: name the prompt (--prompt-column"),
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
        rows = rows_of(raw)
    except BatchError:  # the form of the whole file is not read
        return
    for row in rows:
        assert isinstance(row, RowError) or (row.custom_id and isinstance(row.body["model"], str))


def test_lines_end_at_lf_alone():
    """A line separator inside a text does not cut it, blank lines are no lines, a BOM is none."""
    raw = b'\xef\xbb\xbf"a\xe2\x80\xa8b"\n\n  \r\n"c"\r\n"d"'
    found = list(numbered(io.BytesIO(raw), "x"))
    assert [line.number for line in found] == [1, 4, 5]
    assert [json.loads(line.content) for line in found] == ["a\u2028b", "c", "d"]


def test_a_line_without_end():
    """A line that is too long is told of with its number, and the next ones are read."""
    raw = b'"' + b"x" * 1_000 + b'"\n"ok"\n' + b"y" * 250
    found = list(numbered(io.BytesIO(raw), "x", 100))
    assert [(line.number, line.content) for line in found] == [(1, None), (2, b'"ok"\n'), (3, None)]
    bad, good, last = rows_of(raw, longest=100)
    assert str(bad).startswith("line 1: it is longer than 100 bytes: is a line break missing?")
    assert "--max-line" in str(last)
    assert good.custom_id == "line-2"


def read(path, content):
    """Write a file, and read its lines as a run does."""
    path.write_bytes(content)
    with opened(str(path)) as file:
        return [line.content for line in numbered(file, path.name)]


def zstd_frame(*blocks):
    """A frame with each block as it is: what a writer leaves that flushes after each."""
    last = len(blocks) - 1
    heads = (len(block) << 3 | (n == last) for n, block in enumerate(blocks))
    whole = (n.to_bytes(3, "little") + block for n, block in zip(heads, blocks, strict=True))
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(whole)


A, B, C = b'"a"\n', b'"b"\n', b'"c"\n'
BLOCKS = zstd_frame(A, B, C)
CHECKED = bytes.fromhex("28b52ffd04584100002261220a2262220ad4a991b2")  # a and b, with a checksum
SKIPPED = b"\x5a\x2a\x4d\x18\x05\x00\x00\x00notes"
FRAMES = {"blocks": BLOCKS, "checked": CHECKED, "skipped": SKIPPED, "empty": zstd_frame(b"")}
PACKED = {"blocks": BLOCKS, "checked": CHECKED, "gzip": gzip.compress(A)}


UNPACKERS = {"compression", "zstandard"}  # the first is of Python 3.14 on


@pytest.fixture(params=sorted(filter(find_spec, UNPACKERS)))
def unpacker(request, monkeypatch):
    """Each of the packages that unpack zstd, without the other."""
    for other in UNPACKERS - {request.param}:
        monkeypatch.setitem(sys.modules, other, None)


def test_packed_files_are_read_as_they_are(tmp_path):
    """Gzip is known by its first bytes, whatever the name, and its members are one input."""
    packed = gzip.compress(b'"a"\n"b"\n' * 2_000)
    assert len(read(tmp_path / "requests.jsonl", packed + packed)) == 8_000


@pytest.mark.parametrize("frame", FRAMES)
def test_zstd_is_read_whole(unpacker, tmp_path, frame):
    """A file of one frame or several is read to its end; frames to be skipped are skipped."""
    path, content = tmp_path / "requests", FRAMES[frame]
    alone = read(path, content)
    assert alone == {"blocks": [A, B, C], "checked": [A, B]}.get(frame, [])
    assert read(path, content + BLOCKS) == [*alone, A, B, C]
    assert read(path, SKIPPED + content + CHECKED + SKIPPED) == [*alone, A, B]


def test_a_zstd_file_larger_than_any_buffer(unpacker, tmp_path):
    """A line that many blocks hold comes out as it went in."""
    line = b'"' + bytes(range(32, 128)) * 5_000 + b'"\n'
    blocks = [line[n : n + 100_000] for n in range(0, len(line), 100_000)]
    assert read(tmp_path / "requests", zstd_frame(*blocks) * 3) == [line] * 3


def broken(path, content, whole):
    """Read a file that breaks off; the lines before the break are lines of the whole."""
    path.write_bytes(content)
    found = []
    with opened(str(path)) as file, pytest.raises(BatchError, match="get the whole file") as raised:
        found.extend(line.content for line in numbered(file, path.name))
    assert found == whole[: len(found)]
    assert str(raised.value).startswith(f"requests breaks off after line {len(found)} (")


@pytest.mark.parametrize("last", FRAMES)
@pytest.mark.parametrize("before", ["nothing", *FRAMES])
def test_a_cut_zstd_file_is_refused(unpacker, tmp_path, before, last):
    """A frame may be cut in its header, inside a block, between two, before its checksum."""
    first, frame = FRAMES.get(before, b""), FRAMES[last]
    whole = read(tmp_path / "whole", first + frame)
    # A file of nothing but the start of a skippable frame's first four bytes may be a text.
    for length in range(1 if first or last != "skipped" else 4, len(frame)):
        broken(tmp_path / "requests", first + frame[:length], whole)


@pytest.mark.parametrize("first", [b"", PACKED["gzip"]], ids=["alone", "second"])
def test_a_cut_gzip_file_is_refused(tmp_path, first):
    """A member may be cut in its header, inside its content, before or in its checksum."""
    packed = gzip.compress((A + B) * 20)
    whole = read(tmp_path / "whole", first + packed)
    for length in range(1, len(packed)):
        broken(tmp_path / "requests", first + packed[:length], whole)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("rest", [b"x", b'"d"\n', b"\x28\xb5\x2f\xff\x00", b"\x50\x2a\x4d\x19"])
def test_what_follows_a_packed_file_is_refused(unpacker, tmp_path, packed, rest):
    """Bytes after the end that are not packed would otherwise be left out without a word."""
    broken(tmp_path / "requests", PACKED[packed] + rest, [A, B, C])


def test_a_changed_zstd_file_is_refused(unpacker, tmp_path):
    """A checksum that is there is looked at."""
    broken(tmp_path / "requests", CHECKED[:-1] + b"x", [A, B])


@pytest.mark.parametrize("name", ["requests.jsonl.zst", "requests.jsonl.gz", "requests.jsonl"])
def test_a_file_without_a_byte_has_no_lines(tmp_path, name):
    """A file is packed by what it begins with, and not by its name."""
    assert read(tmp_path / name, b"") == []


@pytest.mark.parametrize("frame", FRAMES)
def test_zstd_without_a_package(monkeypatch, tmp_path, frame):
    """The message says what to install where nothing unpacks zstd."""
    for package in UNPACKERS:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BatchError, match=r"resilient-infe\[zstd\]"):
        read(tmp_path / "requests", FRAMES[frame])


def test_a_file_that_is_not_there():
    """It is told with its name."""
    with pytest.raises(BatchError, match=r"nowhere\.jsonl cannot be read: No such file"):
        opened("nowhere.jsonl").__enter__()


OTHERS = "(and 29 more such lines: 13, 14, 15, 16, 17 ...)"


def test_a_check_finds_all_that_is_wrong():
    """Bad lines are counted, and told once for each kind; the rest is what is to be sent."""
    rows = [json.dumps({"custom_id": f"r{n}", "prompt": "x" * 400}) for n in range(10)]
    raw = "\n".join([*rows, rows[3], *["oops"] * 30]).encode()

    recorded = {"r1": entry("ok"), "r2": entry("timeout"), "r4": entry("invalid", permanent=1)}

    def checked(**options):
        return check_file(opened_bytes(raw), "x", WITH_MODEL, recorded.get, **options)

    found = checked(estimate=True)
    assert (found.rows, found.pending, found.bad) == (10, 8, 31)
    assert found.problems == [
        "line 11: the custom_id 'r3' was used before",
        "line 12: it is not JSON: Expecting value at character 1 " + OTHERS,
    ]
    assert (found.unlisted, found.unknown) == (0, 0)
    assert found.models == {"infe-pulse": 8}
    assert found.tokens == 8 * (101 + 256)  # the role is a word too
    assert found.known == 1
    again = checked(retry_failed=True)
    assert (again.pending, again.tokens) == (9, 0.0)
    recorded["r4"] = entry("invalid", permanent=1, digest="of another model")
    mended = checked()
    assert mended.pending == 9


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=40)
@given(JSON, st.sampled_from(["\n", "\r\n", " \n", ""]))
def test_a_checked_line_is_read_as_it_was_checked(value, end):
    """The second reading decodes the same value."""
    line = (json.dumps(value) + end).encode()
    first, second = decoded(line, 100), decoded(line, 100, checked=True)
    assert repr(first) == repr(second) == repr(value)


@pytest.mark.parametrize(
    "line", [b'{"a": ', b"\xff", b"[" * 100_000, b"1" * 5_000, b"", b"1 2", None]
)
def test_a_checked_line_that_has_changed_is_an_error_too(line):
    """It is told as in the first reading, whatever stands there now."""
    with pytest.raises(RowError) as first:
        decoded(line, 100)
    with pytest.raises(RowError, match="^" + str(first.value)[:10]):
        decoded(line, 100, checked=True)
