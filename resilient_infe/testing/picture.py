"""Draws simulations: what was sent and answered over time, and what waited.

Records are drawn one above the other on the same scales, so that two configurations can be compared
at a glance. The file follows the page's colour scheme, light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .course import Second

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f2933"
"""The colour of text and axes. On a dark page, the style in the file replaces it."""

ANSWERED, REJECTED, FAILED = "#2a9d6f", "#e0a100", "#d1495b"
LET_IN, WAITING, IN_FLIGHT = "#d9dee4", "#8fbbe0", "#b4bcc6"

ON_DARK = {INK: "#dfe5ec", LET_IN: "#3c4650", WAITING: "#3f6d94", IN_FLIGHT: "#6b7683"}
"""The colours that are too dark on a dark page, or too light, and what replaces them there."""


def draw(courses: Sequence[tuple[str, list[Second]]], step: float) -> str:
    """Return courses, each with its title, as the text of one SVG file.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl  # optional, and slow to import
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'a picture needs matplotlib: pip install "resilient-infe[plot]"'
        ) from error
    style: dict[Any, Any] = {
        "svg.hashsalt": "resilient_infe",  # the same record is the same file
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        rows = 2 * len(courses)
        figure = Figure(figsize=(9.0, 2.4 * rows), layout="constrained")
        axes: Any = figure.subplots(rows, 1, sharex=True, height_ratios=[3, 2] * len(courses))
        for place, (title, course) in enumerate(courses):
            _sends(axes[2 * place], course, step)
            _queue(axes[2 * place + 1], course, step)
            axes[2 * place].set_title(title, loc="left", fontsize=10)
        for alike in (axes[::2], axes[1::2]):  # the same scales, to be compared
            top = max(each.get_ylim()[1] for each in alike)
            for each in alike:
                each.set_ylim(0, top)
        handles = [handle for each in axes[:2] for handle in each.get_legend_handles_labels()[0]]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9
        )
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0, max(course[-1].start + step for _, course in courses))
        drawn = io.StringIO()
        figure.savefig(
            drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return _finished(drawn.getvalue())


def _sends(axes: Axes, course: list[Second], step: float) -> None:
    """Draw the attempts of each step: let in, refused, failed; and the answers as a line."""
    edges, base = _edges(course, step), [0.0] * (len(course) + 1)
    for label, colour, counts in (
        ("let in", LET_IN, [each.sent - each.rejected - each.failed for each in course]),
        ("429", REJECTED, [each.rejected for each in course]),
        ("failed", FAILED, [each.failed for each in course]),
    ):
        top = [low + count / step for low, count in zip(base, [*counts, 0], strict=True)]
        axes.fill_between(edges, top, base, step="post", color=colour, label=label, linewidth=0)
        base = top
    answered = [each.answered / step for each in course]
    axes.step(
        edges, [*answered, 0.0], where="post", color=ANSWERED, linewidth=1.6, label="answered"
    )
    axes.set_ylabel("per second")


def _queue(axes: Axes, course: list[Second], step: float) -> None:
    """Draw the calls that wait at the end of each step, above those in flight."""
    edges = _edges(course, step)
    in_flight = [each.in_flight for each in course]
    total = [each.in_flight + each.waiting for each in course]
    for label, colour, counts, low in (
        ("waiting", WAITING, total, in_flight),
        ("in flight", IN_FLIGHT, in_flight, [0] * len(course)),
    ):
        top, base = [*counts, 0], [*low, 0]
        axes.fill_between(edges, top, base, step="post", color=colour, label=label, linewidth=0)
    axes.set_ylabel("calls open")


def _edges(course: list[Second], step: float) -> list[float]:
    """Return where each step begins, and where the last one ends."""
    return [*(each.start for each in course), course[-1].start + step]


def _finished(drawn: str) -> str:
    """Return an SVG file with shorter numbers, and with other colours on a dark page."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in ON_DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, found, rest = re.sub(r"(\.\d\d)\d+", r"\1", drawn).partition("<defs>")
    return f"{head}{style}{found}{rest}"
