"""Which response bodies are read inside the attempt, and what the classifier sees of them.

A JSON response or an error is read completely before the attempt ends, so the attempt's timeout,
retries and verdict cover the body too. A body that is streamed, binary or large is handed over
open: the caller gets the response before the body has arrived, and reads it after the attempt.
"""

from __future__ import annotations

import json
from typing import Any

from ...classify.body import BLANKS
from ...classify.error_body import first_of, is_error, stated_in
from ...classify.table import ACCEPTED, CODES
from ...core.call import Call, Headers
from ...core.verdict import Kind, Verdict
from ...stack import Stack
from .request import RequestBody
from .stream_watch import StreamWatch

_first_value = json.JSONDecoder().raw_decode

SWITCHING_PROTOCOLS = 101
"""The status that starts a websocket (RFC 9110 section 15.2.2). What follows is not a body."""

LONGEST_ERROR = 64 * 1024
"""Bytes of an error body that are read inside the attempt. A longer one is handed over open."""

LONGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of a successful JSON body read inside the attempt. A longer one is handed over open."""


WRAPPED_TWICE = (
    "this client already sends through this stack: a call would hold one slot and wait for a "
    "second one, for ever once all are held. Wrap it once"
)
"""The message of the error for a client that is wrapped twice in one stack."""


def sends_through(part: object, stack: Stack) -> bool:
    """Whether a part of a client, such as its transport, sends through these layers."""
    return getattr(getattr(part, "stack", None), "layers", None) is stack.layers


LONGEST_OPEN = 64 * 1024 * 1024
"""Bytes of a model's answer that is handed over open. A caller collects all of such an answer."""


def open_limit(call: Call[Any], limit: int) -> int | None:
    """Return how many bytes an open body may have; None for any number.

    Args:
        call: the call whose response it is.
        limit: the result of `buffer_limit`, which is 0 for a stream or a download.
    """
    return LONGEST_OPEN if limit and runs_model(call) else None


def too_long(longest: int) -> str:
    """Return the message for an open body of over `longest` bytes."""
    return f"the response is over {longest:,} bytes: reading stopped"


def buffer_limit(call: Call[Any], status: int, headers: Headers) -> int:
    """Return how many bytes of a body to read inside the attempt; 0 to hand the body over open."""
    if not 200 <= status < 300:
        return LONGEST_ERROR
    kind = headers.get("content-type") or ""
    if kind == "application/json":
        return LONGEST_ANSWER
    kind = kind.partition(";")[0].strip().lower()
    # "+json" is one JSON value, except in types for a stream of values ("stream+json").
    # "x-ndjson" is a stream of values too, and does not end in "+json".
    if kind == "application/json" or (kind.endswith("+json") and "stream" not in kind):
        return LONGEST_ANSWER
    # A model never responds with an HTML page. The page comes from a gateway or a captive portal.
    # A completion without a type, or as plain text, is JSON too, unless it is a stream.
    if kind == "text/html":
        return LONGEST_ANSWER if runs_model(call) else 0
    plain = kind in ("", "text/plain") and asks_completion(call) and not asks_stream(call)
    return LONGEST_ANSWER if plain else 0


def body_for_classifier(call: Call[Any], status: int, raw: bytes) -> bytes | None:
    """Return a complete body for the classifier, or None to count the response without its body.

    There are six cases:

    1. The status is 202, and the body is empty: None. The server will answer later, and to send the
       request again would start its work again.
    2. The status is an error, or the request asks for a completion: the classifier gets the body.
       A completion is a JSON object that is not an error.
    3. The body is truncated or is not JSON, or it is empty and the request runs a model: the
       classifier gets it, and counts it as malformed.
    4. It is a list, a single value or, where no model is run, JSON lines: None, as all of these
       can be valid. A list of errors, which a gateway sends, is not if the request runs a model.
    5. It is an error, and the request runs no model. An object of another API may look like one,
       and to send the request again may do twice what it does. So the result is None, unless the
       request only reads and the error has a code or a type that the library knows. Of an object
       that the URL asks for, such as ``GET /responses/resp_1``, the error is its own.
    6. It is any other object: the classifier gets it.

    Args:
        call: the call whose response it is.
        status: the HTTP status.
        raw: the body, not compressed.
    """
    if status == ACCEPTED and not raw:
        return None
    if status >= 400 or asks_completion(call):
        return raw
    runs = runs_model(call)
    if runs and raw[:1] in (b"{", b""):  # not decoded twice: embeddings are long
        return raw
    try:
        text = (raw or b"null").decode("utf-8-sig").strip(BLANKS)
        found, end = _first_value(text)
    except (ValueError, RecursionError):
        return raw
    first = first_of(found)
    if not isinstance(first, dict) or end < len(text):
        return None
    judged = first is found
    if is_error(first):
        judged = runs or (judged and _is_error_of_read(call, found))
    return raw if judged else None


def _is_error_of_read(call: Call[Any], content: dict[str, Any]) -> bool:
    """Whether an error is that of a request that only reads, and not one of what it asks for."""
    body, name, stated = call.body, content.get("id"), stated_in(content)
    if not isinstance(body, RequestBody) or not body.only_reads():
        return False
    if isinstance(name, str) and body.reads(name):
        return False
    known = any(each in CODES for each in stated.names)
    return content.get("object") == "error" or (isinstance(content.get("error"), dict) and known)


def closed_client_verdict(error: BaseException, *, sent: bool) -> Verdict:
    """Return the verdict for a failure after the client was closed. The server is not to blame.

    Args:
        error: the failure.
        sent: whether the request may have left. If it did not, it costs the rate limit nothing.
    """
    return Verdict(
        Kind.CANCELLED,
        advice="the client was closed during this call: close it after its calls have ended",
        error=type(error).__name__,
        sent=sent,
    )


def is_redirect(status: int) -> bool:
    """Whether the status is 3xx: a redirect or a 304. Both count as a success."""
    return 300 <= status < 400


def runs_model(call: Call[Any]) -> bool:
    """Whether the request runs a model; True if the request's body is unknown."""
    return not isinstance(call.body, RequestBody) or call.body.runs_model()


def asks_completion(call: Call[Any]) -> bool:
    """Whether the request asks for a completion."""
    return isinstance(call.body, RequestBody) and call.body.asks_completion()


def asks_stream(call: Call[Any]) -> bool:
    """Whether the request's body asks for a stream."""
    return isinstance(call.body, RequestBody) and call.body.asks_stream()


def stream_watch_for(
    call: Call[Any], status: int, headers: Headers, encoding: str = "identity"
) -> StreamWatch:
    """Return the `StreamWatch` for a body that is handed over open.

    The body of an error is not watched, whatever it is labelled: its status says what it is.

    Args:
        call: the call whose response it is. Its request says whether a stream was asked for.
        status: the HTTP status.
        headers: the response's headers.
        encoding: its content encoding, if the parts that the watch sees are still compressed.
    """
    kind, body = headers.get("content-type") or "", call.body
    if not 200 <= status < 300:
        return StreamWatch("", encoding, expected=False)
    if not isinstance(body, RequestBody):
        return StreamWatch(kind, encoding, expected=False, headers=headers)
    expected, several = body.asks_stream(), body.asks_several()
    watch = StreamWatch(kind, encoding, expected=expected, several=several, headers=headers)
    watch.mask = call.state.mask
    return watch
