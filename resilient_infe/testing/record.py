"""What happened in a simulation: every call and every attempt, to assert on and to draw."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ..stack.describe import StackStatistics
from .books import Books
from .course import Second, seconds, step_of


@dataclass(frozen=True, slots=True)
class Called:
    """One call, as its caller saw it.

    Attributes:
        number: its place in the workload, from 0.
        start: seconds from the start of the simulation.
        end: the same; when it was answered or failed, or the simulation was over.
        error: the name of the exception's class; None if it was answered, ``"unfinished"`` if the
            simulation was over first.
    """

    number: int
    start: float
    end: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt, as the server saw it.

    Attributes:
        number: of the call.
        at: when it arrived, in seconds from the start of the simulation.
        end: when its reply was sent, or when the caller left.
        status: its HTTP status; 0 if the reply broke on its way or never came.
    """

    number: int
    at: float
    end: float
    status: int


@dataclass(frozen=True, slots=True)
class Record:
    """A simulation: the calls in the order of their ends, and the attempts in that of arrival.

    Attributes:
        calls: every call.
        attempts: every attempt that arrived at the server.
        seconds: how long it took, in virtual seconds.
        books: what the server counted.
        statistics: those of the stack, at the end.
    """

    calls: tuple[Called, ...]
    attempts: tuple[Attempted, ...]
    seconds: float
    books: Books
    statistics: StackStatistics

    @property
    def answered(self) -> int:
        """The number of calls that were answered."""
        return sum(each.error is None for each in self.calls)

    @property
    def failed(self) -> Counter[str]:
        """The calls that were not answered, counted by the name of the exception's class."""
        return Counter(each.error for each in self.calls if each.error is not None)

    @property
    def rejected(self) -> int:
        """The number of attempts that were answered with 429."""
        return sum(each.status == 429 for each in self.attempts)

    @property
    def sends_per_answer(self) -> float:
        """Attempts for each call that was answered; infinite if none was."""
        return len(self.attempts) / self.answered if self.answered else math.inf

    def seconds_of(self, share: float) -> float:
        """Return how long an answered call took, waits included: 0.99 gives the p99.

        Args:
            share: of the answered calls that took at most so long, above 0, at most 1.

        Returns:
            Seconds; NaN if none was answered.
        """
        took = sorted(each.end - each.start for each in self.calls if each.error is None)
        return took[max(0, math.ceil(share * len(took)) - 1)] if took else math.nan

    def between(self, start: float, end: float) -> Record:
        """Return the part with the calls that ended, and the attempts that arrived, in this time.

        The books and the statistics are those of the whole simulation.
        """
        return replace(
            self,
            calls=tuple(each for each in self.calls if start <= each.end < end),
            attempts=tuple(each for each in self.attempts if start <= each.at < end),
            seconds=min(end, self.seconds) - start,
        )

    def per_second(self, step: float = 1.0) -> list[Second]:
        """Return the course of it.

        Args:
            step: the seconds of each item, above 0; 1.
        """
        spans = [(each.start, each.end) for each in self.calls]
        sent = [(each.at, each.end) for each in self.attempts]
        course = seconds(self.seconds, spans, sent, step)
        for attempt in self.attempts:
            second = course[int(attempt.at / step)]
            second.sent += 1
            second.rejected += attempt.status == 429
            second.failed += attempt.status not in (200, 429)
        for call in self.calls:
            course[int(call.end / step)].answered += call.error is None
        return course

    def plot(self, path: str | Path, name: str = "", **others: Record) -> None:
        """Draw the record as an SVG file, which is readable on light and on dark pages.

        Args:
            path: the file.
            name: what to call this record.
            others: more records by their names, to be drawn below it on the same scales.

        Raises:
            ImportError: matplotlib is missing: it comes with ``resilient-infe[plot]``.
        """
        from .picture import draw  # matplotlib is optional, and slow to import

        records = {name: self, **others}
        step = step_of(max(each.seconds for each in records.values()))
        drawn = [(_title(name, each), each.per_second(step)) for name, each in records.items()]
        Path(path).write_text(draw(drawn, step), encoding="utf-8")

    def __str__(self) -> str:
        """Say in a few lines how it went."""
        lines = [
            f"{len(self.calls):,} calls in {self.seconds:,.1f} s: {self.answered:,} answered",
            *(f"  {number:,} {name}" for name, number in self.failed.most_common()),
            f"{len(self.attempts):,} attempts, {self.rejected:,} of them answered 429",
        ]
        if self.answered:
            p50, p99 = self.seconds_of(0.5), self.seconds_of(0.99)
            lines.append(f"an answer took {p50:.2f} s (p50), {p99:.2f} s (p99)")
        return "\n".join(lines)


def _title(name: str, record: Record) -> str:
    """Return what a picture says of a record in words."""
    said = f"{record.answered:,} of {len(record.calls):,} answered, {record.rejected:,} 429s"
    if record.answered:
        said += f", p99 {record.seconds_of(0.99):,.1f} s"
    return f"{name}: {said}" if name else said
