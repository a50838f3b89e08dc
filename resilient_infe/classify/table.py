"""The table: what a status or a structured code means.

Only the status and the body's ``code`` and ``type`` decide, never the message: messages change and
are translated. Nothing here raises, whatever the body is: HTML, 10 MB, 10,000 levels deep, or a
list. What single vendors mean by their codes is data; see `rules`.

Sources: the Infe API reference; OpenAI's "Error codes"; Cloudflare's 5xx errors for 520-526.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..core.verdict import EMPTY_ANSWER, OK, Kind, Limit, Verdict, succeeded
from .body import LONG_BODY, LONGEST_BODY, decoded, ending
from .error_body import Stated, first_of, id_in, is_error, plain_name, stated_in
from .exceptions import classify_exception
from .headers import (
    LOOKED_UP_LOWER,
    Lowered,
    header,
    hidden_hint,
    limits,
    longest_reset,
    lowered,
    names_of,
    request_id,
    retry_after,
)
from .hint_in_body import hint_in_body
from .limits_in_body import limits_in_body
from .names import Names
from .rules import Rules, built_in
from .usage import count, usage_of

__all__ = [
    "CODES",
    "LONGEST_ANSWER",
    "RETRYABLE",
    "STATUSES",
    "Row",
    "classify_exception",
    "classify_reply",
]

LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a successful body; a longer one is not decoded."""

RETRYABLE = frozenset(
    (
        Kind.RATE_LIMITED,
        Kind.OVERLOADED,
        Kind.SERVER_ERROR,
        Kind.TRANSIENT,
        Kind.TIMEOUT,
        Kind.MALFORMED,
    )
)
"""The kinds for which another attempt may help."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the reference's table: the kind, and the advice for the user."""

    kind: Kind
    advice: str
    crowded: bool = False


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
    498: Row(Kind.AUTH, _KEY),
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
    424: Row(Kind.SERVER_ERROR, "the model failed behind the server; up to 3 retries may help"),
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
_UNKNOWN_ERROR = Row(
    Kind.TRANSIENT, "an error of unknown code inside a success; another attempt may succeed"
)
_NO_CHOICES = Row(Kind.UNKNOWN, "the answer is whole, and has no choices: see what was asked")

QUOTA_STATUSES = frozenset((400, 402, 403, 429))
"""The statuses with which servers say that the account has no credit left."""

_HAS_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]')

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

_KINDS = {plain_name(name): kind for name, kind in CODES.items()}

_BODILESS = frozenset((204, 205))

ACCEPTED = 202
"""The status of a request that will be answered later: ``choices`` may be missing."""

_MAY_BE_ASKED_AGAIN = frozenset((Kind.INVALID, Kind.NOT_FOUND, Kind.UNKNOWN))
"""Kinds that the server may ask to try again all the same, with ``x-should-retry: true``."""


def classify_reply(
    status: int,
    headers: Any,
    body: Any,
    wall: float | None = None,
    *,
    completion: bool = False,
    rules: Rules | None = None,
) -> Verdict:
    """Return what a response means.

    Args:
        status: the HTTP status.
        headers: anything with ``get``; the names in a plain dict may have any case.
        body: bytes, text, a value decoded from JSON, or None. An error's is decoded up to 64 KiB,
            an answer's up to 64 MiB.
        wall: seconds since 1970, for a Retry-After date in a response without ``Date``.
        completion: whether a completion was asked for, so that an answer has ``choices``.
        rules: what single vendors mean by their codes; None for those of the package.
    """
    if type(status) is not int:
        status = count(status) or 0  # a foreign adapter may give text
    if type(headers) is not Lowered and type(headers).__name__ not in LOOKED_UP_LOWER:
        headers = lowered(headers)
    names = names_of(headers)
    groups, structured, ids, _ = names
    stated = limits(headers, wall, names) if groups or structured else ()
    made_by = request_id(headers, ids) if ids else None
    success = 200 <= status < 300
    # 1. Decode the body. For a long answer its end is enough, unless it may hold an error, or lacks
    #    what was asked for.
    content = None
    if (
        success
        and type(body) is bytes
        and len(body) >= LONG_BODY
        and (not completion or _HAS_CHOICE.search(body) is not None)
    ):
        content, completion = ending(body, LONGEST_ANSWER), False
    if content is None:
        content = decoded(body, LONGEST_ANSWER if success else LONGEST_BODY)
    # 2. A success needs both a success status and an answer in the body.
    row = None
    if success and (
        not is_error(content) if type(content) is dict else _is_an_answer(status, body, content)
    ):
        whole = not completion or _is_whole(status, body, content)
        row = None if whole else _NO_CHOICES if content.get("choices") == [] else _NOT_AN_API
        usage = usage_of(content)
        if row is None:
            if usage is None and not stated and made_by is None and status == 200:
                return OK
            return succeeded(usage, stated, status, made_by)
    # 3. Anything else is an error.
    rules = rules or built_in()
    return _failed(status, headers, content, wall, row, stated, made_by, rules, names)


