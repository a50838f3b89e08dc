"""``run``: a file of requests in, a file of results out."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from ..adapters.infe.address import BASE_URL, check_base_url
from ..batch.files.job import Job
from ..batch.files.options import JobOptions, is_local
from ..batch.request import CHAT, LONGEST
from ..errors import BatchError, ConfigurationError, ResilienceError
from .config import apply_config
from .counter import counter_for
from .display import Display, JsonLines, display_for
from .dry_run import dry_run
from .kinds import count, positive, rate, size, weight
from .limits import for_models
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


def add_run(parser: argparse.ArgumentParser, config: Mapping[str, Any]) -> None:
    """Add the options of ``run``; those of a file become the defaults."""
    parser.set_defaults(run=_run)
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_files(parser)
    _add_sending(parser)
    _add_limits(parser)
    apply_config(parser, config)


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", nargs="?",
        help="JSON lines, a JSON array or CSV, also .gz and .zst; - is stdin")  # fmt: skip
    add("--prompt-column", metavar="NAME",
        help="the column (or field) that is the prompt; the others are not sent")  # fmt: skip
    add("--id-column", metavar="NAME", help="the column (or field) that is the custom_id")
    add("--max-line", type=size, default=LONGEST, metavar="SIZE",
        help="the longest line, like 64MiB (default 16MiB)")  # fmt: skip
    add(
        "-o", "--output", metavar="FILE", help="results, in the form of OpenAI's Batch; - is stdout"
    )
    add("--errors", metavar="FILE", help="failures, in the same form (default OUTPUT.errors.jsonl)")
    add("--journal", metavar="FILE", help="what was done (default OUTPUT.journal)")
    add(
        "--config",
        metavar="FILE",
        help="TOML with any of these options, and [limits.MODEL]; those given here win",
    )
    add("--ordered", action="store_true", help="results in the order of the input")
    add("--limit", type=count, metavar="N", help="send at most so many rows in this run")
    add("--dry-run", action="store_true", help="check every line, estimate, and send nothing")
    add("--skip-bad", action="store_true", help="go on without the lines that are no requests")
    add("--retry-failed", action="store_true", help="send rows again that failed for good")
    add("--keep-going", action="store_true", help="never pause, however many rows fail alike")
    add("--salvage", action="store_true", help="go on without the journal's damaged rows")
    add("--overwrite", action="store_true", help="replace an output that has no journal")
    add("--quiet", action="store_true", help="show no progress")
    add("--json-log", action="store_true", help="progress and events as JSON lines, on stderr")


def _add_sending(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--base-url",
        default=BASE_URL,
        metavar="URL",
        help="up to and with /v1 (default %(default)s)",
    )
    add("--proxy", metavar="URL", help="an HTTP proxy, or none (default: what HTTPS_PROXY, "
        "HTTP_PROXY and NO_PROXY say)")  # fmt: skip
    add("--api-key-file", metavar="FILE", help="the key, instead of INFE_API_KEY")
    add("--api-key", help=argparse.SUPPRESS)  # refused, so that the key is not quoted as unknown
    add("--model", metavar="ID", help="for lines that name none")
    add(
        "--url", default=CHAT, metavar="PATH", help="for lines that name none (default %(default)s)"
    )
    add(
        "--concurrency",
        type=count,
        default=64,
        metavar="N",
        help="attempts in flight per model (default %(default)s)",
    )
    add("--tokens-per-row", type=count, metavar="N", help="what each row costs, if you know")
    add("--estimate", metavar="MODULE:FUNCTION",
        help="a function of your own: the tokens of a request's body")  # fmt: skip
    add(
        "--max-attempts",
        type=count,
        default=10,
        metavar="N",
        help="that may fail, 429s not counted (default %(default)s)",
    )
    add(
        "--attempt-timeout",
        type=positive,
        default=120.0,
        metavar="SECONDS",
        help="for one attempt (default %(default)g)",
    )
    add("--deadline", type=positive, metavar="SECONDS",
        help="for each row, waits included (default none)")  # fmt: skip


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--requests-per-minute",
        "--rpm",
        type=rate,
        metavar="N",
        help="per model; a number, one with its period like 10/s, none, or auto to learn it "
        "(default); see --config for models that differ",
    )
    add("--tokens-per-minute", "--tpm", type=rate, metavar="N",
        help="the same, input and output together")  # fmt: skip
    add("--input-tokens-per-minute", type=rate, metavar="N", help="of the input alone")
    add("--output-tokens-per-minute", type=rate, metavar="N", help="of the output alone")
    add("--requests-per-day", type=positive, metavar="N",
        help="per model, in any 24 hours; the run pauses at it")  # fmt: skip
    add("--tokens-per-day", type=positive, metavar="N", help="the same for tokens")
    add("--cached-weight", type=weight, metavar="N",
        help="what a cached token counts, from 0 to 1 (default as in the usage)")  # fmt: skip
    add("--ignore-headers", action="store_true", help="do not follow limits that the server states")


def job_options(options: argparse.Namespace) -> JobOptions:
    """Return what a job is told, the paths that were left open filled in.

    Raises:
        ConfigurationError: something is missing.
    """
    _check_given(options)
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
        prompt_column=options.prompt_column,
        id_column=options.id_column,
        max_line=options.max_line,
        proxy=None if options.proxy == "none" else options.proxy,
        trust_env=options.proxy is None and not is_local(options.base_url),
        concurrency=for_models(options, "concurrency"),
        requests_per_minute=for_models(options, "requests_per_minute"),
        tokens_per_minute=for_models(options, "tokens_per_minute"),
        account=options.account,
        input_tokens_per_minute=for_models(options, "input_tokens_per_minute"),
        output_tokens_per_minute=for_models(options, "output_tokens_per_minute"),
        requests_per_day=for_models(options, "requests_per_day"),
        tokens_per_day=for_models(options, "tokens_per_day"),
        cached_weight=options.cached_weight,
        follow_headers=not options.ignore_headers,
        count=counter_for(options.tokens_per_row, options.estimate),
        max_attempts=options.max_attempts,
        attempt_timeout=options.attempt_timeout,
        deadline=options.deadline,
        ordered=options.ordered,
        limit=options.limit,
        skip_bad=options.skip_bad,
        retry_failed=options.retry_failed,
        keep_going=options.keep_going,
        salvage=options.salvage,
        overwrite=options.overwrite,
    )


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
        job = Job(told, [display] if isinstance(display, JsonLines) else [], display.say)
        return tell_end(job, display, *_carried(job, display))
    finally:
        display.close()


def _carried(job: Job, display: Display) -> tuple[ResilienceError | None, int]:
    """Check the input and run the job; returns what ended it early: an error, or a signal."""
    try:
        say_found(job, display, job.check())
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
