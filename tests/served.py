"""The stand-in, served from a thread, for what runs in a loop or a process of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer


@contextmanager
def served(model=None, **options):
    """Serve a stand-in, or one with these options, from a thread; yields its URL and its model."""
    model = model or InfeModel(**({"latency": 0.0} | options))
    ready, addresses, over = threading.Event(), [], []

    async def serve():
        async with InfeServer(model).running() as url:
            stop = asyncio.Event()
            over.append((asyncio.get_running_loop(), stop))
            addresses.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield addresses[0], model
    finally:
        loop, stop = over[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()
