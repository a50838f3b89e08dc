"""Computes the report's data from a journal: totals, and a time series.

Times are in run time: the seconds during which a run was active. A pause between two runs is left
out. First the runs are read, for their total duration; then rows, samples and events, into at most
`MAX_BUCKETS` buckets of equal width.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from ..progress import NO_LIMIT
from ..steered import IS_ONE, NAMES, steered_in
from ..store import Recorded, is_in_use
from ..store.recorded import reading
from ..store.rows import OK
from ..store.schema import is_empty
from ..store.summary import Run, as_text, runs_in
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

    `limit`, `token_limit`, `limits`, `circuit`, `waits` and `in_flight` come from the samples taken
    in this interval.

    Attributes:
        ok, failed: the number of rows that ended with and without a value.
        retries: the number of retries.
        rejected: the number of 429 responses.
        prompt_tokens, completion_tokens: the tokens charged for the rows that ended.
        cached_tokens: the part of the input that was read from the provider's cache.
        limit: RPM, added up over the partitions, in the last sample that has a limit for each of
            them; None if no sample does.
        token_limit: the same for TPM.
        limits: RPM of each model, in the last sample.
        watched: whether a sample states the circuits.
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
    token_limit: float | None = None
    limits: dict[str, float | None] = field(default_factory=dict)
    watched: bool = False
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
        attempts, retries, rejected: totals over all runs; `rejected` counts 429 responses. The
            attempts are at least those of the rows that ended.
        unwatched: whether nobody counted the retries and 429s of a run: it had no stack, or was
            killed before its first sample.
        charged: the rows of which the server stated the tokens.
        latency: the seconds per attempt over all runs; one value per row, its average.
        failures: the groups of failures, the largest first.
        limits: the limits of each model in the last sample.
        account: the limit over all models in the last sample, or None.
        events: the first `MAX_EVENTS` events, as (seconds of run time, record).
        steering: what was changed while a run went on, likewise, the last `MAX_EVENTS`.
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
    unwatched: bool = False
    charged: int = 0
    latency: Histogram = field(default_factory=Histogram)
    failures: list[FailureGroup] = field(default_factory=list)
    limits: dict[str, dict[str, float | None]] = field(default_factory=dict)
    account: dict[str, float | None] | None = None
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    steering: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
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
    """Return the history recorded in a journal, also while a run writes to it.

    Raises:
        JournalDamaged: the file is not a journal, or is damaged.
        OSError: the file cannot be read.
    """
    history = History(Path(path).name)
    running = is_in_use(path)
    with reading(path) as db:
        if not is_empty(db):
            history.recorded = Recorded.read(db, Path(path))
            history.settings = history.recorded.settings or {}
            history.runs = runs_in(db)
            _Reader(history).read(db)
    history.running = running
    if running and history.runs:
        history.runs[-1].end_reason = "running"
    return history


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
        self._attempts = 0  # of rows
        self._with_rows: set[int] = set()  # the runs in which rows ended
        self._watched: set[int] = set()  # the runs of which retries are known

    def read(self, db: Connection) -> None:
        for row in db.execute(
            "SELECT kind, at, attempts, coalesce(nullif(sent_for, 0), seconds), "
            "json_extract(usage, '$.prompt_tokens'), json_extract(usage, '$.completion_tokens'), "
            "json_extract(usage, '$.cached_tokens') "
            "FROM rows ORDER BY seq"
        ):
            self._add_result(*row)
        for row in db.execute(
            "SELECT id, kind, status, requests, failure FROM rows WHERE kind <> 'ok' ORDER BY seq"
        ):
            self._add_failure(*row)
        starts = iter([*self._run_starts[1:], float("inf")])
        until = next(starts, float("inf"))
        for at, sample in db.execute("SELECT at, sample FROM samples ORDER BY seq"):
            while at >= until:  # of the next run
                self._last_counts.clear()
                until = next(starts, float("inf"))
            self._add_sample(at, json.loads(sample))
        for told in steered_in(db, MAX_EVENTS):
            self._history.steering.append((self._run_time(told["when"]), told))
        for (event,) in db.execute(
            f"SELECT event FROM events WHERE NOT {IS_ONE} ORDER BY seq LIMIT ?",  # noqa: S608
            (*NAMES, MAX_EVENTS),
        ):
            told = json.loads(event)
            self._history.events.append((self._run_time(told["when"]), told))
        history = self._history
        history.failures = sorted(self._groups.values(), key=lambda group: -group.rows)
        history.attempts = max(history.attempts, self._attempts)
        history.unwatched = not self._with_rows <= self._watched

    def _run_at(self, at: float) -> int:
        return bisect_right(self._run_starts, at) - 1

    def _run_time(self, at: float) -> float:
        """Convert a timestamp to seconds of run time."""
        run = self._run_at(at)
        if run < 0:
            return 0.0
        starts = self._start_in_run_time
        return min(starts[run] + at - self._run_starts[run], starts[run + 1])

    def _bucket_at(self, at: float) -> Bucket:
        buckets = self._history.buckets
        return buckets[min(int(self._run_time(at) / self._history.width), len(buckets) - 1)]

    def _add_result(
        self,
        kind: str,
        at: float,
        attempts: int,
        seconds: float,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        cached_tokens: int | None,
    ) -> None:
        bucket, history = self._bucket_at(at), self._history
        self._with_rows.add(self._run_at(at))
        self._attempts += attempts
        history.charged += prompt_tokens is not None
        if attempts:
            # Without a listener `sent_for` is 0. `seconds` replaces it, but includes waits.
            bucket.latency.add(seconds / attempts)
            history.latency.add(seconds / attempts)
        bucket.prompt_tokens += prompt_tokens or 0
        bucket.completion_tokens += completion_tokens or 0
        bucket.cached_tokens += cached_tokens or 0
        if kind == OK:
            bucket.ok += 1
        else:
            bucket.failed += 1

    def _add_failure(
        self, row_id: str | bytes, kind: str, status: int | None, requests: str, failure: str
    ) -> None:
        told = json.loads(failure)
        key = (kind, str(told["code"] or told["error"] or ""))
        group = self._groups.setdefault(key, FailureGroup(*key))
        group.rows += 1
        group.advice = group.advice or told["advice"]
        if len(group.examples) < MAX_EXAMPLES:
            example = {
                "id": as_text(row_id),
                "status": status,
                "message": told["message"],
                "requests": json.loads(requests),
            }
            group.examples.append(example)

    def _add_sample(self, at: float, record: dict[str, Any]) -> None:
        bucket = self._bucket_at(at)
        if "retries" in record:
            self._watched.add(self._run_at(at))
        # A sample counts from the start of its run; a bucket gets the increase.
        for name in ("retries", "rejected", "attempts"):
            added = record.get(name, 0) - self._last_counts[name]
            self._last_counts[name] = record.get(name, 0)
            if name != "attempts":
                setattr(bucket, name, getattr(bucket, name) + added)
            setattr(self._history, name, getattr(self._history, name) + added)
        self._history.limits = record.get("limits", {})
        account = self._history.account = record.get("account")
        every = self._history.limits
        bucket.limits = {name: each["requests"] for name, each in every.items()} or bucket.limits
        bucket.limit = _sum_of("requests", every, account) or bucket.limit
        bucket.token_limit = _sum_of("tokens", every, account) or bucket.token_limit
        bucket.watched |= "circuits" in record
        states = set(record.get("circuits", {}).values())
        for state in ("half_open", "open"):  # if both occur, "open" is kept
            if state in states:
                bucket.circuit = state
        bucket.waits = record.get("waits") or bucket.waits
        bucket.in_flight = max(bucket.in_flight or 0, record.get("in_flight", 0))


def _sum_of(
    what: str, limits: dict[str, dict[str, float | None]], account: dict[str, float | None] | None
) -> float | None:
    """Return a limit of all models together; None if it is not known of one of them."""
    each = [limit[what] or NO_LIMIT for limit in limits.values()]
    whole = (account or {}).get(what) or NO_LIMIT
    found = min(whole, sum(each)) if each else whole
    return found if found < NO_LIMIT else None
