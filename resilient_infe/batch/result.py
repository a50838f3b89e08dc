"""What came of a row: a value, or a failure in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..adapters.http.masking import printable
from ..classify.foreign import reply_of_exception
from ..classify.table import classify_exception, classify_reply
from ..core.call import Call
from ..core.verdict import Kind, Usage, Verdict
from ..errors import BatchError, InfeError

Row = TypeVar("Row")
Value = TypeVar("Value")

PERMANENT = frozenset((Kind.INVALID, Kind.NOT_FOUND, Kind.FORBIDDEN))
"""Kinds that sending the same request again does not mend."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no value.

    Attributes:
        kind: what the last attempt meant.
        message: one line, bounded, and without what looks like a key.
        status: the HTTP status, or None.
        code: the error's ``code`` as the server states it, or ours (``request_hook``,
            ``record_hook``, ``bad_line``).
        error: the error's type, or the exception's class.
        advice: what to do, or None.
        body: the server's error body where it could be read as JSON.
        permanent: whether the same request would fail again, so that it is sent again only when
            that is asked for.
    """

    kind: Kind
    message: str
    status: int | None = None
    code: str | None = None
    error: str | None = None
    advice: str | None = None
    body: Any = None
    permanent: bool = False


class RowFailed(BatchError):
    """What `Result.unwrap` raises for a row that failed; `failure` tells why."""

    def __init__(self, row_id: str, failure: Failure) -> None:
        """Keep the failure."""
        super().__init__(f"row {row_id}: {failure.message}")
        self.failure = failure


@dataclass(slots=True, eq=False)
class Result(Generic[Row, Value]):
    """What came of one row.

    Attributes:
        index: of the row in the input, from 0.
        id: of the row.
        row: as it was given.
        value: what ``record=`` made of the reply; None for a failure.
        failure: why there is none, or None.
        exception: what was raised; None for a success, and for what a journal told.
        attempts: that were sent.
        seconds: from when it was handed to the stack to its end.
        sent_for: seconds of that in attempts, kept where the stack has a listener, else 0.
        usage: what the server says it cost, or None.
        status: the last HTTP status, or None.
        request_ids: the ``x-request-id`` of every attempt that had one.
        replayed: whether it was recorded by an earlier run and nothing was sent.
        encoded: `value` as JSON, where a journal was written or read.
    """

    index: int
    id: str
    row: Row
    value: Value | None = None
    failure: Failure | None = None
    exception: BaseException | None = field(default=None, repr=False)
    attempts: int = 0
    seconds: float = 0.0
    sent_for: float = 0.0
    usage: Usage | None = None
    status: int | None = None
    request_ids: tuple[str, ...] = ()
    replayed: bool = False
    encoded: bytes | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.failure is None

    def unwrap(self) -> Value:
        """Return the value.

        Raises:
            RowFailed: there is none.
        """
        if self.failure is not None:
            raise RowFailed(self.id, self.failure) from self.exception
        return self.value  # type: ignore[return-value]  # None only where `record` returned it


def verdict_of(call: Call[Any], error: BaseException) -> Verdict:
    """Return what an exception meant: as the stack judged, or read off it where there was none."""
    if call.verdict is not None:
        return call.verdict
    reply = reply_of_exception(error)
    if reply is not None:
        return classify_reply(reply.status, reply.headers, reply.body)
    return classify_exception(error)


def failure_of(call: Call[Any], error: BaseException) -> Failure:
    """Return the failure that the end of a call stands for."""
    verdict = verdict_of(call, error)
    text = error.message if isinstance(error, InfeError) else str(error)
    name = type(error).__name__
    body = call.reply.body if call.reply is not None else getattr(error, "body", None)
    return Failure(
        verdict.kind,
        printable(text) or name,
        verdict.status,
        verdict.code,
        verdict.error or name,
        verdict.advice,
        body if isinstance(body, dict | list) else None,
        permanent=verdict.kind in PERMANENT or _is_too_large(call),
    )


def _is_too_large(call: Call[Any]) -> bool:
    refusals = call.state.refusals
    return refusals is not None and refusals.for_good


def hook_failure(code: str, error: BaseException, advice: str) -> Failure:
    """Return the failure of a user's own hook."""
    name = type(error).__name__
    return Failure(
        Kind.UNKNOWN, f"{name}: {printable(str(error))}", code=code, error=name, advice=advice
    )
