"""Puts the scores into a table, a page and a figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .compare import Reached
from .scenarios import ORACLE, OURS, WAYS, Scenario
from .score import Score
from .targets import LOW, Goal, beaten_by, best_of, goals, verdicts
from .trade_off import Point

LINES: dict[str, dict[str, Any]] = {
    ORACLE: {"color": "#222222", "linewidth": 1.0, "linestyle": "--"},
    "AWS adaptive": {"color": "#d1495b", "linewidth": 1.0},
    "AIMD on rate": {"color": "#e08e45", "linewidth": 1.0},
    "AIMD on concurrency": {"color": "#5a9367", "linewidth": 1.0},
    OURS: {"color": "#2a6fbb", "linewidth": 2.0},
}
"""How the figure draws each way; those that it does not have crowd it."""

Scores = dict[tuple[str, str], Score]
"""By the scenario's name and the way of sending."""

FIGURE = (
    "600, bucket of 1 s, raised threefold",
    "600, bucket of 1 s, cut to a third",
    "600, sliding window, cut to a third",
    "600, bucket of 1 s, 0.5 % random 429s",
)
"""The scenarios that the figure draws over time."""


def page(
    command: str,
    reached: list[Reached],
    scenarios: list[Scenario],
    scores: Scores,
    stacked: list[Score],
    points: list[Point],
) -> str:
    """Return the whole page.

    Args:
        command: what played all of it.
        reached: by ours, in all rows, with each seed.
        scenarios: what every way played.
        scores: by every way.
        stacked: what was played through the whole stack.
        points: of the curve of looks.
    """
    lines = [
        "# The limit gym",
        "",
        f"One run of `{command}`: senders that do not know the limit, against servers that keep",
        "one, in virtual time. What counts begins after the first three minutes.",
        "",
        "## Ours in all rows",
        "",
        "Used is of what a sender has accepted that knows the limit and obeys every hint. The 429s",
        "that the server threw at random are left out. The worst row first: by what was used, less",
        "five times the share of 429s.",
        "",
        *goal_table([*goals(reached), best_of(scenarios, scores)]),
        "",
        *halves(reached),
        "",
        *worst_first(reached),
        "",
        "## Beside the rivals",
        "",
        "Each cell is *used / 429s*: how much of the limit was used, and the share of sends that",
        "were answered 429.",
        "",
        *summary(scenarios, scores),
        "",
        *table(scenarios, scores),
        "",
        "## Targets of resilient_infe",
        "",
        *targets(scenarios, scores),
        "",
        "## After a change",
        "",
        *changes(scenarios, scores),
        "",
        "## Through the whole stack",
        "",
        "Tasks, slots, retries, circuit and the layer itself, on an event loop in virtual time;",
        "beside it the allowance alone, as above.",
        "",
        *through_the_stack(scores, stacked),
        "",
        "## The price of a look",
        "",
        "A raised limit is noticed by a look upwards, which costs a 429 at least. 600 a minute;",
        "the mean over five instants at which the limit becomes threefold. The third row of each",
        "kind is what was chosen.",
        "",
        *prices(points),
        "",
    ]
    return "\n".join(lines)


def goal_table(found: list[Goal]) -> Iterator[str]:
    """Yield each target over many rows, met or missed."""
    yield "| over all rows | target | reached | |"
    yield "|---|---:|---:|---|"
    for goal in found:
        yield f"| {goal.what} | {goal.bound} | {goal.reached} | {_said(goal.met)} |"


def halves(reached: list[Reached]) -> Iterator[str]:
    """Yield the means of the rows that were tuned on, and of those that were held out."""
    yield "| rows | runs | used, mean | 429s, mean | below 70 % |"
    yield "|---|---:|---:|---:|---:|"
    for name, held_out in (("tuned on", False), ("held out", True)):
        half = [each for each in reached if each.held_out is held_out]
        count = max(len(half), 1)
        used = sum(each.used for each in half) / count
        rejected = sum(each.rejected for each in half) / count
        low = sum(each.used < LOW for each in half)
        yield f"| {name} | {len(half)} | {used:.1%} | {rejected:.2%} | {low} |"


def worst_first(reached: list[Reached]) -> Iterator[str]:
    """Yield every row, the worst first."""
    yield "| row | used | from second 0 | 429s | from second 0 | |"
    yield "|---|---:|---:|---:|---:|---|"
    several = len({each.seed for each in reached}) > 1
    for each in sorted(reached, key=lambda each: each.worth):
        more = []
        if each.group == "outage":
            more.append(f"90 % again after {_seconds(each.recovered)}")
        if each.fairness < 1.0:
            more.append(f"Jain {each.fairness:.3f}")
        if each.oracle_seconds is not None:
            more.append(f"{each.seconds or 0.0:.1f} s, oracle {each.oracle_seconds:.1f} s")
        yield (
            f"| {each.row}{f' [{each.seed}]' if several else ''} | {each.used:.1%} "
            f"| {each.used_all:.1%} | {each.rejected:.2%} | {each.rejected_all:.2%} "
            f"| {', '.join(more)} |"
        )


