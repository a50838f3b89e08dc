"""A Redis that a benchmark starts, kills and starts again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from typing import Any, Self


class Redis:
    """A `redis-server` on this machine that keeps nothing on disk.

    Attributes:
        url: where it is.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            SystemExit: it is not installed.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is not installed: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
        self._command += ["--appendonly", "no", "--dir", tempfile.gettempdir()]
        self._process: Any = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        raise SystemExit("redis-server did not start")

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.kill()

    def kill(self) -> None:
        """End it as by ``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def commands(self) -> int:
        """Return how many commands it has run since it started."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            return int(client.info("stats")["total_commands_processed"])
