"""The main job, shown: very many calls to a server with a limit, errors and an outage.

Three ways of sending the same calls, each against a server of its own that starts afresh in a
process of its own: this library's batch preset, plain ``asyncio.gather``, and the usual semaphore
with three retries. The table is drawn from the servers' books.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from . import aio, presets
from .adapters.aiohttp import InfeTransport
from .errors import InfeError, ResilienceError
from .stack import Stack

FAULTS = ["--error", "500=0.02", "--error", "502=0.02", "--outage", "3:6"]
"""A few per cent of 500 and 502, and an outage of three seconds."""

SERVER_LIFE = 120.0
"""Seconds after which a forgotten server stops by itself."""

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

    def row(self, requests_per_minute: float) -> dict[str, str]:
        """Return what the table shows, most of it by the server's books."""
        sends, rejected = self.books["sends"], self.books["rejected"]
        span = max(self.books["seconds"], 1e-9)
        used = self.books["admitted"] / span / (requests_per_minute / 60.0)
        cuts = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return {
            "": self.name,
            "calls": f"{self.calls:,}",
            "answered": f"{len(self.seconds):,}",
            "lost": f"{self.lost:,}",
            "attempts": f"{sends:,}",
            "429s": f"{rejected:,} ({rejected / self.calls:.1%})",
            "took": f"{span:.1f} s",
            "limit used": f"{used:.0%}",
            "p50": f"{cuts[49]:.2f} s",
            "p99": f"{cuts[98]:.2f} s",
        }


def demonstrate(
    *, calls: int, concurrency: int, requests_per_minute: float, as_json: bool = False
) -> int:
    """Run the three ways and print the table; returns 1 if the library lost a call.

    Args:
        calls: how many to send each way.
        concurrency: calls in flight, where the way bounds them.
        requests_per_minute: the limit that the server keeps and the library is told.
        as_json: print JSON instead of a table.
    """
    runs = asyncio.run(_all_ways(calls, concurrency, requests_per_minute))
    rows = [run.row(requests_per_minute) for run in runs]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _print_table(rows, requests_per_minute)
        for run in runs[1:]:
            sys.stdout.write(f"{run.name} lost: {_listed(run.failures)}\n")
    return 1 if runs[0].lost else 0


async def _all_ways(calls: int, concurrency: int, requests_per_minute: float) -> list[Run]:
    ours = Run("resilient_infe", calls)
    ours.stack = presets.batch(requests_per_minute=requests_per_minute, concurrency=concurrency)
    gather, usual = Run("asyncio.gather", calls), Run("semaphore + 3 retries", calls)
    limit = ["--requests-per-minute", str(requests_per_minute)]
    sys.stderr.write(f"{ours.stack}\n\n")
    await _run(ours, limit, lambda t: _patient(ours, t))
    await _run(gather, limit, lambda t: _each(gather, t, None, 0))
    await _run(usual, limit, lambda t: _each(usual, t, concurrency, USUAL_RETRIES))
    return [ours, gather, usual]


async def _run(
    run: Run, limit: list[str], send_all: Callable[[InfeTransport], Awaitable[None]]
) -> None:
    async with _server([*limit, *FAULTS]) as base_url:
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
        *(sys.executable, "-m", "resilient_infe", "serve", "--for", str(SERVER_LIFE)),
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
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=run.calls)
        while True:
            progress.update(task, completed=run.done, description=_status(run))
            await runtime.sleep_until(runtime.now() + 0.1)


def _status(run: Run) -> str:
    line = f"{run.name}: {run.done:,} of {run.calls:,} done, {run.lost:,} lost"
    if run.stack is None or run.done == run.calls:
        return line
    now = run.stack.statistics()
    sending = sum(slots.held for slots in now.slots.values())
    word = "".join(f", circuit {each.state}" for each in now.circuits.values())
    return f"{line}, {sending} in flight, {now.waiting:,} waiting{word}"


def _print_table(rows: list[dict[str, str]], requests_per_minute: float) -> None:
    from rich.console import Console  # an optional package
    from rich.table import Table

    title = (
        f"The same calls three ways, by the server's books: {requests_per_minute:,.0f} requests "
        f"per minute, 2 % 500s, 2 % 502s, an outage of 3 s"
    )
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    # Into a pipe there is no width to fit: let the table have its own.
    Console(width=None if sys.stdout.isatty() else 132).print(table)


def _listed(failures: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(failures.items())) or "none"
