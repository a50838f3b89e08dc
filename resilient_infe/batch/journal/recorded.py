"""What a journal tells of its rows: one answer for each, however often it was sent."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...core.verdict import Kind
from .table import FAILED, KIND, OFFSET, PERMANENT, RowTable, key_of

KINDS = [kind.value for kind in Kind]
"""Their places are in the words of a table while it is in memory, and nowhere else."""


class Recorded:
    """Takes in a journal's records, one after another.

    Attributes:
        table: where each row's record stands.
        kinds: how many rows ended in each way, by what counts of each row.
        permanent: how many of the failed ones failed for good.
        beliefs: what the last run had learned of limits.
        about: what the last run was about.
        runs: how often it was run.
        end: how the last run ended, or None if it runs or was killed.
        last: seconds since 1970 of the last record.

    State: its own.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.table = RowTable()
        self.kinds: Counter[str] = Counter()
        self.permanent = 0
        self.beliefs: dict[str, Any] = {}
        self.about: dict[str, Any] = {}
        self.runs = 0
        self.end: dict[str, Any] | None = None
        self.last = 0.0

    @property
    def done(self) -> int:
        """How many rows have a value."""
        return self.kinds["ok"]

    @property
    def failed(self) -> int:
        """How many rows failed, for good or not."""
        return sum(self.kinds.values()) - self.done

    def take_in(self, offset: int, record: dict[str, Any]) -> None:
        """Take in a record that stands at an offset."""
        self.last = record.get("at", self.last)
        match record.get("type"):
            case "result":
                self._take_in_result(offset, record)
            case "run":
                self.about, self.end = record, None
                self.runs += 1
            case "end":
                self.end = record
        self.beliefs = record.get("beliefs") or self.beliefs

    def _take_in_result(self, offset: int, record: dict[str, Any]) -> None:
        key, kind = key_of(record["id"]), record["kind"]
        failed, permanent = record.get("failed", False), record.get("permanent", False)
        flags = 0
        if failed:
            flags = FAILED | (PERMANENT if permanent else 0) | KINDS.index(kind) << KIND
        before = self.table.record(key, offset, flags)
        if before & OFFSET:
            if not before & FAILED:
                return  # the first value stands
            self.kinds[KINDS[before >> KIND & 15]] -= 1
            self.permanent -= bool(before & PERMANENT)
        self.kinds[kind] += 1
        self.permanent += permanent
