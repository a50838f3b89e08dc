"""Shows a run's metrics to a Prometheus on this machine, over HTTP.

The metrics are read in the run's own event loop, so they are of one moment. A client cannot hold
the run up: its request has a bounded length and time, and few are served at once.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketListener, SocketStream

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

HOST = "127.0.0.1"
"""Only this machine: metrics name models and limits."""

LONGEST_REQUEST = 8 * 1024
"""Bytes of a request: Prometheus sends under 1 KiB."""

PATIENCE = 2.0
"""Seconds in which a request must be complete and its answer taken."""

MOST_CLIENTS = 4
"""Clients that are served at once; the next ones wait."""

BREAK = 0.5
"""Seconds without new clients after one could not be accepted, as when no file can be opened."""


class MetricsPort:
    """The port on which the metrics of a stack are served.

    Args:
        port: of 127.0.0.1, from 1.

    Raises:
        ConfigurationError: the extra ``[prometheus]`` is missing, or the port cannot be had.

    State: the socket, until `serve` ends or `close`.
    """

    def __init__(self, port: int) -> None:
        try:
            from prometheus_client.registry import CollectorRegistry
        except ImportError:
            raise ConfigurationError(
                "--metrics-port needs the extra: pip install resilient-infe[prometheus]"
            ) from None
        self.registry: CollectorRegistry = CollectorRegistry()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((HOST, port))
            self._socket.listen()
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise ConfigurationError(f"--metrics-port {port} cannot be used: {error}") from None

    def measure(self, stack: Any) -> None:
        """Show the metrics of this stack."""
        from ..telemetry import prometheus

        prometheus(stack, self.registry)

    async def serve(self) -> None:
        """Answer requests until it is cancelled."""
        async with await SocketListener.from_socket(self._socket) as listener:
            places = anyio.Semaphore(MOST_CLIENTS)
            async with anyio.create_task_group() as group:
                while True:
                    await places.acquire()
                    try:
                        client = await listener.accept()
                    except (OSError, anyio.BrokenResourceError):
                        places.release()
                        await anyio.sleep(BREAK)
                        continue
                    group.start_soon(self._answer, client, places)

    def close(self) -> None:
        """Release the port."""
        self._socket.close()

    async def _answer(self, client: SocketStream, places: anyio.Semaphore) -> None:
        try:
            with contextlib.suppress(Exception):  # a client that has gone, or sends anything
                async with client:
                    with anyio.move_on_after(PATIENCE):
                        await client.send(self._reply(await _request(client)))
        finally:
            places.release()

    def _reply(self, request: bytes) -> bytes:
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        target = request.split(b" ", 2)[1:2]
        if not request.startswith(b"GET ") or target not in ([b"/metrics"], [b"/"]):
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        body = generate_latest(self.registry)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


async def _request(client: SocketStream) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and len(request) < LONGEST_REQUEST:
        request += await client.receive(LONGEST_REQUEST)
    return request
