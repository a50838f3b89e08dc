"""Draws simulations: what was sent and answered over time, and what waited.

Records are drawn one above the other on the same scales, so that two configurations can be compared
at a glance. The file follows the page's colour scheme, light or dark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .course import Second

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f2933"
"""The colour of text and axes. On a dark page, the style in the file replaces it."""

ON_DARK = {INK: "#dfe5ec", "#1f77b4": "#5aa9e6", "#d9dee4": "#3c4650"}
"""The colours that are too dark on a dark page, or too light, and what replaces them there."""

ANSWERED, REJECTED, FAILED, WAITING = "#2a9d6f", "#e0a100", "#d1495b", "#1f77b4"
IDLE = "#d9dee4"


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
        axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False,
            fontsize=9)  # fmt: skip
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0, max(course[-1].start + step for _, course in courses))
        drawn = io.StringIO()
        figure.savefig(
            drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return _with_dark_style(drawn.getvalue())


def _sends(axes: Axes, course: list[Second], step: float) -> None:
    """Draw the attempts of each step: let in, refused, failed; and the answers as a line."""
    starts = [each.start for each in course]
    base = [0.0] * len(course)
    for label, colour, counts in (
        ("sent, let in", IDLE, [each.sent - each.rejected - each.failed for each in course]),
        ("429", REJECTED, [each.rejected for each in course]),
        ("failed", FAILED, [each.failed for each in course]),
    ):
        heights = [count / step for count in counts]
        axes.bar(starts, heights, step, base, align="edge", color=colour, label=label, linewidth=0)
        base = [low + height for low, height in zip(base, heights, strict=True)]
    answered = [each.answered / step for each in course]
    axes.step(starts, answered, where="post", color=ANSWERED, linewidth=1.6, label="answered")
    axes.set_ylabel("per second")


def _queue(axes: Axes, course: list[Second], step: float) -> None:
    """Draw the calls that wait at the end of each step, above those in flight."""
    ends = [each.start + step for each in course]
    in_flight = [each.in_flight for each in course]
    total = [each.in_flight + each.waiting for each in course]
    axes.fill_between(ends, total, in_flight, step="pre", color=WAITING, alpha=0.55, linewidth=0)
    axes.fill_between(ends, in_flight, step="pre", color=IDLE, linewidth=0)
    axes.set_ylabel("calls open")
    axes.text(0.995, 0.96, "waiting (blue), in flight (grey)", transform=axes.transAxes, ha="right",
        va="top", fontsize=9)  # fmt: skip


def _with_dark_style(drawn: str) -> str:
    """Return an SVG file that changes its colours on a page with a dark colour scheme."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in ON_DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, found, rest = drawn.partition("<defs>")
    return f"{head}{style}{found}{rest}"
