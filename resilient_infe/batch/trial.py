"""Whether failures are about what every row would meet: then the run pauses, and gives up no row.

A wrong model, a key that is not accepted or an account without credits fails every row of its
partition, and servers tell each of these with any status they like. So what counts is that rows
fail *alike*: with the same kind, status and code. There are four cases:

1. At the start. The first 20 results of a partition fail alike: pause. If the input ends before
   that, six of them are enough.
2. A refusal of the key or the account is about all rows by itself. Before any row has passed, the
   first one is enough.
3. Later. Single such refusals happen, so the run pauses after 50 in a row, of the kinds that are
   about the account or the model. Any other failure is about its row, once a row has passed.
4. After a pause. The next run asks with five rows, if possible with some that did not fail before.
   If none of them passes, it pauses again.

What our own stack refused, and 429s, count for nothing: they are about the time, or about one row.

A pause waits for the rows under way. If one of them passes, there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from ..core.verdict import Kind
from ..errors import BatchPaused
from .result import Failure, Result

FIRST = 20
"""Results of a partition that have to fail alike."""

FEWEST = 6
"""The same, where the input has no more rows."""

QUESTIONS = 5
"""Rows that a run sends which goes on after a pause, before one of them has passed."""

TIMELY = frozenset((Kind.REFUSED, Kind.CANCELLED, Kind.RATE_LIMITED))
"""Kinds that are about the time of sending, or about one row."""

IN_A_ROW = 50
"""Refusals in a row that pause a run in which rows have passed."""

ACCOUNT = frozenset((Kind.AUTH, Kind.QUOTA))
"""Kinds that are about the key or the account."""

SHARED = ACCOUNT | {Kind.FORBIDDEN, Kind.NOT_FOUND}
"""Kinds that are about the account or the model, and so likely to meet other rows."""

MOST_UNSETTLED = 1_000
"""Failures that are not given up yet, at most: of more the first are, so that memory is bounded."""

PATIENCE = 5.0
"""Seconds that the input may take to name another partition, where all so far are paused."""

MOST_SKIPPED = 100_000
"""Rows in a row that are left for another run, after which no other partition is looked for."""

MOST_PUT_OFF = 1_000
"""Rows that are put off at most, and so kept in memory: more than earlier runs have asked with."""

State: TypeAlias = Literal["open", "held", "paused"]

Alike: TypeAlias = tuple[Kind, int | None, str | None]


Unsettled: TypeAlias = tuple[Result[Any, Any], str | None]
"""A result whose failure may be every row's, and the digest of its request."""


def alike(failure: Failure) -> Alike:
    """Return what two failures have in common that are alike."""
    return failure.kind, failure.status, failure.code


