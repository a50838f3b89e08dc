"""Notes which tests reach a marked place: in the tests' process, and in programs that they start.

`sitecustomize` gives `reached` to each; `MUTATION_REACHED` names the file that it appends to.
"""

from __future__ import annotations

import os
from pathlib import Path

_seen: set[tuple[int, str]] = set()


def reached(number: int) -> None:
    """Note that the test under way, or an import, reaches the place of a mutant."""
    found = number, os.environ.get("PYTEST_CURRENT_TEST", "").split("[")[0].split(" (")[0]
    if found not in _seen:
        _seen.add(found)
        with Path(os.environ["MUTATION_REACHED"]).open("a", encoding="utf-8") as notes:
            notes.write(f"{number} {found[1]}\n")
