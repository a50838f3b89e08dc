"""From a reply to the typed error that tells its user what to do.

Shared by the transports that are ours: the one on aiohttp and the in-process stand-in.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ...classify.body import decoded
from ...classify.table import classify_reply
from ...core.call import Reply
from ...core.verdict import Kind, Verdict
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
}
"""One class per row of the reference's table."""

LONGEST_MESSAGE = 500
"""Characters of the server's message that are kept."""

_KEY_LIKE = re.compile(r"(?i)\b(bearer\s+|sk-|key[-_])[A-Za-z0-9._~+/*-]{4,}")


def error_of(reply: Reply, wall: float | None = None) -> InfeError:
    """Return the typed error that an unsuccessful reply stands for; its verdict stays on the reply.

    Args:
        reply: as the adapter saw it.
        wall: seconds since 1970, for a Retry-After date in a response without ``Date``.
    """
    verdict = reply.verdict = classify_reply(reply.status, reply.headers, reply.body, wall)
    message = _message(reply) or f"the server answered with status {reply.status}"
    return _typed(CLASSES.get(verdict.kind, InfeError), message, verdict)


def malformed(reply: Reply, what: str) -> InfeError:
    """Return the error for a success status whose body is not what the API promises."""
    judged = classify_reply(reply.status, reply.headers, None)
    reply.verdict = replace(
        judged,
        kind=Kind.TRANSIENT,
        status=reply.status,
        retryable=True,
        error=MalformedResponseError.__name__,
        advice="is a gateway or a captive portal answering? check the base URL",
    )
    return _typed(MalformedResponseError, what, reply.verdict)


def printable(text: str) -> str:
    """Return text from outside, bounded, in one line, with what looks like a key taken out."""
    bounded = _KEY_LIKE.sub(r"\1***", text[:LONGEST_MESSAGE])
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in bounded)


def _typed(cls: type[InfeError], message: str, verdict: Verdict) -> InfeError:
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
    content: Any = decoded(reply.body)
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return printable(message) if isinstance(message, str) and message else None
