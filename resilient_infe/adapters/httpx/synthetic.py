"""Responses that no server sent: the stack's refusals in the form that SDKs understand.

SDKs handle only their own exceptions, which they make from a response. So a refusal is given to
them as a response that asks not to be retried.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from ...core.call import Call
from ...errors import AttemptTimedOut, DeadlineExceeded
from ...telemetry.note import note
from ..http.error_inside import error_inside
from ..http.request import mask_of

NOTE = "resilient_infe"
"""The key in ``response.extensions`` that holds a failed response's note."""


@functools.cache
def library_of(cls: type) -> Any:
    """Return the library that a request's or response's class, or a base of it, comes from."""
    for base in cls.__mro__:
        library = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(library, "AsyncByteStream"):
            return library
    raise TypeError(f"{cls.__qualname__} belongs to neither httpx nor httpx2")


def annotate(response: Any, call: Call[Any]) -> None:
    """Put the note into the response's extensions, for the client or an SDK above it."""
    advice = None if call.verdict is None else call.verdict.advice
    response.extensions = {**response.extensions, NOTE: note(call, advice)}


def refusal(call: Call[Any], error: Exception) -> Any:
    """Return a 503 that asks not to be retried; for a timeout raise the library's own.

    If the deadline passed before anything was sent, the server was not slow: the limit or a queue
    held the request up. So that is a 503, too.

    Raises:
        ReadTimeout: the library's own; the deadline or the attempt's timeout has passed.
    """
    request = call.payload
    library = library_of(request.__class__)
    if isinstance(error, AttemptTimedOut) or (isinstance(error, DeadlineExceeded) and call.sends):
        raise library.ReadTimeout(str(error), request=request) from error
    hint = getattr(error, "retry_after", None)
    headers = {"retry-after": f"{hint:.3f}"} if hint else {}
    return _synthetic(call, 503, str(error), type(error).__name__, "refused", headers)


def in_place_of(call: Call[Any], response: Any) -> Any:
    """Return a failed response in place of a success that is none.

    An SDK would return it as a completion. If it has an error inside, that is told with the status
    of its kind; else it is a 502.
    """
    inside = error_inside(call)
    if inside is not None:
        return _synthetic(call, *inside)
    verdict, request_id = call.verdict, response.headers.get("x-request-id")
    advice = "" if verdict is None or verdict.advice is None else f": {verdict.advice}"
    message = f"the server sent status {response.status_code} without a usable body{advice}"
    return bad_gateway(call, message, request_id)


def bad_gateway(call: Call[Any], message: str, request_id: str | None = None) -> Any:
    """Return a 502 in place of an answer that is of no use."""
    headers = {"x-request-id": request_id} if request_id else {}
    return _synthetic(call, 502, message, "MalformedResponseError", "malformed_response", headers)


def _synthetic(
    call: Call[Any], status: int, message: str, kind: str, code: str, headers: dict[str, str]
) -> Any:
    """Return a response that the server did not send. It asks not to be retried."""
    request = call.payload
    told = {"message": message, "type": kind, "code": code}
    mask = mask_of(call)
    if mask is not None:  # they may be the server's, which may quote the key
        told = {name: mask.text(each) for name, each in told.items()}
        headers = {name: mask.text(each) for name, each in headers.items()}
    response = library_of(request.__class__).Response(
        status,
        headers={"x-should-retry": "false", **headers},
        json={"error": told},
        request=request,
    )
    annotate(response, call)
    return response
