"""Plays learners in the rows of the gym, against a polite oracle, and writes what each reached.

    python -m benchmarks.gym.compare --half in --seeds 1 2 3 --json new.json
    python -m benchmarks.gym.compare --only "outage" --learner package.module:Learner

A row takes seconds, in virtual time, and the same seed gives the same figures again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from resilient_infe import Allowance

from .ours import Ours
from .rows import LARGEST, is_held_out, rows
from .scenarios import POLITE, Scenario
from .score import Score, judge
from .world import Sender, World

SHIPPED = "resilient_infe.rate.learning.learner:Learner"
"""The learner that ships; told that it shares the limit where a row says so."""

WHOLE = "sender:"
"""Before the name of what makes a whole sender for a row, and not a learner alone."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What one learner reached in one row.

    Attributes:
        row, group, held_out: which row.
        seed: of the network, the work and the server.
        used: of what the polite oracle had accepted after the warm-up, at most 1; of a job, its
            seconds over ours.
        used_all: the same from second 0.
        rejected, rejected_all: the share of sends answered 429, the server's random ones apart,
            after the warm-up and from second 0.
        recovered: seconds after the last outage until 90 % was used; None if never or no outage.
        fairness: Jain's index over the last third.
        least: what the process got that got least, of an equal part.
        seconds: until the last row of a job; None for endless work.
        oracle_seconds: the same for the polite oracle.
    """

    row: str
    group: str
    held_out: bool
    seed: int
    used: float
    used_all: float
    rejected: float
    rejected_all: float
    recovered: float | None
    followed: float | None
    fairness: float
    least: float
    seconds: float | None
    oracle_seconds: float | None

    @property
    def worth(self) -> float:
        """Used, less five times the share of 429s."""
        return self.used - 5 * self.rejected


def play_row(row: Scenario, make: Callable[[Scenario], Sender], seed: int) -> Score:
    """Play one row with senders that `make` makes, one for each process."""
    server = row.server(seed)
    senders = [make(row) for _ in range(row.processes)]
    world = World(server, senders, row.network, seed=seed, work=row.work_of())
    return judge(row, "compared", world.run(row.seconds))


@cache
def oracle(row: Scenario, seed: int) -> Score:
    """Return what the polite oracle reaches."""
    server = row.server(seed)
    world = World(server, row.senders(POLITE, server), row.network, seed=seed, work=row.work_of())
    return judge(row, POLITE, world.run(row.seconds))


def compare(row: Scenario, learner: str, seed: int) -> Reached:
    """Play a learner in a row.

    Args:
        row: which.
        learner: ``module:name`` of a `Learner`; ``sender:`` before it if it is a whole sender.
        seed: of all that is drawn.
    """
    made = play_row(row, maker(learner), seed)
    best = oracle(row, seed)
    after, all_of_it = max(best.passed, 1.0), max(best.passed_all, 1.0)
    used, used_all = made.passed / after, made.passed_all / all_of_it
    if row.work.rows is not None:
        used = used_all = (best.done_at or row.seconds) / (made.done_at or math.inf)
    return Reached(
        row=row.name,
        group=row.group,
        held_out=is_held_out(row.name),
        seed=seed,
        used=round(min(used, 1.0), 4),
        used_all=round(min(used_all, 1.0), 4),
        rejected=round(made.rejected_itself if row.work.rows is None else made.rejected_all, 5),
        rejected_all=round(made.rejected_all, 5),
        recovered=made.recovered,
        followed=made.followed,
        fairness=round(made.fairness, 4),
        least=round(made.least, 4),
        seconds=made.done_at,
        oracle_seconds=best.done_at,
    )


def maker(learner: str) -> Callable[[Scenario], Sender]:
    """Return what makes a sender for a row."""
    module, _, name = learner.removeprefix(WHOLE).partition(":")
    found = getattr(importlib.import_module(module), name)
    if learner.startswith(WHOLE):
        return found  # type: ignore[no-any-return]

    def make(row: Scenario) -> Sender:
        return Ours(Allowance(row.declared), lambda *declared: found(*declared, shared=row.told))

    return make


def chosen(half: str, only: str, largest: bool) -> list[Scenario]:
    """Return the rows that are asked for."""
    halves = {"in": (False,), "out": (True,), "both": (False, True)}[half]
    return [
        each
        for each in rows()
        if is_held_out(each.name) in halves
        and (only in each.name or only == each.group)
        and (largest or each.name not in LARGEST)
    ]


def summary(found: list[Reached]) -> str:
    """Return the means, and the worst rows first."""
    lines = [_line(each) for each in sorted(found, key=lambda each: each.worth)]
    count = max(len(found), 1)
    lines.append(
        f"{len(found)} runs: used {sum(e.used for e in found) / count:.2%}, from 0 "
        f"{sum(e.used_all for e in found) / count:.2%}, 429s "
        f"{sum(e.rejected for e in found) / count:.2%} (from 0 "
        f"{sum(e.rejected_all for e in found) / count:.2%}), worth "
        f"{sum(e.worth for e in found) / count:.4f}, below 70 %: {sum(e.used < 0.7 for e in found)}"
    )
    return "\n".join(lines)


def _line(each: Reached) -> str:
    more = ""
    if each.group == "outage" or each.recovered is not None:
        more += f" back after {each.recovered}"
    if each.fairness < 1.0:
        more += f" fair {each.fairness:.3f} least {each.least:.2f}"
    if each.oracle_seconds is not None:
        more += f" {each.seconds or math.inf:.1f} s ({each.oracle_seconds:.1f})"
    return (
        f"{each.worth:7.3f} {each.used:6.1%} ({each.used_all:6.1%} from 0) {each.rejected:6.2%} "
        f"429s  {each.row} [{each.seed}]{more}"
    )


def main() -> None:
    """Play, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learner", default=SHIPPED)
    parser.add_argument("--half", choices=("in", "out", "both"), default="in")
    parser.add_argument("--only", default="", help="rows with this in their name, or of this group")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--largest", action="store_true", help="the two largest rows too")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs = [
        (row, options.learner, seed)
        for row in chosen(options.half, options.only, options.largest)
        for seed in options.seeds
    ]
    if options.workers > 1:
        with ProcessPoolExecutor(options.workers) as pool:
            found = list(pool.map(compare, *zip(*jobs, strict=True)))
    else:
        found = [compare(*job) for job in jobs]
    sys.stdout.write(summary(found) + "\n")
    if options.json:
        kept: list[dict[str, Any]] = [asdict(each) for each in found]
        options.json.write_text(json.dumps(kept, indent=0))


if __name__ == "__main__":
    main()
