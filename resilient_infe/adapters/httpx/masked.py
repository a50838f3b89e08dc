"""Keeps the API key out of what httpx or an SDK makes of a failure.

An SDK puts the server's message into its own exception, and with it the key, if the server quotes
it; httpx does so with the reason. So a failed response is handed over with the key masked, in body,
headers and reason. A response that does not quote the key is not touched.
"""

from __future__ import annotations

from typing import Any

from ...core.call import Call
from ..http.masking import KeyMask
from ..http.request import mask_of
from ..http.response import LONGEST_ERROR
from .synthetic import library_of

_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
"""The headers that describe the body as it came over the wire."""


def masked_response(call: Call[Any], response: Any) -> Any:
    """Return a failed response; one like it with the key masked if the server quotes the key.

    Args:
        call: the call whose last response it is. If its body was handed over open, only the head of
            the response is masked.
        response: the response.
    """
    mask = mask_of(call)
    if mask is None:
        return response
    body = None if call.reply is None else call.reply.body
    if call.hold is not None or not isinstance(body, bytes):
        mask_head(response, mask)
        return response
    shown, stated = mask.body(body), response.headers.multi_items()
    named, reason = mask.pairs(stated), response.reason_phrase
    if (shown, named, mask.text(reason)) == (body, stated, reason):
        return response
    stream = library_of(response.__class__).ByteStream(shown)  # a caller may read it raw
    return _with_body(call, response, named, stream=stream)


def mask_head(response: Any, mask: KeyMask) -> None:
    """Mask the key in the headers and the reason of a response."""
    stated, reason = response.headers.multi_items(), response.reason_phrase
    named = mask.pairs(stated)
    if named != stated:
        response.headers = type(response.headers)(named)
    if mask.text(reason) != reason:
        shown = mask.text(reason).encode("ascii", "replace")
        response.extensions = {**response.extensions, "reason_phrase": shown}


async def read_masked(call: Call[Any], response: Any) -> Any:
    """Read a long failed response to its end; return it cut and masked if it may quote the key."""
    await response.aread()
    return cut_response(call, response)


def cut_response(call: Call[Any], response: Any) -> Any:
    """Return a long failed response; one that is cut and masked if it may quote the key.

    Args:
        call: the call whose last response it is.
        response: the response, whose body was read after the attempt.
    """
    mask = mask_of(call)
    if mask is None:
        return response
    body, stated = response.content, response.headers.multi_items()
    named = mask.pairs(stated)
    text = body.decode("utf-8", "replace")
    if named == stated and mask.long(text) is text:
        return response
    return _with_body(call, response, named, content=mask.body(body[:LONGEST_ERROR]))


def _with_body(call: Call[Any], response: Any, headers: list[tuple[str, str]], **body: Any) -> Any:
    """Return a response like another one with other headers and another body.

    Args:
        call: the call whose response it is.
        response: the other one.
        headers: the headers.
        body: the body, as `content`, which is read already, or as `stream`.
    """
    extensions = {k: v for k, v in response.extensions.items() if k != "reason_phrase"}
    return type(response)(
        response.status_code,
        headers=[(name, each) for name, each in headers if name not in _OF_THE_BODY],
        request=call.payload,
        extensions=extensions,
        **body,
    )
