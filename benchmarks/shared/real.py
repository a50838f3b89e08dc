"""One limit in eight processes, with a real Redis and a stand-in over HTTP.

python -m benchmarks.shared.real                  all that needs no rival; under 6 minutes
python -m benchmarks.shared.real --only rivals    the other ways, with their packages installed
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .counted import Served
from .store import Redis
from .worker import Job

PAGE = Path(__file__).parents[1] / "results" / "shared-redis.md"
LIMIT, MEMBERS = 3_000.0, 8
STARTS_IN = 0.2
"""Seconds from when all workers are ready until calls come."""


@dataclass
class Found:
    """What came of a run.

    Attributes:
        book: when each request came to the server, from whom, and the status of its answer.
        told: what each worker said at its end; None if it was killed.
        begins, seconds: when the calls came.
        commands: what Redis ran meanwhile.
    """

    book: list[tuple[float, str, int]]
    told: list[dict[str, Any] | None]
    begins: float
    seconds: float
    commands: int = 0
    limit: float = LIMIT

    @property
    def used(self) -> float:
        """The part of the limit that was used."""
        ends = self.begins + self.seconds
        let_in = sum(now < ends for now, _, status in self.book if status == 200)
        return let_in / (self.limit / 60.0 * self.seconds)

    @property
    def refused(self) -> int:
        """The 429s."""
        return sum(status == 429 for _, _, status in self.book)

    @property
    def jain(self) -> float:
        """How fairly the demanded was served."""
        ratios = [each["served"] / each["demanded"] for each in self.told if each]
        squares = sum(each * each for each in ratios)
        return float(sum(ratios) ** 2 / (len(ratios) * squares)) if squares else 0.0

    @property
    def most(self) -> float:
        """The fullest minute, in parts of the limit: all requests that came."""
        inside: deque[float] = deque()
        most = 0
        for now, _, _ in self.book:
            inside.append(now)
            while inside[0] <= now - 60.0:
                inside.popleft()
            most = max(most, len(inside))
        return most / self.limit

    @property
    def lost(self) -> int:
        """The calls that failed."""
        return sum(each["failed"] for each in self.told if each)

    @property
    def calls(self) -> float:
        """Calls to Redis a second and process, where the worker counts them."""
        counted = [each["calls"] for each in self.told if each and each["calls"] is not None]
        return sum(counted) / max(1, len(counted)) / self.seconds


def play(
    way: str,
    redis: Redis,
    happens: Sequence[tuple[float, Callable[[list[Any]], None]]] = (),
    *,
    style: str = "bucket",
    ahead: int | None = None,
    **options: Any,
) -> Found:
    """Run a way in many processes.

    Args:
        way: one of `WAYS`.
        redis: the store.
        happens: what befalls the processes: the second, and what to do with them.
        style: how the server keeps its limit.
        ahead: the member whose clock is 30 s ahead; None for none.
        options: those of a `Job`.
    """
    given = {"limit": LIMIT, "members": MEMBERS, "seconds": 60.0} | options
    served = Served(given["limit"], style)
    workers: list[Any] = []
    for member in range(given["members"]):
        job = Job(
            way=way, url=served.url, redis=redis.url, member=member,
            ahead=30.0 if member == ahead else 0.0, **given,
        )  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.shared.worker", job.text()]
        workers.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for each in workers:
        each.stdout.readline()
    begins = time.monotonic() + STARTS_IN
    for each in workers:
        each.stdin.write(f"{begins}\n")
        each.stdin.flush()
    before = redis.commands()
    for second, what in happens:
        time.sleep(max(0.0, begins + second - time.monotonic()))
        what(workers)
    told = [json.loads(each.communicate()[0] or "null") for each in workers]
    commands = redis.commands() - before
    return Found(served.books(), told, begins, given["seconds"], commands, given["limit"])


def row(name: str, found: Found) -> str:
    """Return a row of the table."""
    calls = f"{found.calls:.2f}" if found.calls else "-"
    commands = found.commands / MEMBERS / found.seconds
    return (
        f"| {name} | {found.used:.1%} | {found.refused / max(1, len(found.book)):.2%} "
        f"| {found.most:.1%} | {found.jain:.3f} | {calls} | {commands:.0f} | {found.lost} |"
    )


HEAD = """| processes | used | 429s | most | Jain | calls | commands | lost |
|---|---|---|---|---|---|---|---|"""


def ours() -> Iterator[str]:
    """Eight processes that start cold, for 120 s."""
    yield HEAD
    with Redis() as redis:
        yield row("8", play("RedisShares", redis, seconds=120.0))


def faults() -> Iterator[str]:
    """Redis killed for 60 s, a member stopped for 20 s, one killed; the clock of one 30 s ahead."""
    yield HEAD
    with Redis() as redis:
        happens: list[tuple[float, Callable[[list[Any]], None]]] = [
            (10.0, lambda _: redis.kill()),
            (70.0, lambda _: redis.start()),
            (80.0, lambda workers: workers[1].send_signal(signal.SIGSTOP)),
            (100.0, lambda workers: workers[1].send_signal(signal.SIGCONT)),
            (105.0, lambda workers: workers[2].kill()),
        ]
        yield row("8", play("RedisShares", redis, happens, seconds=120.0, ahead=3))


def waiting() -> Iterator[str]:
    """What a call costs while 2,000 wait in each process: 1,500 a minute for each, for 20 s."""
    yield "| processes | used | CPU a call |\n|---|---|---|"
    for way, members in (("fixed shares", 1), ("RedisShares", 4)):
        with Redis() as redis:
            found = play(
                way, redis, members=members, limit=1_500.0 * members, seconds=20.0,
                waiting=2_000, slots=4_000,
            )  # fmt: skip
        told = [each for each in found.told if each]
        cpu = sum(each["cpu"] for each in told) / max(1, sum(each["served"] for each in told))
        yield f"| {members} | {found.used:.1%} | {cpu * 1e3:.2f} ms |"


def unknown() -> Iterator[str]:
    """What it costs to find the limit, for 60 s, in one process and in eight."""
    yield "| processes | used | 429s |\n|---|---|---|"
    for way, members in (("alone", 1), ("unknown", 8)):
        with Redis() as redis:
            found = play(way, redis, members=members, seconds=60.0)
        yield f"| {members} | {found.used:.1%} | {found.refused} |"


def rivals() -> Iterator[str]:
    """Other ways, for 40 s each."""
    yield HEAD.replace("processes", "way", 1)
    for way in ("RedisShares", "fixed shares", "throttled-py", "limits", "token-throttle"):
        with Redis() as redis:
            yield row(way, play(way, redis, seconds=40.0))


PARTS = {"ours": ours, "faults": faults, "waiting": waiting, "unknown": unknown, "rivals": rivals}
USUAL = "ours", "faults", "waiting"
"""The parts that need no rival and are done in under six minutes."""

INTRODUCTION = """# One limit over eight processes, with a real Redis

`make bench-redis` measures it again, and `make bench-redis-rivals` the others: a stand-in over HTTP
that keeps 3,000 requests a minute in a bucket of 1 s, a `redis-server`, and processes whose demand
is drawn anew every 20 s, together 1.5 times the limit. *Most* is the fullest minute by the server's
books, so in a run of under a minute it is less. *Calls* are those of a process to Redis per second,
and *commands* what Redis ran for each process, inside of scripts too. *Lost* are calls that failed.
All of it shares one machine, so times are those of a busy one."""


def main() -> None:
    """Run the parts that are asked for, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=USUAL)
    parser.add_argument("--write", action="store_true", help="write the page of results")
    options = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(Path.cwd()))
    lines = [INTRODUCTION]
    for name in options.parts:
        title = (PARTS[name].__doc__ or "").rstrip(".")
        lines.append(f"\n## {title}\n")
        print(lines[-1], flush=True)
        for line in PARTS[name]():
            print(line, flush=True)
            lines.append(line)
    cores, load = os.cpu_count(), os.getloadavg()[2]
    lines.append(f"\nMeasured on {cores} cores that others used too: {load:.0f} ready on average.")
    if options.write:
        PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
