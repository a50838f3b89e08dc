"""`make gym` and `make gym-full`: play every way of sending in every scenario, and tell."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import report
from .compare import SHIPPED, Reached, compare
from .rows import LARGEST, rows
from .scenarios import OURS, WAYS, Scenario, against_rivals, everything
from .score import Score, play
from .stacked import NAMES, play_stacked
from .trade_off import curve

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Play, print the scoreboard, and write the page and the figure."""
    parser = argparse.ArgumentParser(description="The limit gym.")
    parser.add_argument(
        "--full", action="store_true", help="three seeds and the full cross; up to three hours"
    )
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    parser.add_argument("--no-files", action="store_true", help="print only")
    options = parser.parse_args()
    found = everything() if options.full else against_rivals()
    scenarios = [each for each in found if options.only in each.name]
    started = time.perf_counter()
    reached = _reach([each for each in rows() if options.only in each.name], full=options.full)
    whole = [each for each in rows() if each.name in NAMES and options.only in each.name]
    scores = _play([(each, way) for each in scenarios for way in WAYS])
    scores |= _play([(each, OURS) for each in whole if (each.name, OURS) not in scores])
    with ProcessPoolExecutor() as pool:
        stacked = list(pool.map(play_stacked, whole))
    points = [] if options.only else list(curve())
    command = "make gym-full" if options.full else "make gym"
    page = report.page(command, reached, scenarios, scores, stacked, points)
    sys.stdout.write(page)
    sys.stdout.write(
        f"\n{len(reached)} runs of ours, {len(scenarios)} rows of {len(WAYS)} ways, "
        f"{page.count('MISSED |')} targets missed, "
        f"{time.perf_counter() - started:.0f} s\n"
    )
    if not (options.only or options.no_files):
        (RESULTS / f"{command.removeprefix('make ')}.md").write_text(page)
        if not options.full:
            report.figure(scores, RESULTS / "gym.svg")


def _reach(found: list[Scenario], *, full: bool) -> list[Reached]:
    """Play ours in all rows; the two largest, and three seeds, only if `full`."""
    played = [each for each in found if full or each.name not in LARGEST]
    jobs = [(each, SHIPPED, seed) for each in played for seed in ((1, 2, 3) if full else (1,))]
    jobs.sort(key=lambda job: -job[0].per_minute * job[0].seconds)  # the longest first
    if not jobs:
        return []
    with ProcessPoolExecutor() as pool:
        return list(pool.map(compare, *zip(*jobs, strict=True), chunksize=1))


def _play(jobs: list[tuple[Scenario, str]]) -> report.Scores:
    if not jobs:
        return {}
    scores: dict[tuple[str, str], Score] = {}
    with ProcessPoolExecutor() as pool:
        played = pool.map(play, *zip(*jobs, strict=True), chunksize=1)
        for number, score in enumerate(played, 1):
            scores[score.scenario, score.way] = score
            if sys.stderr.isatty() or number % 50 == 0:
                end = "\r" if sys.stderr.isatty() else "\n"
                sys.stderr.write(f"{number}/{len(jobs)} runs, {score.scenario:<60}{end}")
    return scores


if __name__ == "__main__":
    main()
