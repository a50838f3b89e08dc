"""``run``: a file of requests in, a file of results out."""

from __future__ import annotations

import argparse
import gc
import logging
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from ..adapters.aiohttp import BASE_URL
from ..batch.files.check import Check
from ..batch.files.job import Job
from ..batch.files.options import JobOptions
from ..batch.files.request import CHAT
from ..errors import BatchError, BatchPaused, ConfigurationError, ResilienceError
from .config import apply_config
from .display import Display, JsonLines, display_for, write
from .dry_run import dry_run
from .kinds import count, positive, rate

ROWS_FAILED, PAUSED, STOPPED_BY = 1, 3, 128
"""Exit codes: some rows failed; the account is the reason; and a signal's number on top of it."""

YOUNG = 50_000
"""New objects after which the collector looks at them."""

DESCRIPTION = """\
Sends every line of INPUT and writes a line for each to --output, as fast as the limit allows.
Lines are OpenAI Batch requests (custom_id, method, url, body), or just a body, or just
{"prompt": "..."}. What was done is kept in a journal: run the same again after a crash, a Ctrl-C
or a failure, and it goes on where it was. The key comes from INFE_API_KEY or --api-key-file.
Exit codes: 0 all rows have a result, 1 some failed, 2 it cannot begin or go on, 3 the account needs
you (key, credits), 130 stopped by Ctrl-C, 143 by SIGTERM."""


def add_run(parser: argparse.ArgumentParser, config: Mapping[str, Any]) -> None:
    """Add the options of ``run``; those of a file become the defaults."""
    parser.set_defaults(run=_run)
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_files(parser)
    _add_sending(parser)
    apply_config(parser, config)


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", nargs="?", help="JSONL, also .gz and .zst; - is stdin")
    add(
        "-o", "--output", metavar="FILE", help="results, in the form of OpenAI's Batch; - is stdout"
    )
    add("--errors", metavar="FILE", help="failures, in the same form; OUTPUT.errors.jsonl")
    add("--journal", metavar="FILE", help="what was done; OUTPUT.journal")
    add("--config", metavar="FILE", help="TOML with any of these options; those given here win")
    add("--ordered", action="store_true", help="results in the order of the input")
    add("--limit", type=count, metavar="N", help="send at most so many rows in this run")
    add("--dry-run", action="store_true", help="check every line, estimate, and send nothing")
    add("--skip-bad", action="store_true", help="go on without the lines that are no requests")
    add("--retry-failed", action="store_true", help="send rows again that failed for good")
    add("--salvage", action="store_true", help="go on without the journal's damaged lines")
    add("--overwrite", action="store_true", help="replace an output that has no journal")
    add("--quiet", action="store_true", help="show no progress")
    add("--json-log", action="store_true", help="progress and events as JSON lines, on stderr")


def _add_sending(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base-url", default=BASE_URL, metavar="URL", help=f"up to and with /v1; {BASE_URL}")
    add("--api-key-file", metavar="FILE", help="the key, instead of INFE_API_KEY")
    add("--model", metavar="ID", help="for lines that name none")
    add("--url", default=CHAT, metavar="PATH", help=f"for lines that name none; {CHAT}")
    add("--concurrency", type=count, default=64, metavar="N", help="in flight per model; 64")
    add("--requests-per-minute", type=rate, metavar="N", help="per model; auto (learned), or none")
    add("--tokens-per-minute", type=rate, metavar="N", help="per model; likewise")
    add("--max-attempts", type=count, default=10, metavar="N", help="429s not counted; 10")
    add("--attempt-timeout", type=positive, default=120.0, metavar="SECONDS", help="120")
    add("--deadline", type=positive, metavar="SECONDS", help="for each row, waits included; none")


def job_options(options: argparse.Namespace) -> JobOptions:
    """Return what a job is told, the paths that were left open filled in.

    Raises:
        ConfigurationError: something is missing.
    """
    if options.input is None:
        raise ConfigurationError(
            "run: which file? resilient-infe run requests.jsonl -o results.jsonl"
        )
    if options.output is None:
        if not options.dry_run:
            raise ConfigurationError("run: where to? give --output, like -o results.jsonl")
        options.output = "-"
    if options.output == "-" and options.journal is None and not options.dry_run:
        raise ConfigurationError("run: the results go to stdout, so say where the --journal is")
    stem = options.output.removesuffix(".jsonl") if options.output != "-" else options.journal
    return JobOptions(
        input=options.input,
        output=options.output,
        errors=options.errors or f"{stem}.errors.jsonl",
        journal=options.journal or f"{options.output}.journal",
        api_key=_key_in(options.api_key_file),
        base_url=options.base_url,
        model=options.model,
        url=options.url,
        concurrency=options.concurrency,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        max_attempts=options.max_attempts,
        attempt_timeout=options.attempt_timeout,
        deadline=options.deadline,
        ordered=options.ordered,
        limit=options.limit,
        skip_bad=options.skip_bad,
        retry_failed=options.retry_failed,
        salvage=options.salvage,
        overwrite=options.overwrite,
    )


def _key_in(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--api-key-file {path} cannot be read: {error}") from None


def _run(options: argparse.Namespace) -> int:
    told = job_options(options)
    if options.dry_run:
        return dry_run(told)
    # The display tells what happens; a line for each failed call would tear it apart.
    logging.getLogger("resilient_infe").setLevel(logging.ERROR)
    # This process does nothing else: what is there by now stays, and rows leave few cycles behind.
    # The collector's usual pace costs a tenth of a run.
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 100)
    display = display_for(quiet=options.quiet, json_log=options.json_log)
    try:
        job = Job(told, [display] if isinstance(display, JsonLines) else [])
        return _finished(job, display, *_carried(job, display))
    finally:
        display.close()


def _carried(job: Job, display: Display) -> tuple[ResilienceError | None, int]:
    """Check the input and run the job; returns what ended it early: an error, or a signal."""
    try:
        _say_found(job, display, job.check())
        return anyio.run(_under_way, job, display)
    except ResilienceError as error:
        return error, 0
    except KeyboardInterrupt:  # while the input was looked at
        return None, signal.SIGINT
    finally:
        job.close()


async def _under_way(job: Job, display: Display) -> tuple[ResilienceError | None, int]:
    failure: ResilienceError | None = None
    signals: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, job, display, signals, group.cancel_scope)
        group.start_soon(_show, job, display)
        try:
            await job.run()
        except ResilienceError as error:
            failure = error
        except OSError as error:
            failure = BatchError(f"{error}; mend that and run the same again")
        group.cancel_scope.cancel()
    return failure, signals[0] if signals else 0


