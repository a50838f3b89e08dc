"""Looks at every line before anything is sent, so that a bad one costs nothing but a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ...errors import RowError
from ...rate.estimate import estimate_tokens
from ..journal.table import CHECKED, FAILED, OFFSET, PERMANENT, RowTable, key_of
from .lines import numbered
from .request import Defaults, Request, parsed

SHOWN = 10
"""Bad lines that are told one by one."""


@dataclass(slots=True)
class Check:
    """What was found.

    Attributes:
        rows: lines that are requests.
        pending: of those, how many are still to be sent.
        bad: how many lines are none.
        problems: the first of them, in words.
        models: the requests by model.
        tokens: what they will probably cost, if that was asked for.
    """

    rows: int = 0
    pending: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    tokens: float = 0.0

    def note_bad(self, problem: str) -> None:
        """Count a line that is no request."""
        self.bad += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)


def requests_in(file: BinaryIO, name: str, defaults: Defaults) -> Iterator[Request | RowError]:
    """Yield each line's request, or what is wrong with the line.

    Args:
        file: of lines.
        name: of the file.
        defaults: what lines leave open.
    """
    for line in numbered(file, name):
        try:
            yield parsed(line, defaults)
        except RowError as error:
            yield error


def used_before(request: Request) -> RowError:
    """Return what is wrong with a line whose id another one has."""
    return RowError(
        f"line {request.line}: the custom_id {request.custom_id!r} was used before", request.line
    )


def check(
    file: BinaryIO,
    name: str,
    defaults: Defaults,
    table: RowTable,
    *,
    retry_failed: bool = False,
    estimate: bool = False,
) -> Check:
    """Look at every line.

    Args:
        file: of lines.
        name: of the file.
        defaults: what lines leave open.
        table: of the journal, or an empty one.
        retry_failed: whether rows that failed for good count as pending.
        estimate: whether to add up the tokens of the pending rows.
    """
    found = Check()
    for request in requests_in(file, name, defaults):
        if isinstance(request, RowError):
            found.note_bad(str(request))
            continue
        word = table.mark(key_of(request.custom_id), CHECKED)
        if word & CHECKED:
            found.note_bad(str(used_before(request)))
            continue
        found.rows += 1
        if is_pending(word, retry_failed=retry_failed):
            found.pending += 1
            found.models[request.body["model"]] += 1
            found.tokens += estimate_tokens(request.body) if estimate else 0.0
    return found


def is_pending(word: int, *, retry_failed: bool) -> bool:
    """Whether a row is to be sent, by what the table says of it."""
    if not word & OFFSET:
        return True
    return bool(word & FAILED) and (retry_failed or not word & PERMANENT)
