"""Runs the whole benchmark, or checks that our own stacks have not grown slower."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from . import fresh, imports, loopback, parts, report
from .measure import Table, grown
from .server import running
from .targets import Results

HERE = Path(__file__).parent / "results"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

ALLOWED = 1.25
"""A ratio to the floor may grow by this much before the check fails."""

LEAST_CALLS = 10 * parts.BLOCK
"""Calls of the long run, at least: a block for each tenth."""

TRIES = 4
"""Medians of which the best counts: a busy machine only ever adds."""


def _measure(rounds: int, calls: int, processes: int) -> Results:
    """Measure every part in processes of its own, or all in this one if there are to be none."""
    measured = partial(fresh.table, rounds=rounds, processes=processes)
    with running() as url:
        return Results(
            million=fresh.alone(parts.million, calls),
            calls=measured(parts.calls),
            failures=measured(parts.failures),
            slots=measured(parts.slots),
            waiting=measured(parts.waiting),
            loopback={n: measured(loopback.measure, url, n) for n in loopback.IN_FLIGHT},
            imports=imports.measure(rounds),
            memory=fresh.alone(parts.memory),
        )


def bench(rounds: int, calls: int, processes: int, *, write: bool) -> int:
    """Measure, print, and write the page, the figure and the ratios to be checked against."""
    results = _measure(rounds, calls, processes)
    print(report.page(results))
    if write:
        HERE.mkdir(exist_ok=True)
        (HERE / f"bench-{VERSION}.md").write_text(report.page(results), encoding="utf-8")
        report.figure(results, HERE / f"bench-{VERSION}.svg")
        ratios = json.dumps(_ratios(results.calls), indent=2)
        (HERE / f"bench-{VERSION}.json").write_text(f"{ratios}\n", encoding="utf-8")
    return 0


def check(rounds: int) -> int:
    """Compare with the committed ratios; return 1 where one has grown too much."""
    path = HERE / f"bench-{VERSION}.json"
    if not path.exists():
        print(f"no ratios are committed for Python {VERSION}: run `make bench` there first")
        return 1
    committed: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    best: dict[str, float] = {}
    for _ in range(TRIES):
        for name, ratio in _ratios(fresh.alone(parts.layers, rounds)).items():
            best[name] = min(ratio, best.get(name, ratio))
        if not grown(best, committed, ALLOWED):
            break
    for name, ratio in best.items():
        if name in committed:
            print(f"{name:40} {ratio:6.2f}   was {committed[name]:6.2f}")
    worse = grown(best, committed, ALLOWED)
    for name in worse:
        print(f"GROWN: {name} costs {best[name] / committed[name]:.2f}x what it did")
    return 1 if worse else 0


def _ratios(table: Table) -> dict[str, float]:
    """Return the ratios of our own stacks to the floor."""
    ours = [name for name in table.names() if "floor" not in name and " + " not in name]
    return {name: round(table.ratio(name).median, 3) for name in ours if ":" not in name}


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each subject; 15")
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the long run; 1,000,000")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument(
        "--processes",
        type=int,
        default=fresh.PROCESSES,
        help="new ones that share a table's rounds; 0 measures all tables in one, one by one; 5",
    )
    options = parser.parse_args()
    if options.rounds < fresh.LEAST or options.processes < 0 or options.calls < LEAST_CALLS:
        parser.error(
            f"--rounds is at least {fresh.LEAST}, --processes 0, and --calls {LEAST_CALLS}"
        )
    if options.check:
        return check(options.rounds)
    return bench(options.rounds, options.calls, options.processes, write=not options.no_write)


if __name__ == "__main__":
    sys.exit(main())
