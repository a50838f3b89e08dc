"""What the layers add to a real call: aiohttp over loopback, with and without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from resilient_infe import Stack

from . import ours
from .measure import Run, Table, take_turns
from .server import BODY

IN_FLIGHT = {1: 200, 64: 1_280, 1_000: 2_000}
"""Calls in flight, and calls per round."""

BARE = "bare aiohttp"


def _workers(send: Callable[[Any], Awaitable[Any]], in_flight: int) -> Run:
    """Return what makes calls, so many at any time."""

    async def run(calls: int) -> None:
        left = calls

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await send(BODY)

        await asyncio.gather(*(worker() for _ in range(in_flight)))

    return run


async def measure(url: str, in_flight: int, rounds: int) -> Table:
    """Measure the same transport bare, under empty layers, and under all of ours."""
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(body: Any) -> Any:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return await response.json()

        subjects = {
            BARE: ask,
            "8 empty layers": Stack(*(ours.Empty() for _ in range(8)), strict=False).around(ask),
            "all 8 layers": ours.full(slots=in_flight + 1).around(ask),
        }
        runs = {name: _workers(send, in_flight) for name, send in subjects.items()}
        table = Table(f"aiohttp over loopback, {in_flight:,} in flight", None, BARE)
        return await take_turns(table, runs, rounds=rounds, calls=IN_FLIGHT[in_flight])
