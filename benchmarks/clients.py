"""What wrapping costs each client: CPU per call, wrapped over bare, in one run.

The server is another process that answers every request with the same small completion, so that
the CPU time of this process is the client's alone. Each client is driven in four ways at 1, 32 and
500 calls in flight: bare; wrapped with a stack of no layers, which is the adapter's own cost; with
the least that tells failures and tries again; and with all eight layers (`presets.batch`, with
limits that never bind). Rounds of the four alternate in random order, in new processes for each
client; a ratio is formed within its round, and the median of the rounds is printed with its
quartiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aiohttp
import httpx
import httpx2
import openai

from resilient_infe import ErrorClassifier, InfeTransport, Retry, Stack, presets, wrap

from . import fresh
from .measure import Spread, Table, at_once, take_turns
from .server import BODY, running

IN_FLIGHT = {1: 40, 32: 128, 500: 500}
"""Calls in flight, and calls per round: few, since what else a machine does changes fast."""

Ask = Callable[[], Awaitable[Any]]


def stacks(in_flight: int) -> tuple[Stack, Stack, Stack]:
    """Return a stack of no layers, one that retries, and one of all with limits that never bind."""
    whole = presets.batch(
        requests_per_minute=6e8, tokens_per_minute=6e12, concurrency=in_flight + 1
    )
    return Stack(strict=False), Stack(Retry(), ErrorClassifier()), whole


Ways = tuple[Ask, ...]
"""How to ask with a client, in the ways of `WAYS`."""

WAYS = ("bare", "no layers", "Retry and ErrorClassifier", "all layers")

MOST = {"aiohttp": 1.2, "InfeTransport": 1.2}
"""What wrapping may cost at most at 32 in flight, over bare; 1.1 for all others."""


def ways(client: Any, in_flight: int, ask: Callable[[Any], Ask]) -> Ways:
    """Return how to ask with a client, bare and wrapped."""
    return ask(client), *(ask(wrap(client, stack)) for stack in stacks(in_flight))


async def over_http(library: Any, url: str, in_flight: int, opened: AsyncExitStack) -> Ways:
    """Return how to ask with an httpx or httpx2 client."""
    limits = library.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    client = library.AsyncClient(limits=limits, timeout=60)
    opened.push_async_callback(client.aclose)

    def ask(client: Any) -> Ask:
        async def send() -> Any:
            return (await client.post(f"{url}/chat/completions", json=BODY)).json()

        return send

    return ways(client, in_flight, ask)


async def over_sdk(url: str, in_flight: int, opened: AsyncExitStack) -> Ways:
    """Return how to ask with the OpenAI SDK."""
    client = openai.AsyncOpenAI(api_key="sk-bench", base_url=url, max_retries=0)
    opened.push_async_callback(client.close)

    def ask(client: Any) -> Ask:
        async def send() -> Any:
            return await client.chat.completions.create(**BODY)

        return send

    return ways(client, in_flight, ask)


async def over_aiohttp(url: str, in_flight: int, opened: AsyncExitStack) -> Ways:
    """Return how to ask with an aiohttp session."""
    connector = aiohttp.TCPConnector(limit=in_flight)
    session = await opened.enter_async_context(aiohttp.ClientSession(connector=connector))

    def ask(session: Any) -> Ask:
        async def send() -> Any:
            async with session.post(f"{url}/chat/completions", json=BODY) as response:
                return await response.json()

        return send

    return ways(session, in_flight, ask)


async def over_infe(url: str, in_flight: int, opened: AsyncExitStack) -> Ways:
    """Return how to ask with the transport of our own."""
    transport = await opened.enter_async_context(InfeTransport("sk-bench", base_url=url))
    wrapped = (stack.around(transport) for stack in stacks(in_flight))
    return tuple(partial(send, BODY) for send in (transport, *wrapped))


Open = Callable[[str, int, AsyncExitStack], Awaitable[Ways]]
"""Opens a client for a server and so many calls in flight, until the exit stack is closed."""

CLIENTS: dict[str, Open] = {
    "AsyncOpenAI": over_sdk,
    "httpx2": partial(over_http, httpx2),
    "httpx": partial(over_http, httpx),
    "aiohttp": over_aiohttp,
    "InfeTransport": over_infe,
}
"""By name, how to open each client."""


async def measure(url: str, in_flight: int, name: str, rounds: int) -> Table:
    """Drive a client in its ways, in turns of random order."""
    async with AsyncExitStack() as opened:
        asks = await CLIENTS[name](url, in_flight, opened)
        runs = {way: at_once(ask, in_flight) for way, ask in zip(WAYS, asks, strict=True)}
        table = Table(name, None, WAYS[0])
        return await take_turns(table, runs, rounds=rounds, calls=IN_FLIGHT[in_flight])


def row(url: str, in_flight: int, name: str, rounds: int) -> str:
    """Measure a client in new processes and return its row."""
    turns = rounds if in_flight < 500 else rounds // 5  # which are long
    table = fresh.table(measure, url, in_flight, name, rounds=turns)
    target = MOST.get(name, 1.1) if in_flight == 32 else None
    ratios = " | ".join(shown(table.ratio(way), target) for way in WAYS[1:])
    return f"| {name} | {in_flight} | {1e6 * table.cpu(WAYS[0]).median:,.0f} us | {ratios} |"


def shown(ratio: Spread, target: float | None) -> str:
    """Return a ratio with its quartiles, and whether it keeps to its target."""
    verdict = "" if target is None else " met" if ratio.median <= target else " MISSED"
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f}){verdict}"


def main() -> None:
    """Start the server, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--in-flight", type=int, choices=IN_FLIGHT, action="append")
    parser.add_argument("--only", choices=CLIENTS, help="one client")
    options = parser.parse_args()
    if options.rounds < fresh.LEAST:
        parser.error(f"--rounds is at least {fresh.LEAST}")
    with running() as url:
        print(f"| client | in flight | {' | '.join(WAYS)} |")
        print("|---|---|---|---|---|---|")
        for in_flight in options.in_flight or IN_FLIGHT:
            for name in [options.only] if options.only else CLIENTS:
                print(row(url, in_flight, name, options.rounds), flush=True)


if __name__ == "__main__":
    main()
