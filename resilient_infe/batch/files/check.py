"""Checks every input line before the first request is sent: an invalid line costs no request."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...adapters.http.masking import printable
from ...core.bounds import shown
from ...errors import ConfigurationError, RowError
from ...rate.estimate import estimate_tokens, valid_count
from ..plain import digest_of
from ..request import Defaults, Request, payload_of
from ..store import Entry
from ..store.keys import SeenIds
from ..store.rows import OK
from .counting import name_of
from .rows import requests_in

MAX_REPORTED = 10
"""Kinds of problems that are reported; lines with further ones are only counted."""

MAX_PLACES = 5
"""Lines with the same problem that are named."""

_VARIES = re.compile(r"\d+|'[^']*'")
"""What differs between two messages about the same problem."""


@dataclass(slots=True)
class CheckResult:
    """The result of checking an input.

    Attributes:
        rows: the number of valid requests.
        pending: the number of rows to send: those without a result, failures to retry, and
            failures whose request has changed.
        known: the number of rows that have a value.
        bad: the number of lines that are not valid requests, duplicate ids included.
        models: the number of pending requests per model.
        tokens: estimated tokens of the pending requests, if `check_file` was to estimate.
        unknown: the number of pending requests that could not be estimated, and count as 0 tokens.
        unlisted: the number of invalid lines that no message counts.
    """

    rows: int = 0
    pending: int = 0
    known: int = 0
    bad: int = 0
    models: Counter[str] = field(default_factory=Counter)
    tokens: float = 0.0
    unknown: int = 0
    unlisted: int = 0
    _kinds: dict[str, _Problem] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """A message for each kind of problem, with the first lines that have it."""
        return [str(problem) for problem in self._kinds.values()]

    def note_bad(self, error: RowError) -> None:
        """Count an invalid line."""
        self.bad += 1
        kind = _VARIES.sub("", str(error))
        problem = self._kinds.get(kind)
        if problem is not None:
            problem.count(error.line)
        elif len(self._kinds) < MAX_REPORTED:
            self._kinds[kind] = _Problem(str(error))
        else:
            self.unlisted += 1


@dataclass(slots=True)
class _Problem:
    """One kind of problem. State: the lines that have it."""

    first: str
    others: list[int | None] = field(default_factory=list)
    more: int = 0

    def count(self, line: int | None) -> None:
        """Add a line."""
        if len(self.others) < MAX_PLACES:
            self.others.append(line)
        else:
            self.more += 1

    def __str__(self) -> str:
        """Return the first message, and where else it holds."""
        if not self.others:
            return self.first
        count = len(self.others) + self.more
        lines = "one more such line" if count == 1 else f"{count:,} more such lines"
        places = ", ".join(map(str, self.others)) + (" ..." if self.more else "")
        return f"{self.first} (and {lines}: {places})"


def duplicate_id_error(request: Request) -> RowError:
    """Return the error for a duplicate `custom_id`."""
    return RowError(
        f"{request.place}: the custom_id {printable(repr(request.custom_id))} was used before",
        request.line,
    )


def check_file(
    file: io.BufferedReader,
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
        defaults: how rows are read, and the values for fields that they omit.
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
            result.note_bad(request)
            continue
        if not seen.add(request.custom_id):
            result.note_bad(duplicate_id_error(request))
            continue
        result.rows += 1
        entry = find(request.custom_id)
        result.known += entry is not None and entry.kind == OK
        if is_pending(entry, request, retry_failed=retry_failed):
            result.pending += 1
            result.models[request.body["model"]] += 1
            if estimate or (result.pending == 1 and count is not estimate_tokens):
                tokens = _counted(count, request)
                result.tokens += tokens
                result.unknown += not tokens and count is estimate_tokens
    return result


def _counted(count: Callable[[Any], float], request: Request) -> float:
    """Return the tokens of a request.

    Raises:
        ConfigurationError: `count` raised, or did not return a number of tokens.
    """
    where, row = request.place, f"(row {printable(request.custom_id)})"
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
