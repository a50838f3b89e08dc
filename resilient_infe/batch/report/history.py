"""Computes the report's data from a journal: totals, and a time series.

Times are in run time: the seconds during which a run was active. A pause between two runs is left
out. The journal is read twice: first for the runs and their total duration, then into at most
`MAX_BUCKETS` buckets of equal width.
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

MAX_BUCKETS = 120
"""Maximum number of time buckets in a chart; about 3 pixels each on a phone."""

MAX_EXAMPLES = 5
"""Examples shown per group of failures."""

MAX_EVENTS = 100
"""Events listed in the report; later ones are left out."""


@dataclass(slots=True)
class Bucket:
    """What happened in one interval of run time.

    `limit`, `circuit`, `waits` and `in_flight` come from the samples taken in this interval.

    Attributes:
        ok, failed: the number of rows that ended with and without a value.
        retries: the number of retries.
        rejected: the number of 429 responses.
        prompt_tokens, completion_tokens: the tokens charged for the rows that ended.
        cached_tokens: the part of the input that was read from the provider's cache.
        limit: RPM, added up over the partitions, in the last sample that has a limit for each of
            them; None if no sample does.
        circuit: in the last sample in which a circuit was not closed: "open" if one was open,
            otherwise "half_open"; None if all circuits were closed in every sample.
        waits: what the run was waiting for, in words, in the last sample that has such a text;
            None if no sample does.
        in_flight: the highest number of attempts in flight in a sample; None without samples.
        latency: the seconds per attempt; one value per row, its average.
    """

    ok: int = 0
    failed: int = 0
    retries: int = 0
    rejected: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    limit: float | None = None
    circuit: str | None = None
    waits: str | None = None
    in_flight: int | None = None
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class FailureGroup:
    """Failures with the same kind and code: the number of rows, and examples."""

    kind: str
    code: str
    rows: int = 0
    advice: str | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One run: when it began and ended (seconds since 1970), and why it ended.

    `end_reason` is "finished", "stopped", "running", or the name of the exception class that ended
    the run. The default means that there is no end record: the process was killed.
    """

    began: float
    ended: float
    end_reason: str = "killed"


@dataclass(slots=True)
class History:
    """The data of a report.

    Attributes:
        name: the journal's file name.
        settings: what the journal was created with; every run must have the same.
        recorded: the final result of each row, and the number of rows per kind of result.
        runs: the runs, in time order.
        seconds: total run time.
        width: the width of a bucket in seconds of run time.
        buckets: the time series, in time order.
        attempts, retries, rejected: totals over all runs; `rejected` counts 429 responses.
        latency: the seconds per attempt over all runs; one value per row, its average.
        failures: the groups of failures, the largest first.
        limits: the limits of each model in the last sample.
        account: the limit over all models in the last sample, or None.
        events: the first `MAX_EVENTS` events, as (seconds of run time, record).
        running: whether a run is active now.
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
    failures: list[FailureGroup] = field(default_factory=list)
    limits: dict[str, dict[str, float | None]] = field(default_factory=dict)
    account: dict[str, float | None] | None = None
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    running: bool = False

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt tokens and completion tokens, over all runs."""
        return (
            sum(each.prompt_tokens for each in self.buckets),
            sum(each.completion_tokens for each in self.buckets),
        )

    @property
    def cached_tokens(self) -> int:
        """The part of the prompt tokens that was read from the provider's cache, over all runs."""
        return sum(each.cached_tokens for each in self.buckets)


def history_of(path: str | os.PathLike[str]) -> History:
    """Return the history recorded in a journal.

    Raises:
        JournalDamaged: the file is not a journal, or is damaged.
        OSError: the file cannot be read.
    """
    history = History(Path(path).name)
    for number, record in enumerate(records(path)):
        history.recorded.take_in(number, record)
        _note_run(history, record)
    _Reader(history).read(path)
    history.running = is_in_use(path)
    if history.running and history.runs:
        history.runs[-1].end_reason = "running"
    return history


def _note_run(history: History, record: dict[str, Any]) -> None:
    """First pass: note the settings, and when and why each run ended."""
    match record.get("type"):
        case "journal":
            history.settings = record.get("settings", {})
        case "run":
            history.runs.append(Run(record["at"], record["at"]))
        # Every other record extends the run's end. Events need not: a sample follows them.
        case kind if history.runs and kind != "event":
            history.runs[-1].ended = max(history.runs[-1].ended, record.get("at", 0.0))
            if kind == "end":
                history.runs[-1].end_reason = record["why"]


