"""The table: what a status, a structured code or an exception means.

Only the status and the body's ``code`` and ``type`` decide, never the message: messages change and
are translated. Nothing here raises, whatever the body is: HTML, 10 MB, 10,000 levels deep, or a
list. Exceptions are recognised by the names of their classes, so no client library is imported.

Sources: the Infe API reference; OpenAI's "Error codes"; Cloudflare's 5xx errors for 520-526.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..core.ids import clean_id
from ..core.verdict import OK, Kind, Verdict, succeeded
from .body import LONG_BODY, LONGEST_BODY, decoded, ending
from .error_body import error_fields, is_error, stated_status, status_in
from .headers import LOOKED_UP_LOWER, header, limits, longest_reset, lowered, retry_after
from .limits_in_body import limits_in_body
from .usage import count, usage_of

LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a successful body; a longer one is not decoded."""

LONGEST_CHAIN = 16
"""Links of an exception's chain of causes that are followed, because a chain can be a cycle."""

MOST_LEAVES = 1_000
"""Leaves of an exception group that are looked at."""

RETRYABLE = frozenset(
    (Kind.RATE_LIMITED, Kind.OVERLOADED, Kind.SERVER_ERROR, Kind.TRANSIENT, Kind.TIMEOUT)
)
"""The kinds for which another attempt may help."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the reference's table: the kind, and the advice for the user."""

    kind: Kind
    advice: str


_KEY = "check the key: the header must be `Bearer KEY`, no stray spaces or newlines, not revoked"
_CREDIT = "top up credits, or activate a subscription"
_FIX = "fix the request: malformed body, or a missing field such as `messages`"
_RATE = "requests or tokens per minute exceeded: declare the limit to RateLimiter, or send less"
_UPSTREAM = "the upstream provider failed or timed out; another attempt may succeed"

STATUSES: dict[int, Row] = {
    400: Row(Kind.INVALID, _FIX),
    401: Row(Kind.AUTH, _KEY),
    402: Row(Kind.QUOTA, _CREDIT),
    403: Row(Kind.FORBIDDEN, "upgrade the plan (for example the free tier asking for infe-titan)"),
    404: Row(
        Kind.NOT_FOUND,
        "use an exact model id (infe-pulse, infe-titan); `GET /v1/models` lists them",
    ),
    407: Row(Kind.INVALID, "the proxy asks for credentials: check the proxy's settings"),
    408: Row(Kind.TRANSIENT, "the request took too long to arrive; another attempt may succeed"),
    413: Row(Kind.INVALID, "the request is too large: send fewer or shorter messages"),
    422: Row(Kind.INVALID, _FIX),
    425: Row(Kind.TRANSIENT, "early data was not accepted; one more attempt may succeed"),
    429: Row(Kind.RATE_LIMITED, _RATE),
    500: Row(Kind.SERVER_ERROR, "server error; up to 3 retries may help"),
    501: Row(Kind.INVALID, "the server does not know this endpoint: check the base URL"),
    502: Row(Kind.TRANSIENT, _UPSTREAM),
    503: Row(Kind.OVERLOADED, "the server is overloaded; another attempt may succeed"),
    504: Row(Kind.TRANSIENT, _UPSTREAM),
    505: Row(Kind.INVALID, "the server does not support this HTTP version: check the base URL"),
    525: Row(
        Kind.INVALID,
        "the gateway's TLS handshake with the server fails: report it to the operator",
    ),
    526: Row(Kind.INVALID, "the server's certificate is invalid: report it to the operator"),
    529: Row(Kind.OVERLOADED, "the server is overloaded; another attempt may succeed"),
    **{status: Row(Kind.TRANSIENT, _UPSTREAM) for status in range(520, 525)},
}
"""The reference's table, and the statuses that gateways in front of such servers send."""

_WRONG_ADDRESS = Row(
    Kind.NOT_FOUND, "the server has nothing at this address: does the base URL end in /v1?"
)
_OTHER_4XX = Row(Kind.INVALID, "the server does not accept the request: see its message")
_OTHER_5XX = Row(Kind.SERVER_ERROR, "server error; up to 3 retries may help")
_REDIRECT = Row(Kind.INVALID, "the server redirects: correct the base URL")
_CLASSES = {3: _REDIRECT, 4: _OTHER_4XX, 5: _OTHER_5XX}
_OTHER_STATUS = Row(Kind.UNKNOWN, "no API answers with this status: check the base URL")
_NOT_AN_API = Row(Kind.TRANSIENT, "a success status without a usable body: a gateway's page?")

