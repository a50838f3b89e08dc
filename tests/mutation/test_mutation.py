"""The mutants that are made of a source, and that a trial tells the killed from the survivors."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.mutation import chosen, marks, plugin
from tests.mutation.chosen import drawn, equivalents, own_modules, pure_files
from tests.mutation.operators import mutants
from tests.mutation.trial import Copy, marked

ROOT = Path(__file__).parents[2]

SOURCE = '''"""Docs: 1 + 1."""


@frozen(slots=True)
class Kept:
    limit: int = 5


def chosen(a: int, b: int | None = None) -> int:
    """Choose 1 of 2."""
    if not a and b is not None:
        log(a)
        return max(a, b) - 1
    return a
'''


def test_what_is_changed():
    """Each place that a test could see, once for each change; no decorator, type or string."""
    found = [(each.kind, each.old, each.new) for each in mutants("a.py", SOURCE)]
    assert found == [
        ("number", "5", "6"),
        ("not, minus", "not a", "(a)"),
        ("negated", "not a and b is not None", "(not (not a and b is not None))"),
        ("and, or", "not a and b is not None", "(not a or b is not None)"),
        ("comparison", "b is not None", "(b is None)"),
        ("deleted", "log(a)", "pass"),
        ("min, max", "max", "min"),
        ("arithmetic", "max(a, b) - 1", "(max(a, b) + 1)"),
        ("number", "1", "2"),
    ]


@pytest.mark.parametrize("path", pure_files(ROOT)[::20])
def test_every_mutant_is_another_program(path):
    """It can be compiled, and so can the source in which all places are marked."""
    source = (ROOT / path).read_text()
    every = mutants(path, source)
    plain = ast.dump(ast.parse(source))
    for mutant in every[::9]:
        assert ast.dump(ast.parse(mutant.applied(source))) != plain, mutant
    compile(marked(source, dict(enumerate(every[::9]))), path, "exec")


def test_the_seed_decides(repository, monkeypatch):
    """The same seed draws the same, another draws others, and no equivalent one is drawn."""
    first, again, other = (drawn(repository, 3, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)
    every = drawn(repository, 99, 1)
    assert len(set(every)) == len(every) == 8
    known = {every[0].path: [{"old": every[0].old, "new": every[0].new}]}
    monkeypatch.setattr(chosen, "equivalents", lambda: known)
    assert every[0] not in drawn(repository, 99, 1)


def test_every_equivalent_is_a_mutant_with_a_reason():
    """The list names changes that are made of the files as they are, and says why they are in."""
    for path, each in equivalents().items():
        made = {(m.old, m.new) for m in mutants(path, (ROOT / path).read_text())}
        assert all((e["old"], e["new"]) in made and len(e["reason"]) > 20 for e in each), path


def test_the_own_modules_of_a_file():
    """The module that mirrors it comes first, then what names it in its room."""
    assert own_modules(ROOT, "resilient_infe/rate/window.py")[0] == "tests/rate/test_window.py"
    assert "tests/adapters/test_proxy.py" in own_modules(
        ROOT, "resilient_infe/adapters/infe/proxy.py"
    )
    assert own_modules(ROOT, "resilient_infe/__main__.py") == []


@pytest.fixture
def repository(tmp_path):
    """A repository with one function, one half of which is tested."""
    source = tmp_path / "source"
    (source / "resilient_infe").mkdir(parents=True)
    (source / "benchmarks").mkdir()
    (source / "resilient_infe" / "__init__.py").touch()
    (source / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n'
    )
    (source / "resilient_infe" / "least.py").write_text(
        "def least(a, b):\n    while a < 0:\n        a += 1\n    return min(a, b) if b else a\n"
    )
    (source / "tests" / "mutation").mkdir(parents=True)
    for each in (plugin, marks):
        shutil.copy2(each.__file__, source / "tests" / "mutation")
    (source / "tests" / "test_least.py").write_text(
        "from resilient_infe.least import least\n\n"
        "def test_one(): assert least(-1, 0) == 0\n\n"
        "def test_other(): assert least(1, 2)\n\n"
        "def test_broken(): assert False\n"
    )
    return source


@pytest.fixture
def copy(repository, tmp_path):
    """A copy of the repository."""
    return Copy(repository, tmp_path / "copy")


def test_a_trial_tells_the_killed_from_the_survivors(copy):
    """A test that fails without the mutant is known; a place knows the tests that reach it."""
    path = "resilient_infe/least.py"
    text = (copy.root / path).read_text()
    by_change = {(each.old, each.new): each for each in mutants(path, text)}
    tests = ["tests/test_least.py"]
    broken = ["tests/test_least.py::test_broken"]
    swapped = by_change["min", "max"]
    assert copy.tried(swapped, tests, broken).passed
    assert copy.tried(swapped, tests).failed == (*broken,)
    endless = by_change["a += 1", "a -= 1"]
    reached = copy.reaching([swapped, endless], tests)
    assert reached == [{"tests/test_least.py::test_other"}, {"tests/test_least.py::test_one"}]
    assert (copy.root / path).read_text() == text


def test_a_loop_without_an_end_is_killed(copy):
    """The CPU time of a test is bounded."""
    inside = copy.root / "tests" / "mutation" / "plugin.py"
    inside.write_text(inside.read_text().replace("LONGEST = 60.0", "LONGEST = 0.2"))
    path = "resilient_infe/least.py"
    [endless] = [m for m in mutants(path, (copy.root / path).read_text()) if m.new == "a -= 1"]
    assert copy.tried(endless, ["tests/test_least.py::test_one"]).how == "never ends"
