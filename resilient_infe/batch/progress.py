"""How far a run is, in figures and in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..adapters.http.masking import printable
from ..stack.describe import StackStatistics
from .monitor import Monitor, counted, limit_of, limits_of, under_way, waiting_for
from .sample import Failures, Tally
from .spending import Spending, Spent, dollars
from .store.summary import KindOfFailure

NO_LIMIT = 1e9
"""Per minute: what stands for no limit at all; no server answers so many."""

MOST_LIMITS = 4
"""Models whose limits a line names; the others are only counted."""

SPAN = 60.0
"""Seconds over which the rate is taken: a full period of the usual limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment.

    Attributes:
        rows: to be done in all, or None where that is not known.
        done: with a value, those of earlier runs included.
        failed: without one, likewise.
        commonest: the most frequent failure of this run in a few words, or None.
        replayed: of both, those that an earlier run recorded.
        rate: rows a minute that came to their end lately.
        elapsed: seconds since this run began.
        left: seconds until the end at that rate, or None.
        in_flight: attempts under way; None without a stack, which would know.
        queued: calls that wait for a slot or for the limit; None likewise.
        retries: attempts that were tried again; None likewise.
        rejected: 429s; None likewise.
        tokens: what the server charged in this run, or None as long as it has not said.
        cached: those of them that were read from the provider's cache.
        cost: dollars that this run has spent, or None if that is not known.
        cost_of_all: the same for all runs of the journal.
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
    left: float | None = None
    elapsed: float
    in_flight: int | None = None
    queued: int | None = None
    retries: int | None = None
    rejected: int | None = None
    tokens: int | None
    cached: int
    cost: float | None
    cost_of_all: float | None
    limit: str | None = None
    refused: str | None = None
    waits: str | None = None
    stopping: bool
    too_large: str | None = None


class Gauge:
    """Reads off a run how far it is.

    Args:
        rows: to be done in all, or None where that is not known.

    Attributes:
        rows: the same.
        stopping: whether the run takes no more rows.
        paused: whether it was told to pause.

    State: when it began, and when how many rows had ended, for a minute.
    """

    def __init__(self, rows: int | None) -> None:
        """Nothing was seen yet."""
        self.rows = rows
        self.stopping = self.paused = False
        self._seen: deque[tuple[float, int]] = deque()
        self._began = 0.0

    def begin(self, now: float) -> None:
        """Note when the run began."""
        self._began = now
        self._seen.append((now, 0))

    def read(
        self,
        now: float,
        tally: Tally,
        stack: StackStatistics | None,
        monitor: Monitor | None,
        *,
        failures: Failures | None = None,
        spending: Spending | None = None,
    ) -> Progress:
        """Return how far a run is.

        Args:
            now: seconds of any clock.
            tally: what the run has done.
            stack: the stack's figures, or None without one.
            monitor: the stack's listener, or None without one.
            failures: what the run's failures have in common.
            spending: what it has spent.
        """
        if not self._seen:
            self.begin(now)
        self._seen.append((now, tally.ended))
        while self._seen[0][0] < now - SPAN:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = (tally.ended - before) / (now - since) * 60.0 if now > since else 0.0
        spent = Spending() if spending is None else spending
        progress = Progress(
            rows=self.rows,
            done=tally.ok + tally.replayed - tally.replayed_failed,
            failed=tally.failed + tally.replayed_failed,
            commonest=None if failures is None else failures.commonest(),
            replayed=tally.replayed,
            rate=rate,
            elapsed=now - self._began,
            tokens=spent.now.tokens if spent.now.calls else None,
            cached=spent.now.cached,
            cost=spent.now.dollars if spent.now.calls else None,
            cost_of_all=spent.total.dollars if spent.total.calls else None,
            stopping=self.stopping,
        )
        remaining = None if self.rows is None else self.rows - tally.replayed - tally.ended
        known = {} if stack is None or monitor is None else _of_stack(stack, monitor, remaining)
        # What is left may be only rows that are refused each time: the rate says nothing of them.
        asked = 0 if monitor is None else monitor.number_refused
        if remaining is not None and remaining > asked and rate > 0.0:
            known["left"] = remaining / rate * 60.0
        if self.paused:
            known |= {"left": None, "waits": "paused, until it is told to resume"}
        return replace(progress, **known)


