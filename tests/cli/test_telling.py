"""The command that a message tells to type."""

from __future__ import annotations

import sys

import pytest

from resilient_infe.cli.telling import _command


@pytest.mark.parametrize("given", [["--model", "a"], ["--model=a"], []])
def test_another_model_takes_the_place_of_the_one_that_was_given(given, monkeypatch):
    """In either form; everything else stays as it was."""
    monkeypatch.setattr(sys, "argv", ["resilient-infe", "run", "in 1", *given, "-o", "out"])
    assert _command("b") == "resilient-infe run 'in 1' -o out --model b"
    assert _command() == " ".join(["resilient-infe run 'in 1'", *given, "-o out"])
