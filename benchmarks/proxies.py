"""Limits that proxies state, over real HTTP: how much of them is used, and at how many 429s.

HAProxy (the program itself, if it is installed) keeps a limit of 10 requests in 2 s. It states 10
and a reset of 2 s, and no period. A stand-in for Envoy's rate limit keeps fixed windows, and states
them by a policy, or by a reset alone. All servers are asked for the same time, at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from resilient_infe import InfeTransport, presets
from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer

PAGE = Path(__file__).parent / "results" / "proxies.md"
MINUTE = 60.0
WORKERS = 32
PROGRAM = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend limited
  bind 127.0.0.1:{port}
  stick-table type string size 1k expire 60s store http_req_rate({period}s),gpc0_rate({period}s)
  http-request track-sc0 str(all)
  http-request set-var(txn.over) bool(true) if {{ {over} }}
  http-request sc-inc-gpc0(0) unless {{ var(txn.over) -m bool }}
  http-request return status 429 content-type application/json \
string '{{"error": {{"code": "rate_limit_exceeded"}}}}' hdr X-RateLimit-Limit-Requests {limit} \
hdr X-RateLimit-Remaining-Requests 0 hdr X-RateLimit-Reset-Requests {period}s \
hdr Retry-After {period} if {{ var(txn.over) -m bool }}
  http-response set-header X-RateLimit-Limit-Requests {limit}
  http-response set-header X-RateLimit-Reset-Requests {period}s
  default_backend stand_in
backend stand_in
  server one 127.0.0.1:{backend}
"""
"""A limit of requests in a period, over which all clients are counted together."""

OVER = {
    "HAProxy, 10 in 2 s": "sc0_gpc0_rate ge {limit}",
    "HAProxy, 10 in 2 s, 429s count too": "sc0_http_req_rate gt {limit}",
}
"""When a request is over the limit: by what was let in, or by all that came."""


@dataclass
class Windows:
    """Fixed windows, as a rate limit service keeps them: each begins at a multiple of its length.

    Attributes:
        limits: the requests in a window, and its length in seconds.
        policy: whether the header states the lengths.
    """

    limits: tuple[tuple[int, float], ...]
    policy: bool

    def __post_init__(self) -> None:
        """Begin empty."""
        self.inside: dict[tuple[int, float], tuple[float, int]] = {}

    def headers(self, now: float) -> tuple[bool, dict[str, str]]:
        """Count a request; return whether it passes, and what is stated of the tightest limit."""
        used = {}
        for limit, length in self.limits:
            start = now // length * length
            began, number = self.inside.get((limit, length), (start, 0))
            used[limit, length] = (start, number if began == start else 0)
        passes = all(number < limit for (limit, _), (_, number) in used.items())
        for key, (start, number) in used.items():
            self.inside[key] = (start, number + passes)
        limit, length = min(self.limits, key=lambda each: each[0] - self.inside[each][1])
        start, number = self.inside[limit, length]
        policy = "".join(f", {most};w={seconds:g}" for most, seconds in self.limits)
        headers = {
            "x-ratelimit-limit": f"{limit}{policy if self.policy else ''}",
            "x-ratelimit-remaining": str(limit - number),
            "x-ratelimit-reset": f"{start + length - now:.0f}",
        }
        return passes, headers


@asynccontextmanager
async def envoy(windows: Windows) -> AsyncIterator[str]:
    """Serve completions under these windows; yields the base URL."""
    loop = asyncio.get_running_loop()

    async def complete(_: web.Request) -> web.Response:
        passes, headers = windows.headers(loop.time())
        if not passes:
            return web.json_response({"error": {}}, status=429, headers=headers)
        await asyncio.sleep(0.05)
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        message = {"role": "assistant", "content": "x"}
        return web.json_response(
            {"choices": [{"index": 0, "message": message}], "usage": usage}, headers=headers
        )

    application = web.Application()
    application.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def haproxy(limit: int, period: int, over: str) -> AsyncIterator[str]:
    """Run HAProxy before the stand-in; yields the base URL."""
    assert PROGRAM is not None
    async with InfeServer(InfeModel()).running() as base_url:
        backend = base_url.removesuffix("/v1").rpartition(":")[2]
        taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = taken.sockets[0].getsockname()[1]
        taken.close()
        await taken.wait_closed()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "haproxy.cfg"
            path.write_text(
                HAPROXY.format(
                    port=port,
                    backend=backend,
                    limit=limit,
                    period=period,
                    over=over.format(limit=limit),
                ),
                encoding="utf-8",
            )
            running = await asyncio.create_subprocess_exec(PROGRAM, "-db", "-f", str(path))
            try:
                await asyncio.sleep(1.0)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                running.terminate()
                await running.wait()


async def ask(base_url: str, declared: float | None, seconds: float) -> tuple[int, int]:
    """Send as much as the batch preset lets; return the answers and the 429s."""
    rejected = answered = 0

    def listen(event: Any) -> None:
        nonlocal rejected, answered
        if event.name == "attempt.finished":
            rejected += event.status == 429
            answered += event.status == 200

    stack = presets.batch(requests_per_minute=declared, listeners=[listen], log=False)
    body = {"model": "infe-pulse", "messages": [{"role": "user", "content": "x"}]}
    async with InfeTransport("none", base_url=base_url) as transport:
        send = stack.around(transport)

        async def work() -> None:
            while True:
                await send(body)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(work() for _ in range(WORKERS)))
    return answered, rejected


async def line(
    name: str, server: Any, per_minute: float, declared: float | None, seconds: float
) -> str:
    """Return a line of the table."""
    async with server as base_url:
        answered, rejected = await ask(base_url, declared, seconds)
    used = answered / (per_minute * seconds / MINUTE)
    share = rejected / max(1, answered + rejected)
    return f"| {name} | {declared or '-'} | {used:.1%} | {share:.2%} |"


async def table(seconds: float) -> list[str]:
    """Return the lines of the table."""
    cases = []
    for declared in (300.0, 600.0, None):
        for name, over in OVER.items() if PROGRAM else ():
            cases.append((name, haproxy(10, 2, over), 300.0, declared))
        both = Windows(((10, 1.0), (300, 60.0)), policy=True)
        cases.append(("Envoy-like, 10 in 1 s and 300 in 60 s", envoy(both), 300.0, declared))
        bare = Windows(((25, 5.0),), policy=False)
        cases.append(("fixed windows, 25 in 5 s, no period stated", envoy(bare), 300.0, declared))
    lines = await asyncio.gather(*(line(*each, seconds) for each in cases))
    return ["| server | declared RPM | used | 429s |", "|---|---:|---:|---:|", *sorted(lines)]


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxies", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all servers (300)")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    lines = asyncio.run(table(options.seconds))
    print("\n".join(lines))
    if not options.no_write:
        title = "# Limits that proxies state"
        about = f"From `make bench-proxies`, over loopback, {options.seconds:g} s each."
        PAGE.write_text("\n".join([title, "", about, "", *lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
