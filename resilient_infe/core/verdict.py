"""What one attempt meant.

Every layer that reacts to an outcome (retry, circuit, rate limit) must react to the *same* reading
of it. So the reading happens once per attempt, in the error classifier, and its result is this
value; nothing else in the stack looks at a status code, a header or an exception class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar, dataclass_transform

_C = TypeVar("_C")

_new = object.__new__


@dataclass_transform(frozen_default=True)
def frozen(cls: type[_C]) -> type[_C]:
    """Make a dataclass that is frozen for type checkers alone.

    Several are made for every attempt, and one that is frozen at run time takes six times as long
    to make.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


Dimension = Literal["requests", "tokens"]
"""What a rate limit counts."""

MINUTE = 60.0
"""Seconds: the period of a rate limit that states no other."""


class Kind(StrEnum):
    """The kinds of outcome, each treated alike by every layer (see `docs/kinds.md`)."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    QUOTA = "quota"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@frozen
class Limit:
    """One rate limit as the server stated it in a response's headers.

    Attributes:
        dimension: what it counts, ``"requests"`` or ``"tokens"``.
        limit: units per window, or None when not stated.
        remaining: units left in the window, or None.
        reset: seconds from the response until the allowance is whole again, or None.
        window: seconds that the limit spans, or None when not stated (then it is a minute).
    """

    dimension: Dimension
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    window: float | None = None


@frozen
class Usage:
    """What a call really cost, as the server's ``usage`` object says.

    Attributes:
        prompt_tokens: tokens of the input.
        completion_tokens: tokens of the output.
        total_tokens: tokens charged; what a rate limit's reservation is settled to.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@frozen
class Verdict:
    """What one attempt meant: made once, by the classifier or by the layer that refused.

    Attributes:
        kind: the outcome's kind.
        retryable: whether another attempt may help at all.
        retry_after: seconds the server (or a refusing layer) asks to wait, or None; never 0,
            negative or infinite.
        limits: the rate limits that the response stated.
        usage: the tokens that the response says it cost, or None.
        status: the HTTP status, or None where there was no response.
        code: the error's ``code`` as the body states it, or None.
        advice: one sentence telling the user what to do, or None.
        request_id: the server's ``x-request-id``, cleaned for logs, or None.
        error: the error's ``type``, or the exception's class name; never the message, which may
            quote a prompt or a key.
        sent: False when the request certainly never left (connection refused, DNS): only then
            may its reservation be given back.
    """

    kind: Kind
    retryable: bool = False
    retry_after: float | None = None
    limits: tuple[Limit, ...] = ()
    usage: Usage | None = None
    status: int | None = None
    code: str | None = None
    advice: str | None = None
    request_id: str | None = None
    error: str | None = None
    sent: bool = True


SUCCESS = Kind.OK
"""The kind of a success, by a name that costs a tenth of the enum's own look-up (Python 3.11)."""

OK = Verdict(Kind.OK)
"""The plain success, shared: most attempts end with nothing else to tell."""


def succeeded(
    usage: Usage | None,
    limits: tuple[Limit, ...] = (),
    status: int | None = None,
    request_id: str | None = None,
) -> Verdict:
    """Return the verdict of a success: what the class makes, at three quarters of the cost."""
    verdict: Any = _new(Verdict)
    verdict.kind = SUCCESS
    verdict.retryable = False
    verdict.retry_after = verdict.code = verdict.advice = verdict.error = None
    verdict.limits = limits
    verdict.usage = usage
    verdict.status = status
    verdict.request_id = request_id
    verdict.sent = True
    made: Verdict = verdict
    return made
