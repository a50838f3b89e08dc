"""Records now and then how a run goes, for its report and for the run after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import aio
from ..errors import JournalError
from ..rate.days import DAYS
from ..stack.stack import Stack
from .monitor import Monitor
from .recorder import Recorder
from .sample import Tally, live_of, sample_of

SAMPLES = 300
"""A run has hardly more samples than this for each doubling of its time: they get rarer."""

LIVE = 1.0
"""Seconds between two times that `status --watch` is told how the run goes."""

BELIEFS = 30.0
"""Seconds between two times that what was learned of limits is recorded. What was spent of a day's
limit is recorded with each sample: a run that is killed forgets what came after the last one, and
all of a day may be spent within seconds."""


class Sampler:
    """Takes samples of a run.

    Args:
        recorder: of the run; without a journal nothing is taken.
        tally: what the run has done.
        stack: that it sends with, or None.
        monitor: listens to the stack, or None.

    State: one run.
    """

    def __init__(
        self,
        recorder: Recorder[Any, Any],
        tally: Tally,
        stack: Stack | None,
        monitor: Monitor | None = None,
    ) -> None:
        self._recorder = recorder
        self._tally = tally
        self._stack = stack
        self.monitor = monitor
        self._due = 0.0  # when what was learned is recorded

    async def run(self, failed: Callable[[JournalError], None]) -> None:
        """Take samples until one cannot be recorded, of which `failed` is told."""
        runtime = aio.current()
        started = runtime.now()
        due = started + 1.0
        while self._recorder.records:
            await runtime.sleep_until(runtime.now() + LIVE)
            now = runtime.now()
            try:
                if now >= due:
                    due = now + max(1.0, (now - started) / SAMPLES)
                    self.take(now)
                self._show_live(now - started)
            except JournalError as error:
                failed(error)
                return

    def ended(self, row_id: str) -> None:
        """Note that a row has its result."""
        if self.monitor is not None:
            self.monitor.ended(row_id)

    def _show_live(self, seconds: float) -> None:
        statistics = None if self._stack is None else self._stack.statistics()
        sample = sample_of(self._tally, statistics, self.monitor)
        live = live_of(sample, statistics, self.monitor)
        self._recorder.show_live(live | {"seconds": round(seconds, 3)})

    def take(self, now: float, told: Sequence[dict[str, Any]] = ()) -> None:
        """Record one sample, and the events since the last.

        Args:
            now: the loop time, in seconds.
            told: more events.

        Raises:
            JournalError: it cannot be recorded.
        """
        if not self._recorder.records:
            return
        stack, monitor = self._stack, self.monitor
        statistics = None if stack is None else stack.statistics()
        events = [] if monitor is None else monitor.take_events()
        sample = sample_of(self._tally, statistics, monitor)
        if stack is not None and now >= self._due:  # for a run that is killed
            beliefs = sample["beliefs"] = stack.beliefs()
            counts_days = any(DAYS in each for each in beliefs.values())
            self._due = now if counts_days else now + BELIEFS
        self._recorder.tell(sample, [*events, *told])
