"""Which files are pure, which mutants are drawn, and which test modules speak of a file."""

from __future__ import annotations

import ast
import random
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .operators import Mutant, mutants

PACKAGE = "resilient_infe"

IMPURE = {"anyio", "aiohttp", "asyncio", "trio"}

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
"""Mutants that change nothing a caller could see, each with its reason."""


def pure_files(root: Path) -> list[str]:
    """Return the files of the package that import no loop or client and say no `async`."""
    return [
        str(path.relative_to(root))
        for path in sorted((root / PACKAGE).rglob("*.py"))
        if _is_pure(_parsed(path))
    ]


def drawn(root: Path, number: int, seed: int) -> list[Mutant]:
    """Draw mutants over all pure files, without those that are known to be equivalent."""
    known = equivalents()
    every = [
        mutant
        for path in pure_files(root)
        for mutant in mutants(path, (root / path).read_text())
        if not any(each["old"] == mutant.old and each["new"] == mutant.new
                   for each in known.get(path, ()))
    ]  # fmt: skip
    return random.Random(seed).sample(every, min(number, len(every)))


def equivalents() -> dict[str, list[dict[str, str]]]:
    """Return the equivalent mutants by file, each with `old`, `new` and `reason`."""
    return tomllib.loads(EQUIVALENT.read_text())


def own_modules(root: Path, path: str) -> list[str]:
    """Return the test modules of a file's room: the one that mirrors it, then those that name it.

    There may be none.
    """
    file = Path(path).relative_to(PACKAGE)
    within = [each for each in _tests(root) if _same_room(file, each.relative_to(root / "tests"))]
    names = _defined(root / path) | {_dotted(Path(path))}
    mirror = [each for each in within if each.stem == f"test_{file.stem}"]
    naming = [each for each in within if names & _imported(each)]
    return list(dict.fromkeys(str(e.relative_to(root)) for e in [*mirror, *naming]))


def all_modules(root: Path) -> list[str]:
    """Return every test module of the suite."""
    return [str(each.relative_to(root)) for each in _tests(root)]


@cache
def _tests(root: Path) -> list[Path]:
    left_out = {root / "tests" / each for each in ("clients", "peers", "proof", "mutation")}
    found = sorted((root / "tests").rglob("test_*.py"))
    return [each for each in found if not left_out & set(each.parents)]


def _same_room(file: Path, test: Path) -> bool:
    """Say whether a test is of a file's room: of that room, a room in it, or one around it."""
    mine, other = file.parts[:-1], test.parts[:-1]
    shared = min(len(mine), len(other))
    return mine[:shared] == other[:shared] and (shared > 0 or mine == other)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _is_pure(tree: ast.Module) -> bool:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    if any(isinstance(node, waits) for node in ast.walk(tree)):
        return False
    return not IMPURE & {name.split(".")[0] for name in _named(tree)}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def _defined(path: Path) -> set[str]:
    """Return the public classes, functions and constants of a file."""
    found: set[str] = set()
    for node in _parsed(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


@cache
def _imported(path: Path) -> set[str]:
    return {name.removeprefix(f"{PACKAGE}:") for name in _named(_parsed(path)) if PACKAGE in name}


def _named(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that are imported, and the names that come from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                if node.module.startswith(PACKAGE):
                    yield f"{PACKAGE}:{alias.name}"
