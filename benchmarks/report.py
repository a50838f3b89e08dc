"""Puts what was measured into words, a page and a figure."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

from . import parts, rivals
from .measure import Spread, Table
from .parts import Million
from .rivals import Tries
from .targets import MIB, Effort, Results, targets

PACKAGES = (
    "resilient_infe", "aiohttp", "anyio", "structlog", "aiobreaker", "aiolimiter", "backoff", "hyx",
    "purgatory", "pyresilience", "redress", "stamina", "tenacity", "opentelemetry-sdk",
    "prometheus-client",
)  # fmt: skip

FIGURE = (
    "floor by hand, no request object",
    parts.FLOOR,
    parts.FULL,
    "all 8 layers, logging at WARNING",
    "hyx: retry, bulkhead, breaker",
    "pyresilience: retry, breaker, bulkhead, rate",
    "backoff + aiobreaker + Semaphore + aiolimiter",
    "redress: retry, breaker, timeouts, budget",
    "stamina + hyx + Semaphore + aiolimiter",
    rivals.HAND_MADE,
    rivals.PYRESILIENCE,
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
    yield (
        f"| | CPU, us{over} | quartiles | wall, us | quartiles | ratio to {measured.reference} "
        f"| quartiles |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name in measured.names():
        own = f", over {measured.bases[name]}" if name in measured.bases else ""
        cpu, wall = _figures(measured.cpu(name), 1e6), _figures(measured.wall(name), 1e6)
        yield f"| {name}{own} | {cpu} | {wall} | {_figures(measured.ratio(name))} |"
    yield ""


def _figures(spread: Spread, times: float = 1.0) -> str:
    """Return two cells: a median, and its quartiles."""
    return f"{times * spread.median:.2f} | {times * spread.low:.2f} - {times * spread.high:.2f}"


def setups(tries: Mapping[str, Tries]) -> Iterator[str]:
    """Yield what each rival is set up for, as lines of Markdown."""
    yield "### What each rival is set up for"
    yield ""
    yield "How often a call that always fails was tried in this run, and over what virtual time, as"
    yield f"the median of {rivals.DRAWS} such calls: all wait by chance, each by its own formula"
    yield "from 1 s to 60 s. And what of the full stack's features is not there. None of the rivals"
    yield "counts tokens, and hints are read by ours alone."
    yield ""
    yield "| | attempts | over, s | lacks |"
    yield "|---|---:|---:|---|"
    for name, tried in tries.items():
        lacks = rivals.RIVALS[name].lacks if name in rivals.RIVALS else ""
        yield f"| {name} | {tried.attempts} | {tried.seconds:.0f} | {lacks} |"
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


def _used(results: Results, name: str) -> Iterator[str]:
    return table(getattr(results.as_used, name))


def command(effort: Effort) -> str:
    """Return what measures with so much effort."""
    if effort == Effort():
        return "make bench"
    return (
        f"python -m benchmarks --rounds {effort.rounds} --calls {effort.calls} "
        f"--processes {effort.processes}"
    )


def page(results: Results) -> str:
    """Return the whole page."""
    effort = results.effort
    shared = f"in {effort.processes} new processes" if effort.processes else "in one process"
    lines = [
        f"# What it costs, on CPython {platform.python_version()}",
        "",
        f"One run of `{command(effort)}`.",
        "",
        f"Read the ratios: the subjects of a table took turns, {effort.rounds} or more {shared},",
        "and a ratio is formed within each turn. The microseconds are one machine's.",
        "",
        f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}.",
        "",
        *verdicts(results),
        *(line for each in fields(results.as_used) for line in _used(results, each.name)),
        *table(results.calls),
        *setups(results.tries),
        *table(results.failures),
        *table(results.slots),
        *table(results.waiting),
    ]
    for measured in results.loopback.values():
        lines += table(measured)
    lines += table(results.imports.table)
    lines += ["### Memory of a suspended call", "", "| | bytes |", "|---|---:|"]
    lines += [f"| {name} | {size:,.0f} |" for name, size in results.memory.items()]
    lines += ["", *_long_run(results.million)]
    return "\n".join(lines)


def _long_run(run: Million) -> Iterator[str]:
    yield f"### {run.calls:,} calls through the full stack"
    yield ""
    yield "As many through the floor by hand took turns with them, so that a machine that slows"
    yield "down is not taken for a stack that does."
    yield ""
    yield f"| calls | MiB resident | cost over {parts.FLOOR}, median |"
    yield "|---:|---:|---:|"
    for tenth, (resident, cost) in enumerate(zip(run.resident, run.cost, strict=True), 1):
        yield f"| {tenth * run.calls // 10:,} | {resident / MIB:.2f} | {cost:.2f} |"
    yield ""


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
