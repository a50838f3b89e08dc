"""Puts what was measured into words, a page and a figure."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from . import parts, rivals
from .measure import Table
from .targets import MIB, Results, targets

PACKAGES = (
    "resilient_infe", "aiohttp", "anyio", "structlog", "aiobreaker", "aiolimiter", "backoff", "hyx",
    "purgatory", "pyresilience", "redress", "stamina", "tenacity",
)  # fmt: skip
COMMAND = "make bench"

FIGURE = (
    "floor by hand, no request object",
    parts.FLOOR,
    parts.FULL,
    "all 8 layers, logging at WARNING",
    "hyx: retry, bulkhead, breaker",
    "redress: retry, breaker",
    "pyresilience: retry, breaker, bulkhead, rate",
    "backoff + aiobreaker + Semaphore + aiolimiter",
    rivals.PYRESILIENCE,
    "stamina + hyx + Semaphore + aiolimiter",
    rivals.HAND_MADE,
)
"""What the figure shows, of all that was measured."""


def table(measured: Table) -> Iterator[str]:
    """Yield a table as lines of Markdown."""
    over = f" over {measured.base}" if measured.base else ""
    yield f"### {measured.title}"
    yield ""
    for note in measured.notes:
        yield f"{note[0].upper()}{note[1:]}."
        yield ""
    yield f"| | CPU, us{over} | quartiles | wall, us | ratio to {measured.reference} | quartiles |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in measured.names():
        cpu, ratio = measured.cpu(name), measured.ratio(name)
        yield (
            f"| {name} | {1e6 * cpu.median:.2f} | {1e6 * cpu.low:.2f} - {1e6 * cpu.high:.2f} "
            f"| {1e6 * measured.wall(name):.2f} | {ratio.median:.2f} "
            f"| {ratio.low:.2f} - {ratio.high:.2f} |"
        )
    yield ""


def verdicts(results: Results) -> Iterator[str]:
    """Yield the table of targets as lines of Markdown."""
    yield "| target | reached | must | aim | |"
    yield "|---|---:|---:|---:|---|"
    for each in targets(results):
        yield (
            f"| {each.what} | {each.shown(each.reached)} | {each.shown(each.must)} "
            f"| {each.shown(each.aim)} | {each.verdict()} |"
        )
    yield ""


def page(results: Results) -> str:
    """Return the whole page."""
    lines = [
        f"# What it costs, on CPython {platform.python_version()}",
        "",
        f"One run of `{COMMAND}`. Read the ratios: the subjects of a table took turns in new",
        "processes, and a ratio is formed within each turn. The microseconds are one machine's.",
        "",
        f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}.",
        "",
        *verdicts(results),
        *table(results.calls),
        *table(results.failures),
        *table(results.slots),
        *table(results.waiting),
    ]
    for measured in results.loopback.values():
        lines += table(measured)
    lines += table(results.imports)
    lines += ["### Memory of a suspended call", "", "| | bytes |", "|---|---:|"]
    lines += [f"| {name} | {size:,.0f} |" for name, size in results.memory.items()]
    lines += ["", "### 1,000,000 calls through the full stack", ""]
    lines += ["| calls | MiB resident | cost over a new stack, median |", "|---:|---:|---:|"]
    for number, (resident, cost) in enumerate(
        zip(results.million.resident, results.million.cost, strict=True), 1
    ):
        lines.append(f"| {number}00,000 | {resident / MIB:.2f} | {cost:.2f} |")
    return "\n".join([*lines, ""])


def figure(results: Results, path: Path) -> None:
    """Draw the cost of one call, us and the rivals, as ratios to the floor."""
    import matplotlib as mpl  # an optional part, and slow to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "resilient_infe"  # the same figure is the same file
    from matplotlib import pyplot as plt

    names = FIGURE[::-1]
    ratios = [results.calls.ratio(name) for name in names]
    left = [each.median - each.low for each in ratios]
    right = [each.high - each.median for each in ratios]
    labels = [f"resilient_infe: {name}" if "8 layers" in name else name for name in names]
    colours = ["#2a6fbb" if "8 layers" in name else "#9aa5b1" for name in names]
    shown, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    medians = [each.median for each in ratios]
    axes.barh(labels, medians, xerr=(left, right), color=colours, ecolor="#555555")
    for place, each in enumerate(ratios):
        axes.text(each.high + 0.4, place, f"{each.median:.1f}", va="center", fontsize=9)
    axes.set_xlim(0, 1.12 * max(each.high for each in ratios))
    axes.set_xlabel("CPU time of a call, as a multiple of the floor (less is better)")
    axes.set_title(f"One call that succeeds at once, CPython {platform.python_version()}")
    axes.spines[["top", "right"]].set_visible(False)
    shown.savefig(path, metadata={"Date": None})
    plt.close(shown)
