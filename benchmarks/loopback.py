"""What the layers add to a real call: aiohttp over loopback, with and without them."""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp

from resilient_infe import Stack

from . import ours
from .measure import Table, at_once, take_turns
from .server import BODY

IN_FLIGHT = {1: 50, 64: 320, 1_000: 2_000}
"""Calls in flight, and calls per round: few, since what else a machine does changes fast."""

ROUNDS = {1: 4, 64: 4, 1_000: 1}
"""Rounds where the other tables take one."""

BARE = "bare aiohttp"


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
        runs = {name: at_once(partial(send, BODY), in_flight) for name, send in subjects.items()}
        note = (
            "the transport is a plain `async def` that calls aiohttp; to wrap a session, or to use "
            "`InfeTransport`, costs what `make bench-clients` tells"
        )
        title = f"aiohttp over loopback, {in_flight:,} in flight"
        table = Table(title, None, BARE, notes=(note,))
        return await take_turns(
            table, runs, rounds=rounds * ROUNDS[in_flight], calls=IN_FLIGHT[in_flight]
        )
