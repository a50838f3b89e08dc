"""A program that sends from many processes, threads and loops, and ends; `ended` runs it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio.lowlevel

from resilient_infe import ErrorClassifier, PortableSend, RateLimiter, Stack

PAYLOAD = {"model": "infe-pulse"}


class Transport:
    """Answers with the process and the loop that made it; closing it needs that loop."""

    def __init__(self, path):
        """Write what happens to a file, since a process that ends returns nothing."""
        self.path, self.loop = path, id(asyncio.get_running_loop())
        self.write("opened")

    def write(self, what):
        """Add a line."""
        with self.path.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    async def __call__(self, payload):
        """Answer."""
        assert id(asyncio.get_running_loop()) == self.loop
        await anyio.lowlevel.checkpoint()
        return os.getpid()

    async def aclose(self):
        """Close it, on its own loop."""
        assert id(asyncio.get_running_loop()) == self.loop
        await anyio.lowlevel.checkpoint()
        self.write("closed")


def limited(shared=False):
    """Return a stack with a limit."""
    return Stack(RateLimiter(requests_per_minute=6_000, shared=shared), ErrorClassifier())


async def ask(send):
    """Send once, with a copy as an engine makes it for each of its tasks."""
    return await pickle.loads(pickle.dumps(send))(PAYLOAD)


def work(send):
    """Do the work of one task; return the process and how many calls its stack has had."""
    return asyncio.run(ask(send)), send.stack.statistics().calls


def fork(send):
    """Send before, from two forked processes, and after."""
    first = work(send)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        others = pool.map(work, [send, send], chunksize=1)
        pool.close()
        pool.join()
    assert first[0] not in {process for process, _ in others}
    assert all(calls <= 2 for _, calls in others)
    assert work(send) == (first[0], 2)


def spawn(send):
    """Send from a process that starts from nothing."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert [calls for _, calls in pool.map(work, [send] * 2, chunksize=1)] == [1, 2]
        pool.close()
        pool.join()


def loops(send):
    """Send from threads, and leave one loop that is stopped and one that runs, as engines do."""
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(work, [send] * 8))) == 8
    assert send.stack.statistics().calls == 8
    asyncio.new_event_loop().run_until_complete(ask(send))
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(ask(send), loop).result()


FORKED = "ignore:This process:DeprecationWarning"
"""What Python says from 3.12 on of a process with threads that is forked, whatever they do."""


def ended(mode, path, *arguments):
    """Run this program; return its lines on what was opened and closed, or fail if it warned."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", FORKED, __file__, mode, str(path)]
    where = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONASYNCIODEBUG": "0"}
    shown = subprocess.run(
        [*command, *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | where,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr
    assert "Warning" not in shown.stderr
    assert "Traceback" not in shown.stderr
    return sorted(path.read_text().splitlines())


if __name__ == "__main__":
    _, MODE, PATH, *URL = sys.argv
    MAKE = limited
    if URL:
        from resilient_infe.shared import RedisShares

        MAKE = partial(limited, RedisShares(URL[0]))
    globals()[MODE](PortableSend(MAKE, partial(Transport, Path(PATH))))
