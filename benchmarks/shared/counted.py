"""A stand-in in a process of its own, with books of every request: when, from whom, let in or not.

    python -m benchmarks.shared.counted 3000 bucket

It prints its URL. When its input ends, it prints the books as JSON and ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer


async def serve(limit: float, style: Any) -> None:
    """Serve until the input ends."""
    model = InfeModel(requests_per_minute=limit, style=style, latency=0.1, spread=0.3)
    handle, book = model.handle, []

    def handled(asked: Any, now: float) -> Any:
        reply = handle(asked, now)
        book.append((now, str(asked.authorization).rpartition(" ")[2], reply.status))
        return reply

    model.handle = handled  # type: ignore[method-assign]
    async with InfeServer(model).running() as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    json.dump(book, sys.stdout)


class Served:
    """A running stand-in.

    Attributes:
        url: its base URL.
        started: the monotonic time at which it was ready.
    """

    def __init__(self, limit: float, style: str = "bucket") -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks.shared.counted", str(limit), style]
        self._process: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip()
        self.started = time.monotonic()

    def books(self) -> list[tuple[float, str, int]]:
        """End it; return when each request came, from whom, and the status of its answer."""
        told, _ = self._process.communicate()
        return [(now, who, status) for now, who, status in json.loads(told)]


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), sys.argv[2]))
