"""From a result to a line of the output: OpenAI's Batch form, for results and failures alike."""

from __future__ import annotations

from typing import Any

from ...errors import ConfigurationError
from ..plain import text, to_json
from ..result import Result


def answer_line(result: Result[Any, Any]) -> bytes:
    """Return the line for a result, its line break included."""
    request_id = result.request_ids[-1] if result.request_ids else None
    head = b'{"id":"batch_req_%d","custom_id":%b,"response":' % (result.index + 1, text(result.id))
    failure = result.failure
    if failure is None:
        body = to_json(result.value) if result.encoded is None else result.encoded
        told = b'{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n'
        return head + told % (result.status or 200, text(request_id), body)
    response = None
    if failure.status is not None:
        response = {
            "status_code": failure.status,
            "request_id": request_id,
            "body": _plain(failure.body),
        }
    error = {
        "code": failure.code or failure.kind.value,
        "message": failure.message,
        "kind": failure.kind.value,
        "advice": failure.advice,
        "attempts": result.attempts,
        "permanent": failure.permanent,
    }
    return b'%b%b,"error":%b}\n' % (head, to_json(response), to_json(error))


def _plain(body: Any) -> Any:
    try:
        to_json(body)
    except ConfigurationError:  # an exception of a user's own may carry anything
        return None
    return body


def bad_line(number: int | None, message: str) -> bytes:
    """Return the line that tells of a line of the input that is no request."""
    error = {
        "code": "bad_line",
        "message": message,
        "kind": "invalid",
        "advice": "mend the line",
        "attempts": 0,
        "permanent": True,
        "line": number,
    }
    return to_json({"id": None, "custom_id": None, "response": None, "error": error}) + b"\n"
