"""The decoder of server-sent events: whole events from chunks cut anywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import errors
from resilient_infe.adapters.http import sse
from resilient_infe.adapters.http.sse import SSEDecoder


def decode(*chunks):
    """Return the data of all events in the chunks."""
    decoder = SSEDecoder()
    return [data for chunk in chunks for data in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\r\n\r\n", ["a"]),
        (b"data: a\r\r", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b": comment\ndata: a\nid: 5\nevent: x\n\n", ["a"]),
        (b"\n\n\n", []),
        (b"data\n\n", []),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        ("data: a\u2028b\x85c\n\n".encode(), ["a\u2028b\x85c"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b'event: ping\ndata: {"type": "ping"}\n\ndata: a\n\n', ["a"]),
    ],
)
def test_the_standards_cases(raw, data):
    """Lines end at CR, LF and CRLF only; comments and other fields are passed over."""
    assert decode(raw) == data


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"message": "busy"}', {"message": "busy"}),
        (b'{"code": 503}', {"code": 503}),
        (b"Internal Server Error", {"message": "Internal Server Error"}),
        (b'"busy"', {"message": "busy"}),
        (b"{}", {"message": "{}"}),
        (b"[" * 100_000, None),
        (b'{"error": {"code": "x"}}', {"code": "x"}),
        (b'{"type": "error", "error": {"type": "overloaded_error"}}', {"type": "overloaded_error"}),
    ],
    ids=str,
)
def test_an_event_that_is_called_an_error_is_one(data, error):
    """The data of ``event: error`` is an error, also if it names none; the next event is not."""
    [first, second] = decode(b"event: error\ndata: " + data + b"\n\ndata: a\n\n")
    assert second == "a"
    found = json.loads(first)["error"]
    assert found == error if error is not None else found["message"].startswith("[[")


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n"), min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_chunks_may_be_cut_anywhere(events, end, data):
    """However the bytes are cut, inside a character or a CRLF too, the events are the same."""
    raw = "".join(f"data: {event}{end}{end}" for event in events).encode("utf-8", "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(*chunks) == decode(raw)
    assert len(decode(raw)) == len(events)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([b"data: a", b"\r", b"\n", b"\r\n", b": c"])), st.data())
def test_mixed_line_ends_may_be_cut_anywhere(pieces, data):
    """A CRLF that is cut apart, with an LF after it, is one end of a line and not two."""
    raw = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(*chunks) == decode(raw)


def test_cr_lf_lf_cut_into_bytes():
    """The empty line that ends the event is seen wherever the chunks are cut."""
    raw = b"data: a\r\n\ndata: b\n\n"
    assert decode(*[raw[i : i + 1] for i in range(len(raw))]) == decode(raw) == ["a", "b"]


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_arbitrary_bytes_never_raise(chunks):
    """Nonsense is no event, and no exception."""
    assert all(isinstance(data, str) for data in decode(*chunks))


def test_an_endless_line_is_refused(monkeypatch):
    """An event that never ends, in one line or many, is refused before it fills the memory."""
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    with pytest.raises(errors.StreamBroken, match="over 100 characters"):
        decode(*[b"data: " + b"x" * 30] * 5)
    with pytest.raises(errors.StreamBroken, match="over 100 characters"):
        decode(*[b"data: " + b"x" * 30 + b"\n"] * 5)