def _failed(
    status: int,
    headers: Any,
    content: Any,
    wall: float | None,
    row: Row | None,
    stated: tuple[Limit, ...],
    made_by: str | None,
    rules: Rules,
    names: Names,
) -> Verdict:
    """Return the verdict on a response that is not a success.

    Limits and a hint in the body count only if the headers have none. A rate limit without a hint
    has the reset of the limits that are used up as its hint.
    """
    named = [each for each in (header(headers, name) for name in rules.headers) if each]
    error = stated_in(content, next(iter(named), None))
    if not stated and 429 in (status, error.status):
        stated = limits_in_body(content, wall)
    hint = retry_after(headers, wall)
    for prefix in rules.prefixes if hint is None else ():
        hint = hint or retry_after(headers, wall, prefix)
    if hint is None:
        hint = hidden_hint(headers, names)
    if hint is None:
        hint = hint_in_body(content, wall, rules.fields)
    if row is None or row is not _NO_CHOICES:
        row = _row(status, error, content, rules, hinted=hint is not None, other=row)
    if hint is None and row.kind is Kind.RATE_LIMITED:
        hint = longest_reset(stated)
    asked = header(headers, "x-should-retry")
    if asked == "true" and row.kind in _MAY_BE_ASKED_AGAIN:
        row = Row(Kind.TRANSIENT, "the server asks for another attempt")
    inside = 200 <= status < 300 and error.code is None and error.status is not None
    return Verdict(
        row.kind,
        retryable=row.kind in RETRYABLE and asked != "false",
        retry_after=hint,
        limits=stated,
        usage=usage_of(content),
        status=status,
        code=str(error.status) if inside else error.code,
        advice=row.advice,
        request_id=made_by or id_in(content),
        error=EMPTY_ANSWER if row is _NO_CHOICES else error.type,
        crowded=row.crowded,
    )


def _row(
    status: int,
    error: Stated,
    content: Any,
    rules: Rules,
    *,
    hinted: bool,
    other: Row | None,
) -> Row:
    # The first case that fits decides:
    # 1. A success status with an error inside whose code is an HTTP status counts as that status.
    # 2. A row of the rules.
    # 3. A code for an account without credit.
    # 4. A success status with an error inside: its code, then its type. Without a known one the
    #    body may be a gateway's page.
    # 5. A 404 without a code: the API itself names a code, so the address is wrong.
    # 6. A status of the table.
    # 7. Another status: its class (3xx, 4xx, 5xx), or else it is not an API's.
    success = 200 <= status < 300
    if success and error.status is not None and error.status >= 300:
        status, success = error.status, False
    found = rules.find(None if success else status, error.names, content, hinted=hinted)
    if found is not None:
        return Row(found.kind, found.advice or _advice_for(found.kind), found.crowded)
    if (success or status in QUOTA_STATUSES) and any(map(_is_quota, error.names)):
        return STATUSES[402]
    if success:
        return _row_of_success(error, content, other)
    if status == 404 and error.code is None:
        return _WRONG_ADDRESS
    return STATUSES.get(status) or _CLASSES.get(status // 100, _OTHER_STATUS)


def _row_of_success(error: Stated, content: Any, other: Row | None) -> Row:
    kind = next(filter(None, map(_KINDS.get, map(plain_name, error.names))), None)
    if kind is not None:
        return Row(kind, _advice_for(kind))
    content = first_of(content)
    return other or (_UNKNOWN_ERROR if isinstance(content, dict) and content else _NOT_AN_API)


def _advice_for(kind: Kind) -> str:
    return next((row.advice for row in STATUSES.values() if row.kind is kind), "")


def _is_quota(name: str) -> bool:
    return _KINDS.get(plain_name(name)) is Kind.QUOTA or name.endswith("_spend_limit_exceeded")


def _is_an_answer(status: int, body: Any, content: Any) -> bool:
    """Whether a success status comes with an answer: an object without an error, or no body."""
    if isinstance(content, dict):
        return not is_error(content)
    if body is None or status in _BODILESS:
        return True
    # Bytes that do not decode, a list or a number are not an answer. Any other object is one: an
    # SDK made it from an answer.
    return not isinstance(body, bytes | bytearray | str | list | int | float)


def _is_whole(status: int, body: Any, content: Any) -> bool:
    """Whether an answer has the choices of a completion; an SDK's object counts as whole."""
    if body is None or not isinstance(content, dict) or status in (ACCEPTED, *_BODILESS):
        return True
    choices = content.get("choices")
    return isinstance(choices, list) and bool(choices)
