"""The verdict: what the outcome of one attempt means.

Several layers react to an outcome: retry, circuit breaker, rate limiter. They must all read it the
same way. So the error classifier reads it once per attempt and makes a `Verdict`, and no other
layer looks at a status code, a header or an exception class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal, TypeVar, dataclass_transform

_C = TypeVar("_C")

_new = object.__new__


@dataclass_transform(frozen_default=True)
def frozen(cls: type[_C]) -> type[_C]:
    """Make a dataclass that only type checkers treat as frozen.

    Several are made for every attempt. A dataclass that is frozen at run time takes six times as
    long to construct. Without slots a default stays in the class: `succeeded` sets only the rest.
    """
    return dataclass(unsafe_hash=True)(cls)


Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens"]
"""What a rate limit counts. `"tokens"` are those of the input and the output together."""

MINUTE = 60.0
"""Seconds: the period of a rate limit that does not state its own."""

DAY = 86_400.0
"""Seconds in a day."""


class Kind(StrEnum):
    """The kinds of outcome; `docs/kinds.md` lists how each layer treats each kind."""

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
    MALFORMED = "malformed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@frozen
class Limit:
    """One rate limit as the server stated it in a response's headers or body.

    Attributes:
        dimension: the unit that it counts: ``"requests"``, ``"tokens"``, ``"input_tokens"`` or
            ``"output_tokens"``.
        limit: units per window; None if not stated.
        remaining: units left in the window; None if not stated.
        reset: seconds from the response until the full limit is available again; None if not
            stated.
        window: the length of the window in seconds; None if not stated. Then it is a minute, unless
            what the server accepted or the reset shows another one.
        requested: units that the request needs, as the server counted them; None if not stated.
    """

    dimension: Dimension
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    window: float | None = None
    requested: float | None = None


@frozen
class Usage:
    """The real cost of a call, from the ``usage`` object in the response.

    Attributes:
        prompt_tokens: tokens in the input, those from a cache and into it included.
        completion_tokens: tokens in the output, those of reasoning included.
        total_tokens: tokens charged, as the provider counts them.
        cached_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written into that cache.
        reasoning_tokens: the part of the output that is reasoning, and is not shown.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return what two attempts cost together; None if neither states its usage."""
    if one is None or other is None:
        return other if one is None else one
    return Usage(*(getattr(one, each.name) + getattr(other, each.name) for each in fields(one)))


@frozen
class Verdict:
    """The meaning of one attempt's outcome.

    The classifier makes it once per attempt; a layer that refuses a call makes its own.

    Attributes:
        kind: the kind of outcome.
        retryable: whether another attempt may succeed.
        retry_after: seconds to wait before the next attempt, as the server or the refusing layer
            asked; None if neither did. Never 0, negative or infinite.
        limits: the rate limits that the response stated.
        usage: the tokens that the call cost, from the response; None if it states none.
        status: the HTTP status; None without a response.
        code: the ``code`` of the error in the response body, or None.
        advice: one sentence for the user on what to do, or None.
        request_id: the server's id of the request (``x-request-id`` or another header), checked to
            be safe for logs, or None.
        error: the ``type`` of the error, or the name of the exception's class. Never the message,
            which may quote a prompt or a key.
        sent: False if the request certainly never left (connection refused, DNS). Only then may its
            reservation be given back.
        crowded: whether the attempt was refused because too many calls were in flight, as far as
            the slots can tell from what they saw.
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
    crowded: bool = False


EMPTY_ANSWER = "EmptyAnswer"
"""The `error` of a verdict on a whole answer with an empty list of choices. It is UNKNOWN, and says
nothing about the server's health.
"""

SUCCESS = Kind.OK
"""A module-level name for `Kind.OK`: it costs a tenth of a look-up on the enum (Python 3.11)."""

OK = Verdict(Kind.OK)
"""A success without usage or limits, as one shared instance."""


def without_key(verdict: Verdict, mask: Callable[[str], str] | None) -> Verdict:
    """Return a verdict whose ids, which go into events and logs, do not quote the API key.

    Args:
        verdict: the verdict.
        mask: masks an id that quotes the key; None if the request has no key.
    """
    if mask is None:
        return verdict
    if verdict.request_id is not None:
        shown = mask(verdict.request_id)
        if shown != verdict.request_id:
            verdict = replace(verdict, request_id=shown)
    if verdict.kind is not SUCCESS:
        code = None if verdict.code is None else mask(verdict.code)
        error = None if verdict.error is None else mask(verdict.error)
        if (code, error) != (verdict.code, verdict.error):
            verdict = replace(verdict, code=code, error=error)
    return verdict


def succeeded(
    usage: Usage | None,
    limits: tuple[Limit, ...] = (),
    status: int | None = None,
    request_id: str | None = None,
) -> Verdict:
    """Return the verdict of a success.

    Equal to ``Verdict(Kind.OK, ...)``, at a third of the cost of the constructor.

    Args:
        usage: what it cost, or None.
        limits: the limits that the response stated.
        status: the HTTP status; None for a result without a response, which states nothing else.
        request_id: the server's id of the request, or None.
    """
    verdict: Any = _new(Verdict)
    verdict.kind = SUCCESS
    verdict.usage = usage
    if status is not None:
        verdict.limits, verdict.status, verdict.request_id = limits, status, request_id
    made: Verdict = verdict
    return made
