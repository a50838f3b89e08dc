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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .counted import Served
from .store import Redis
from .worker import Job

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
        return float(sum(ratios) ** 2 / (len(ratios) * sum(each * each for each in ratios)))

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
    calls = found.commands / MEMBERS / found.seconds
    return (
        f"| {name} | {found.used:.1%} | {found.refused / max(1, len(found.book)):.2%} "
        f"| {found.most:.1%} | {found.jain:.3f} | {calls:.1f} | {found.lost} |"
    )


HEAD = (
    "| way | used | 429s | most | Jain | commands a second and process | lost |\n"
    "|---|---|---|---|---|---|---|"
)


def rivals(seconds: float = 60.0) -> None:
    """Print what other ways reach."""
    print(HEAD)
    for way in ("RedisShares", "fixed shares", "throttled-py", "limits", "token-throttle"):
        redis = Redis()
        print(row(way, play(way, redis, seconds=seconds)), flush=True)
        redis.kill()


def ours() -> None:
    """Print what eight processes reach."""
    redis = Redis()
    found = play("RedisShares", redis, seconds=100.0)
    redis.kill()
    print(HEAD)
    print(row("RedisShares, 100 s", found), flush=True)


def faults() -> None:
    """Print what becomes of the limit while Redis and members fail."""
    redis = Redis()

    def restart(_: list[Any]) -> None:
        redis.start()

    def stop(workers: list[Any]) -> None:
        workers[1].send_signal(signal.SIGSTOP)

    def go_on(workers: list[Any]) -> None:
        workers[1].send_signal(signal.SIGCONT)

    happens = [
        (15.0, lambda _: redis.kill()),
        (75.0, restart),
        (90.0, stop),
        (110.0, go_on),
        (120.0, lambda workers: workers[2].kill()),
    ]
    found = play("RedisShares", redis, happens, seconds=140.0, patience=0.0, ahead=3)
    redis.kill()
    print(HEAD)
    print(row("Redis killed for 60 s, a member stopped for 20 s, one killed", found), flush=True)


def unknown() -> None:
    """Print what it costs to find the limit, in one process and in eight."""
    for style in ("bucket",):
        for way, members in (("alone", 1), ("unknown", 8)):
            redis = Redis()
            found = play(way, redis, style=style, members=members, seconds=90.0)
            redis.kill()
            print(
                f"| {members} | {style} | {found.used:.1%} | {found.refused} | {found.lost} |",
                flush=True,
            )


def waiting() -> None:
    """Print the CPU of a call while thousands wait."""
    for name, way, members in (
        ("alone", "fixed shares", 1),
        ("4 processes", "RedisShares", 4),
        ("alone", "fixed shares", 1),
    ):
        redis = Redis()
        limit = 1_500.0 * members
        found = play(
            way, redis, members=members, limit=limit, seconds=25.0, waiting=2_000, slots=4_000
        )
        redis.kill()
        told = [each for each in found.told if each]
        cpu = sum(each["cpu"] for each in told) / max(1, sum(each["served"] for each in told))
        print(f"| {name} | {found.used:.1%} | {cpu * 1e6:.0f} us |", flush=True)


PARTS = {"ours": ours, "faults": faults, "unknown": unknown, "waiting": waiting, "rivals": rivals}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    os.environ.setdefault("PYTHONPATH", str(Path.cwd()))
    for name, part in PARTS.items():
        if only == name or (only is None and name != "rivals"):
            part()


if __name__ == "__main__":
    main()
