"""How far a run is, in figures and in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from ..adapters.http.masking import printable
from ..stack.describe import StackStatistics
from .monitor import Monitor, counted, limit_of, limits_of, under_way, waiting_for
from .sample import Failures, Tally

NO_LIMIT = 1e9
"""Per minute: what stands for no limit at all; no server answers so many."""

MOST_LIMITS = 4
"""Models whose limits a line names; the others are only counted."""

SPAN = 60.0
"""Seconds over which the rate is taken: a full period of the usual limit."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment.

    Attributes:
        rows: to be done in all, or None where that is not known.
        done: with a value, those of earlier runs included.
        failed: without one, likewise.
        commonest: the most frequent failure of this run in a few words, or None.
        replayed: of both, those that an earlier run recorded.
        rate: rows a minute that came to their end lately.
        left: seconds until the end at that rate, or None.
        in_flight: attempts under way.
        queued: calls that wait for a slot or for the limit.
        retries: attempts that were tried again.
        rejected: 429s.
        tokens: what the server charged.
        limit: what is kept or learned, in words, or None.
        refused: the row that the server refuses each time, and why, or None.
        too_large: rows that cost more than the limit of a minute, in words, or None.
        waits: what everything waits for, in words, or None.
        stopping: whether the run takes no more rows.
    """

    rows: int | None
    done: int
    failed: int
    commonest: str | None
    replayed: int
    rate: float
    left: float | None
    in_flight: int
    queued: int
    retries: int
    rejected: int
    tokens: int
    limit: str | None
    refused: str | None
    waits: str | None
    stopping: bool
    too_large: str | None = None


class Gauge:
    """Reads off a run how far it is.

    Args:
        rows: to be done in all, or None where that is not known.

    State: when how many rows had ended, for a minute.
    """

    def __init__(self, rows: int | None) -> None:
        """Nothing was seen yet."""
        self.rows = rows
        self._seen: deque[tuple[float, int]] = deque()

    def begin(self, now: float) -> None:
        """Note when the run began."""
        self._seen.append((now, 0))

    def read(
        self,
        now: float,
        tally: Tally,
        stack: StackStatistics,
        monitor: Monitor,
        *,
        failures: Failures | None = None,
        old_failed: int = 0,
        stopping: bool = False,
    ) -> Progress:
        """Return how far a run is.

        Args:
            now: seconds of any clock.
            tally: what the run has done.
            stack: the stack's figures.
            monitor: the stack's listener.
            failures: what the run's failures have in common.
            old_failed: of the rows that were replayed, those that failed.
            stopping: whether the run takes no more rows.
        """
        self._seen.append((now, tally.ended))
        while self._seen[0][0] < now - SPAN:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = (tally.ended - before) / (now - since) * 60.0 if now > since else 0.0
        remaining = None if self.rows is None else self.rows - tally.replayed - tally.ended
        refused, waits = monitor.refused(), waiting_for(stack, monitor.trouble)
        moves = under_way(stack) > 0 or stack.waiting > 0
        if waits is None and refused is None and not moves and remaining != 0:
            waits = monitor.retried()
        # What is left may be only rows that are refused each time: the rate says nothing of them.
        tells = remaining is not None and remaining > monitor.number_refused and rate > 0.0
        return Progress(
            rows=self.rows,
            done=tally.ok + tally.replayed - old_failed,
            failed=tally.failed + old_failed,
            commonest=None if failures is None else failures.commonest(),
            replayed=tally.replayed,
            rate=rate,
            left=remaining / rate * 60.0 if remaining is not None and tells else None,
            in_flight=under_way(stack),
            queued=stack.waiting,
            retries=monitor.retries,
            rejected=monitor.rejected,
            tokens=tally.prompt_tokens + tally.completion_tokens,
            limit=_limit(stack),
            refused=refused,
            waits=waits,
            stopping=stopping,
            too_large=monitor.too_large(),
        )


def in_words(progress: Progress) -> str:
    """Return a progress as one line."""
    parts = [_rows(progress), f"{progress.rate:,.0f}/min"]
    if progress.failed:
        mostly = f" (mostly {progress.commonest})" if progress.commonest else ""
        parts.append(f"{progress.failed:,} failed{mostly}")
    parts.append(f"{progress.in_flight:,} in flight")
    if progress.retries:
        parts.append(counted(progress.retries, "retry", "retries"))
    if progress.rejected:
        parts.append(counted(progress.rejected, "429"))
    parts += filter(None, (progress.refused, progress.too_large))
    if progress.tokens:
        parts.append(f"{short(progress.tokens)} tokens")
    if progress.limit:
        parts.append(progress.limit)
    if progress.waits:
        parts.append(progress.waits)
    elif progress.stopping:
        parts.append("stopping: what is under way comes to its end")
    elif progress.left is not None:
        parts.append(f"{span(progress.left)} left")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """Return a time in words: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def short(number: float) -> str:
    """Return a number in few digits: ``950``, ``12.4k``, ``3.1M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


def _rows(progress: Progress) -> str:
    ended = progress.done + progress.failed
    if progress.rows is None:
        return counted(ended, "row")
    share = ended * 100 // progress.rows if progress.rows else 100  # 100 only at the end
    return f"{ended:,}/{progress.rows:,} ({share}%)"


def _limit(stack: StackStatistics) -> str | None:
    """Return the limits in words; the partition's name only where there are several."""
    found = {printable(name): _rates(each) for name, each in limits_of(stack).items()}
    several = len(found) > 1
    told = [f"{each} ({name})" if several else each for name, each in found.items() if each]
    if len(told) > MOST_LIMITS:
        told[MOST_LIMITS:] = [f"{len(told) - MOST_LIMITS:,} more"]
    if stack.account is not None:
        told.append(f"{_rates(limit_of(stack.account))} (the account)")
    return "limit " + "; ".join(told) if told else None


def have_result(done: int, rows: int | None = None, source: str = "") -> str:
    """Return how many rows have a result, as text: ``1 row has a result``.

    Args:
        done: the rows with a result.
        rows: the rows in all, or None where that is not known.
        source: what stands after the rows.
    """
    of = "" if rows is None else f"{done:,} of "
    number = done if rows is None else rows
    return f"{of}{counted(number, 'row')}{source} {'has' if number == 1 else 'have'} a result"


def limits_in_words(limits: Mapping[str, float | None]) -> str:
    """Return limits by name, such as ``requests_per_minute``, as text."""
    found = {
        name.replace("_", " ").replace(" per ", "/"): value
        for name, value in limits.items()
        if value is not None
    }
    told = [f"{value:,.6g} {name}" for name, value in found.items() if value < NO_LIMIT]
    if told:
        return " and ".join(told)
    return "without a limit" if found else "learned"


def _rates(limit: Mapping[str, float | None]) -> str:
    known = {what: limit[what] or NO_LIMIT for what in ("requests", "tokens")}
    return " and ".join(f"{n:,.0f} {what}/min" for what, n in known.items() if n < NO_LIMIT)
