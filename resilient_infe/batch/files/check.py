"""Checks every input line before the first request is sent: an invalid line costs no request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ...adapters.http.masking import printable
from ...core.bounds import shown
from ...errors import ConfigurationError, RowError
from ...rate.estimate import estimate_tokens, valid_count
from ..plain import digest_of
from ..store import Entry
from ..store.keys import SeenIds
from ..store.rows import OK
from .counting import name_of
from .lines import numbered
from .request import Defaults, Request, parsed, payload_of

MAX_REPORTED = 10
"""Invalid lines reported individually; further ones are only counted."""


@dataclass(slots=True)
class CheckResult:
    """The result of checking an input.

    Attributes:
        rows: the number of valid requests.
        pending: the number of rows to send: those without a result, failures to retry, and
            failures whose request has changed.
        known: the number of rows that have a value.
        bad: the number of lines that are not valid requests, duplicate ids included.
        problems: messages for the first `MAX_REPORTED` invalid lines.
        models: the number of pending requests per model.
        tokens: estimated tokens of the pending requests, if `check_file` was to estimate.
    """

    rows: int = 0
    pending: int = 0
    known: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    tokens: float = 0.0

    def note_bad(self, problem: str) -> None:
        """Count an invalid line; keep its message if it is one of the first `MAX_REPORTED`."""
        self.bad += 1
        if len(self.problems) < MAX_REPORTED:
            self.problems.append(problem)


def requests_in(file: BinaryIO, name: str, defaults: Defaults) -> Iterator[Request | RowError]:
    """Yield the request on each line, or an error that says why the line is not valid.

    Args:
        file: the input file, opened in binary mode.
        name: the file's name.
        defaults: the values for fields that a line omits.

    Raises:
        BatchError: the file cannot be read to its end.
    """
    for line in numbered(file, name):
        try:
            yield parsed(line, defaults)
        except RowError as error:
            yield error


def duplicate_id_error(request: Request) -> RowError:
    """Return the error for a duplicate `custom_id`."""
    return RowError(
        f"line {request.line}: the custom_id {request.custom_id!r} was used before", request.line
    )


def check_file(
    file: BinaryIO,
    name: str,
    defaults: Defaults,
    find: Callable[[str], Entry | None],
    *,
    retry_failed: bool = False,
    count: Callable[[Any], float] = estimate_tokens,
    estimate: bool = False,
) -> CheckResult:
    """Check every line.

    Args:
        file: the input file, opened in binary mode.
        name: the file's name.
        defaults: the values for fields that a line omits.
        find: returns what the journal has recorded of a row, by its id.
        retry_failed: whether rows that failed permanently count as pending.
        count: returns the tokens of a request's body. One of the user's is tried with the first
            pending row.
        estimate: whether to add up the estimated tokens of the pending rows.

    Raises:
        BatchError: the file cannot be read to its end.
        ConfigurationError: `count` raised, or did not return a number of tokens.
    """
    result, seen = CheckResult(), SeenIds()
    for request in requests_in(file, name, defaults):
        if isinstance(request, RowError):
            result.note_bad(str(request))
            continue
        if not seen.add(request.custom_id):
            result.note_bad(str(duplicate_id_error(request)))
            continue
        result.rows += 1
        entry = find(request.custom_id)
        result.known += entry is not None and entry.kind == OK
        if is_pending(entry, request, retry_failed=retry_failed):
            result.pending += 1
            result.models[request.body["model"]] += 1
            if estimate or (result.pending == 1 and count is not estimate_tokens):
                result.tokens += _counted(count, request)
    return result


def _counted(count: Callable[[Any], float], request: Request) -> float:
    """Return the tokens of a request.

    Raises:
        ConfigurationError: `count` raised, or did not return a number of tokens.
    """
    where, row = f"line {request.line}", f"(row {printable(request.custom_id)})"
    try:
        found = count(request.body)
    except Exception as error:  # a user's function may raise anything
        raise ConfigurationError(
            f"--estimate {name_of(count)}: the function raised {type(error).__name__} for {where}: "
            f"{printable(str(error))} {row}"
        ) from None
    tokens = valid_count(found)
    if tokens is None:
        raise ConfigurationError(
            f"--estimate {name_of(count)}: the function must return a number of tokens, 0 or more; "
            f"for {where} it returned {printable(shown(found))} {row}"
        )
    return tokens


def is_pending(entry: Entry | None, request: Request, *, retry_failed: bool) -> bool:
    """Return whether a row is to be sent.

    Args:
        entry: what the journal has recorded of it, or None.
        request: the row as it is now.
        retry_failed: whether rows that failed permanently are sent again.
    """
    if entry is None:
        return True
    # Only of a permanent failure it matters whether the request has changed.
    digest = digest_of(payload_of(request)) if entry.permanent else None
    return entry.is_pending(digest, retry_failed=retry_failed)
