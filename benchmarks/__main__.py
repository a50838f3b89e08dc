"""Runs the whole benchmark, or checks that our own stacks have not grown slower."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

try:
    from . import as_used, fresh, imports, loopback, ours, parts, regress, report, rivals
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed: `make bench` sets up what the benchmark needs")
from .server import running
from .targets import Effort, Results

HERE = Path(__file__).parent / "results"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

LEAST_CALLS = 10 * parts.BLOCK
"""Calls of the long run come in so many: a block for each tenth."""


def _measure(effort: Effort) -> Results:
    """Measure every part in processes of its own, or all in this one if there are to be none."""
    measured = partial(fresh.table, rounds=effort.rounds, processes=effort.processes)
    makers = {name: rival.make for name, rival in rivals.RIVALS.items()}
    makers[parts.FULL] = lambda inner: ours.full().around(inner)
    with running() as url:
        return Results(
            effort=effort,
            million=fresh.alone(parts.million, effort.calls),
            calls=measured(parts.calls),
            failures=measured(parts.failures),
            slots=measured(parts.slots),
            waiting=measured(parts.waiting),
            as_used=as_used.Tables(
                calls=measured(as_used.calls),
                failures=measured(as_used.failures),
                rejections=measured(as_used.rejections),
                few=measured(as_used.crowd, as_used.SLOTS),
                many=measured(as_used.crowd, as_used.MANY),
                gathered=measured(as_used.gathered),
                seen=measured(as_used.seen),
            ),
            loopback={n: measured(loopback.measure, url, n) for n in loopback.IN_FLIGHT},
            imports=imports.measure(effort.rounds),
            memory=fresh.alone(parts.memory),
            tries={name: rivals.tries(make) for name, make in makers.items()},
        )


def _ratios() -> dict[str, float]:
    """Return the ratios of our own stacks, measured as they are for every check."""
    own = (parts.layers, parts.failures, parts.slots, parts.waiting)
    tables = [fresh.table(measure, rounds=Effort().rounds) for measure in own]
    found = {
        f"{table.title}: {name}": round(table.ratio(name).median, 3)
        for table in tables
        for name in table.ours
    }
    memory = fresh.alone(parts.memory)
    found[f"bytes suspended: {parts.FULL}"] = round(memory[parts.FULL] / memory[parts.FLOOR], 3)
    return found


def bench(effort: Effort, *, write: bool) -> None:
    """Measure, print, and write the page, the figure and the ratios to be checked against."""
    results = _measure(effort)
    print(report.page(results))
    if not write:
        return
    HERE.mkdir(exist_ok=True)
    (HERE / f"bench-{VERSION}.md").write_text(report.page(results), encoding="utf-8")
    report.figure(results, HERE / f"bench-{VERSION}.svg")
    ratios = regress.written(_ratios())
    (HERE / f"bench-{VERSION}.json").write_text(ratios, encoding="utf-8")


def check() -> int:
    """Compare with the committed ratios; return 1 where one has grown too much."""
    lines, well = regress.check(HERE / f"bench-{VERSION}.json", _ratios)
    print(*lines, sep="\n")
    return 0 if well else 1


def main() -> int:
    """Parse the command line and run."""
    usual = Effort()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="Results are written only where all three figures are the usual ones.",
    )
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    parser.add_argument("--no-write", action="store_true", help="only print")
    for name, what in {
        "rounds": "turns of each subject",
        "calls": "calls of the long run",
        "processes": "new ones that share a table's rounds; 0 measures all tables in one",
    }.items():
        default = getattr(usual, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what}; {default:,}")
    options = parser.parse_args()
    effort = Effort(options.rounds, options.calls, options.processes)
    whole = effort.calls >= LEAST_CALLS and not effort.calls % LEAST_CALLS
    if effort.rounds < fresh.LEAST or effort.processes < 0 or not whole:
        parser.error(
            f"--rounds is at least {fresh.LEAST}, --processes at least 0, and --calls a multiple "
            f"of {LEAST_CALLS}"
        )
    if options.check:
        if effort != usual or options.no_write:
            parser.error("--check is measured as the committed ratios are: give nothing else")
        return check()
    bench(effort, write=effort == usual and not options.no_write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
