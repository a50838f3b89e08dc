"""``run --metrics-port``: what a Prometheus on this machine reads."""

from __future__ import annotations

import contextlib
import socket
import threading

import anyio
import pytest
from served import served

from resilient_infe import ErrorClassifier, Stack
from resilient_infe.cli import main
from resilient_infe.cli.metrics import LONGEST_REQUEST, MetricsPort
from resilient_infe.errors import ConfigurationError

pytestmark = pytest.mark.network

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def free_port():
    """Return a port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(*requests):
    """Serve the metrics of a stack, and return the answer to each request."""
    port = free_port()
    metrics = MetricsPort(port)
    metrics.measure(Stack(ErrorClassifier()))
    found = []

    async def ask():
        async with anyio.create_task_group() as group:
            group.start_soon(metrics.serve)
            for request in requests:
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    await client.send(request)
                    answer = b""
                    try:
                        while True:
                            answer += await client.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        found.append(answer)
            group.cancel_scope.cancel()

    anyio.run(ask)
    metrics.close()
    return found


def test_metrics_are_served():
    """The answer has the text of Prometheus, and other paths have nothing."""
    found, missing = answers(GET, b"GET /else HTTP/1.1\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\nresilient_infe_in_flight 0.0\n" in found
    assert missing.startswith(b"HTTP/1.1 404 ")


def test_a_client_that_sends_anything_ends_nothing():
    """After garbage, an endless line and an empty request, the next one is answered."""
    garbage = [b"\0\xff\r\n\r\n", b"x" * LONGEST_REQUEST, b"\r\n\r\n"]
    assert answers(*garbage, GET)[-1].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("port", [0, 70_000])
def test_a_port_that_cannot_be_had(port):
    """A port that is taken, or that is none, is told before anything is sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="--metrics-port"):
            MetricsPort(port or taken.getsockname()[1])


def test_a_run_shows_what_it_does(tmp_path):
    """While a run goes on, its figures are read from outside."""
    port, rows, found = free_port(), tmp_path / "in.jsonl", []
    rows.write_text("\n".join(f'{{"custom_id": "r{n}", "prompt": "{n}"}}' for n in range(12)))

    def scrape():
        while not done.wait(0.02):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as ask:
                ask.sendall(GET)
                found.append(b"".join(iter(lambda: ask.recv(65_536), b"")).decode())

    done = threading.Event()
    reader = threading.Thread(target=scrape)
    with served(latency=0.02) as (url, _):
        reader.start()
        try:
            code = main(
                ["run", str(rows), "-o", str(tmp_path / "out.jsonl"), "--base-url", url, "--quiet",
                 "--model", "infe-pulse", "--rpm", "none", "--concurrency", "2",
                 "--metrics-port", str(port)]
            )  # fmt: skip
        finally:
            done.set()
            reader.join()
    assert code == 0
    assert any('calls_total{kind="ok",partition="infe-pulse"}' in each for each in found)
    assert any('slots_limit{partition="infe-pulse"} 2.0' in each for each in found)
