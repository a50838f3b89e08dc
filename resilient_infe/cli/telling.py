"""What a run says before it sends, and when it has ended: what happened, and what to do next."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..batch.files import Job
from ..batch.files.check import CheckResult
from ..batch.monitor import counted
from ..batch.progress import (
    Progress,
    failures_in_words,
    have_result,
    pace_in_words,
    spent_in_words,
)
from ..batch.store.summary import failures_at
from ..core.verdict import Kind
from ..errors import BatchError, BatchPaused, ResilienceError
from .display import Display, JsonLines, write
from .limits import notes_on_limits

ROWS_FAILED, CANNOT, PAUSED, SIGNALLED = 1, 2, 3, 128
"""Exit codes: some rows failed; it cannot go on; every row would fail; a signal's number on top."""


ANOTHER = "ANOTHER-MODEL"
"""Stands in a command where the model has to be put right."""


def say_found(job: Job, display: Display, found: CheckResult | None) -> None:
    """Say what the input is, and refuse one with bad lines.

    Raises:
        BatchError: lines of it are no requests.
    """
    if job.journal.salvaged is not None:
        display.say(f"the damaged journal is kept as {job.journal.salvaged}")
    if found is None:
        return
    if not (job.journal.resumed and job.options.skip_bad):  # who goes on was told before
        for line in bad_lines(found, job.options.input):
            display.say(line, logging.WARNING)
    if found.bad and not found.rows:
        raise BatchError(f"no line of {job.options.input} is a request, and nothing was sent")
    if found.bad and not job.options.skip_bad:
        lines = "a line is" if found.bad == 1 else f"{found.bad:,} lines are"
        raise BatchError(
            f"{lines} no request, and nothing was sent: mend that, or go on without: --skip-bad"
        )
    if not found.rows:
        display.say(f"there is nothing in {job.options.input}")
    for line in notes_on_limits(job.options, found.models):
        display.say(line)
    if job.journal.resumed:
        recorded = job.journal.recorded
        failed = f"{recorded.failed:,} failed, " if recorded.failed else ""
        display.say(
            f"going on with {job.options.journal}: {have_result(recorded.done, found.rows)}, "
            f"{failed}{found.pending:,} to send"
        )


def bad_lines(found: CheckResult, name: str) -> list[str]:
    """Return what is wrong with which lines, and how many more there are."""
    told = [f"{name}: {problem}" for problem in found.problems]
    if found.unlisted:
        told.append(f"{name}: and {counted(found.unlisted, 'more such line')}")
    return told


def tell_end(job: Job, display: Display, failure: ResilienceError | None, signalled: int) -> int:
    """Say how it ended, and what to do next; returns the exit code."""
    display.close()
    last = job.last
    silent = isinstance(display, JsonLines)
    say = display.say if silent else _say
    if last is not None and (failure is None or isinstance(failure, BatchPaused)):
        display.show(last) if silent else None
        failed = f", {last.failed:,} failed" if last.failed else ""
        bad = f", {counted(job.skipped, 'bad line')} skipped" if job.skipped else ""
        say(f"{have_result(last.done)}{failed}{bad}")
        for line in _figures(job, last):
            say(line)
        for line in failures_in_words(failures_at(job.options.journal)) if last.failed else ():
            say(line, logging.WARNING)
    again = "to go on, run the same again" + ("" if silent else f":\n  {_command()}")
    if isinstance(failure, BatchPaused):
        if failure.kind is Kind.NOT_FOUND:
            again = _with_another_model(job, silent=silent)
        elif failure.kind is Kind.AUTH and not job.has_key:
            again = f"no key was given: set INFE_API_KEY, or give --api-key-file; then, {again}"
        elif failure.kind is Kind.REFUSED and failure.until is None:
            again = f"raise --max-cost or --max-tokens; then, {again}"
        say(f"no row was given up; {again}")
        say(f"paused: {failure}", logging.ERROR)
        return PAUSED
    if failure is not None:
        say(f"resilient-infe: {failure}", logging.ERROR)
        return CANNOT
    if signalled:
        say(f"stopped; {again}")
        return SIGNALLED + signalled
    return _tell_results(job, say)


def _figures(job: Job, last: Progress) -> Iterator[str]:
    """Say how long the run took, and what it and those before it have spent."""
    counts = [counted(last.retries, "retry", "retries")] if last.retries else []
    counts += [counted(last.rejected, "429")] if last.rejected else []
    rows = last.done + last.failed - last.replayed
    yield ", ".join([f"took {pace_in_words(rows, last.elapsed)}", *counts])
    spent, total = spent_in_words(job.spending.now), spent_in_words(job.spending.total)
    if spent is not None:
        yield f"spent {spent}"
        if job.spending.now.dollars is None:
            yield "for the cost, give --price-in and --price-out"
    if total is not None and job.spending.before.calls:
        yield f"all runs together have spent {total}"


def _tell_results(job: Job, say: Callable[..., None]) -> int:
    options = job.options
    if options.output != "-":
        say(f"results: {options.output}")
    if job.left:
        are = "is" if job.left == 1 else "are"
        say(f"{counted(job.left, 'row')} {are} left, by --limit: the same again goes on")
    if job.failed or job.skipped:
        say(f"failures: {options.errors}")
    if job.failed > job.failed_for_good:
        say(f"the same again sends {job.failed - job.failed_for_good:,} of them once more")
    if job.failed_for_good:
        mend = "mend those rows, or add --retry-failed"
        if job.failures.kind() is Kind.NOT_FOUND and options.model is not None:
            mend = "if --model is wrong, give another one and add --retry-failed"
        say(f"{job.failed_for_good:,} failed for good: {mend}")
    say(f"how it went: resilient-infe report {shlex.quote(options.journal)} -o report.html")
    return ROWS_FAILED if job.failed or job.skipped else 0


def _say(text: str, level: int = logging.INFO) -> None:  # noqa: ARG001
    write(f"{text}\n")


def _with_another_model(job: Job, *, silent: bool) -> str:
    """Say how to go on where the server knows no such model, or no such path."""
    if job.options.model is None:
        return "to go on, mend `model` in the rows (or --base-url), and run the same again"
    command = "" if silent else f":\n  {_command(ANOTHER)}"
    return f"to go on, run it with another --model (or --base-url){command}"


def _command(model: str | None = None) -> str:
    """Return the command that was given, with another model if one is given."""
    as_module = Path(sys.argv[0]).name == "__main__.py"
    name = ["python", "-m", "resilient_infe"] if as_module else ["resilient-infe"]
    given = sys.argv[1:]
    if model is None:
        return shlex.join([*name, *given])
    kept = [
        each
        for before, each in zip(["", *given], given, strict=False)
        if "--model" not in (before, each.partition("=")[0])
    ]
    return shlex.join([*name, *kept, "--model", model])
