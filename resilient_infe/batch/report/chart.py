"""Charts as SVG that stretches to the page's width, with its labels beside it as text.

A picture that shrinks with a phone takes its letters with it; so only shapes are in the SVG, and
the labels are HTML. Colours are the page's, so that they follow dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ..progress import span

WIDTH, HEIGHT = 1000.0, 200.0

Points = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one layer of bars: its name, its colour (a CSS class), and its values."""

    name: str
    colour: str
    values: Points


def chart(
    title: str,
    note: str,
    unit: str,
    width: float,
    *,
    bars: Sequence[Series] = (),
    lines: Sequence[Series] = (),
) -> str:
    """Return a figure with stacked bars, lines over them, a legend and labels.

    Args:
        title: of the figure.
        note: one sentence below the title.
        unit: of the values, after the numbers.
        width: seconds of one value.
        bars: layers, the lowest first; all series are as long as each other.
        lines: drawn over them; None leaves a gap.
    """
    series = [*bars, *lines]
    number = max((len(each.values) for each in series), default=0)
    top = round_up(_highest(bars, lines))
    shapes = [_bars(bars, number, top, unit, width)] if bars else []
    shapes += [_line(each, number, top) for each in lines]
    legend = "".join(f'<li class="{each.colour}">{escape(each.name)}</li>' for each in series)
    space = "" if unit.startswith("/") else " "
    marks = [f"<span>{number_text(each)}{space}{unit}</span>" for each in (top, top / 2)]
    return (
        f"<figure><figcaption><h2>{escape(title)}</h2><p>{escape(note)}</p>"
        f'<ul class="legend">{legend}</ul></figcaption>'
        f'<div class="plot"><div class="y">{"".join(marks)}<span>0</span></div>'
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{_grid()}{"".join(shapes)}</svg>'
        f'<div class="x">{_times(number * width)}</div></div></figure>'
    )


def strip(title: str, note: str, states: Sequence[tuple[str, str]], seconds: float) -> str:
    """Return a figure with one row of coloured states.

    Args:
        title: of the figure.
        note: one sentence below the title.
        states: for each stretch of time its colour (a CSS class) and its name.
        seconds: in all.
    """
    step = WIDTH / max(1, len(states))
    cells = "".join(
        f'<rect class="{colour}" x="{i * step:.2f}" y="0" width="{step + 0.5:.2f}" height="40">'
        f"<title>{escape(name)}</title></rect>"
        for i, (colour, name) in enumerate(states)
    )
    names = dict.fromkeys(states)
    legend = "".join(f'<li class="{colour}">{escape(name)}</li>' for colour, name in names)
    return (
        f"<figure><figcaption><h2>{escape(title)}</h2><p>{escape(note)}</p>"
        f'<ul class="legend">{legend}</ul></figcaption><div class="plot strip">'
        f'<svg viewBox="0 0 {WIDTH:.0f} 40" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{cells}</svg><div class="x">{_times(seconds)}</div></div>'
        f"</figure>"
    )


def round_up(value: float) -> float:
    """Return the next number that reads well: 1, 2 or 5 times a power of ten, or 1 for nothing."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(size * each for each in (1.0, 2.0, 5.0, 10.0) if value <= size * each * (1 + 1e-9))


def number_text(value: float) -> str:
    """Return a number with no more digits than it needs."""
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return (
                f"{number_text(value / size) if value < 1e12 else f'{value / size:,.0f}'}{letter}"
            )
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.3g}"


def amount(value: float) -> str:
    """Return a number to be read by itself: ``17,600``, ``12.5``, ``0.08``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def time_text(seconds: float) -> str:
    """Return a time of the axis."""
    return span(seconds) if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _highest(bars: Sequence[Series], lines: Sequence[Series]) -> float:
    stacked = [sum(v or 0.0 for v in each) for each in zip(*(b.values for b in bars), strict=True)]
    return max([*stacked, *(v for each in lines for v in each.values if v is not None)], default=0)


def _bars(bars: Sequence[Series], number: int, top: float, unit: str, width: float) -> str:
    step = WIDTH / max(1, number)
    shapes = []
    for i in range(number):
        y = HEIGHT
        told = []
        for layer in bars:
            value = layer.values[i] or 0.0
            height = value / top * HEIGHT
            y -= height
            if value:
                told.append(f"{layer.name} {amount(value)}{unit}")
                shapes.append(
                    f'<rect class="{layer.colour}" x="{i * step:.2f}" y="{y:.2f}" '
                    f'width="{step * 0.9:.2f}" height="{height:.2f}"/>'
                )
        title = escape(f"{time_text(i * width)}: {', '.join(told) or 'nothing'}")
        shapes.append(
            f'<rect class="hover" x="{i * step:.2f}" y="0" width="{step:.2f}" '
            f'height="{HEIGHT:.0f}"><title>{title}</title></rect>'
        )
    return "".join(shapes)


def _line(series: Series, number: int, top: float) -> str:
    step = WIDTH / max(1, number)
    parts: list[str] = []
    pen = False
    for i, value in enumerate(series.values):
        if value is None:
            pen = False
            continue
        y = HEIGHT - value / top * HEIGHT
        start, end = i * step, (i + 1) * step
        parts.append(f"{'L' if pen else 'M'}{start:.1f} {y:.1f}L{end:.1f} {y:.1f}")
        pen = True
    return f'<path class="{series.colour}" d="{"".join(parts)}"/>' if parts else ""


def _grid() -> str:
    ys = (0.5, HEIGHT / 2, HEIGHT - 0.5)
    return "".join(f'<path class="grid" d="M0 {y}H{WIDTH:.0f}"/>' for y in ys)


def _times(seconds: float) -> str:
    marks = (0.0, seconds / 4, seconds / 2, 3 * seconds / 4, seconds)
    return "".join(f"<span>{time_text(each)}</span>" for each in marks)