def summary(scenarios: list[Scenario], scores: Scores) -> Iterator[str]:
    """Yield the means over all scenarios, and who beats whom."""
    yield "| | used, mean | 429s, mean | fairness of 8, worst |"
    yield "|---|---:|---:|---:|"
    for way in WAYS:
        mine = [scores[each.name, way] for each in scenarios]
        used = sum(min(each.used, 1.0) for each in mine) / len(mine)
        rejected = sum(each.rejected for each in mine) / len(mine)
        several = [scores[each.name, way].fairness for each in scenarios if each.processes > 1]
        fair = f"{min(several):.3f}" if several else ""
        yield f"| {way} | {used:.1%} | {rejected:.2%} | {fair} |"


def table(scenarios: list[Scenario], scores: Scores) -> Iterator[str]:
    """Yield every scenario with every way of sending."""
    yield "| per minute, kind | " + " | ".join(WAYS) + " |"
    yield "|---|" + "---:|" * len(WAYS)
    for each in scenarios:
        cells = (scores[each.name, way] for way in WAYS)
        shown = (f"{cell.used:.1%} / {_share(cell.rejected)}" for cell in cells)
        yield f"| {each.name} | " + " | ".join(shown) + " |"


def targets(scenarios: list[Scenario], scores: Scores) -> Iterator[str]:
    """Yield each target, met or missed."""
    yield "| scenario | target | reached | |"
    yield "|---|---|---|---|"
    for each in scenarios:
        ours = scores[each.name, OURS]
        reached = f"{ours.used:.1%}, {_share(ours.rejected)}"
        if ours.followed is not None or each.changes:
            reached = f"{_seconds(ours.followed)}, {ours.cost} 429s"
        if each.processes > 1:
            reached = f"{ours.fairness:.3f}"
        for verdict in verdicts(each, ours):
            yield f"| {each.name} | {verdict.what} | {reached} | {_said(verdict.met)} |"
        rivals = [scores[each.name, way] for way in WAYS if way not in (OURS, ORACLE)]
        if beaten := beaten_by(ours, rivals):
            yield f"| {each.name} | not worse than any rival | by {', '.join(beaten)} | MISSED |"


def changes(scenarios: list[Scenario], scores: Scores) -> Iterator[str]:
    """Yield how soon, and at how many 429s, each way followed a changed limit."""
    yield "| seconds until followed / 429s in two minutes | " + " | ".join(WAYS) + " |"
    yield "|---|" + "---:|" * len(WAYS)
    for each in scenarios:
        if each.changes:
            cells = (scores[each.name, way] for way in WAYS)
            shown = (f"{_seconds(cell.followed)} / {cell.cost}" for cell in cells)
            yield f"| {each.name} | " + " | ".join(shown) + " |"


def through_the_stack(scores: Scores, stacked: list[Score]) -> Iterator[str]:
    """Yield what the whole stack reached beside the allowance alone."""
    yield "| scenario | whole stack | allowance alone |"
    yield "|---|---:|---:|"
    for each in stacked:
        alone = scores[each.scenario, OURS]
        yield (
            f"| {each.scenario} | {each.used:.1%} / {_share(each.rejected)} "
            f"| {alone.used:.1%} / {_share(alone.rejected)} |"
        )


def prices(points: list[Point]) -> Iterator[str]:
    """Yield what looks cost, and how soon they find a raised limit."""
    yield "| kind | looks per 1,000 requests | 429s | used | a threefold limit is followed after |"
    yield "|---|---:|---:|---:|---:|"
    for each in points:
        yield (
            f"| {each.kind} | {1_000 * each.looks:.1f} | {_share(each.rejected)} | {each.used:.1%} "
            f"| {_seconds(each.followed)} |"
        )


def figure(scores: Scores, path: Path) -> None:
    """Draw what was accepted over time."""
    import matplotlib as mpl  # an optional part, and slow to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "resilient_infe"  # the same figure is the same file
    from matplotlib import pyplot as plt

    shown, rows = plt.subplots(2, 2, figsize=(10, 6), layout="constrained", sharex=True)
    for axes, name in zip(rows.flat, FIGURE, strict=True):
        for way, style in LINES.items():
            score = scores[name, way]
            label = f"{way} ({_share(score.rejected)} 429s)"
            axes.plot(range(len(score.per_minute)), score.per_minute, label=label, **style)
        axes.set_title(name, fontsize=10)
        axes.set_ylim(0, None)
        axes.legend(fontsize=7, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in rows[1]:
        axes.set_xlabel("minute")
    for axes in rows[:, 0]:
        axes.set_ylabel("accepted, of the first limit")
    shown.savefig(path, metadata={"Date": None})
    plt.close(shown)


def _share(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"


def _said(met: bool) -> str:
    return "met" if met else "MISSED"
