"""The journal's lines: JSON objects that begin with a checksum of all that follows.

``{"crc":"1c291ca3","type":"result",...}``: any JSON reader reads them, and a line that was torn or
changed is known by itself. In a result's line the value stands last, so that whoever only asks what
became of a row need not decode the reply.
"""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any
from zlib import crc32

from ...core.verdict import Kind, Usage
from ...errors import ConfigurationError
from ..plain import to_json
from ..result import Failure, Result

VERSION = 1
"""Of the journal's form."""

OPENING = b'{"crc":"'
"""How every line begins."""

_HEAD = len(OPENING) + 10
"""Bytes up to the content: the opening, eight digits, a quote and a comma."""

_RESULT, _VALUE = b'{"type":"result",', b',"value":'


_FAILURE = tuple(field.name for field in fields(Failure))


def sealed(content: bytes) -> bytes:
    """Return a line for a JSON object, its checksum first."""
    rest = content[1:]
    return b'{"crc":"%08x",%b\n' % (crc32(rest), rest)


def unsealed(line: bytes) -> bytes | None:
    """Return the JSON object of a line, or None if it is not what was written."""
    if line[-1:] != b"\n" or not line.startswith(OPENING):
        return None
    rest = line[_HEAD:-1]
    if line[len(OPENING) : _HEAD] != b'%08x",' % crc32(rest):
        return None
    return b"{" + rest


def head_of(content: bytes) -> dict[str, Any]:
    """Return a record without its value."""
    # Only a result's line ends with a value; other records may have any names in them.
    is_result = content.startswith(_RESULT)
    head, found, _ = content.partition(_VALUE) if is_result else (content, b"", b"")
    decoded: dict[str, Any] = json.loads(head + b"}" if found else content)
    return decoded


def value_of(content: bytes) -> bytes:
    """Return a result's value as JSON; null if it has none."""
    return content.partition(_VALUE)[2][:-1] or b"null"


def note(kind: str, **fields: Any) -> bytes:
    """Return the content of a record that is not a result."""
    return to_json({"type": kind} | fields)


def content_of(result: Result[Any, Any], digest: str | None, at: float, durable: int) -> bytes:
    """Return the content of a result's record.

    Args:
        result: `encoded` set where it succeeded.
        digest: of the request, to know it again.
        at: seconds since 1970.
        durable: bytes of the journal that are safe by now.
    """
    failure = result.failure
    kind = "ok" if failure is None else failure.kind.value
    # Made by hand: an encoder that is handed these fields as a dict takes three times as long.
    head = (
        f'{{"type":"result","id":{_quoted(result.id)},"row":{result.index},"kind":"{kind}",'
        f'"digest":{_text(digest)},"at":{at:.3f},"durable":{durable},'
        f'"attempts":{result.attempts},"seconds":{result.seconds:.4f},'
        f'"sent_for":{result.sent_for:.4f},"status":{result.status or "null"},'
        f'"requests":[{",".join(map(_quoted, result.request_ids))}]'
    )
    if result.usage is not None:
        counts = astuple(result.usage)
        if not any(counts[3:]):  # no cached tokens, and no reasoning
            counts = counts[:3]
        head += f',"usage":[{",".join(map(str, counts))}]'
    if failure is None:
        return head.encode("ascii") + _VALUE + (result.encoded or b"null") + b"}"
    told = {name: getattr(failure, name) for name in _FAILURE}
    # As a text: the server's own body may have any field, one named "value" too.
    told["body"] = None if failure.body is None else _body(failure.body)
    permanent = "true" if failure.permanent else "false"
    head += f',"failed":true,"permanent":{permanent},"failure":'
    return head.encode("ascii") + to_json(told) + b"}"


def _body(body: Any) -> str | None:
    try:
        return to_json(body).decode()
    except ConfigurationError:  # an exception of a user's own may carry anything
        return None


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)


def result_of(content: bytes, index: int, row: Any) -> Result[Any, Any]:
    """Return the result that a record tells of, for the row as it is given now."""
    head = head_of(content)
    usage, failure = head.get("usage"), head.get("failure")
    result: Result[Any, Any] = Result(
        index,
        head["id"],
        row,
        attempts=head["attempts"],
        seconds=head["seconds"],
        sent_for=head["sent_for"],
        usage=None if usage is None else Usage(*usage),
        status=head["status"],
        request_ids=tuple(head["requests"]),
        replayed=True,
    )
    if failure is None:
        result.encoded = value_of(content)
        result.value = json.loads(result.encoded)
    else:
        result.failure = failure_from(failure)
    return result


def failure_from(told: dict[str, Any]) -> Failure:
    """Return a failure as a record tells it."""
    body = told["body"]
    return Failure(
        **told | {"kind": Kind(told["kind"]), "body": None if body is None else json.loads(body)}
    )
