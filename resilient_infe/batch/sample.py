"""How a run goes, as figures at one moment: for the journal, the progress line and the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..adapters.http.masking import printable
from ..core.verdict import Kind
from ..stack.describe import StackStatistics
from .monitor import Monitor, limit_of, limits_of, under_way, waiting_for
from .result import Result
from .trial import Alike, alike, said

MOST_LIVE = 8
"""Models of which the live view shows the limit, the busiest ones."""

ACCOUNT = "the account"
"""How the limit over all models is called."""

MOST_ALIKE = 1_000
"""Failures that differ are told apart up to this number, so that memory is bounded."""


@dataclass(slots=True)
class Tally:
    """What a run has done so far.

    Attributes:
        taken: rows that were taken from the input.
        ok: rows with a value, those of earlier runs left out.
        failed: rows that failed, likewise.
        replayed: rows that an earlier run had recorded.
        replayed_failed: of these, those that failed.
        attempts: that were sent for the rows that ended.
        prompt_tokens, completion_tokens: what the server says they cost.
        cached_tokens: the part of the input that was read from the provider's cache.
    """

    taken: int = 0
    ok: int = 0
    failed: int = 0
    replayed: int = 0
    replayed_failed: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def count(self, result: Result[Any, Any]) -> None:
        """Count a result of this run."""
        if result.failure is None:
            self.ok += 1
        else:
            self.failed += 1
        self.attempts += result.attempts
        if result.usage is not None:
            self.prompt_tokens += result.usage.prompt_tokens
            self.completion_tokens += result.usage.completion_tokens
            self.cached_tokens += result.usage.cached_tokens

    def count_replayed(self, result: Result[Any, Any]) -> None:
        """Count what an earlier run recorded."""
        self.replayed += 1
        self.replayed_failed += not result.ok

    @property
    def ended(self) -> int:
        """How many rows this run sent to their end."""
        return self.ok + self.failed


class Failures:
    """Counts the failures of a run that are alike, to name the most frequent.

    State: one count, and the last failure, for each; of at most `MOST_ALIKE`.
    """

    def __init__(self) -> None:
        self._counts: Counter[Alike] = Counter()
        self._last: dict[Alike, Result[Any, Any]] = {}

    def count(self, result: Result[Any, Any]) -> None:
        """Count a result."""
        if result.failure is None:
            return
        found = alike(result.failure)
        if found in self._counts or len(self._counts) < MOST_ALIKE:
            self._counts[found] += 1
            self._last[found] = result

    def commonest(self) -> str | None:
        """Return the most frequent failure in a few words: ``404 model_not_found``."""
        if not self._counts:
            return None
        kind, status, code = self._counts.most_common(1)[0][0]
        return " ".join(str(each) for each in (status, code or kind.value) if each is not None)

    def kind(self) -> Kind | None:
        """Return the kind of the most frequent failure; None without one."""
        return self._counts.most_common(1)[0][0][0] if self._counts else None

    def explained(self) -> str | None:
        """Return the most frequent failure in a sentence, with a row that met it."""
        if not self._counts:
            return None
        found, count = self._counts.most_common(1)[0]
        result = self._last[found]
        assert result.failure is not None
        return (
            f"most frequent failure, {count:,} of {self._counts.total():,}: {self.commonest()} "
            f"(row {printable(result.id)}: {said(result.failure)})"
        )


def live_of(
    sample: dict[str, Any], stack: StackStatistics | None, monitor: Monitor | None
) -> dict[str, Any]:
    """Return what `status --watch` shows of a run besides a sample, read again each second."""
    live = dict(sample)
    if stack is not None:
        every = stack.allowances
        busiest = sorted(every, key=lambda name: -every[name].outstanding - every[name].waiting)
        shown = {name: every[name] for name in busiest[:MOST_LIVE]}
        live["models"] = len(every)
        live["limits"] = {name or "": limit_of(each) for name, each in shown.items()}
        if stack.account is not None:
            shown[ACCOUNT] = stack.account
        live["used"] = {
            name or "": [[w.dimension, w.period, w.spent, w.limit] for w in each.limits]
            for name, each in shown.items()
        }
        slots = {name: s for name, s in stack.slots.items() if name in shown or name is None}
        live["slots"] = {name or "": [s.held, s.limit] for name, s in slots.items()}
    if monitor is not None:
        live["reasons"] = list(monitor.reasons)
    return live


def sample_of(
    tally: Tally, stack: StackStatistics | None, monitor: Monitor | None
) -> dict[str, Any]:
    """Return what a sample in the journal tells; counts are since the run began."""
    sample: dict[str, Any] = {
        "ok": tally.ok,
        "failed": tally.failed,
        "attempts": tally.attempts,
        "tokens": [tally.prompt_tokens, tally.completion_tokens, tally.cached_tokens],
    }
    if monitor is not None:
        sample |= {"retries": monitor.retries, "rejected": monitor.rejected}
    if stack is not None:
        states = {name or "": each.state.value for name, each in stack.circuits.items()}
        sample |= {
            "in_flight": under_way(stack),
            "waiting": stack.waiting,
            "limits": limits_of(stack),
            "account": None if stack.account is None else limit_of(stack.account),
            "circuits": {name: state for name, state in states.items() if state != "closed"},
            "waits": waiting_for(stack, None if monitor is None else monitor.trouble),
        }
    return sample
