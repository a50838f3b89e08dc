"""`make proof`: run the long forms of the tests, and print one table of what they have tried.

Each line is a command of its own. What it tried is what its tests count; where they count nothing,
it is the number of tests. A violation is a test that fails, or a line of which nothing ran.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]

PROCESSES = 2


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: what is shown.
        tests: the files and functions that show it.
        options: further arguments of pytest.
        environment: variables, where a test of the suite has a longer form.
    """

    name: str
    tests: Sequence[str]
    options: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """Return what runs this line alone."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*variables, "python -m pytest", *self.tests, *self.options])


LINES = [
    Line("half a million calls, and 100,000 over loopback", ["tests/proof/test_soak.py"]),
    Line("simulated hours, the rules at every event", ["tests/proof/test_hours.py"]),
    Line("stateful properties, 50 steps each", ["tests/proof/test_machines.py"]),
    Line(
        "cancelled at every await and every round",
        ["tests/cancellation", "tests/proof/test_cancellation.py"],
    ),
    Line("every reader of outside input", ["tests/proof/test_readers.py"]),
    Line(
        "nonsense through every client",
        ["tests/adapters/test_fuzz.py"],
        environment={"FUZZ_CALLS": "1000", "FUZZ_SEED": "1"},
    ),
    Line("kill -9", ["tests/batch/store/test_kill.py"], environment={"KILLS": "60"}),
    Line("power cuts", ["tests/batch/store/test_power.py", "tests/proof/test_power.py"]),
    Line(
        "a full disk, a damaged journal",
        ["tests/batch/store/test_file.py", "tests/batch/store/test_writer.py"],
    ),
    Line("a canary key in every form and place", ["tests/adapters/test_canary.py"]),
    Line(
        "liveness of the learner and of the gate",
        ["tests/rate/learning/test_liveness.py", "tests/proof/test_liveness.py",
         "tests/proof/test_gate.py"],
    ),
    Line(
        "storms, overload, rows that are always refused",
        ["tests/proof/test_weather.py", "tests/proof/test_poison.py"],
    ),
    Line("streams that fall silent", ["tests/proof/test_stalled_streams.py"]),
]  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a line has shown.

    Attributes:
        line: the line.
        tried: what was tried, and how often.
        violations: the tests that failed, or why nothing ran.
        reached: the rare states that were reached, and how often.
        seconds: how long it took.
    """

    line: Line
    tried: dict[str, int]
    violations: list[str]
    reached: dict[str, int]
    seconds: float


def run(line: Line, scale: float = 1.0, seed: int = 1, root: Path = ROOT) -> Result:
    """Run a line."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally, report = Path(folder, "tally.json"), Path(folder, "report.xml")
        environment = os.environ | line.environment | {
            "PROOF_TALLY": str(tally), "PROOF_SCALE": str(scale), "PROOF_SEED": str(seed),
            "PYTHONPATH": str(root),
        }  # fmt: skip
        command = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}",
                   f"--junitxml={report}", *line.tests, *line.options]  # fmt: skip
        ran = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        counts = json.loads(tally.read_text()) if tally.exists() else {}
        passed, violations = _judged(report, ran)
    tried = counts.get("tried") or {"tests": passed}
    took = time.perf_counter() - started
    return Result(line, tried, violations, counts.get("reached", {}), took)


def _judged(report: Path, ran: subprocess.CompletedProcess[str]) -> tuple[int, list[str]]:
    """Return how many tests passed, and what did not."""
    if not report.exists():
        return 0, ["nothing ran: " + (ran.stdout + ran.stderr).strip()[-300:]]
    passed, violations = 0, []
    for case in ET.parse(report).iter("testcase"):  # our own pytest wrote it
        bad = [each for each in case if each.tag in ("failure", "error")]
        passed += not bad and case.find("skipped") is None
        violations += [f"{case.get('classname')}::{case.get('name')}" for _ in bad]
    if not violations and (not passed or ran.returncode):
        violations.append(f"pytest ended with status {ran.returncode} after {passed} tests")
    return passed, violations


def table(results: Iterable[Result]) -> str:
    """Return the table in Markdown."""
    rows = ["| What | Tried | Violations | Rare states reached | Minutes | Command |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for each in results:
        cells = [
            each.line.name,
            _counts(each.tried),
            str(len(each.violations)),
            _counts(each.reached) or "-",
            f"{each.seconds / 60.0:.1f}",
            f"`{each.line.command}`",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()))


def main() -> int:
    """Run the lines, two at a time; the status is 1 if anything was violated."""
    options = argparse.ArgumentParser("python -m tests.proof", description=__doc__)
    options.add_argument("--only", default="", help="lines whose names have this text")
    options.add_argument("--scale", type=float, default=1.0, help="the share of it to try; 1")
    options.add_argument("--seed", type=int, default=1, help="of what Hypothesis draws; 1")
    chosen = options.parse_args()
    lines = [line for line in LINES if chosen.only in line.name]
    with ThreadPoolExecutor(PROCESSES) as pool:
        results = list(pool.map(lambda line: run(line, chosen.scale, chosen.seed), lines))
    print(table(results))
    violations = [f"{r.line.name}: {each}" for r in results for each in r.violations]
    print(f"\n{len(violations)} violations; seed {chosen.seed}, {sys.version.split()[0]}")
    print("\n".join(violations))
    return 1 if violations or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
