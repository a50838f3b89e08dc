"""Rows on an engine with two workers and one limit over Redis; then once more, killed.

The program is that of the engine's page in docs/howto, as it stands. The stand-in keeps the limit
and the books. Run it with the environment of the engine: ``make bench-engines``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resilient_infe.testing import InfeModel
from resilient_infe.testing.server import InfeServer

HOWTO = Path(__file__).parent.parent / "docs/howto"

LIMIT = 6_000.0
"""Requests per minute that the stand-in allows, and that the pages declare."""

LATENCY = 0.2
"""Seconds of an answer."""

FILES = {"ray_data": 10, "daft": 100}
"""Files of the input; for Daft each is a block."""

BEGIN = {
    "ray_data": """
    import ray
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=200 * 1024 * 1024)
""",
    "daft": "",
}
"""What a program of this machine does before it calls `main` of the page."""

END = """

if __name__ == "__main__":
    import ast
    import sys
{begin}
    given = ast.literal_eval(sys.argv[1])
    main(*given)
    print("=", totals(given[1]))
"""
"""What makes a program of a page."""

WORKERS = 2
"""Programs of an engine that has no workers of its own."""

QUIET = {
    "INFE_API_KEY": "sk-test",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 otherwise: other work of this machine would starve them
    "DO_NOT_TRACK": "true",
    "DAFT_ANALYTICS_ENABLED": "0",
}


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing; yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *options, "--dir", folder], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


@contextmanager
def stand_in(model: InfeModel) -> Iterator[str]:
    """Serve a model in a thread; yield its URL."""
    loop = asyncio.new_event_loop()
    urls: list[str] = []
    begun = threading.Event()
    ends = asyncio.Event()

    async def main() -> None:
        async with InfeServer(model).running() as url:
            urls.append(url)
            begun.set()
            await ends.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    begun.wait()
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()


class Work:
    """One job in a folder of its own: its input, its program, and what it writes.

    Args:
        engine: the name of the page.
        folder: where everything is.
        rows: the rows of the input.
        model: the stand-in.
        urls: of the stand-in and of Redis.
    """

    def __init__(
        self, engine: str, folder: Path, rows: int, model: InfeModel, urls: tuple[str, str]
    ) -> None:
        import pyarrow as pa  # only the environments of these engines have it
        import pyarrow.parquet as pq

        self.model, self.rows, self.store = model, rows, urls[1]
        prompts = folder / "prompts"
        prompts.mkdir(parents=True)
        files = FILES[engine]
        for number in range(files):
            ids = list(range(number, rows, files))
            table = pa.table({"id": ids, "prompt": [f"word {each}" for each in ids]})
            pq.write_table(table, prompts / f"{number}.parquet")
        self.answers = folder / "answers"
        self._program = folder / "program.py"
        [block] = re.findall(
            r"^```python\n(.*?)^```", (HOWTO / f"{engine}.md").read_text(), re.DOTALL | re.MULTILINE
        )
        paths = [str(prompts), str(self.answers)]
        self._workers: list[list[object]] = [[*paths, str(folder / "checkpoint"), *urls]]
        if engine == "daft":
            self._workers = [[*paths, *urls, worker, WORKERS] for worker in range(WORKERS)]
        self._program.write_text(block + END.format(begin=BEGIN[engine]))

    def run(self, stop: Callable[[], bool] | None = None) -> str:
        """Run the program to its end; or kill it at `stop`. Return what it printed."""
        programs = [self._start(arguments) for arguments in self._workers]
        while any(program.poll() is None for program, _ in programs):
            if stop is not None and stop():
                for program, _ in programs:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(program.pid, signal.SIGKILL)
                    program.wait()
                self._settle()
                return ""
            time.sleep(0.05)
        shown = [log.read_text() for _, log in programs]
        if any(program.returncode for program, _ in programs):
            raise SystemExit("\n".join(text[-3000:] for text in shown))
        return max(re.findall("^= (.*)$", "\n".join(shown), re.MULTILINE))

    def _settle(self) -> None:
        """Wait until nothing is sent any more: workers may end a little after their driver."""
        seen = -1
        while seen != self.sends:
            seen = self.sends
            time.sleep(3.0)

    def _start(self, arguments: list[object]) -> tuple[subprocess.Popen[bytes], Path]:
        log = self._program.with_suffix(f".{self._workers.index(arguments)}.log")
        with log.open("w") as file:
            program = subprocess.Popen(
                [sys.executable, self._program, repr(arguments)],
                stdout=file, stderr=subprocess.STDOUT, env=os.environ | QUIET,
                cwd=self._program.parent, start_new_session=True,
            )  # fmt: skip
        return program, log

    def written(self) -> Counter[int]:
        """Return how often each row is in the output."""
        import pyarrow.parquet as pq

        found: Counter[int] = Counter()
        for path in self.answers.rglob("*.parquet"):
            found.update(pq.read_table(path, columns=["id"])["id"].to_pylist())
        return found

    def once(self) -> bool:
        """Return whether each row is in the output, once."""
        return self.written() == Counter(range(self.rows))

    @property
    def sends(self) -> int:
        """How many requests the server has seen."""
        return self.model.books.sends

    def repeated(self) -> int:
        """Return how many answers were for rows that had one already."""
        return sum(self.model.books.answers.values()) - len(self.model.books.answers)


@contextmanager
def work(engine: str, rows: int) -> Iterator[Work]:
    """Make a job with a server and a Redis of its own."""
    model = InfeModel(requests_per_minute=LIMIT, latency=LATENCY)
    with (
        tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as name,
        redis(Path(name)) as store,
        stand_in(model) as url,
    ):
        yield Work(engine, Path(name) / "work", rows, model, (url, store))


def use(job: Work) -> float:
    """Return which part of the limit was used, from the first request to the last."""
    books = job.model.books
    assert books.first is not None
    return (books.admitted - 1) / ((books.last - books.first) * LIMIT / 60)


def whole(engine: str, rows: int) -> None:
    """Run a job to its end."""
    with work(engine, rows) as job:
        printed, books = job.run(), job.model.books
        print(
            f"{engine}, {rows:,} rows at {LIMIT:,.0f} a minute: {use(job):.1%} of the limit used, "
            f"{books.rejected / books.sends:.3%} 429s, every row once: {job.once()}; "
            f"rolled up {printed}",
            flush=True,
        )


def killed(engine: str, rows: int) -> None:
    """Kill a job when half of the rows are sent, and run it again."""
    with work(engine, rows) as job:
        job.run(lambda: job.sends >= rows // 2)
        before, kept = job.sends, len(job.written())
        job.run()
        books = job.model.books
        print(
            f"{engine}, killed after {before:,} of {rows:,} rows, {kept:,} of them written, and "
            f"resumed: every row once: {job.once()}, {job.repeated():,} sent again, "
            f"{books.rejected / books.sends:.3%} 429s",
            flush=True,
        )


def main() -> None:
    """Run both for one engine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("engine", choices=sorted(BEGIN))
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each job; 20,000")
    parser.add_argument("--only", choices=["whole", "killed"], help="one of the two jobs")
    given = parser.parse_args()
    for job in (whole, killed):
        if given.only in (None, job.__name__):
            job(given.engine, given.rows)


if __name__ == "__main__":
    main()
