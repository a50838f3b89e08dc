"""From a file of requests to a file of results: the command's main job, without the command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

from ... import aio
from ...adapters.infe.transport import InfeTransport
from ...core.ids import model_in
from ...errors import BatchError, JournalMismatch, RowError
from ...events import Listener
from ...version import __version__
from ..monitor import Monitor, counted
from ..progress import Gauge, Progress
from ..request import Request, payload_of
from ..result import Result
from ..run import IN_MEMORY, BatchRun, run_batch
from ..sample import Failures, Tally
from ..spending import Spending, check_prices
from ..store import Journal
from .answer import answer_line, bad_line
from .check import CheckResult, check_file, duplicate_id_error, is_pending
from .counting import RowCount
from .endpoints import Endpoints
from .feed import Feed
from .input import Input
from .layers import most_in_flight, stack_for
from .options import (
    NO_KEY,
    NO_PROXY,
    JobOptions,
    check_paths,
    defaults_of,
    key_for,
    place_of,
    price_for,
)
from .output import Output
from .rows import requests_in
from .sharing import shares_of, sharing, told

AHEAD = 16
"""Rows that are read at once: one by one, with other code in between, each costs twice as much."""

FLUSH = 0.5
"""Seconds between two times that readers of the output are let see it."""


class Job:
    """One run over a file.

    Args:
        options: what to do.
        listeners: take every event of the stack.
        say: is told what goes wrong without ending the run.

    Raises:
        BatchError: it cannot begin; the message says what to do.

    Attributes:
        found: what the check of the input found, or None.
        last: how far it was when it ended, or None.
        skipped: lines of the input that were left out.
        left: rows that were left for another run, by the limit.
        failed, failed_for_good: rows without a result, those of earlier runs included.
        has_key: whether a key was given.

    State: the journal and the output's files, until `close`.
    """

    def __init__(
        self,
        options: JobOptions,
        listeners: Iterable[Listener] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the journal; nothing is read or sent yet."""
        self.options = options
        self.monitor = Monitor()
        self.found: CheckResult | None = None
        self.skipped = self.left = self.failed = self.failed_for_good = 0
        self.last: Progress | None = None
        self._defaults = defaults_of(options)
        check_paths(options)
        self._price = price_for(options)
        self._shares = shares_of(options)
        key = key_for(options)
        self.has_key = key != NO_KEY
        self._transport = InfeTransport(
            key,
            base_url=options.base_url,
            proxy=None if options.proxy == NO_PROXY else options.proxy,
            trust_env=options.trust_env,
        )
        self._run: BatchRun[Request, Any] | None = None
        self._replayed = self._old_failed = 0
        self._broken: BatchError | None = None
        self._stopped = False
        with ExitStack() as opened:  # if the rest fails, nobody can close it
            self.journal = Journal(
                options.journal,
                {"base_url": place_of(options.base_url)},
                library=__version__,
                repair=options.salvage,
            )
            opened.callback(self.journal.close)
            self._count = RowCount(options.count, say)
            self.stack = stack_for(
                options,
                count=self._count,
                beliefs=self.journal.recorded.beliefs,
                shares=self._shares,
                listeners=[self.monitor, *told(self._shares, say), *listeners],
            )
            recorded = self.journal.recorded
            self._known = recorded.done + (0 if options.retry_failed else recorded.permanent)
            self._output = Output(options.output, beside=self._known > 0)
            self._errors = Output(options.errors, beside=self._known > 0)
            self._input = Input(options.input)
            opened.pop_all()

    def check(self) -> CheckResult | None:
        """Look at every line before anything is sent; None for what can be read but once.

        Raises:
            BatchError: the input cannot be read, or is not the one that the journal is of.
        """
        options = self.options
        if self._input.is_stream:
            return None
        with self._input.read() as file:
            self.found = check_file(
                file,
                options.input,
                self._defaults,
                self.journal.find,
                retry_failed=options.retry_failed,
                count=options.count,
            )
        self._check_known(self.found.known)
        if options.max_cost is not None:
            check_prices(self._price, self.found.models)
        if options.limit is not None:
            self.left = max(0, self.found.pending - options.limit)
        return self.found

    async def run(self) -> None:
        """Send every row, and write what comes of it.

        Raises:
            BatchPaused: the account is the reason, not a row.
            BatchError: the input, the journal or the output stopped it; what was done is safe.
        """
        found = self.found
        if found is not None:
            self._input.begin()
        async with self._transport, sharing(self._shares):
            self.journal.about = {
                "input": self.options.input,
                "rows": found.rows if found else None,
                "output": self.options.output,
                "errors": self.options.errors,
            }
            self._errors.forget()
            self._output.begin()
            self._run = self._batch()
            if self._stopped:
                self._run.stop()
            self._run.gauge.rows = None if found is None else found.rows - self.left
            stop_flushing = aio.current().start(self._flush_now_and_then)
            try:
                async with self._run as results:
                    async for result in results:
                        self._write(result)
            finally:
                stop_flushing()
                self.last = self.progress()
        if self._broken is not None:
            raise self._broken
        if not self._stopped:
            self._end_well()

    def _batch(self) -> BatchRun[Request, Any]:
        options = self.options
        # What may have to pass over many lines is read in a thread, so that the loop goes on.
        found = self.found
        plain = found is not None and not found.bad and options.limit is None
        return run_batch(
            self._rows() if plain else self._chosen_rows(),
            self.stack.around(Endpoints(self._transport)),
            request=self._payload,
            row_id=_id,
            partition=_partition,
            ordered=options.ordered,
            in_memory=max(IN_MEMORY, 2 * most_in_flight(self.stack)),
            deadline=options.deadline,
            price=self._price,
            max_cost=options.max_cost,
            max_tokens=options.max_tokens,
            journal=self.journal,
            retry_failed=options.retry_failed,
            keep_going=options.keep_going,
        )

    def stop(self) -> None:
        """Take no more rows, and let what is under way come to its end."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()

    @property
    def under_way(self) -> BatchRun[Request, Any] | None:
        """The run; None before it begins."""
        return self._run

    def progress(self) -> Progress:
        """Return how far it is; from inside the event loop."""
        return Gauge(None).read(0.0, Tally(), None, None) if not self._run else self._run.progress()

    @property
    def spending(self) -> Spending:
        """What this run and those before it have spent."""
        return Spending() if self._run is None else self._run.spending

    @property
    def failures(self) -> Failures:
        """The failures of this run, counted by what they have in common."""
        return Failures() if self._run is None else self._run.failures

    def close(self) -> None:
        """Let go of the files.

        Raises:
            BatchError: the output could not be written to its end.
        """
        self._input.close()
        self.journal.close()
        try:
            self._output.close()
        finally:
            self._errors.close()

    def _lines(self, *, checked: bool = False) -> Iterator[Request | RowError]:
        with self._input.read() as file:
            defaults = replace(self._defaults, checked=checked)
            yield from requests_in(file, self.options.input, defaults)

    def _rows(self) -> Iterator[Request]:
        """Yield every line of an input that was found good."""
        lines = self._lines(checked=True)
        while ahead := list(islice(lines, AHEAD)):
            for request in ahead:
                if isinstance(request, RowError):
                    raise BatchError(f"the input changed while it was read: {request}")
                yield request

    async def _chosen_rows(self) -> AsyncIterator[Request]:
        """Yield what is to be sent or replayed; tell of bad lines on the way."""
        limit = self.options.limit
        replayed = begun = 0
        async for request in Feed(self._lines()):
            if isinstance(request, RowError):
                self._skip(request)
                continue
            if request.custom_id in self.journal.taken:
                self._skip(duplicate_id_error(request))
                continue
            entry = self.journal.find(request.custom_id)
            if not is_pending(entry, request, retry_failed=self.options.retry_failed):
                replayed += 1
            elif begun != limit:
                begun += 1
            elif replayed < self._known:
                continue
            else:
                return
            yield request

    def _payload(self, request: Request) -> dict[str, Any]:
        self._count.began(request)
        return payload_of(request)

    def _skip(self, problem: RowError) -> None:
        if not self.options.skip_bad:
            raise RowError(f"{problem}. Mend it, or go on without such lines: --skip-bad")
        self._errors.write(bad_line(problem.line, str(problem)))
        self.skipped += 1

    def _write(self, result: Result[Request, Any]) -> None:
        self._count.ended(result.row)
        if self._broken is not None:
            return  # what is under way comes to its end, and is in the journal
        if result.failure is not None:
            self.failed += 1
            self.failed_for_good += result.failure.permanent
        try:
            (self._output if result.ok else self._errors).write(answer_line(result))
            if result.replayed:
                self._replayed += 1
                self._old_failed += not result.ok
                if self._replayed == self._known:
                    self._settle()
        except BatchError as error:
            self._broken = error
            if self._run is not None:
                self._run.stop()

    def _end_well(self) -> None:
        """Put the output in place, the input having come to its end."""
        if self.found is None:
            self._check_known(self._replayed - self._old_failed)
        elif self._run is not None and self._run.tally.taken < self.found.rows - self.left:
            raise BatchError(
                f"{self.options.input} became shorter while it was read; the output is as it was: "
                f"run the same again"
            )
        else:
            self._input.check_same()
        self._settle()
        self._input.report_changes()

    def _check_known(self, seen: int) -> None:
        """Refuse an input without rows that the journal has results of.

        To write the output anew would leave those results out.

        Args:
            seen: how many rows with results are in the input.
        """
        missing = self.journal.recorded.done - seen
        if missing:
            raise JournalMismatch(
                f"{self.options.journal} has the results of {counted(missing, 'row')} that "
                f"{'is' if missing == 1 else 'are'} not in {self.options.input}: is it another "
                f"input? Then give another --output. Or put back what is missing"
            )

    def _settle(self) -> None:
        self._output.settle()
        self._errors.settle()

    async def _flush_now_and_then(self) -> None:
        runtime = aio.current()
        while True:
            await runtime.sleep_until(runtime.now() + FLUSH)
            try:
                self._output.flush()
                self._errors.flush()
            except BatchError:
                return  # the next line that is written tells


def _id(request: Request) -> str:
    return request.custom_id


def _partition(payload: dict[str, Any]) -> str | None:
    return model_in(payload["body"])