CODES: dict[str, Kind] = {
    "insufficient_quota": Kind.QUOTA,
    "billing_hard_limit_reached": Kind.QUOTA,
    "billing_not_active": Kind.QUOTA,
    "credit_balance_exhausted": Kind.QUOTA,
    "payment_required": Kind.QUOTA,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "invalid_api_key": Kind.AUTH,
    "authentication_error": Kind.AUTH,
    "forbidden": Kind.FORBIDDEN,
    "permission_error": Kind.FORBIDDEN,
    "model_not_found": Kind.NOT_FOUND,
    "not_found_error": Kind.NOT_FOUND,
    "invalid_request_error": Kind.INVALID,
    "overloaded_error": Kind.OVERLOADED,
    "api_error": Kind.SERVER_ERROR,
    "server_error": Kind.SERVER_ERROR,
    "timeout_error": Kind.TRANSIENT,
}
"""What a body's code (or type) means if the status does not say it: a 200 with an error inside."""

_CAPACITY = frozenset(
    (
        "capacity_exceeded",  # Groq
        "engine_overloaded",  # OpenAI
        "engine_overloaded_error",  # Moonshot (Kimi)
        "overloaded_error",  # Anthropic
    )
)
"""Codes of a 429 that mean that the server is overloaded, not that the caller is over its limit."""

_LOCK_CONFLICTS = frozenset(("lock_conflict", "lock_timeout", "conflict_retryable"))
_BODILESS = frozenset((204, 205))


def classify_reply(status: int, headers: Any, body: Any, wall: float | None = None) -> Verdict:
    """Return what a response means.

    Args:
        status: the HTTP status.
        headers: anything with ``get``; the names in a plain dict may have any case.
        body: bytes, text, a value decoded from JSON, or None. An error's is decoded up to 64 KiB,
            an answer's up to 64 MiB.
        wall: seconds since 1970, for a Retry-After date in a response without ``Date``.
    """
    if type(status) is not int:
        status = count(status) or 0  # a foreign adapter may give text
    if type(headers).__name__ not in LOOKED_UP_LOWER:
        headers = lowered(headers)
    stated = limits(headers, wall)
    request_id = clean_id(header(headers, "x-request-id"))
    success = 200 <= status < 300
    # 1. Decode the body. For a long answer its end is enough, unless it may hold an error.
    content = None
    if success and type(body) is bytes and len(body) >= LONG_BODY:
        content = ending(body, LONGEST_ANSWER)
    if content is None:
        content = decoded(body, LONGEST_ANSWER if success else LONGEST_BODY)
    # 2. A success needs both a success status and an answer in the body.
    if success and (
        (type(content) is dict and "error" not in content) or _is_an_answer(status, body, content)
    ):
        usage = usage_of(content)
        if usage is None and not stated and request_id is None and status == 200:
            return OK
        return succeeded(usage, stated, status, request_id)
    # 3. Anything else is an error. Limits in the body count only if the headers state none. A rate
    #    limit without a hint has the reset of the limits that are used up as its hint.
    code, error_type = error_fields(content)
    if success and code is None and (number := stated_status(content)) is not None:
        code = str(number)
    if status == 429 and not stated:
        stated = limits_in_body(content, wall)
    row = _row(status, code, error_type)
    hint = retry_after(headers, wall)
    if hint is None and row.kind is Kind.RATE_LIMITED:
        hint = longest_reset(stated)
    return Verdict(
        row.kind,
        retryable=row.kind in RETRYABLE and header(headers, "x-should-retry") != "false",
        retry_after=hint,
        limits=stated,
        usage=usage_of(content),
        status=status,
        code=code,
        advice=row.advice,
        request_id=request_id,
        error=error_type,
    )


def classify_exception(error: BaseException) -> Verdict:
    """Return what an exception of a transport means, from its classes and its causes.

    A group means what its gravest leaf means, in the order INVALID, UNKNOWN, TIMEOUT, TRANSIENT.
    It was never sent only if none of its leaves was sent.
    """
    verdicts = [_of_names(_names(leaf), type(error).__name__) for leaf in _leaves(error)]
    gravest = min(verdicts, key=_gravity)
    return replace(gravest, sent=any(verdict.sent for verdict in verdicts))


def _gravity(verdict: Verdict) -> int:
    return (Kind.INVALID, Kind.UNKNOWN, Kind.TIMEOUT, Kind.TRANSIENT).index(verdict.kind)


def _of_names(names: set[str], name: str) -> Verdict:
    if names & _FATAL:
        advice = "the certificate or URL is wrong: check the base URL (https or http?) and the CA"
        return Verdict(Kind.INVALID, error=name, advice=advice, sent=False)
    if names & _REFUSED_BEFORE_SENDING:
        return Verdict(Kind.INVALID, error=name, sent=False)
    if names & _NEVER_SENT:
        advice = "the server cannot be reached: check the base URL and that it is up"
        return Verdict(Kind.TRANSIENT, retryable=True, error=name, advice=advice, sent=False)
    if names & _TIMEOUTS:
        advice = "the attempt took too long; another attempt may succeed"
        return Verdict(Kind.TIMEOUT, retryable=True, error=name, advice=advice)
    if names & _BROKEN:
        advice = "the connection broke; another attempt may succeed"
        return Verdict(Kind.TRANSIENT, retryable=True, error=name, advice=advice)
    return Verdict(Kind.UNKNOWN, error=name)


