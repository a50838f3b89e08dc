"""An error inside a success, as an SDK can raise it.

An SDK chooses its typed error by the status. So an error inside a success is given to it with the
status of its kind, and with the server's own message, code and hint.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...classify.body import decoded
from ...classify.error_body import first_of, is_error, message_in, stated_in
from ...classify.table import LONGEST_ANSWER
from ...core.call import Call
from ...core.verdict import Kind
from .masking import printable

STATUSES = {
    Kind.RATE_LIMITED: 429,
    Kind.OVERLOADED: 503,
    Kind.SERVER_ERROR: 500,
    Kind.QUOTA: 402,
    Kind.AUTH: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.INVALID: 400,
}
"""The status of each kind of error; 502 for any other."""


class ErrorInside(NamedTuple):
    """The parts of a response with an error.

    Attributes:
        status: the HTTP status of its kind.
        message: the server's message.
        type: its type, or the kind.
        code: its code.
        headers: the request id and the hint.
    """

    status: int
    message: str
    type: str
    code: str
    headers: dict[str, str]


def error_inside(call: Call[Any]) -> ErrorInside | None:
    """Return the error that the last reply of a call has inside, or None if it has none.

    Args:
        call: a call whose verdict is not a success, though its status is.
    """
    verdict, reply = call.verdict, call.reply
    content = None if reply is None else first_of(decoded(reply.body, LONGEST_ANSWER))
    if verdict is None or not isinstance(content, dict):
        return None
    # An answer that lacks what was asked for is an error too, if it states one somewhere.
    stated, message = stated_in(content), message_in(content)
    if not (is_error(content) or (message and (stated.names or stated.status))):
        return None
    headers = {"x-request-id": verdict.request_id} if verdict.request_id else {}
    if verdict.retry_after is not None:
        headers["retry-after"] = f"{verdict.retry_after:.3f}"
    return ErrorInside(
        STATUSES.get(verdict.kind, 502),
        printable(message or "the server sent an error inside a success"),
        verdict.error or verdict.kind.value,
        verdict.code or "error_in_success",
        headers,
    )
