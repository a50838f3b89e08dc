"""The command line: serve the stand-in, and show what the library does against it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, get_args

import anyio

from .errors import ConfigurationError
from .testing.limits import Style
from .testing.model import Break, Faults, InfeModel, RetryAfter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: those of the command line, or None for the process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigurationError as error:
        sys.stderr.write(f"resilient-infe: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="resilient-infe", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve an Infe stand-in on 127.0.0.1"))
    _add_demo(commands.add_parser("demo", help="a thousand calls against the stand-in"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 (the default) takes any free one")
    add("--for", dest="seconds", type=float, metavar="SECONDS", help="stop by itself")
    add("--requests-per-minute", type=_positive, metavar="N")
    add("--tokens-per-minute", type=_positive, metavar="N")
    add("--style", choices=get_args(Style), default="bucket", help="how limits are kept")
    add("--burst", type=_positive, default=1.0, help="seconds of the rate in a bucket")
    add("--concurrency", type=int, metavar="N", help="requests in progress at most")
    add("--headers", action="store_true", help="send x-ratelimit-* headers")
    add("--retry-after", choices=get_args(RetryAfter), default="none", help="what a 429 tells")
    add("--charge-rejected", action="store_true", help="a 429 uses up the limit too")
    add("--error", action="append", default=[], type=_share, metavar="STATUS=SHARE")
    add("--break", dest="breaks", action="append", default=[], type=_share, metavar="KIND=SHARE",
        help=f"KIND is one of {', '.join(get_args(Break))}")  # fmt: skip
    add("--outage", action="append", default=[], type=_stretch, metavar="START:END",
        help="seconds from the first request; answered with 503")  # fmt: skip
    add("--hang", action="append", default=[], type=_stretch, metavar="START:END")
    add("--latency", type=float, default=0.05, metavar="SECONDS")
    add("--seconds-per-token", type=float, default=0.0, metavar="SECONDS")
    add("--output-tokens", type=int, default=20, metavar="N", help="mean length of an answer")
    add("--model", action="append", metavar="ID", help="infe-pulse and infe-titan by default")
    add("--api-key", action="append", metavar="KEY", help="accept only these; any by default")
    add("--seed", type=int, default=0)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_demo)
    add = parser.add_argument
    add("--calls", type=int, default=1_500)
    add("--concurrency", type=int, default=64)
    add("--requests-per-minute", type=_positive, default=6_000.0)
    add("--json", action="store_true", help="print the table as JSON")


def _serve(options: argparse.Namespace) -> int:
    anyio.run(_serve_until_stopped, model_of(options), options.port, options.seconds)
    return 0


async def _serve_until_stopped(model: InfeModel, port: int, seconds: float | None) -> None:
    from .testing.server import InfeServer  # aiohttp is slow to import

    async with InfeServer(model).running(port) as base_url:
        print(base_url, flush=True)
        with anyio.move_on_after(float("inf") if seconds is None else seconds):
            await anyio.sleep_forever()


def _demo(options: argparse.Namespace) -> int:
    from .demo import demonstrate  # aiohttp and rich are slow to import

    return demonstrate(
        calls=options.calls,
        concurrency=options.concurrency,
        requests_per_minute=options.requests_per_minute,
        as_json=options.json,
    )


def model_of(options: argparse.Namespace) -> InfeModel:
    """Return the stand-in that the options of ``serve`` describe.

    Raises:
        ConfigurationError: an option names something that does not exist.
    """
    unknown = [name for name, _ in options.breaks if name not in get_args(Break)]
    if unknown:
        raise ConfigurationError(f"--break {unknown[0]}: use one of {', '.join(get_args(Break))}")
    statuses = {int(name): share for name, share in options.error if name.isdigit()}
    if len(statuses) != len(options.error):
        raise ConfigurationError("--error takes STATUS=SHARE, like --error 500=0.02")
    breaks: dict[Any, float] = dict(options.breaks)
    return InfeModel(
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        style=options.style,
        burst=options.burst,
        concurrency=options.concurrency,
        headers=options.headers,
        retry_after=options.retry_after,
        charge_rejected=options.charge_rejected,
        faults=Faults(rates=statuses, breaks=breaks, outages=options.outage, hangs=options.hang),
        latency=options.latency,
        seconds_per_token=options.seconds_per_token,
        output_tokens=options.output_tokens,
        models=options.model or ("infe-pulse", "infe-titan"),
        api_keys=options.api_key,
        seed=options.seed,
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    value = float(share or "nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give NAME=SHARE with a share from 0 to 1")
    return name, value


def _stretch(text: str) -> tuple[float, float]:
    start, _, end = text.partition(":")
    stretch = float(start or "nan"), float(end or "nan")
    if not 0 <= stretch[0] < stretch[1]:
        raise argparse.ArgumentTypeError(f"{text}: give START:END in seconds, like 5:9")
    return stretch
