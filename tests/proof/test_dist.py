"""The wheel and the sdist: the same bytes wherever they are built, with what a stranger needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import resilient_infe

ROOT = Path(resilient_infe.__file__).parents[1]


def built(folder, *, instant, mode):
    """Build wheel and sdist from a copy whose files have this time and this mode."""
    copy = folder / "copy"
    files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
            (copy / name).chmod(mode)
            os.utime(copy / name, (instant, instant))
    command = [sys.executable, "-m", "hatchling", "build", "-d", folder / "dist"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    return {path.name: path for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Build twice, in two places, a year apart."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    return (
        built(first, instant=1_700_000_000, mode=0o644),
        built(second, instant=1_731_536_000, mode=0o600),
    )


def test_two_builds_are_the_same(both):
    """Place, time and rights of the files are not in the wheel, nor in the sdist."""
    first, second = both
    assert first.keys() == second.keys()
    assert len(first) == 2
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


def test_the_wheel_has_the_package_and_nothing_else(both):
    """The data files and the mark of types are in it; tests and docs are not."""
    [path] = [path for name, path in both[0].items() if name.endswith(".whl")]
    names = zipfile.ZipFile(path).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"resilient_infe"}
    assert {"resilient_infe/py.typed", "resilient_infe/classify/rules.toml"} <= {*names}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_has_what_a_stranger_needs(both):
    """The tests, the docs, and how to report a vulnerability or to contribute."""
    [path] = [path for name, path in both[0].items() if name.endswith(".tar.gz")]
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = "SECURITY.md CONTRIBUTING.md CHANGELOG.md README.md LICENSE Makefile zensical.toml"
    assert {*needed.split(), "docs/index.md", "tests/test_rooms.py"} <= names
