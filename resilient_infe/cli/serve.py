"""``serve``: the stand-in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, get_args

import anyio

from ..batch.kinds import count, positive
from ..errors import ConfigurationError
from ..testing.limits import Style
from ..testing.model import Break, Faults, InfeModel, RetryAfter
from .kinds import duration, port, share, stretch


def add_serve(parser: argparse.ArgumentParser, _: Sequence[str]) -> None:
    """Add the options of ``serve``."""
    parser.set_defaults(run=_serve)
    add = parser.add_argument
    add("--port", type=port, default=0, help="0 (the default) takes any free one")
    add("--for", dest="seconds", type=positive, metavar="SECONDS", help="stop by itself")
    add("--seed", type=int, default=0, help="of what is drawn (default 0)")
    _add_limits(parser)
    _add_faults(parser)
    _add_answers(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--requests-per-minute", type=positive, metavar="N", help="default no limit")
    add("--tokens-per-minute", type=positive, metavar="N", help="default no limit")
    add("--style", choices=get_args(Style), default="bucket", help="how limits are kept")
    add("--burst", type=positive, default=1.0, help="seconds of the rate in a bucket (default 1)")
    add("--concurrency", type=count, metavar="N", help="requests in progress (default any)")
    add("--capacity", type=count, metavar="N", help="in progress at full speed (default any)")
    add("--headers", action="store_true", help="send x-ratelimit-* headers")
    add("--retry-after", choices=get_args(RetryAfter), default="none", help="what a 429 tells")
    add("--charge-rejected", action="store_true", help="a 429 uses up the limit too")


def _add_faults(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    kinds = ", ".join(get_args(Break))
    add("--error", action="append", default=[], type=share, metavar="STATUS=SHARE",
        help="a share of all requests, like 500=0.02")  # fmt: skip
    add("--break", dest="breaks", action="append", default=[], type=share, metavar="KIND=SHARE",
        help=f"KIND is one of {kinds}")  # fmt: skip
    add("--outage", action="append", default=[], type=stretch, metavar="START:END",
        help="seconds from the first request; answered with --outage-status")  # fmt: skip
    add("--outage-status", type=count, default=503, metavar="STATUS",
        help="default 503; 429 is an outage that looks like a limit")  # fmt: skip
    add("--hang", action="append", default=[], type=stretch, metavar="START:END",
        help="likewise; not answered at all")  # fmt: skip


def _add_answers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--latency", type=duration, default=0.05, metavar="SECONDS",
        help="before every reply (default 0.05)")  # fmt: skip
    add("--seconds-per-token", type=duration, default=0.0, metavar="SECONDS",
        help="more for each token of output (default 0)")  # fmt: skip
    add("--output-tokens", type=count, default=20, metavar="N",
        help="mean length of an answer (default 20)")  # fmt: skip
    add("--model", action="append", metavar="ID", help="infe-pulse and infe-titan by default")
    add("--api-key", action="append", metavar="KEY", help="accept only these; any by default")


def _serve(options: argparse.Namespace) -> int:
    anyio.run(_serve_until_stopped, model_of(options), options.port, options.seconds)
    return 0


async def _serve_until_stopped(model: InfeModel, port: int, seconds: float | None) -> None:
    from ..testing.server import InfeServer  # aiohttp is slow to import

    async with InfeServer(model).running(port) as base_url:
        print(base_url, flush=True)
        books = base_url.removesuffix("/v1") + "/books"
        if sys.stdout.isatty():
            sys.stderr.write(f"serving until Ctrl-C; what it saw: {books}\n")
        with anyio.move_on_after(float("inf") if seconds is None else seconds):
            await anyio.sleep_forever()


def model_of(options: argparse.Namespace) -> InfeModel:
    """Return the stand-in that the options of ``serve`` describe.

    Raises:
        ConfigurationError: an option names something that does not exist.
    """
    unknown = [name for name, _ in options.breaks if name not in get_args(Break)]
    if unknown:
        raise ConfigurationError(f"--break {unknown[0]}: use one of {', '.join(get_args(Break))}")
    statuses = {int(name): part for name, part in options.error if name.isdigit()}
    if not all(400 <= status < 600 for status in statuses) or len(statuses) != len(options.error):
        raise ConfigurationError("--error takes STATUS=SHARE, like --error 500=0.02")
    if not 400 <= options.outage_status < 600:
        raise ConfigurationError("--outage-status takes 400 to 599, like --outage-status 429")
    breaks: dict[Any, float] = dict(options.breaks)
    return InfeModel(
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        style=options.style,
        burst=options.burst,
        concurrency=options.concurrency,
        capacity=options.capacity,
        headers=options.headers,
        retry_after=options.retry_after,
        charge_rejected=options.charge_rejected,
        faults=Faults(statuses, breaks, options.outage, options.outage_status, hangs=options.hang),
        latency=options.latency,
        seconds_per_token=options.seconds_per_token,
        output_tokens=options.output_tokens,
        models=options.model or ("infe-pulse", "infe-titan"),
        api_keys=options.api_key,
        seed=options.seed,
    )