class Trial:
    """What the results of one partition say about all its rows.

    Args:
        again: whether an earlier run paused for this partition.
        keep_going: whether it never pauses.

    Attributes:
        state: whether rows may be sent (``"open"``), wait for those under way (``"held"``), or are
            left for another run (``"paused"``).
        passed: whether any row has passed, so that failures are about single rows.
        last: the last failure before the pause: the server's words.

    State: one partition of a run.
    """

    __slots__ = ("_again", "_alike", "_cut", "_failed", "_in_a_row", "_keep_going",
                 "_latest_passed", "_outlook", "_results", "_sent", "_under_way", "_unsettled",
                 "last", "passed", "state")  # fmt: skip

    def __init__(self, *, again: bool = False, keep_going: bool = False) -> None:
        self._again = again
        self._keep_going = keep_going
        self._alike: Alike | None = None
        self._failed = 0  # failures that count
        self._results = 0  # those of them that were alike, the last ones in a row
        self._in_a_row = 0  # the same for those of a shared kind, since a row has passed
        self._sent = self._under_way = 0
        self.state: State = "open"
        self.passed = False
        self.last: Failure | None = None
        self._cut = self._latest_passed = 0
        # Failures that may be every row's, each with how many rows were begun before it.
        self._unsettled: list[tuple[int, Unsettled]] = []
        self._outlook: object = (self.state, self.asks)

    @property
    def asks(self) -> bool:
        """Whether only a few rows are sent, until one of them has passed."""
        return self._again and not (self.passed or self._keep_going)

    def has_turned(self) -> bool:
        """Return whether what decides on sending rows has changed since this was last asked."""
        before, self._outlook = self._outlook, (self.state, self.asks)
        return before != self._outlook

    def admits(self) -> bool:
        """Whether one more row may be sent now."""
        return self.state == "open" and not (self.asks and self._sent - self._cut >= QUESTIONS)

    def begin(self) -> int:
        """Count a row that is sent, and return its number."""
        self._sent += 1
        self._under_way += 1
        return self._sent

    def cut(self) -> None:
        """Take back a row that was not sent after all."""
        self._cut += 1
        self._under_way -= 1
        self._decide()

    def end(self, number: int, result: Result[Any, Any], digest: str | None) -> bool:
        """Count a result; return whether its failure stands, whatever comes of the run.

        Args:
            number: what `begin` returned for the row.
            result: of the row.
            digest: of its request.
        """
        self._under_way -= 1
        if result.failure is None:
            self._latest_passed = max(self._latest_passed, number)
            self.note_passed()
        elif not self._keep_going and _is_told(result.failure):
            self._fail(result.failure)
        stands = result.failure is None or self._stands(result.failure)
        if not stands:
            self._unsettled.append((self._sent, (result, digest)))
        self._decide()
        return stands

    def note_passed(self) -> None:
        """Note that a row has passed."""
        self.passed = True
        self._in_a_row = 0
        if self.state == "held":
            self.state = "open"

    def close(self) -> list[Unsettled]:
        """Decide at the end of the input; return the results that are given up after all."""
        fewest = 1 if self.asks else FEWEST
        if self._never_passed() and self._results >= fewest:
            self.state = "paused"
        settled, self._unsettled = self._unsettled, []
        return [] if self.state == "paused" else [each for _, each in settled]

    def _fail(self, failure: Failure) -> None:
        found = alike(failure)
        if self.state == "open":
            self.last = failure
        self._failed += 1
        self._results = self._results + 1 if found == self._alike else 1
        self._in_a_row = self._in_a_row + 1 if failure.kind in SHARED else 0
        self._alike = found
        enough = 1 if failure.kind in ACCOUNT else FIRST
        asked = self.asks and self._failed >= QUESTIONS
        if (self._never_passed() and (asked or self._results >= enough)) or (
            self._in_a_row >= IN_A_ROW
        ):
            self.state = "held"

    def _never_passed(self) -> bool:
        return self._failed > 0 and not (self.passed or self._keep_going)

    def _stands(self, failure: Failure) -> bool:
        return not failure.permanent or not (self._never_passed() or self._in_a_row)

    def _decide(self) -> None:
        if self.state == "held" and not self._under_way:
            self.state = "paused"

    def settled(self) -> list[Unsettled]:
        """Return, once, the results that are given up after all: the failures were their own.

        They are so if a row has passed that was begun after them.
        """
        if not self._unsettled or self.state != "open":
            return []
        latest = self._latest_passed
        keep = self._unsettled[-MOST_UNSETTLED:]
        settled = [each for _, each in self._unsettled[: -len(keep)]]
        settled += [each for begun, each in keep if begun < latest]
        if settled:
            self._unsettled = [each for each in keep if each[0] >= latest]
        return settled


def _is_told(failure: Failure) -> bool:
    """Whether other rows may fail for the same reason: the server gave it, and it will not pass."""
    return failure.kind not in TIMELY or failure.permanent


class Trials:
    """The trials of all partitions of a run.

    Args:
        again: partitions for which an earlier run paused.
        keep_going: whether the run never pauses.

    State: one run.
    """

    def __init__(self, *, again: frozenset[str | None], keep_going: bool) -> None:
        self._again = again
        self._keep_going = keep_going
        self._trials: dict[str | None, Trial] = {}

    def of(self, partition: str | None) -> Trial:
        """Return the trial of a partition."""
        trial = self._trials.get(partition)
        if trial is None:
            again = partition in self._again
            trial = self._trials[partition] = Trial(again=again, keep_going=self._keep_going)
        return trial

    def note_passed(self, partition: str | None) -> None:
        """Note that a row has passed in an earlier run, unless that run paused."""
        if partition not in self._again:
            self.of(partition).note_passed()

    @property
    def paused(self) -> list[str | None]:
        """The partitions that are paused."""
        return [name for name, each in self._trials.items() if each.state == "paused"]

    @property
    def all_paused(self) -> bool:
        """Whether every partition so far is paused."""
        trials = self._trials.values()
        return bool(trials) and all(each.state == "paused" for each in trials)

    def close(self) -> Iterator[Unsettled]:
        """Decide at the end of the input; yield the results that are given up after all."""
        for trial in self._trials.values():
            yield from trial.close()

    def pause(self) -> BatchPaused | None:
        """Return why the run is paused, in the server's words; None if it is not."""
        names = self.paused
        if not names:
            return None
        last = self._trials[names[0]].last
        assert last is not None
        words = said(last)
        if len(self._trials) > 1:
            words = f"{', '.join(str(name) for name in names)}: {words}"
        return BatchPaused(words, last.kind)


def said(failure: Failure) -> str:
    """Return what the server said, and what to do."""
    words = f"{failure.status} {failure.message}" if failure.status else failure.message
    return f"{words} | {failure.advice}" if failure.advice else words
