"""Whether our own stacks have grown slower: their ratios, against those that are committed.

Ratios are compared, not times, so that another machine may check; each to the same reference, and
measured in the same way as the committed ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ALLOWED = 1.25
"""A ratio may grow by this much before the check fails."""

TRIES = 4
"""Medians of which the best counts: a busy machine only ever adds."""

Ratios = Mapping[str, float]
"""By what was measured, how it stands to its reference."""


def written(found: Ratios) -> str:
    """Return ratios as they are committed."""
    return f"{json.dumps(found, indent=2)}\n"


def check(path: Path, measure: Callable[[], Ratios]) -> tuple[list[str], bool]:
    """Compare with committed ratios, the best of a few tries.

    Args:
        path: the file that `written` ones were committed as.
        measure: returns the ratios of today.

    Returns:
        What to tell, line by line, and whether all is well.
    """
    try:
        committed = _ratios_in(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"no ratios are committed as {path.name}: run `make bench` with this Python"], False
    except (ValueError, RecursionError):
        return [f"{path.name} holds no ratios: run `make bench` with this Python"], False
    best = dict(measure())
    if strangers := sorted(best.keys() ^ committed.keys()):
        names = ", ".join(strangers)
        return [f"{path.name} has not what is measured: {names}; run `make bench`"], False
    for _ in range(TRIES - 1):
        if not grown(best, committed):
            break
        again = measure()
        best = {name: min(best[name], again[name]) for name in best}
    lines = [f"{name:62} {ratio:6.2f}   was {committed[name]:6.2f}" for name, ratio in best.items()]
    worse = grown(best, committed)
    lines += [
        f"GROWN: {name} costs {best[name] / committed[name]:.2f}x what it did" for name in worse
    ]
    return lines, not worse


def _ratios_in(text: str) -> Ratios:
    """Return the ratios that were written; a `ValueError` where there is anything else."""
    found = json.loads(text)
    if not isinstance(found, dict) or not found:
        raise ValueError("no ratios")
    for ratio in found.values():
        if not (type(ratio) in (int, float) and 0 < ratio <= sys.float_info.max):
            raise ValueError("no ratio")
    return found


def grown(best: Ratios, committed: Ratios) -> list[str]:
    """Return what has grown to more than `ALLOWED` times what was committed."""
    return [name for name in best if best[name] > ALLOWED * committed[name]]
