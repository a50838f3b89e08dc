"""``run``: a file of requests in, a file of results out."""

from __future__ import annotations

import argparse
import gc
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from ..adapters.infe.address import check_base_url
from ..batch.control import listen, obey
from ..batch.files.job import Job
from ..errors import BatchError, ConfigurationError, ResilienceError
from .config import read_config, values_in
from .counter import counter_for
from .display import Display, JsonLines, display_for
from .dry_run import dry_run
from .limits import for_models
from .metrics import MetricsPort
from .options import RunOptions, add_options, options_for
from .telling import say_found, tell_end

YOUNG = 50_000
"""New objects after which the collector looks at them."""

LONGEST_KEY = 64 * 1024
"""Characters of ``--api-key-file`` that are read."""

DESCRIPTION = """\
Sends every line of INPUT and writes a line for each to --output, as fast as the limit allows.
Lines are OpenAI Batch requests (custom_id, method, url, body), or just a body, or just
{"prompt": "..."}. What was done is kept in a journal: run the same again after a crash, a Ctrl-C
or a failure, and it goes on where it was. The key comes from INFE_API_KEY or --api-key-file.
Exit codes: 0 every row that was to be sent has a result, 1 some failed, 2 it cannot begin or go
on, 3 paused, because every row would fail (model, key, credits), 130 stopped by Ctrl-C, 143 by
SIGTERM."""


def add_run(parser: argparse.ArgumentParser, given: Sequence[str]) -> None:
    """Add the options of ``run``; the values of the file that is given become their defaults."""
    options = options_for("run")
    values = values_in(read_config(given), options)
    parser.set_defaults(run=_run, limits=values["limits"])
    parser.set_defaults(account=values["account"], stack=values["stack"])
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_options(parser, options, values)


def run_options(options: argparse.Namespace) -> RunOptions:
    """Return what a run is told, the paths that were left open filled in.

    Raises:
        ConfigurationError: something is missing.
    """
    _check_given(options)
    stem = options.output.removesuffix(".jsonl") if options.output != "-" else options.journal
    values = {each.field: for_models(options, each) for each in options_for("run")}
    values["errors"] = options.errors or f"{stem}.errors.jsonl"
    values["journal"] = options.journal or f"{options.output}.journal"
    values["api_key"] = _key_in(options.api_key_file)
    values |= {"account": options.account, "stack": options.stack}
    values["count"] = counter_for(options.tokens_per_row, options.estimate)
    return RunOptions(**values)


def _check_given(options: argparse.Namespace) -> None:
    """Refuse a run that does not say from where, or where to."""
    if options.input is None:
        raise ConfigurationError(
            "run: which file (or - for stdin)? resilient-infe run requests.jsonl -o results.jsonl"
        )
    if options.output is None:
        if not options.dry_run:
            raise ConfigurationError("run: where to? give --output, like -o results.jsonl")
        options.output = "-"
    if options.output == "-" and options.journal is None and not options.dry_run:
        raise ConfigurationError("run: the results go to stdout, so say where the --journal is")
    check_base_url(options.base_url)
    if options.api_key is not None:
        raise ConfigurationError(
            "run: other users of this machine can see a key among the arguments: set INFE_API_KEY, "
            "or give --api-key-file FILE, and renew that key"
        )


def _key_in(path: str | None) -> str | None:
    """Return the key in a file. No message quotes the path, which may be the key by mistake."""
    if path is None:
        return None
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(LONGEST_KEY).strip()
    except OSError as error:
        raise ConfigurationError(
            f"--api-key-file cannot be read ({error.strerror}): give the path of a file that holds "
            f"the key, not the key"
        ) from None
    except ValueError:
        raise ConfigurationError("--api-key-file is not a text file") from None


def _run(options: argparse.Namespace) -> int:
    told = run_options(options)
    if told.dry_run:
        return dry_run(told)
    # This process does nothing else: what is there by now stays, and rows leave few cycles behind.
    # The collector's usual pace costs a tenth of a run.
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 100)
    metrics = None if told.metrics_port is None else MetricsPort(told.metrics_port)
    display = display_for(quiet=told.quiet, json_log=told.json_log)
    try:
        job = Job(told, [display] if isinstance(display, JsonLines) else [], display.say)
        if metrics is not None:
            metrics.measure(job.stack)
        return tell_end(job, display, *_carried(job, display, metrics))
    finally:
        display.close()
        if metrics is not None:
            metrics.close()


def _carried(
    job: Job, display: Display, metrics: MetricsPort | None
) -> tuple[ResilienceError | None, int]:
    """Check the input and run the job; returns what ended it early: an error, or a signal."""
    try:
        say_found(job, display, job.check())
        return anyio.run(_under_way, job, display, metrics)
    except ResilienceError as error:
        return error, 0
    except KeyboardInterrupt:  # while the input was looked at
        return None, signal.SIGINT
    finally:
        job.close()


async def _under_way(
    job: Job, display: Display, metrics: MetricsPort | None
) -> tuple[ResilienceError | None, int]:
    failure: ResilienceError | None = None
    signals: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, job, display, signals, group.cancel_scope)
        group.start_soon(_show, job, display)
        group.start_soon(listen, Path(job.options.journal), partial(obey, job), display.say)
        if metrics is not None:
            group.start_soon(metrics.serve)
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
