"""The picture of a simulation is one SVG file: the same for the same record, with dark colours."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest

from resilient_infe import presets
from resilient_infe.testing import Errors, Scenario, Traffic, simulate

RECORD = simulate(
    lambda: presets.service(requests_per_minute=600),
    Traffic(5.0, seconds=20),
    Scenario(happenings=[Errors(5, 10)]),
)


def test_one_above_the_other(tmp_path):
    """Two records are drawn in one file, each with its name and what came of it."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "both.svg"
    RECORD.plot(path, "before", after=RECORD)
    text = "".join(ET.parse(path).getroot().itertext())
    for name in ("before", "after"):
        assert f"{name}: {RECORD.answered} of {len(RECORD.calls)} answered, 0 429s" in text
    assert "prefers-color-scheme: dark" in text


def test_the_same_record_is_the_same_file(tmp_path):
    """No date, no random id: a committed picture changes only if the record does."""
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    RECORD.plot(first)
    RECORD.plot(str(second))
    assert first.read_bytes() == second.read_bytes()


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"resilient-infe\[plot\]"):
        RECORD.plot(tmp_path / "no.svg")
