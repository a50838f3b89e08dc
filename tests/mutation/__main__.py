"""`make mutation`: draw mutants over all pure files, and say which of them no test notices.

Each mutant meets its file's own test modules first, in a copy of the repository. Survivors then
meet every other test of the suite that reaches their place: no other could notice them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from .chosen import all_modules, drawn, equivalents, own_modules
from .operators import Mutant
from .trial import Copy, Outcome

ROOT = Path(__file__).parents[2]

LEAST = 0.95
"""The share of mutants that tests must notice."""

PROCESSES = 2


class Trials:
    """Tries mutants, two at a time, each in a copy.

    Args:
        root: the repository.
        folder: an empty folder for the copies.
        tell: is given each mutant, what killed it or "", and the seconds that it took.
    """

    def __init__(
        self, root: Path, folder: Path, tell: Callable[[Mutant, str, float], object]
    ) -> None:
        self._root, self._tell = root, tell
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(PROCESSES):
            self._copies.put(Copy(root, folder / str(number)))
        self._sound: dict[str, bool] = {}

    def killed(self, mutants: Sequence[Mutant], tests: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield for each mutant what killed it; an empty text if nothing did."""
        with ThreadPoolExecutor(PROCESSES) as pool:
            yield from pool.map(self._killed, mutants, tests)

    def reaching(self, mutants: Sequence[Mutant]) -> list[set[str]]:
        """Return which tests of the suite reach each of the mutants."""
        modules = all_modules(self._root)
        halves = [modules[n::PROCESSES] for n in range(PROCESSES)]
        with ThreadPoolExecutor(PROCESSES) as pool:
            found = list(pool.map(lambda half: self._with_copy("reaching", mutants, half), halves))
        return [set().union(*each) for each in zip(*found, strict=True)]

    def _killed(self, mutant: Mutant, tests: Sequence[str]) -> str:
        started = time.perf_counter()
        unsound: set[str] = set()  # fail without the mutant too, so they kill nothing
        killer = ""
        while tests and not killer:
            outcome: Outcome = self._with_copy("tried", mutant, tests, unsound)
            found = {each for each in outcome.failed if not self._is_sound(each)} - unsound
            if not found:
                killer = outcome.how
                break
            unsound |= found
        took = time.perf_counter() - started
        self._tell(mutant, killer, took)
        return killer

    def _is_sound(self, test: str) -> bool:
        if test not in self._sound:
            self._sound[test] = self._with_copy("run", [test]).passed
        return self._sound[test]

    def _with_copy(self, method: str, *arguments):
        copy = self._copies.get()
        try:
            return getattr(copy, method)(*arguments)
        finally:
            self._copies.put(copy)


def score(trials: Trials, mutants: Sequence[Mutant], *, suite: bool) -> dict[Mutant, str]:
    """Try every mutant; returns what killed each, or why it survives after a "-"."""
    own = [own_modules(ROOT, each.path) for each in mutants]
    ends = dict(zip(mutants, trials.killed(mutants, own), strict=True))
    alive = [mutant for mutant, killer in ends.items() if not killer]
    if not suite or not alive:
        return ends
    reached = trials.reaching(alive)
    left = []
    for mutant, tests in zip(alive, reached, strict=True):
        tried = set(own[mutants.index(mutant)])
        rest = all_modules(ROOT) if "" in tests else sorted(tests)
        room = f"tests/{'/'.join(mutant.path.split('/')[1:-1])}"
        rest = sorted(rest, key=lambda test: not test.startswith(room))
        left.append([test for test in rest if test and test.split("::")[0] not in tried])
    for mutant, killer, tests in zip(alive, trials.killed(alive, left), reached, strict=True):
        ends[mutant] = killer or f"-reached by {len(tests)} tests"
    return ends


def report(ends: dict[Mutant, str]) -> float:
    """Print the score by kind, and each survivor; returns the share that was killed."""
    total, dead = Counter(), Counter()
    for mutant, end in ends.items():
        total[mutant.kind] += 1
        dead[mutant.kind] += bool(end) and not end.startswith("-")
    print("\n| change | mutants | killed |\n|---|---|---|")
    for kind, number in sorted(total.items()):
        print(f"| {kind} | {number} | {dead[kind]} |")
    share = dead.total() / max(1, total.total())
    print(f"| all | {total.total()} | {dead.total()} ({share:.1%}) |")
    print(f"left out as equivalent: {sum(map(len, equivalents().values()))}")
    for mutant, end in sorted(ends.items()):
        if not end or end.startswith("-"):
            print(f"\nSURVIVES, {end[1:] or 'its own modules do not notice'}\n{mutant}")
    return share


def main() -> int:
    """Run it; the status is 1 if too many survive."""
    options = argparse.ArgumentParser("python -m tests.mutation", description=__doc__)
    options.add_argument("--number", type=int, default=300, help="how many mutants; 300")
    options.add_argument("--seed", type=int, default=1, help="which are drawn; 1")
    options.add_argument("--own", action="store_true", help="their own test modules only")
    options.add_argument("--kept", type=Path, help="a file of kills, which are not tried again")
    chosen = options.parse_args()
    mutants = drawn(ROOT, chosen.number, chosen.seed)
    kept = {}
    if chosen.kept and chosen.kept.exists():
        kept = dict(map(json.loads, chosen.kept.read_text().splitlines()))
    ends = {each: kept[each.key] for each in mutants if each.key in kept}
    left = [each for each in mutants if each not in ends]
    print(f"seed {chosen.seed}: {len(mutants)} mutants, {len(ends)} of them killed before")

    def tell(mutant: Mutant, killer: str, took: float) -> None:
        print(f"{'killed  ' if killer else 'SURVIVES'} {took:6.1f} s  {mutant}  [{killer}]")
        if killer and chosen.kept:
            with chosen.kept.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps([mutant.key, killer])}\n")

    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        ends |= score(Trials(ROOT, Path(folder), tell), left, suite=not chosen.own)
    return 0 if report(ends) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
