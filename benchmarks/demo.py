"""The main job, shown: very many calls to a server with a limit, errors and an outage.

Three ways of sending the same calls, each against a server of its own that starts afresh in a
process of its own: this library's batch preset, plain ``asyncio.gather``, and the usual semaphore
with three retries. The table is drawn from the servers' books.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from resilient_infe import InfeTransport, Stack, aio, presets
from resilient_infe.batch.kinds import count, positive
from resilient_infe.errors import ConfigurationError, InfeError, ResilienceError

FAULTS = ["--error", "500=0.02", "--error", "502=0.02", "--outage", "3:6"]
"""A few per cent of 500 and 502, and an outage of three seconds."""

LIMITED = ["--outage", "20:50", "--outage-status", "429"]
"""Half a minute of nothing but 429s, which a limit does not explain."""

SPARE_LIFE = 120.0
"""Seconds for which a server outlives the time that the limit itself asks for."""

USUAL_RETRIES = 3

Payload = dict[str, Any]
Transport = Callable[[Payload], Awaitable[Any]]


@dataclass
class Run:
    """One way of sending, and what came of it."""

    name: str
    calls: int
    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    books: dict[str, Any] = field(default_factory=dict)
    stack: Stack | None = None

    @property
    def done(self) -> int:
        """How many calls have ended."""
        return len(self.seconds) + self.lost

    def facts(self, requests_per_minute: float) -> dict[str, Any]:
        """Return what came of it, most of it by the server's books."""
        span = max(self.books["seconds"], 1e-9)
        used = self.books["admitted"] / span / requests_per_minute * 60.0
        cuts = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return {
            "way": self.name,
            "calls": self.calls,
            "answered": len(self.seconds),
            "lost": self.lost,
            "attempts": self.books["sends"],
            "rejected": self.books["rejected"],
            "seconds": round(span, 2),
            "limit_used": round(used, 3) if self.books["sends"] > 1 else None,
            "latency_p50": round(cuts[49], 2),
            "latency_p99": round(cuts[98], 2),
            "failures": self.failures,
        }


def demonstrate(
    *,
    calls: int,
    concurrency: int,
    requests_per_minute: float,
    learn: bool = False,
    limited: bool = False,
    as_json: bool = False,
) -> int:
    """Run the three ways and print the table; returns 1 if the library lost a call.

    Args:
        calls: how many to send each way.
        concurrency: calls in flight, where the way bounds them.
        requests_per_minute: the limit that the server keeps and the library is told.
        learn: do not tell it, and run no other way.
        limited: answer half a minute with 429s, instead of three seconds with 503.
        as_json: print JSON instead of a table.
    """
    if not as_json:
        _check_rich()
    faults = FAULTS[:-2] + LIMITED if limited else FAULTS
    runs = asyncio.run(_all_ways(calls, concurrency, requests_per_minute, faults, learn=learn))
    facts = [run.facts(requests_per_minute) for run in runs]
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        _print_table(facts, requests_per_minute, limited=limited)
    return 1 if runs[0].lost else 0


def _check_rich() -> None:
    if importlib.util.find_spec("rich") is None:
        raise ConfigurationError("the demonstration needs rich: pip install 'resilient-infe[cli]'")


async def _all_ways(
    calls: int, concurrency: int, requests_per_minute: float, faults: list[str], *, learn: bool
) -> list[Run]:
    ours = Run("resilient_infe, not told" if learn else "resilient_infe", calls)
    told = None if learn else requests_per_minute
    ours.stack = presets.batch(requests_per_minute=told, concurrency=concurrency)
    gather, usual = Run("asyncio.gather", calls), Run("semaphore + 3 retries", calls)
    # A server that nobody stops ends by itself, long after the slowest way has.
    life = SPARE_LIFE + 3 * calls / (requests_per_minute / 60.0)
    limit = ["--for", str(life), "--requests-per-minute", str(requests_per_minute), *faults]
    sys.stderr.write(f"{ours.stack}\n\n")
    await _run(ours, limit, lambda t: _patient(ours, t))
    if learn:
        return [ours]
    await _run(gather, limit, lambda t: _each(gather, t, None, 0))
    await _run(usual, limit, lambda t: _each(usual, t, concurrency, USUAL_RETRIES))
    return [ours, gather, usual]


async def _run(
    run: Run, limit: list[str], send_all: Callable[[InfeTransport], Awaitable[None]]
) -> None:
    async with _server(limit) as base_url:
        # A hundred connections are aiohttp's own default, which a plain gather would have.
        connections = None if run.stack is not None else 100
        transport = InfeTransport("sk-demo", base_url=base_url, max_connections=connections)
        async with transport, _progress(run):
            await send_all(transport)
        async with aiohttp.ClientSession() as session:
            books = await session.get(base_url.removesuffix("/v1") + "/books")
            run.books = await books.json()


