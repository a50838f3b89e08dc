"""What tests have tried, and which rare states they have reached: `make proof` adds it up."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path

SCALE = float(os.environ.get("PROOF_SCALE", "1"))
"""How much is tried, as a share of what `make proof` tries."""

_tried: Counter[str] = Counter()
_reached: Counter[str] = Counter()


def tried(what: str, number: int = 1) -> None:
    """Count what was tried."""
    _tried[what] += number


def reached(state: str, number: int = 1) -> None:
    """Count a state that few runs reach."""
    _reached[state] += number


def scaled(number: int) -> int:
    """Return how many to try: one at least."""
    return max(1, round(SCALE * number))


def _written(path: str, process: int) -> None:
    if os.getpid() == process:
        Path(path).write_text(json.dumps({"tried": _tried, "reached": _reached}))


if "PROOF_TALLY" in os.environ:
    atexit.register(_written, os.environ["PROOF_TALLY"], os.getpid())
