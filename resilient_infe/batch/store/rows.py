"""From a result to the columns of a row, and back.

Each row carries a checksum: CRC-32 of ``ascii(columns)``, the columns as a Python tuple. The crc of
a reply continues that of its row over the bytes of the value, so that a reply belongs to its row.
"""

from __future__ import annotations

import json
from dataclasses import fields
from json.encoder import encode_basestring_ascii as _quoted
from operator import attrgetter
from typing import Any, NamedTuple
from zlib import crc32

from ...core.verdict import Kind, Usage
from ...errors import ConfigurationError
from ..plain import to_json
from ..result import Failure, Result

OK = "ok"
"""The kind of a row that has a value; other rows have the kind of their failure."""

_FAILURE = tuple(field.name for field in fields(Failure))

_USAGE = tuple(field.name for field in fields(Usage))
_counts = attrgetter(*_USAGE)
_USAGE_TEXT = "{" + ",".join(f'"{name}":%s' for name in _USAGE) + "}"


class Entry(NamedTuple):
    """What is recorded of a row, its value left out; the fields are the columns of `rows`.

    Attributes:
        id: of the row; bytes where it holds a lone surrogate, which SQLite's text cannot.
        row: its index in the input, from 0.
        kind: ``"ok"``, or the kind of the failure.
        permanent: 1 for a failure that sending again would not fix.
        digest: of its request, or None.
        at: seconds since 1970.
        attempts, seconds, sent_for, status: as in a `Result`.
        requests: the ``x-request-id`` of each attempt, as a JSON list.
        usage: the tokens that were charged, as a JSON object, or None.
        failure: as a JSON object, or None.
    """

    id: str | bytes
    row: int
    kind: str
    permanent: int
    digest: str | None
    at: float
    attempts: int
    seconds: float
    sent_for: float
    status: int | None
    requests: str
    usage: str | None
    failure: str | None

    def is_pending(self, digest: str | None, *, retry_failed: bool) -> bool:
        """Return whether the row is sent again, if its request has this digest now.

        There are three cases: a value stands; a permanent failure stands until its request changes;
        any other failure is sent again.
        """
        if self.kind == OK:
            return False
        return retry_failed or not self.permanent or self.has_changed(digest)

    def has_changed(self, digest: str | None) -> bool:
        """Return whether the request was another one when it was recorded."""
        return digest is not None and self.digest is not None and digest != self.digest


COLUMNS = Entry._fields

Line = tuple[Any, ...]
"""What the inbox takes in for a result: its columns, their crc, its value and the crc of that."""


def text_or_bytes(text: str) -> str | bytes:
    """Return a text as SQLite takes it: bytes, if a lone surrogate is in it."""
    text = str.__str__(text)  # a member of an enumeration is a text too, but prints as another one
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


class Ended(NamedTuple):
    """A row that came to its end.

    Attributes:
        result: `encoded` is set where it succeeded.
        digest: of the request, to recognise it.
        at: seconds since 1970.
    """

    result: Result[Any, Any]
    digest: str | None
    at: float


def packed(ended: Ended) -> Line:
    """Return the line of a result."""
    result, digest, at = ended
    failure, usage = result.failure, result.usage
    columns = (  # as in `Entry`, which takes longer to make
        text_or_bytes(result.id),
        result.index,
        OK if failure is None else failure.kind.value,
        int(failure is not None and failure.permanent),
        digest,
        at,
        result.attempts,
        float(result.seconds),
        float(result.sent_for),
        None if result.status is None else int(result.status),
        f"[{','.join(map(_quoted, result.request_ids))}]",
        None if usage is None else _usage_text(usage),
        None if failure is None else _failure_text(failure),
    )
    crc = crc32(ascii(columns).encode())
    if failure is not None:
        return (*columns, crc, None, None)
    value = result.encoded or b"null"
    return (*columns, crc, value.decode("ascii"), crc32(value, crc))


def crc_of(entry: Entry) -> int:
    """Return the checksum of a row."""
    return crc32(ascii(tuple(entry)).encode())


def result_of(entry: Entry, value: bytes | None, index: int, row: Any) -> Result[Any, Any]:
    """Return the result that is recorded, for the row as it is given now."""
    row_id = entry.id if isinstance(entry.id, str) else entry.id.decode("utf-8", "surrogatepass")
    result: Result[Any, Any] = Result(
        index,
        row_id,
        row,
        attempts=entry.attempts,
        seconds=entry.seconds,
        sent_for=entry.sent_for,
        usage=None if entry.usage is None else _usage(json.loads(entry.usage)),
        status=entry.status,
        request_ids=tuple(json.loads(entry.requests)),
        replayed=True,
    )
    if entry.failure is not None:
        result.failure = _failure(json.loads(entry.failure))
    elif value is not None:
        result.encoded = value
        result.value = json.loads(value)
    return result


def _usage_text(usage: Usage) -> str:
    return _USAGE_TEXT % _counts(usage)


def _usage(told: dict[str, Any]) -> Usage:
    return Usage(**{name: each for name, each in told.items() if name in _USAGE})


def _failure_text(failure: Failure) -> str:
    told = {name: getattr(failure, name) for name in _FAILURE}
    # As a text, so that its own fields cannot be taken for those of the failure.
    told["body"] = None if failure.body is None else _body_text(failure.body)
    return to_json(told).decode("ascii")


def _body_text(body: Any) -> str | None:
    try:
        return to_json(body).decode("ascii")
    except ConfigurationError:  # an exception of a user's own may carry anything
        return None


def _failure(told: dict[str, Any]) -> Failure:
    body = told["body"]
    known = {name: each for name, each in told.items() if name in _FAILURE}
    return Failure(
        **known | {"kind": Kind(told["kind"]), "body": None if body is None else json.loads(body)}
    )
