"""A file of requests into a file of results: rows per second, and CPU time per row, in one run.

Three ways over the same file, against a server in another process that answers at once and has no
limits, 64 in flight: this library's job with its journal on; bare aiohttp with `asyncio.gather` and
a semaphore; the OpenAI SDK with the same. Each turn is a process of its own, so that none inherits
another's memory, and the turns of a round come in a random order; ratios are formed within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .measure import Spread
from .server import BODY, running

IN_FLIGHT = 64


def write_input(path: Path, rows: int) -> None:
    """Write so many requests in the Batch form."""
    with path.open("w") as file:
        for number in range(rows):
            line = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps(line | {"body": BODY}) + "\n")


async def gathered(rows: Path, out: Path, ask: Callable[[Any], Awaitable[Any]]) -> None:
    """Send all rows by `gather` under a semaphore, and write each result when it is there."""
    semaphore = asyncio.Semaphore(IN_FLIGHT)
    with out.open("w") as file:

        async def one(line: str) -> None:
            row = json.loads(line)
            async with semaphore:
                body = await ask(row["body"])
            file.write(json.dumps({"custom_id": row["custom_id"], "response": body}) + "\n")

        with rows.open() as lines:
            await asyncio.gather(*(one(line) for line in lines))


async def by_aiohttp(rows: Path, out: Path, url: str) -> None:
    """Send by bare aiohttp."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(body: Any) -> Any:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return await response.json()

        await gathered(rows, out, ask)


async def by_sdk(rows: Path, out: Path, url: str) -> None:
    """Send by the OpenAI SDK."""
    import openai

    async with openai.AsyncOpenAI(api_key="sk-bench", base_url=url) as client:

        async def ask(body: Any) -> Any:
            return (await client.chat.completions.create(**body)).model_dump()

        await gathered(rows, out, ask)


def by_command(rows: Path, out: Path, url: str) -> None:
    """Send by the library's own command, journal and all."""
    from resilient_infe.cli import main

    limits = ["--requests-per-minute", "none", "--tokens-per-minute", "none"]
    options = ["--base-url", url, "--concurrency", str(IN_FLIGHT), "--quiet", *limits]
    assert main(["run", str(rows), "-o", str(out), *options]) == 0


BARE = "bare aiohttp"
WAYS: dict[str, Callable[[Path, Path, str], Any]] = {
    "resilient_infe": by_command,
    BARE: by_aiohttp,
    "OpenAI SDK": by_sdk,
}


def take_turn(way: str, rows: Path, out: Path, url: str) -> dict[str, float]:
    """Run one way in this process and return what it took, imports left out."""
    import aiohttp  # noqa: F401
    import anyio
    import openai  # noqa: F401

    import resilient_infe.batch.files
    import resilient_infe.cli.run  # noqa: F401

    anyio.run(anyio.lowlevel.checkpoint)  # which imports the rest of anyio
    began, cpu = time.perf_counter(), time.process_time()
    turn = WAYS[way](rows, out, url)
    if turn is not None:
        asyncio.run(turn)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "peak": peak}


def measure(rows: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Let all ways take their turns; returns what each took, round by round."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder, running() as url:
        source = Path(folder) / "in.jsonl"
        write_input(source, rows)
        for number in range(rounds):
            for way in random.sample(list(WAYS), len(WAYS)):
                out = Path(folder) / f"out-{number}-{way.replace(' ', '-')}.jsonl"
                command = [sys.executable, "-m", "benchmarks.batch", "--turn", way, str(source)]
                done = subprocess.run(
                    [*command, str(out), url], capture_output=True, text=True, check=True
                )
                assert sum(1 for _ in out.open()) == rows, f"{way} lost rows"
                found[way].append(json.loads(done.stdout))
                for path in Path(folder).glob(f"{out.name}*"):
                    path.unlink()
    return found


def table(found: dict[str, list[dict[str, float]]], rows: int) -> str:
    """Return what was measured, the targets with it."""
    head = f"{'way':16} {'rows/s':>8} {'CPU/row':>9} {'peak':>8}   over bare aiohttp: rows/s, CPU"
    lines = [f"{rows:,} rows, {IN_FLIGHT} in flight, medians of {len(found[BARE])} rounds", head]
    over: dict[str, dict[str, float]] = {}
    for way, turns in found.items():
        median = {name: Spread.of([each[name] for each in turns]).median for name in turns[0]}
        pairs = list(zip(found[BARE], turns, strict=True))
        ratios = {
            "speed": Spread.of([bare["wall"] / each["wall"] for bare, each in pairs]),
            "cpu": Spread.of([each["cpu"] / bare["cpu"] for bare, each in pairs]),
        }
        over[way] = {name: ratio.median for name, ratio in ratios.items()}
        shown = (f"{each.median:.2f} ({each.low:.2f}-{each.high:.2f})" for each in ratios.values())
        lines.append(
            f"{way:16} {rows / median['wall']:8,.0f} {median['cpu'] / rows * 1e6:6,.0f} us "
            f"{median['peak']:5,.0f} MB   {', '.join(shown)}"
        )
    ours, sdk = over["resilient_infe"], over["OpenAI SDK"]
    for target, value, met in (
        ("rows a second, at least 0.83 of bare aiohttp", ours["speed"], ours["speed"] >= 0.83),
        ("CPU a row, at most 1.20 of bare aiohttp", ours["cpu"], ours["cpu"] <= 1.2),
        ("several times the SDK", ours["speed"] / sdk["speed"], ours["speed"] >= 2 * sdk["speed"]),
    ):
        lines.append(f"{target}: {value:.2f}, {'met' if met else 'missed'}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print, or take one turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=7, help="from 2; 7")
    parser.add_argument("--turn", nargs=4, metavar=("WAY", "ROWS", "OUT", "URL"))
    options = parser.parse_args()
    if options.turn is not None:
        way, rows, out, url = options.turn
        print(json.dumps(take_turn(way, Path(rows), Path(out), url)))
    else:
        print(table(measure(options.rows, max(2, options.rounds)), options.rows))


if __name__ == "__main__":
    main()
