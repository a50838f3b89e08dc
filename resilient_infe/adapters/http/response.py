"""Which part of an HTTP response is read inside the attempt, and what of it is judged.

JSON answers and errors are read to their end before the attempt is over, so that its timeout, its
retries and its verdict cover the body too. What is streamed, binary or large is handed over open.
"""

from __future__ import annotations

import json
from typing import Any

from ...classify.body import BLANKS
from ...classify.error_body import error_fields, is_error
from ...classify.table import CODES
from ...core.call import Call, Headers
from ...core.verdict import Kind, Verdict
from .request import RequestBody
from .stream_watch import StreamWatch

_first_value = json.JSONDecoder().raw_decode

SWITCHING_PROTOCOLS = 101
"""The status with which a websocket begins (RFC 9110 section 15.2.2): what follows is no body."""

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body that are read inside the attempt."""

LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read inside the attempt; a larger one is handed over open."""


def buffer_limit(call: Call[Any], status: int, headers: Headers) -> int:
    """Return how many bytes of a body to read inside the attempt; 0 to hand it over open."""
    if not 200 <= status < 300:
        return LONGEST_ERROR
    kind = headers.get("content-type") or ""
    if kind == "application/json":
        return LONGEST_ANSWER
    kind = kind.partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.endswith("+json") and "stream" not in kind):
        return LONGEST_ANSWER  # one value, and not a stream of them (x-ndjson, stream+json)
    # Whoever asks a model does not want a page: a gateway or a captive portal answers.
    return LONGEST_ANSWER if kind == "text/html" and asks_model(call) else 0


def body_for_classifier(call: Call[Any], status: int, raw: bytes) -> bytes | None:
    """Return what the classifier looks at of a whole body, or None where anything is an answer.

    Only who asks a model is promised an object. Other endpoints may well answer with a list, with
    lines of JSON, with nothing, or with something that they call an error: there it is one only
    where it names a code that is known. What is cut off is no answer, whoever asked.
    """
    if status >= 400 or asks_model(call):
        return raw
    try:
        text = (raw or b"null").decode("utf-8-sig").strip(BLANKS)
        found, end = _first_value(text)
    except (ValueError, RecursionError):
        return raw
    if not isinstance(found, dict) or end < len(text):
        return None
    own = is_error(found) and not (_is_known(found) or _may_ask_model(call))
    return None if own else raw


def _is_known(content: dict[str, Any]) -> bool:
    """Whether an error names a code or a type that the table has."""
    named = error_fields(content) if isinstance(content["error"], dict) else ()
    return any(each in CODES for each in named)


def closed_client_verdict(error: BaseException, *, sent: bool) -> Verdict:
    """Return what a failure means once its client is closed: no fault of a server's.

    Args:
        error: the failure.
        sent: whether the request may have left; one that did not costs the shared limits nothing.
    """
    return Verdict(
        Kind.CANCELLED,
        advice="the client was closed under this call: close it when its calls ended",
        error=type(error).__name__,
        sent=sent,
    )


def is_redirect(status: int) -> bool:
    """Whether a response sends the client elsewhere, or says that it knows: that is an answer."""
    return 300 <= status < 400


def asks_model(call: Call[Any]) -> bool:
    """Whether the request's body names a model."""
    return isinstance(call.body, RequestBody) and bool(call.body.model())


def _may_ask_model(call: Call[Any]) -> bool:
    """Whether the request asks a model, as far as can be told."""
    return not isinstance(call.body, RequestBody) or call.body.may_ask_model()


def stream_watch_for(call: Call[Any], kind: str, encoding: str = "identity") -> StreamWatch:
    """Return what looks at a body that is handed over open, and knows what was asked for.

    Args:
        call: the call whose response it is.
        kind: the response's content type.
        encoding: its content encoding, where what comes by is still packed.
    """
    body = call.body
    if not isinstance(body, RequestBody):
        return StreamWatch(kind, encoding, expected=False)
    return StreamWatch(kind, encoding, expected=body.asks_stream(), several=body.asks_several())
