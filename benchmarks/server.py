"""A server in another process that answers every request with the same small completion.

It does next to nothing, so that the CPU time of the measuring process is the client's alone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BODY = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello " * 50}]}

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "infe-pulse",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 50},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 75, "completion_tokens": 50, "total_tokens": 125},
    }
).encode()


class Server(asyncio.Protocol):
    """Answers every request with the same completion."""

    REPLY = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: infe-1\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
    )

    def connection_made(self, transport: Any) -> None:
        """Start with nothing read."""
        self.transport, self.read = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head = self.read[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self.read) < end + 4 + length:
                return
            self.read = self.read[end + 4 + length :]
            self.transport.write(self.REPLY)


async def serve() -> None:
    """Serve until the parent goes away; print the port."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def running() -> Iterator[str]:
    """Start the server and yield its base URL; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        server.stdin.close()


if __name__ == "__main__":
    asyncio.run(serve())