@asynccontextmanager
async def _server(arguments: list[str]) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "resilient_infe", "serve"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        if not address:
            raise ResilienceError("the stand-in did not start; its own message is above")
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _patient(run: Run, transport: InfeTransport) -> None:
    assert run.stack is not None
    send = run.stack.around(transport)
    await asyncio.gather(*(_timed(run, send, n) for n in range(run.calls)))


async def _each(run: Run, transport: Transport, concurrency: int | None, retries: int) -> None:
    """Send the usual way: a semaphore around each call, some retries, or neither."""
    semaphore = asyncio.Semaphore(run.calls if concurrency is None else concurrency)

    async def send(payload: Payload) -> Any:
        async with semaphore:
            for retry in range(retries):
                try:
                    return await transport(payload)
                except InfeError:
                    await aio.current().sleep_until(aio.current().now() + 2.0**retry)
            return await transport(payload)

    await asyncio.gather(*(_timed(run, send, n) for n in range(run.calls)))


async def _timed(run: Run, send: Transport, number: int) -> None:
    clock = aio.current().now
    messages = [{"role": "user", "content": f"Say the number {number}."}]
    started = clock()
    try:
        await send({"model": "infe-pulse", "messages": messages})
    except ResilienceError as error:
        run.lost += 1
        name = type(error).__name__
        run.failures[name] = run.failures.get(name, 0) + 1
    else:
        run.seconds.append(clock() - started)


@asynccontextmanager
async def _progress(run: Run) -> AsyncIterator[None]:
    reporter = asyncio.create_task(_bar(run) if sys.stderr.isatty() else _lines(run))
    try:
        yield
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        sys.stderr.write(f"{_status(run)}\n")


async def _lines(run: Run) -> None:
    runtime = aio.current()
    while True:
        sys.stderr.write(f"{_status(run)}\n")
        await runtime.sleep_until(runtime.now() + 2.0)


async def _bar(run: Run) -> None:
    from rich.console import Console  # an optional package
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    runtime = aio.current()
    columns = (BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_status(run), total=run.calls)
        while True:
            progress.update(task, completed=run.done, description=_status(run))
            await runtime.sleep_until(runtime.now() + 0.1)


def _status(run: Run) -> str:
    line = f"{run.name}: {run.done:,}/{run.calls:,}"
    if run.lost:
        line += f", {run.lost:,} lost"
    if run.stack is None or run.done == run.calls:
        return line
    now = run.stack.statistics()
    for each in now.circuits.values():
        if each.state != "closed":
            return f"{line}, waiting: the circuit is {each.state.replace('_', '-')}"
    sending = sum(each.outstanding for each in now.allowances.values())
    return f"{line}, {sending} sending, {now.waiting:,} queued"


def _print_table(facts: list[dict[str, Any]], requests_per_minute: float, *, limited: bool) -> None:
    from rich.console import Console  # an optional package
    from rich.table import Table

    calls = facts[0]["calls"]
    sys.stdout.write(
        f"\n{calls:,} calls, each way to a server of its own: {requests_per_minute:,.0f} "
        f"requests per minute,\n2 % 500s, 2 % 502s, "
        f"{'30 s of 429s' if limited else 'an outage of 3 s'}. By the servers' books:\n"
    )
    table = Table()
    table.add_column("")
    for fact in facts:
        table.add_column(fact["way"], justify="right")
    for name, show in ROWS:
        table.add_row(name, *(show(fact) for fact in facts))
    Console(width=80).print(table)
    for fact in facts:
        if fact["lost"]:
            sys.stdout.write(f"{fact['way']} lost {_listed(fact['failures'])}\n")


ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("answered", lambda fact: f"{fact['answered']:,}"),
    ("lost", lambda fact: f"{fact['lost']:,}"),
    ("attempts", lambda fact: f"{fact['attempts']:,}"),
    ("429s", lambda fact: f"{fact['rejected']:,}"),
    ("429s per call", lambda fact: f"{fact['rejected'] / fact['calls']:.1%}"),
    ("took", lambda fact: f"{fact['seconds']:.1f} s"),
    (
        "rate, of the limit",
        lambda fact: "-" if fact["limit_used"] is None else f"{fact['limit_used']:.0%}",
    ),
    ("latency, median", lambda fact: f"{fact['latency_p50']:.2f} s"),
    ("latency, 99 of 100", lambda fact: f"{fact['latency_p99']:.2f} s"),
)
"""What the table shows of each way."""


def _listed(failures: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(failures.items()))


def main() -> int:
    """Parse the command line and show it; returns 1 if a call was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    add = parser.add_argument
    add("--calls", type=count, default=1_500)
    add("--concurrency", type=count, default=64)
    add("--requests-per-minute", type=positive, default=6_000.0)
    add("--learn", action="store_true", help="leave the limit out: the library finds it")
    add("--limited", action="store_true", help="half a minute of 429s instead of the outage")
    add("--json", dest="as_json", action="store_true", help="print the table as JSON")
    try:
        return demonstrate(**vars(parser.parse_args()))
    except ConfigurationError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
