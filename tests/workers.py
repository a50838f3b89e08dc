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
from resilient_infe.aio import current

PAYLOAD = {"model": "infe-pulse"}


class Transport:
    """Answers with the process and the loop that made it; closing it needs that loop."""

    def __init__(self, path):
        """Write what happens to a file, since a process that ends returns nothing."""
        self.path, self.runtime = path, current()
        self.write("opened")

    def write(self, what):
        """Add a line."""
        with self.path.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    async def __call__(self, payload):
        """Answer."""
        assert current() is self.runtime
        await anyio.lowlevel.checkpoint()
        return os.getpid()

    async def aclose(self):
        """Close it, on its own loop."""
        assert current() is self.runtime
        await anyio.lowlevel.checkpoint()
        self.write("closed")


def limited(shared=False):
    """Return a stack with a limit."""
    return Stack(RateLimiter(requests_per_minute=6_000, shared=shared), ErrorClassifier())


async def ask(send):
    """Send once, with a copy as an engine makes it for each of its tasks."""
    return await pickle.loads(pickle.dumps(send))(PAYLOAD)


def work(task):
    """Do the work of one task; return the process and how many calls its stack has had."""
    send, backend = task
    return anyio.run(ask, send, backend=backend), send.stack.statistics().calls


def tasks(send):
    """Return two tasks, one for each backend."""
    return [(send, "asyncio"), (send, "trio")]


def fork(send):
    """Send before, from two forked processes, and after."""
    first, calls = work((send, "asyncio"))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        others = pool.map(work, tasks(send), chunksize=1)
        pool.close()
        pool.join()
    assert calls == 1
    assert first not in {process for process, _ in others}
    assert all(calls <= 2 for _, calls in others)
    assert work((send, "trio")) == (first, 2)


def spawn(send):
    """Send from a process that starts from nothing."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert [calls for _, calls in pool.map(work, tasks(send), chunksize=1)] == [1, 2]
        pool.close()
        pool.join()


def loops(send):
    """Send from threads, and leave one loop that is stopped and two that run, as engines do."""
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(work, tasks(send) * 4))) == 8
    assert send.stack.statistics().calls == 8
    asyncio.new_event_loop().run_until_complete(ask(send))
    for backend in ("asyncio", "trio"):
        sent = threading.Event()
        threading.Thread(target=linger, args=(send, backend, sent), daemon=True).start()
        assert sent.wait(10)


def linger(send, backend, sent):
    """Send, and let the loop run on."""

    async def main():
        await ask(send)
        sent.set()
        await anyio.sleep_forever()

    anyio.run(main, backend=backend)


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