class _Reader:
    """Second pass: fills in the buckets, failures, events and totals of a history.

    Args:
        history: the result of the first pass.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._run_starts = [run.began for run in history.runs]
        # One entry per run, then the end of the last run.
        self._start_in_run_time = [0.0]
        for run in history.runs:
            duration = max(run.ended - run.began, 0.0)
            self._start_in_run_time.append(self._start_in_run_time[-1] + duration)
        history.seconds = self._start_in_run_time[-1]
        history.width = max(history.seconds / MAX_BUCKETS, 1.0)
        number = min(MAX_BUCKETS, int(history.seconds / history.width) + 1)
        history.buckets = [Bucket() for _ in range(number)]
        self._last_counts: Counter[str] = Counter()  # of the run's latest sample
        self._groups: dict[tuple[str, str], FailureGroup] = {}
        self._group_of_row: dict[str, tuple[str, str]] = {}  # keys of `_groups`, by row id

    def read(self, path: str | os.PathLike[str]) -> None:
        for record in records(path):
            match record.get("type"):
                case "run":
                    self._last_counts.clear()
                case "result":
                    self._add_result(record)
                case "sample":
                    self._add_sample(record)
                case "event" if len(self._history.events) < MAX_EVENTS:
                    # `when` is the time of the event; `at`, as everywhere, that of the record.
                    self._history.events.append((self._run_time(record["when"]), record))
        groups = (group for group in self._groups.values() if group.rows)
        self._history.failures = sorted(groups, key=lambda group: -group.rows)

    def _run_time(self, at: float) -> float:
        """Convert a timestamp to seconds of run time."""
        run = bisect_right(self._run_starts, at) - 1
        if run < 0:
            return 0.0
        starts = self._start_in_run_time
        return min(starts[run] + at - self._run_starts[run], starts[run + 1])

    def _bucket_at(self, at: float) -> Bucket:
        buckets = self._history.buckets
        return buckets[min(int(self._run_time(at) / self._history.width), len(buckets) - 1)]

    def _add_result(self, record: dict[str, Any]) -> None:
        bucket, history = self._bucket_at(record["at"]), self._history
        attempts = record["attempts"]
        history.attempts += attempts
        if attempts:
            # Without a listener `sent_for` is 0. `seconds` replaces it, but includes waits.
            per_attempt = (record.get("sent_for") or record["seconds"]) / attempts
            bucket.latency.add(per_attempt)
            history.latency.add(per_attempt)
        if "usage" in record:
            bucket.prompt_tokens += record["usage"][0]
            bucket.completion_tokens += record["usage"][1]
            bucket.cached_tokens += sum(record["usage"][3:4])
        self._remove_earlier_failure(record["id"])
        if record.get("failed"):
            bucket.failed += 1
            self._add_failure(record)
        else:
            bucket.ok += 1

    def _remove_earlier_failure(self, row_id: str) -> None:
        """Remove the earlier failure of a row that was sent again."""
        key = self._group_of_row.pop(row_id, None)
        if key is None:
            return
        group = self._groups[key]
        group.rows -= 1
        group.examples = [example for example in group.examples if example["id"] != row_id]

    def _add_failure(self, record: dict[str, Any]) -> None:
        failure = record["failure"]
        key = (record["kind"], str(failure["code"] or failure["error"] or ""))
        group = self._groups.setdefault(key, FailureGroup(*key))
        group.rows += 1
        group.advice = group.advice or failure["advice"]
        if len(group.examples) < MAX_EXAMPLES:
            example = {
                "id": record["id"],
                "status": failure["status"],
                "message": failure["message"],
                "requests": record["requests"],
            }
            group.examples.append(example)
        self._group_of_row[record["id"]] = key

    def _add_sample(self, record: dict[str, Any]) -> None:
        bucket = self._bucket_at(record["at"])
        # A sample counts from the start of its run; a bucket gets the increase.
        for name in ("retries", "rejected"):
            added = record.get(name, 0) - self._last_counts[name]
            self._last_counts[name] = record.get(name, 0)
            setattr(bucket, name, getattr(bucket, name) + added)
            setattr(self._history, name, getattr(self._history, name) + added)
        self._history.limits = record.get("limits", {})
        account = self._history.account = record.get("account")
        limits = [each["requests"] or NO_LIMIT for each in self._history.limits.values()]
        whole = (account or {}).get("requests") or NO_LIMIT
        if limits and max(limits) < NO_LIMIT:
            bucket.limit = min(whole, sum(limits))
        states = set(record.get("circuits", {}).values())
        for state in ("half_open", "open"):  # if both occur, "open" is kept
            if state in states:
                bucket.circuit = state
        bucket.waits = record.get("waits") or bucket.waits
        bucket.in_flight = max(bucket.in_flight or 0, record.get("in_flight", 0))
