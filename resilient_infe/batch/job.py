"""From a file of requests to a file of results: the command's main job, without the command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, BinaryIO

from .. import __version__, aio, presets
from ..adapters.aiohttp import InfeTransport
from ..emitter import Listener
from ..errors import BatchError, RowError
from ..policies.estimate import estimate_tokens
from .answer import answer_line, bad_line
from .check import Check, check, is_pending, requests_in, used_before
from .endpoints import Endpoints
from .feed import Feed
from .journal import Journal
from .lines import STDIN, opened
from .monitor import Monitor
from .options import JobOptions, check_paths, key_for, place_of
from .output import Output
from .progress import Gauge, Progress
from .request import Defaults, Request
from .result import Result
from .run import IN_MEMORY, BatchRun, run_batch
from .sample import Tally
from .table import TAKEN, key_of

FLUSH = 0.5
"""Seconds between two times that readers of the output are let see it."""


class Job:
    """One run over a file.

    Args:
        options: what to do.
        listeners: take every event of the stack.

    Raises:
        BatchError: it cannot begin; the message says what to do.

    Attributes:
        found: what the check of the input found, or None.
        last: how far it was when it ended, or None.
        skipped: lines of the input that were left out.
        left: rows that were left for another run, by the limit.

    State: the journal and the output's files, until `close`.
    """

    def __init__(self, options: JobOptions, listeners: Iterable[Listener] = ()) -> None:
        """Open the journal; nothing is read or sent yet."""
        self.options = options
        self.monitor = Monitor()
        self.found: Check | None = None
        self.skipped = self.left = 0
        self.last: Progress | None = None
        self._defaults = Defaults(options.model, options.url)
        check_paths(options)
        self._transport = InfeTransport(key_for(options), base_url=options.base_url)
        self.journal = Journal(
            options.journal,
            {"base_url": place_of(options.base_url)},
            library=__version__,
            repair=options.salvage,
        )
        self.stack = presets.batch(
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            concurrency=options.concurrency,
            attempt_timeout=options.attempt_timeout,
            max_attempts=options.max_attempts,
            estimate=_tokens,
            beliefs=self.journal.recorded.beliefs,
            listeners=[self.monitor, *listeners],
        )
        beside = self.journal.resumed
        self._output = Output(options.output, beside=beside)
        self._errors = Output(options.errors, beside=beside)
        self._run: BatchRun[Request, Any] | None = None
        self._gauge = Gauge(None)
        self._replayed = self._old_failed = self._begun = 0
        self._stopped = False

    def check(self) -> Check | None:
        """Look at every line before anything is sent; None for stdin, which can be read once.

        Raises:
            BatchError: the input cannot be read.
        """
        options = self.options
        if options.input == STDIN:
            return None
        with opened(options.input) as file:
            self.found = check(
                file,
                options.input,
                self._defaults,
                self.journal.table,
                retry_failed=options.retry_failed,
            )
        if options.limit is not None:
            self.left = max(0, self.found.pending - options.limit)
        self._gauge = Gauge(self.found.rows - self.left)
        return self.found

    async def run(self) -> None:
        """Send every row, and write what comes of it.

        Raises:
            BatchPaused: the account is the reason, not a row.
            BatchError: the input, the journal or the output stopped it; what was done is safe.
        """
        options = self.options
        self.journal.about = {
            "input": options.input,
            "rows": self.found.rows if self.found else None,
        }
        with opened(options.input) as file:
            rows = self._slow_rows(file) if options.input == STDIN else self._rows(file)
            async with self._transport:
                self._run = run_batch(
                    rows,
                    self.stack.around(Endpoints(self._transport)),
                    request=_payload,
                    row_id=_id,
                    partition=_partition,
                    ordered=options.ordered,
                    in_memory=max(IN_MEMORY, 2 * options.concurrency),
                    deadline=options.deadline,
                    journal=self.journal,
                    retry_failed=options.retry_failed,
                )
                if self._stopped:
                    self._run.stop()
                self._gauge.begin(aio.current().now())
                stop_flushing = aio.current().start(self._flush_now_and_then)
                try:
                    async with self._run as results:
                        async for result in results:
                            self._write(result)
                finally:
                    stop_flushing()
                    self.last = self.progress()
        if not self._stopped:
            self._settle()

    def stop(self) -> None:
        """Take no more rows, and let what is under way come to its end."""
        self._stopped = True
        if self._run is not None:
            self._run.stop()

    def progress(self) -> Progress:
        """Return how far it is; from inside the event loop."""
        return self._gauge.read(
            aio.current().now(),
            Tally() if self._run is None else self._run.tally,
            self.stack.statistics(),
            self.monitor,
            old_failed=self._old_failed,
            stopping=self._stopped,
        )

    def close(self) -> None:
        """Let go of the files.

        Raises:
            BatchError: the output could not be written to its end.
        """
        self.journal.close()
        try:
            self._output.close()
        finally:
            self._errors.close()

    def _rows(self, file: BinaryIO) -> Iterator[Request]:
        """Yield what is to be sent or replayed; tell of bad lines on the way."""
        twice = self.found is None or self.found.bad > 0  # the check found no id twice
        for request in self._lines(file):
            accepted = self._accepted(request, twice=twice)
            if accepted is not None:
                yield accepted

    async def _slow_rows(self, file: BinaryIO) -> AsyncIterator[Request]:
        """Yield the same, of an input that may be written to as we read."""
        async for request in Feed(self._lines(file)):
            accepted = self._accepted(request, twice=True)
            if accepted is not None:
                yield accepted

    def _lines(self, file: BinaryIO) -> Iterator[Request | RowError]:
        return requests_in(file, self.options.input, self._defaults)

    def _accepted(self, request: Request | RowError, *, twice: bool) -> Request | None:
        """Return a line's request if it is to be sent or replayed."""
        if isinstance(request, RowError):
            self._skip(request)
            return None
        limit = self.options.limit
        if limit is None and not twice:
            return request
        word = self.journal.table.get(key_of(request.custom_id))
        if twice and word & TAKEN:
            self._skip(used_before(request))
            return None
        if limit is not None and is_pending(word, retry_failed=self.options.retry_failed):
            if self._begun == limit:
                return None
            self._begun += 1
        return request

    def _skip(self, problem: RowError) -> None:
        if not self.options.skip_bad:
            raise RowError(f"{problem}. Mend it, or go on without such lines: --skip-bad")
        self._errors.write(bad_line(problem.line, str(problem)))
        self.skipped += 1

    def _write(self, result: Result[Request, Any]) -> None:
        (self._output if result.ok else self._errors).write(answer_line(result))
        if result.replayed:
            self._replayed += 1
            self._old_failed += not result.ok
            if self.found is not None and self._replayed == self.found.rows - self.found.pending:
                self._settle()

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


def _payload(request: Request) -> dict[str, Any]:
    return {"url": request.url, "body": request.body}


def _tokens(payload: dict[str, Any]) -> float:
    return estimate_tokens(payload["body"])


def _id(request: Request) -> str:
    return request.custom_id


def _partition(payload: dict[str, Any]) -> str | None:
    model: str = payload["body"]["model"]
    return model