def _of_stack(stack: StackStatistics, monitor: Monitor, remaining: int | None) -> dict[str, Any]:
    """Return the fields of a progress that only a stack knows."""
    refused, waits = monitor.refused(), waiting_for(stack, monitor.trouble)
    moves = under_way(stack) > 0 or stack.waiting > 0
    if waits is None and refused is None and not moves and remaining != 0:
        waits = monitor.retried()
    return {
        "in_flight": under_way(stack),
        "queued": stack.waiting,
        "retries": monitor.retries,
        "rejected": monitor.rejected,
        "limit": _limit(stack),
        "refused": refused,
        "waits": waits,
        "too_large": monitor.too_large(),
    }


def in_words(progress: Progress) -> str:
    """Return a progress as one line."""
    pace = f"{progress.rate:,.0f}/min ({per_second(progress.rate / 60.0)})"
    parts = [f"{_rows(progress)} in {span(progress.elapsed)}", pace]
    if progress.failed:
        mostly = f" (mostly {progress.commonest})" if progress.commonest else ""
        parts.append(f"{progress.failed:,} failed{mostly}")
    if progress.in_flight is not None:
        parts.append(f"{progress.in_flight:,} in flight")
    if progress.retries:
        parts.append(counted(progress.retries, "retry", "retries"))
    if progress.rejected:
        parts.append(counted(progress.rejected, "429"))
    parts += filter(None, (progress.refused, progress.too_large))
    parts += _spent(progress)
    if progress.limit:
        parts.append(progress.limit)
    if progress.waits:
        parts.append(progress.waits)
    elif progress.stopping:
        parts.append("stopping: what is under way comes to its end")
    elif progress.left is not None:
        parts.append(f"{span(progress.left)} left")
    return ", ".join(parts)


def _spent(progress: Progress) -> Iterator[str]:
    if progress.tokens:
        cached = f" ({short(progress.cached)} cached)" if progress.cached else ""
        yield f"{short(progress.tokens)} tokens{cached}"
    if progress.cost is not None:
        of_all = progress.cost_of_all
        more = "" if of_all in (None, progress.cost) else f" ({dollars(of_all or 0)} in all runs)"
        yield f"{dollars(progress.cost)}{more}"


def span(seconds: float) -> str:
    """Return a time in words: ``45 s``, ``2 min 19 s``, ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def took(seconds: float) -> str:
    """Return a time that was measured: the same, ``0.4 s`` where it is short."""
    return f"{max(0.1, seconds):.1f} s" if 0 < seconds < 9.95 else span(seconds)


def per_second(rate: float) -> str:
    """Return a rate of rows in words: ``144/s``, ``1.7/s``, ``0.08/s``."""
    return f"{rate:,.0f}/s" if rate >= 10 or not rate else f"{rate:.2g}/s"


def pace_in_words(rows: int, seconds: float) -> str:
    """Return how long so many rows took, and how many that is a second."""
    pace = per_second(rows / seconds).replace("/", " rows/") if seconds > 0 and rows else ""
    return took(seconds) + (f", {pace}" if pace else "")


def spent_in_words(spent: Spent) -> str | None:
    """Return tokens and dollars in words; None if no call stated what it cost."""
    if not spent.calls:
        return None
    cached = f" ({short(spent.cached)} from the cache)" if spent.cached else ""
    parts = [f"{short(spent.prompt)} tokens in{cached}, {short(spent.completion)} out"]
    if not spent.prompt + spent.completion:
        parts.clear()
    if spent.estimated:
        parts.append(f"about {short(spent.estimated)} tokens that the server did not state")
    parts.append("cost not known" if spent.dollars is None else dollars(spent.dollars))
    return ", ".join(parts)


def failures_in_words(failures: Iterable[KindOfFailure]) -> list[str]:
    """Return a line for each kind: how many, why most of them, what to do, and where to look."""
    lines = []
    for each in failures:
        why = " ".join(str(part) for part in (each.status, each.code) if part is not None)
        mostly = f", mostly {printable(why)}" if why else ""
        advice = f" | {printable(each.advice)}" if each.advice else ""
        lines.append(
            f"{each.rows:,} {each.kind}{mostly}: {printable(each.message)}{advice} "
            f"(row {printable(each.row)})"
        )
    return lines


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