async def _heed_signals(
    job: Job, display: Display, seen: list[int], scope: anyio.CancelScope
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            seen.append(number)
            if len(seen) > 1:
                scope.cancel()
                return
            job.stop()
            display.say("stopping: what is under way comes to its end; once more to stop at once")


async def _show(job: Job, display: Display) -> None:
    pause = min(1.0, display.interval)
    while True:
        await anyio.sleep(pause)
        display.show(job.progress())
        pause = display.interval


def _say_found(job: Job, display: Display, found: Check | None) -> None:
    """Say what the input is, and refuse one with bad lines.

    Raises:
        BatchError: lines of it are no requests.
    """
    if found is None:
        return
    name = job.options.input
    for problem in found.problems:
        display.say(f"{name}: {problem}")
    if found.bad > len(found.problems):
        display.say(f"{name}: and {found.bad - len(found.problems):,} more such lines")
    if found.bad and not job.options.skip_bad:
        lines = "a line is" if found.bad == 1 else f"{found.bad:,} lines are"
        raise BatchError(
            f"{lines} no request, and nothing was sent: mend that, or go on without: --skip-bad"
        )
    done = found.rows - found.pending
    if job.journal.resumed:
        display.say(
            f"going on with {job.options.journal}: {done:,} of {found.rows:,} rows are done, "
            f"{found.pending:,} to send"
        )


def _finished(job: Job, display: Display, failure: ResilienceError | None, signalled: int) -> int:
    """Say how it ended, and what to do next; returns the exit code."""
    display.close()
    last = job.last
    silent = isinstance(display, JsonLines)
    say = display.say if silent else _say
    if last is not None and (failure is None or isinstance(failure, BatchPaused)):
        display.show(last) if silent else None
        failed = f", {last.failed:,} failed" if last.failed else ""
        bad = f", {job.skipped:,} bad lines skipped" if job.skipped else ""
        say(f"{last.done:,} rows have a result{failed}{bad}")
    again = "to go on, run the same again" + ("" if silent else f":\n  {_command()}")
    if isinstance(failure, BatchPaused):
        say(f"paused: {failure}\nno row was given up for it; {again}")
        return PAUSED
    if failure is not None:
        say(f"resilient-infe: {failure}")
        return 2
    if signalled:
        say(f"stopped; {again}")
        return STOPPED_BY + signalled
    return _told_failures(job, say)


def _say(text: str) -> None:
    write(f"{text}\n")


def _told_failures(job: Job, say: Any) -> int:
    options, last = job.options, job.last
    failed = 0 if last is None else last.failed
    if options.output != "-":
        say(f"results: {options.output}")
    if job.left:
        say(f"{job.left:,} rows are left, by --limit: the same again goes on")
    if failed or job.skipped:
        say(f"failures: {options.errors}")
        if failed:
            say("the same again sends them once more; those that failed for good: --retry-failed")
    say(f"how it went: resilient-infe report {shlex.quote(options.journal)} -o report.html")
    return ROWS_FAILED if failed or job.skipped else 0


def _command() -> str:
    as_module = Path(sys.argv[0]).name == "__main__.py"
    name = ["python", "-m", "resilient_infe"] if as_module else ["resilient-infe"]
    return shlex.join([*name, *sys.argv[1:]])
