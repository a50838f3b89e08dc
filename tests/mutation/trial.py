"""Copies of the repository, in which mutants are tried; the working tree is only read."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .operators import Mutant

COPIED = ("resilient_infe", "tests", "benchmarks", "docs", "requirements", "pyproject.toml",
          "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile", ".ci")  # fmt: skip

LONGEST = 1_200.0
"""Seconds that a trial may take, for a mutant that waits for ever without using the CPU."""

NO_TESTS = 5
"""The exit status of pytest where it found nothing to run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of tests ended.

    Attributes:
        passed: whether all tests passed, or there were none.
        failed: the functions of the tests that failed, without their parameters.
        how: what failed, or how else it ended; empty if all passed.
    """

    passed: bool
    failed: tuple[str, ...]
    how: str


class Copy:
    """A copy of the repository.

    Args:
        source: the root of the repository.
        root: an empty folder for the copy.
    """

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root
        for name in COPIED:
            if (source / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source / name, root / name, ignore=ignored)
            elif (source / name).exists():
                shutil.copy2(source / name, root / name)
        # Checked by their hashes: by time and size, a mutant could pass for the original.
        command = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", *COPIED[:3]]
        subprocess.run([sys.executable, *command], cwd=root, check=True)

    def tried(self, mutant: Mutant, tests: Sequence[str], without: Iterable[str] = ()) -> Outcome:
        """Run tests, but for those of a list, against a mutant, up to the first that fails."""
        path = self.root / mutant.path
        original = path.read_text()
        path.write_text(mutant.applied(original))
        try:
            return self.run(tests, "-x", *(f"--deselect={each}" for each in without))
        finally:
            path.write_text(original)

    def run(self, tests: Sequence[str], *options: str, **environment: str) -> Outcome:
        """Run tests, given as files or as functions of files."""
        chosen = self.root / "chosen.txt"
        chosen.write_text("\n".join(tests))
        command = [
            sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "no:randomly",
            "-p", "tests.mutation.plugin", "--hypothesis-seed=0", *options, f"@{chosen}",
        ]  # fmt: skip
        changed = {"PYTHONPATH": str(self.root), "NO_COLOR": "1", **environment}
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=os.environ | changed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            said = "waits for ever"
        finally:
            _ended(process)
            shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
        return _outcome(process.returncode, said)

    def reaching(self, mutants: Sequence[Mutant], tests: Sequence[str]) -> list[set[str]]:
        """Return for each mutant which functions reach its place; "" stands for an import.

        A test that fails without any mutant is left out.
        """
        notes = self.root / "reached.txt"
        notes.touch()
        originals = {each.path: (self.root / each.path).read_text() for each in mutants}
        for path, source in originals.items():
            placed = {n: each for n, each in enumerate(mutants) if each.path == path}
            (self.root / path).write_text(marked(source, placed))
        start = self.root / "sitecustomize.py"
        start.write_text(
            "import builtins\nfrom tests.mutation.marks import reached\n"
            "builtins._reached = reached\n"
        )
        try:
            outcome = self.run(tests, MUTATION_REACHED=str(notes))
        finally:
            start.unlink()
            for path, source in originals.items():
                (self.root / path).write_text(source)
        if not outcome.passed and not outcome.failed:
            raise RuntimeError(f"the marked suite did not run: {outcome.how}")
        found: dict[int, set[str]] = defaultdict(set)
        for line in notes.read_text().splitlines():
            number, _, test = line.partition(" ")
            found[int(number)].add(test)
        return [found[n] - set(outcome.failed) for n in range(len(mutants))]


def marked(source: str, mutants: dict[int, Mutant]) -> str:
    """Return a source in which the place of each mutant calls `_reached` with its number.

    A place where nothing can be called, as in the pattern of a `match`, is not marked.
    """
    marks: list[tuple[int, int, int, str]] = []
    for number, each in mutants.items():
        size = each.end - each.start
        if each.kind in ("deleted", "in place"):  # a statement
            own = [(each.start, 1, -size - 1, f"_reached({number}); ")]
        else:
            own = [(each.start, 1, -size, f"(_reached({number}) or ("), (each.end, 0, size, "))")]
        try:
            compile(_with_marks(source, own), each.path, "exec")
        except SyntaxError:
            continue
        marks += own
    return _with_marks(source, marks)


def _with_marks(source: str, marks: Iterable[tuple[int, int, int, str]]) -> str:
    """Insert texts; at one place ends come before starts, what is inside of another within it."""
    parts, last = [], 0
    for at, _, _, text in sorted(marks):
        parts += [source[last:at], text]
        last = at
    return "".join(parts) + source[last:]


def _ended(process: subprocess.Popen[str]) -> None:
    """End a run and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(status: int, said: str) -> Outcome:
    failed = re.findall(r"^(?:FAILED|ERROR) ([^\s\[]+)", said, re.MULTILINE)
    if status in (0, NO_TESTS):
        return Outcome(True, (), "")
    if status < 0:
        return Outcome(False, tuple(failed), "never ends" if not failed else failed[0])
    last = said.strip().splitlines()[-1:] or ["nothing was said"]
    return Outcome(False, tuple(failed), failed[0] if failed else last[0])
