"""Makes the typed error for a reply, with advice for the user.

Both of the library's own transports use it: `InfeTransport`, and `InProcessInfe` for tests.
"""

from __future__ import annotations

from dataclasses import replace

from ...classify.body import decoded
from ...classify.error_body import message_in
from ...classify.table import classify_reply
from ...core.call import Reply
from ...core.verdict import EMPTY_ANSWER, Kind, Verdict
from ...errors import (
    AuthenticationError,
    ForbiddenError,
    InfeError,
    InvalidRequestError,
    MalformedResponseError,
    ModelNotFoundError,
    OverloadedError,
    PaymentRequiredError,
    RateLimitError,
    ServerError,
    UpstreamError,
)
from ..http.masking import printable

CLASSES: dict[Kind, type[InfeError]] = {
    Kind.RATE_LIMITED: RateLimitError,
    Kind.OVERLOADED: OverloadedError,
    Kind.SERVER_ERROR: ServerError,
    Kind.TRANSIENT: UpstreamError,
    Kind.QUOTA: PaymentRequiredError,
    Kind.AUTH: AuthenticationError,
    Kind.FORBIDDEN: ForbiddenError,
    Kind.NOT_FOUND: ModelNotFoundError,
    Kind.INVALID: InvalidRequestError,
    Kind.MALFORMED: MalformedResponseError,
}
"""The error class of each row in the Infe API reference's table of errors."""

GATEWAY = "a gateway or a captive portal may have answered: check the base URL"
"""The advice for a success whose body is not an answer."""


LATER = "this transport does not ask for it: ask the server with the request id"
"""The advice for a 202 without a body."""


def error_of(reply: Reply, wall: float | None = None) -> InfeError:
    """Return the typed error for an unsuccessful reply, and set the reply's verdict.

    Args:
        reply: the reply, as the adapter saw it.
        wall: seconds since 1970, for a Retry-After date in a response without ``Date``.
    """
    verdict = reply.verdict = classify_reply(
        reply.status, reply.headers, reply.body, wall, completion=reply.completion
    )
    message = _message(reply) or f"the server sent status {reply.status}"
    return _make_error(CLASSES.get(verdict.kind, InfeError), message, verdict)


def malformed(
    reply: Reply, message: str, advice: str = GATEWAY, *, retryable: bool = True
) -> InfeError:
    """Return the error for a reply with a success status and a malformed body; set its verdict.

    Args:
        reply: the reply, as the adapter saw it.
        message: the error's message.
        advice: what to do.
        retryable: whether another attempt may succeed.
    """
    stated = classify_reply(reply.status, reply.headers, None)
    reply.verdict = replace(
        stated,
        kind=Kind.TRANSIENT,
        status=reply.status,
        retryable=retryable,
        error=MalformedResponseError.__name__,
        advice=advice,
    )
    return _make_error(MalformedResponseError, message, reply.verdict)


def not_yet(reply: Reply) -> InfeError:
    """Return the error for a 202 without a body; set its verdict, which blames nobody."""
    message = "the server accepted the request (202), to answer later"
    error = malformed(reply, message, LATER, retryable=False)
    assert reply.verdict is not None
    reply.verdict = replace(reply.verdict, kind=Kind.UNKNOWN, error=EMPTY_ANSWER)
    return error


def _make_error(cls: type[InfeError], message: str, verdict: Verdict) -> InfeError:
    return cls(
        message,
        status=verdict.status,
        code=verdict.code,
        type=verdict.error,
        request_id=verdict.request_id,
        retry_after=verdict.retry_after,
        advice=verdict.advice,
    )


def _message(reply: Reply) -> str | None:
    message = message_in(decoded(reply.body))
    return None if message is None else printable(message)
