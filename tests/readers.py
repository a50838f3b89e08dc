"""Every reader of outside input as one thing: what it is given, and what it may raise.

A reader takes anything. What it may raise is an error of the library that says what is wrong with
the input; where nothing may be raised, there is none.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from inputs import rows_of
from nonsense import NUMBERS, NUMERIC

from resilient_infe import errors, presets
from resilient_infe.adapters.http.masking import KeyMask
from resilient_infe.adapters.http.partition import model_in_path
from resilient_infe.adapters.http.sse import SSEDecoder
from resilient_infe.batch.control import obey
from resilient_infe.batch.store import recorded_at
from resilient_infe.classify import headers
from resilient_infe.classify.hint_in_body import hint_in_body
from resilient_infe.classify.limits_in_body import limits_in_body
from resilient_infe.classify.table import classify_reply
from resilient_infe.classify.usage import usage_of
from resilient_infe.cli.config import read_config
from resilient_infe.shared.script import answers

KEY = "infe_live_CANARY0123456789"

WORDS = ["error", "message", "type", "code", "status", "param", "details", "metadata",
         "retry_after", "retryDelay", "retryInfo", "usage", "prompt_tokens", "completion_tokens",
         "total_tokens",
         "choices", "message", "delta", "content", "rate_limit_exceeded", "insufficient_quota",
         "violations", "quotaMetric", "model", "custom_id", "body", "messages", "prompt", "limits",
         "action", "pause", "concurrency", "requests_per_minute", "object", "id"]  # fmt: skip

ODD = st.one_of(
    st.sampled_from([*NUMBERS, *WORDS]), st.text(max_size=20), st.integers(), st.floats(),
    st.booleans(), st.none(), st.integers(10**17, 10**40),
)  # fmt: skip

VALUES = st.recursive(
    ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=20,
)

HEADERS = st.dictionaries(
    st.one_of(st.sampled_from([*NUMERIC, "x-request-id", "content-type"]), st.text(max_size=15)),
    st.one_of(st.sampled_from(NUMBERS), st.text(max_size=40)),
    max_size=6,
)

JSON = VALUES.map(lambda value: json.dumps(value, allow_nan=True).encode("utf-8", "replace"))

LINES = st.one_of(
    st.binary(max_size=200),
    JSON,
    st.sampled_from([b"\xef\xbb\xbf", b"[", b"]", b"a,b\n1,2", b"\x1f\x8b\x08", b"PAR1", b'"',
                     b"\0", b'{"prompt": "hi"}', b"prompt\thi", b"\xff\xfe{\x00", b"[" * 2_000]),
)  # fmt: skip

FILES = st.lists(LINES, max_size=6).map(b"\n".join)

EVENTS = st.lists(
    st.one_of(
        st.sampled_from([b"data: ", b"event: error\n", b"\n\n", b"\r", b"\r\n", b": ping\n\n"]),
        LINES,
    ),
    max_size=12,
)  # fmt: skip

NAMES = st.sampled_from(["concurrency", "[run]", "model", "[limits]", "rpm", "x", "=", "[["])
SETTINGS = st.sampled_from(["= 5", "= nan", '= "a"', "= []", "= {a = 1}", "= 1979-05-27", ""])
TOML = st.one_of(
    FILES,
    st.lists(st.tuples(NAMES, SETTINGS), max_size=6).map(
        lambda pairs: "\n".join(map(" ".join, pairs)).encode()
    ),
)

JOURNALS = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=300).map(lambda rest: b"SQLite format 3\0" + rest),
)


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        given: draws its input.
        read: reads it.
        raises: what it may raise; nothing else.
    """

    given: st.SearchStrategy[Any]
    read: Callable[[Any], object]
    raises: tuple[type[Exception], ...] = ()


def reply(drawn):
    """Read a reply, as bytes and as a value that an adapter has decoded."""
    status, fields, value = drawn
    raw = json.dumps(value).encode("utf-8", "replace")
    for body in (raw, raw[:-1], value):
        verdict = classify_reply(status, fields, body, 1.7e9, completion=True)
        assert verdict.retry_after is None or 0.0 <= verdict.retry_after < math.inf
        str(verdict)


def stated(fields):
    """Read hints, limits and the request's id of headers."""
    hint = headers.retry_after(fields, 1.7e9)
    assert hint is None or 0.0 <= hint < math.inf
    hint = headers.parse_retry_after(next(iter(fields.values()), None), None, 1.7e9)
    assert hint is None or 0.0 <= hint < math.inf
    classify_reply(429, fields, None, 1.7e9)


def body(value):
    """Read hints, limits and usage of a body."""
    hint = hint_in_body(value, 1.7e9)
    assert hint is None or 0.0 <= hint < math.inf
    limits_in_body(value, 1.7e9)
    usage_of(value)


def events(chunks):
    """Read a stream, cut where it may be cut."""
    decoder = SSEDecoder()
    for chunk in chunks:
        for data in decoder.feed(chunk):
            assert isinstance(data, str)


def in_a_file(read, name):
    """Return a reader of bytes that reads a file of them."""

    def of(content):
        with tempfile.TemporaryDirectory(
            dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        ) as at:
            path = Path(at, name)
            path.write_bytes(content)
            read(str(path))

    return of


def order(value):
    """Read an order to a run."""
    job = SimpleNamespace(stack=presets.batch(log=False), under_way=None)
    obey(job, value if isinstance(value, dict) else {"limits": value})


def masked(text):
    """Mask a key in a text that has it."""
    assert KEY not in KeyMask(KEY).text(f"{text}{KEY}{text}")


READERS = {
    "a reply": Reader(st.tuples(st.integers(-1, 1_000), HEADERS, VALUES), reply),
    "headers": Reader(HEADERS, stated),
    "a body": Reader(VALUES, body),
    "a stream": Reader(EVENTS, events, (errors.StreamBroken,)),
    "rows of a batch": Reader(FILES, rows_of, (errors.BatchError,)),
    "a table": Reader(FILES, lambda raw: rows_of(raw, "x.csv"), (errors.BatchError,)),
    "a journal": Reader(JOURNALS, in_a_file(recorded_at, "j"), (errors.JournalError,)),
    "a file of options": Reader(
        TOML,
        in_a_file(lambda path: read_config(["--config", path]), "x.toml"),
        (errors.ConfigurationError,),
    ),
    "an order": Reader(VALUES, order, (errors.ConfigurationError,)),
    "an answer of the shared store": Reader(
        st.lists(st.one_of(st.binary(max_size=9), st.sampled_from(NUMBERS)), max_size=11),
        answers,
        (ValueError,),
    ),
    "the path of a URL": Reader(st.text(max_size=200), model_in_path),
    "a text with a key": Reader(st.text(max_size=60), masked),
}


def checked(reader: Reader, given: Any) -> None:
    """Let a reader read; what it may raise is no fault."""
    with contextlib.suppress(*reader.raises):
        reader.read(given)
