"""What an engine has of a journal: earlier results, and a way for new ones to become safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Generic

from ..core.runtime import Runtime
from ..errors import JournalWriteFailed, RowError
from .bell import Bell
from .result import Result, Row, Value
from .sample import Tally
from .spending import Spending
from .store import Journal
from .store.rows import OK

LENT = 4
"""Results on their way to the disk, as a multiple of the rows in memory, that give up their places:
enough for one group while it is written, and for the next."""

MOST_LENT = 256
"""The same, at most: a crash or a full disk loses them, and they are sent again."""


class Recorder(Generic[Row, Value]):
    """Records results in a journal before they are handed on; without one, hands them on at once.

    Args:
        journal: where to, or None.
        owned: whether to close it at the end.
        retry_failed: whether what failed for good is to be sent again.
        safe: takes each result once it is safe.
        most_lent: results on their way to the disk, at most, that do not take up a place.

    State: how many results are on their way to the disk.
    """

    def __init__(
        self,
        journal: Journal | None,
        *,
        owned: bool,
        retry_failed: bool,
        safe: Callable[[Result[Row, Value]], None],
        most_lent: int,
    ) -> None:
        self._unsafe = 0
        self._most_lent = most_lent
        self._broken = False
        self._settled = Bell()
        self._journal = journal
        self._owned = owned
        self._retry_failed = retry_failed
        self._safe = safe

    @property
    def records(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    @property
    def lent(self) -> int:
        """How many places of results on their way to the disk other rows may have meanwhile."""
        return min(self._unsafe, self._most_lent)

    @property
    def paused(self) -> frozenset[str | None]:
        """The partitions for which the last run paused."""
        end = None if self._journal is None else self._journal.recorded.end
        return frozenset((end or {}).get("paused") or ())

    def start(self, broken: Callable[[JournalWriteFailed], None], spending: Spending) -> None:
        """Begin to write, and to count on from what earlier runs have spent.

        Args:
            broken: is told if nothing can be written any more.
            spending: of the run.
        """

        def fail(error: JournalWriteFailed) -> None:
            self._broken = True
            self._settled.ring()
            broken(error)

        if self._journal is not None:
            spending.resume(self._journal.recorded.spent)
            self._journal.start(fail, spending.take_news)

    async def settle(self, runtime: Runtime) -> None:
        """Wait until all results are safe, or nothing is written any more."""
        while self._unsafe and not self._broken:
            await self._settled.wait(runtime)

    def earlier(
        self, row_id: str, index: int, row: Row, digest: str | None
    ) -> Result[Row, Value] | None:
        """Return what an earlier run recorded of a row, if that stands; None if it is to be sent.

        Raises:
            RowError: another row of this run has its id.
            JournalMismatch: it has a result, and was another row then.
        """
        journal = self._journal
        if journal is None:
            return None
        if not journal.taken.add(row_id):
            raise RowError(f"row {index + 1} has the id of another row: {row_id!r}")
        entry = journal.find(row_id)
        if entry is None or entry.is_pending(digest, retry_failed=self._retry_failed):
            return None
        return journal.result(row_id, index, row, digest)[0]

    def has_failed(self, row_id: str) -> bool:
        """Whether the last that is recorded of a row is a failure."""
        entry = None if self._journal is None else self._journal.find(row_id)
        return entry is not None and entry.kind != OK

    def put(self, result: Result[Row, Value], digest: str | None, *, stands: bool = True) -> None:
        """Record a result, and hand it on once it is safe.

        Args:
            result: of a row.
            digest: what the row's request is known by.
            stands: False records a failure as one that is sent again, whatever its kind.
        """
        if self._journal is None:
            self._safe(result)
            return
        recorded = result
        if not stands and result.failure is not None:
            recorded = replace(result, failure=replace(result.failure, permanent=False))
        self._unsafe += 1
        self._journal.put(recorded, digest, partial(self._done, result))

    def put_anew(self, result: Result[Any, Any], digest: str | None) -> None:
        """Record a result, which was handed on, as it is: its failure stands after all."""
        if self._journal is not None:
            self._journal.put(result, digest, _nothing)

    def tell(self, sample: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """Record how the run goes."""
        if self._journal is not None:
            for event in events:
                self._journal.tell("event", **event)
            self._journal.tell("sample", **sample)

    def show_live(self, live: dict[str, Any]) -> None:
        """Record how the run goes now, in place of what it was before."""
        if self._journal is not None:
            self._journal.show_live(live)

    def finish(self, tally: Tally, why: str, reason: BaseException | None, **fields: Any) -> None:
        """Record how the run ended, and let go of the journal if it is ours.

        Args:
            tally: what the run has done.
            why: how it ended, if there is no `reason`.
            reason: what ended it early, or None.
            fields: more that is to be recorded.

        Raises:
            JournalWriteFailed: the disk took no more.
        """
        if self._journal is None:
            return
        try:
            why = why if reason is None else type(reason).__name__
            said = None if reason is None else str(reason)
            self._journal.stop(why=why, said=said, **fields, **asdict(tally))
        finally:
            if self._owned:
                self._journal.close()

    def _done(self, result: Result[Row, Value]) -> None:
        self._unsafe -= 1
        self._safe(result)
        if not self._unsafe:
            self._settled.ring()


def _nothing() -> None:
    pass
