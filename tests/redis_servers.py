"""A real Redis, where one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager

import pytest

PROGRAM = shutil.which("redis-server")


class Server:
    """A Redis that keeps nothing on disk; it may be killed and started again."""

    def __init__(self, path):
        """Find a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self._path, self._process = f"redis://127.0.0.1:{self.port}/0", path, None

    def start(self):
        """Start it, and wait until it listens."""
        options = ["--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [PROGRAM, *options, "--bind", "127.0.0.1", "--dir", str(self._path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def kill(self):
        """End it with no chance to say anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


@contextmanager
def started(path):
    """Run a server while the block runs."""
    server = Server(path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """Return a Redis that all tests of a session share."""
    pytest.importorskip("redis", reason="the package redis is not installed")
    if PROGRAM is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with started(tmp_path_factory.mktemp("redis")) as server:
        yield server
