"""Reads a journal into what a page shows: totals, and how things went over time.

Time is the time that runs were under way: a night between two of them takes no room. The journal is
read twice, first for how long it all took, then into as many buckets as a picture has room for.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..journal import is_in_use, records
from ..journal.recorded import Recorded
from ..progress import NO_LIMIT
from .histogram import Histogram

BUCKETS = 120
"""Stretches of time in a picture: a phone has three pixels for each."""

EXAMPLES = 5
"""Failures of each kind that are shown one by one."""

MOST_EVENTS = 100


@dataclass(slots=True)
class Bucket:
    """What happened in one stretch of time."""

    ok: int = 0
    failed: int = 0
    retries: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    limit: float | None = None
    circuit: str | None = None
    waits: str | None = None
    in_flight: int | None = None
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Failed:
    """Failures that are alike: how many rows, and some of them."""

    kind: str
    code: str
    rows: int = 0
    advice: str | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One run: when it began and ended (seconds since 1970), and how."""

    began: float
    ended: float
    why: str = "killed"


@dataclass(slots=True)
class History:
    """All that a page shows.

    Attributes:
        name: of the journal.
        settings: that it was begun with.
        recorded: what counts of each row.
        runs: one after another.
        seconds: that they took in all.
        width: seconds of a bucket.
        buckets: from the first to the last.
        attempts, retries, rejected: in all.
        latency: of attempts, over all.
        failures: by kind and code, the most frequent first.
        events: what changed, with its time, the first of them.
        running: whether a run is under way.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    recorded: Recorded = field(default_factory=Recorded)
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0
    width: float = 1.0
    buckets: list[Bucket] = field(default_factory=list)
    attempts: int = 0
    retries: int = 0
    rejected: int = 0
    latency: Histogram = field(default_factory=Histogram)
    failures: list[Failed] = field(default_factory=list)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    running: bool = False

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of the input and of the output."""
        return (
            sum(each.prompt_tokens for each in self.buckets),
            sum(each.completion_tokens for each in self.buckets),
        )


def history_of(path: str | os.PathLike[str]) -> History:
    """Return the history that a journal tells.

    Raises:
        JournalDamaged: it is no journal, or damaged.
        OSError: it cannot be read.
    """
    history = History(Path(path).name)
    for number, record in enumerate(records(path)):
        history.recorded.take_in(number, record)
        _note_run(history, record)
    _Reader(history).read(path)
    history.running = is_in_use(path)
    if history.running and history.runs:
        history.runs[-1].why = "running"
    return history


def _note_run(history: History, record: dict[str, Any]) -> None:
    match record.get("type"):
        case "journal":
            history.settings = record.get("settings", {})
        case "run":
            history.runs.append(Run(record["at"], record["at"]))
        case kind if history.runs and kind != "event":
            history.runs[-1].ended = max(history.runs[-1].ended, record.get("at", 0.0))
            if kind == "end":
                history.runs[-1].why = record["why"]


class _Reader:
    """Fills the buckets of a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._begins = [run.began for run in history.runs]
        self._before = [0.0]
        for run in history.runs:
            self._before.append(self._before[-1] + max(run.ended - run.began, 0.0))
        history.seconds = self._before[-1]
        history.width = max(history.seconds / BUCKETS, 1.0)
        number = min(BUCKETS, int(history.seconds / history.width) + 1)
        history.buckets = [Bucket() for _ in range(number)]
        self._seen: Counter[str] = Counter()
        self._kept: dict[str, tuple[str, str]] = {}
        self._failures: dict[tuple[str, str], Failed] = {}

    def read(self, path: str | os.PathLike[str]) -> None:
        for record in records(path):
            match record.get("type"):
                case "run":
                    self._seen.clear()
                case "result":
                    self._add_result(record)
                case "sample":
                    self._add_sample(record)
                case "event" if len(self._history.events) < MOST_EVENTS:
                    self._history.events.append((self._active(record["when"]), record))
        failures = (each for each in self._failures.values() if each.rows)
        self._history.failures = sorted(failures, key=lambda each: -each.rows)

    def _active(self, at: float) -> float:
        """Return the seconds of running time at an instant."""
        run = bisect_right(self._begins, at) - 1
        if run < 0:
            return 0.0
        return min(self._before[run] + at - self._begins[run], self._before[run + 1])

    def _bucket(self, at: float) -> Bucket:
        buckets = self._history.buckets
        return buckets[min(int(self._active(at) / self._history.width), len(buckets) - 1)]

    def _add_result(self, record: dict[str, Any]) -> None:
        bucket, history = self._bucket(record["at"]), self._history
        attempts = record["attempts"]
        history.attempts += attempts
        if attempts:
            each = (record.get("sent_for") or record["seconds"]) / attempts
            bucket.latency.add(each)
            history.latency.add(each)
        if "usage" in record:
            bucket.prompt_tokens += record["usage"][0]
            bucket.completion_tokens += record["usage"][1]
        self._forget_failure(record["id"])
        if record.get("failed"):
            bucket.failed += 1
            self._add_failure(record)
        else:
            bucket.ok += 1

    def _forget_failure(self, row_id: str) -> None:
        """A row that was sent again is told of once."""
        key = self._kept.pop(row_id, None)
        if key is None:
            return
        group = self._failures[key]
        group.rows -= 1
        group.examples = [each for each in group.examples if each["id"] != row_id]

    def _add_failure(self, record: dict[str, Any]) -> None:
        told = record["failure"]
        key = (record["kind"], str(told["code"] or told["error"] or ""))
        group = self._failures.setdefault(key, Failed(*key))
        group.rows += 1
        group.advice = group.advice or told["advice"]
        if len(group.examples) < EXAMPLES:
            kept = {"id": record["id"], "status": told["status"], "message": told["message"]}
            group.examples.append(kept | {"requests": record["requests"]})
        self._kept[record["id"]] = key

    def _add_sample(self, record: dict[str, Any]) -> None:
        bucket = self._bucket(record["at"])
        for name in ("retries", "rejected"):
            more = record.get(name, 0) - self._seen[name]
            self._seen[name] = record.get(name, 0)
            setattr(bucket, name, getattr(bucket, name) + more)
            setattr(self._history, name, getattr(self._history, name) + more)
        limits = [each["requests"] for each in record.get("limits", {}).values()]
        if limits and all(each is not None and each < NO_LIMIT for each in limits):
            bucket.limit = sum(limits)
        states = set(record.get("circuits", {}).values())
        for state in ("half_open", "open"):
            if state in states:
                bucket.circuit = state
        bucket.waits = record.get("waits") or bucket.waits
        bucket.in_flight = max(bucket.in_flight or 0, record.get("in_flight", 0))