_FATAL = frozenset(
    ("SSLCertVerificationError", "ClientConnectorCertificateError", "CertificateError",
     "InvalidURL", "InvalidUrlClientError", "UnsupportedProtocol", "NonHttpUrlClientError",
     "TooManyRedirects", "ClientConnectorSSLError")
)  # fmt: skip
_REFUSED_BEFORE_SENDING = frozenset(("InvalidRequestError", "ConfigurationError"))
_NEVER_SENT = frozenset(
    ("ConnectionRefusedError", "gaierror", "ClientConnectorError", "ClientConnectorDNSError",
     "ConnectError", "ConnectTimeout", "ConnectionTimeoutError", "PoolTimeout", "NeverSentError")
)  # fmt: skip
_TIMEOUTS = frozenset(("TimeoutError", "TimeoutException", "APITimeoutError"))
_BROKEN = frozenset(
    ("ConnectionError", "ClientConnectionError", "ClientPayloadError", "NetworkError",
     "ProtocolError", "RemoteProtocolError", "APIConnectionError", "IncompleteRead",
     "IncompleteReadError", "TransportError", "BrokenResourceError", "ClosedResourceError",
     "EndOfStream", "HttpProcessingError", "SSLError", "MalformedResponseError",
     "StreamBroken", "ContentTypeError")
)  # fmt: skip


def _row(status: int, code: str | None, error_type: str | None) -> Row:
    # The first case that fits decides:
    # 1. A success status with an error inside: its code, which may be an HTTP status, then its
    #    type. Without a known one the body may be a gateway's page.
    # 2. A 429: no credit left, an overloaded server, or a rate limit.
    # 3. A 409 whose code names a lock.
    # 4. A 404 without a code: the API itself names a code, so the address is wrong.
    # 5. A status of the table.
    # 6. Another status: its class (3xx, 4xx, 5xx), or else it is not an API's.
    if 200 <= status < 300:
        return _row_of_success(code, error_type)
    if status == 429:
        return _row_of_429(code, error_type)
    if status == 409 and (code in _LOCK_CONFLICTS or error_type in _LOCK_CONFLICTS):
        return Row(Kind.TRANSIENT, "another request held the lock; another attempt may succeed")
    if status == 404 and code is None:
        return _WRONG_ADDRESS
    known = STATUSES.get(status)
    if known is not None:
        return known
    return _CLASSES.get(status // 100, _OTHER_STATUS)


def _row_of_success(code: str | None, error_type: str | None) -> Row:
    inner = status_in(code)
    if inner is not None and inner >= 300:
        return _row(inner, code, error_type)
    kind = CODES.get(code or "") or CODES.get(error_type or "")
    return Row(kind, _advice_for(kind)) if kind else _NOT_AN_API


def _row_of_429(code: str | None, error_type: str | None) -> Row:
    if _is_quota(code) or _is_quota(error_type):
        return Row(Kind.QUOTA, _CREDIT)
    callers_limit = _CAPACITY.isdisjoint((code, error_type))
    return STATUSES[429 if callers_limit else 529]


def _advice_for(kind: Kind) -> str:
    return next((row.advice for row in STATUSES.values() if row.kind is kind), "")


def _is_quota(code: str | None) -> bool:
    return code is not None and (
        CODES.get(code) is Kind.QUOTA or code.endswith("_spend_limit_exceeded")
    )


def _is_an_answer(status: int, body: Any, content: Any) -> bool:
    """Whether a success status comes with an answer: an object without an error, or no body."""
    if body is None or status in _BODILESS:
        return True
    if isinstance(content, dict):
        return not is_error(content)
    # Bytes that do not decode, a list or a number are not an answer. Any other object is one: an
    # SDK made it from an answer.
    return not isinstance(body, bytes | bytearray | str | list | int | float)


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the leaves of an exception group, or the exception itself."""
    waiting: list[BaseException] = [error]
    leaves: list[BaseException] = []
    while waiting and len(leaves) < MOST_LEAVES:
        current = waiting.pop()
        if isinstance(current, BaseExceptionGroup) and current.exceptions:
            waiting.extend(current.exceptions)
        else:
            leaves.append(current)
    return leaves


def _names(error: BaseException) -> set[str]:
    """Return the class names of an exception and its causes, including groups among them.

    Only causes are followed, which a ``raise ... from`` sets. The implicit context is not: the
    exception that was being handled at the time need not be the reason.
    """
    names: set[str] = set()
    link: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if link is None:
            break
        for leaf in _leaves(link):
            names.update(cls.__name__ for cls in type(leaf).__mro__)
        try:
            link = link.__cause__
        except Exception:  # a foreign object's properties may raise anything
            break
    return names
