"""Keeps the API key out of what an SDK makes of a failure.

An SDK puts the server's message into its own exception, and with it the key, if the server quotes
it. So a failed response is handed to an SDK with the key masked, in body, headers and reason. A
response that does not quote the key is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...classify.body import decoded
from ...core.call import Call, Headers
from ..http.masking import KeyMask, mask_for
from ..http.request import key_in
from ..http.response import LONGEST_ERROR

_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
"""The headers that describe the body as it came over the wire."""

LONGEST_SEARCHED = 1024 * 1024
"""Bytes of an error that are searched for the key. A longer one is cut."""

OVERLAP = 1024
"""Bytes that are searched twice, so that a key with escapes is not cut apart."""


def masked_response(call: Call[Any], response: Any, key: str) -> Any:
    """Return a failed response; one like it with the key masked if the server quotes the key.

    Args:
        call: the call whose last response it is.
        response: the response, whose body was read inside the attempt.
        key: the key, as the request has it in a header; empty for none.
    """
    body = None if call.reply is None else call.reply.body
    if not key or not isinstance(body, bytes):
        return response
    mask = mask_for(key)
    shown = _masked_body(mask, body)
    named, reason = mask.headers(response.headers), response.reason_phrase
    quoted = shown != body or mask.text(reason) != reason
    if not quoted and all(named.get(name) == each for name, each in response.headers.items()):
        return response
    return _with_body(call, response, named, shown)


def cut_response(call: Call[Any], response: Any, key: str) -> Any:
    """Return a long failed response; one that is cut and masked if it may quote the key.

    Args:
        call: the call whose last response it is.
        response: the response, whose body was read after the attempt.
        key: the key, as the request has it in a header; empty for none.
    """
    if not key:
        return response
    mask, body = mask_for(key), response.content
    named = mask.headers(response.headers)
    starts = range(0, min(len(body), LONGEST_SEARCHED), LONGEST_ERROR)
    parts = (body[at : at + LONGEST_ERROR + OVERLAP].decode("utf-8", "replace") for at in starts)
    same = all(named.get(name) == each for name, each in response.headers.items())
    if same and len(body) <= LONGEST_SEARCHED and all(mask.text(each) == each for each in parts):
        return response
    return _with_body(call, response, named, _masked_body(mask, body[:LONGEST_ERROR]))


def _with_body(call: Call[Any], response: Any, headers: Mapping[str, str], body: bytes) -> Any:
    """Return a response like another one with other headers and another body."""
    extensions = {k: v for k, v in response.extensions.items() if k != "reason_phrase"}
    return type(response)(
        response.status_code,
        headers=[(name, each) for name, each in headers.items() if name not in _OF_THE_BODY],
        content=body,
        request=call.payload,
        extensions=extensions,
    )


def _masked_body(mask: KeyMask, body: bytes) -> bytes:
    content, text = decoded(body), body.decode("utf-8", "replace")
    shown = mask.text(text)
    if isinstance(content, dict | list):
        masked = mask.json(content)
        # The text too: of two equal names, the decoded content has only the last.
        return body if masked == content and shown == text else json.dumps(masked).encode()
    return body if shown == text else shown.encode()


def without_key(error: Exception, headers: Headers) -> Exception | None:
    """Return an exception like `error` with the key masked; None if it does not quote the key.

    Args:
        error: of httpx, about bytes that are not HTTP, which it may quote.
        headers: the request's headers, which have the key.
    """
    key = key_in(headers)
    text = str(error)
    shown = mask_for(key).text(text) if key else text
    if shown == text:
        return None
    masked = type(error)(shown)
    for each in getattr(error, "__notes__", ()):
        masked.add_note(mask_for(key).text(each))
    return masked
