"""A million rows through one batch: memory and the cost of a row, at each hundred thousand.

Rows come from a generator, go through `presets.batch` to the in-process stand-in, and are recorded
in a journal on disk, with their ids looked up for duplicates, as the command does. The stand-in's
books are left out: a server that remembers every id would be what grows.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resilient_infe import presets
from resilient_infe.batch import Journal, run_batch
from resilient_infe.batch.progress import NO_LIMIT
from resilient_infe.testing import InfeModel, InProcessInfe
from resilient_infe.testing.books import Books

BLOCKS = 10

PAGE = 4096


class NoBooks(Books):
    """Remembers nothing."""

    def arrived(self, now: float, in_flight: int) -> None:  # noqa: ARG002
        """Count the request alone."""
        self.sends += 1

    def admit(self, now: float) -> None:
        """Count nothing."""

    def replied(self, status: int, tokens: int, client_id: str | None) -> None:
        """Count nothing."""


def resident() -> float:
    """Return the megabytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Yield requests."""
    for n in range(number):
        content = f"Say the number {n}."
        yield {"model": "infe-pulse", "messages": [{"role": "user", "content": content}]}


async def measure(number: int, folder: Path) -> float:
    """Run the rows and print a line for each block; returns the peak."""
    model = InfeModel(latency=0.0)
    model.books = NoBooks()
    stack = presets.batch(requests_per_minute=NO_LIMIT, tokens_per_minute=NO_LIMIT)
    journal = Journal(folder / "journal")
    done, peak, block = 0, 0.0, number // BLOCKS
    began, size = time.process_time(), 0
    async for result in run_batch(
        rows(number), stack.around(InProcessInfe(model)), journal=journal
    ):
        assert result.ok
        done += 1
        if done % block == 0:
            cpu, began = time.process_time() - began, time.process_time()
            grown = journal.path.stat().st_size
            peak = max(peak, resident())
            print(
                f"{done:9,} {cpu / block * 1e6:8.0f} us {resident():8.1f} MB "
                f"{journal.taken.size / done:6.1f} B {(grown - size) / block:8.0f} B",
                flush=True,
            )
            size = grown
    journal.close()
    return peak


def reopen(folder: Path) -> tuple[float, float]:
    """Return the seconds that a run which goes on takes to read the journal, and its memory."""
    began = time.perf_counter()
    journal = Journal(folder / "journal")
    took = time.perf_counter() - began
    journal.close()
    return took, resident()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    logging.getLogger("resilient_infe").setLevel(logging.ERROR)
    print(f"{'rows':>9} {'CPU/row':>11} {'resident':>11} {'ids/row':>8} {'journal/row':>10}")
    with tempfile.TemporaryDirectory() as folder:
        peak = asyncio.run(measure(options.rows, Path(folder)))
        took, held = reopen(Path(folder))
    print(f"opened again in {took:.1f} s, holding {held:.0f} MB")
    print(f"peak under 120 MB: {peak:.0f} MB, {'met' if peak < 120 else 'missed'}")


if __name__ == "__main__":
    main()
