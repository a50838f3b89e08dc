"""Print how a limit is shared in virtual time: used, refused, fair, and what it costs the store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .fleet import Fleet, Run, simulate

PAGE = Path(__file__).parents[1] / "results" / "shared.md"


def _cut(first: int, last: int, *, on: bool) -> Callable[[Run], None]:
    def cut(run: Run) -> None:
        for line in run.lines[first:last]:
            line.cut = on

    return cut


def _gone(after: float, seconds: float, members: int) -> list[tuple[float, Callable[[Run], None]]]:
    return [
        (after, _cut(0, members, on=True)),
        (after + seconds / 2, Run.forget),
        (after + seconds, _cut(0, members, on=False)),
    ]


ROWS = {
    "8 processes": Fleet(seconds=300),
    "8, the server keeps a bucket of 1 s": Fleet(seconds=300, style="bucket"),
    "8, 5 % of calls to the store lost, 50 ms one way": Fleet(seconds=300, loss=0.05, latency=0.05),
    "8, the store's clock 30 s ahead": Fleet(seconds=300, skew=30.0),
    "8, the store gone for 60 s, and empty then": Fleet(seconds=300, happens=_gone(60.0, 60.0, 8)),
    "8, one cut off for 40 s": Fleet(
        seconds=300, happens=[(60.0, _cut(0, 1, on=True)), (100.0, _cut(0, 1, on=False))]
    ),
    "the same with on_loss='stop'": Fleet(
        seconds=300,
        on_loss="stop",
        happens=[(60.0, _cut(0, 1, on=True)), (100.0, _cut(0, 1, on=False))],
    ),
    "200 processes": Fleet(members=200, seconds=300),
    "200, 5 % lost, 50 ms one way": Fleet(members=200, seconds=300, loss=0.05, latency=0.05),
}


def main() -> None:
    """Print the table, and write it to its page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page of results")
    write = parser.parse_args().write
    lines = [
        "# One limit over many processes",
        "",
        "`make bench-shared` makes this page, in virtual time, with a model of Redis that the",
        "tests compare with a real one. 3,000 a minute for 5 minutes, the demand 1.5 times that,",
        "drawn anew every 20 s in each process; a cold start is part of it. *Most* is the fullest",
        "minute by the server's books. *Over* is by how much the shares in use, at the worst",
        "moment, exceeded the limit. *Lost* are calls that failed.",
        "",
        "| fleet | used | 429s | most | Jain | over | calls a second | calls a send | lost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, fleet in ROWS.items():
        found = simulate(fleet)
        lines.append(
            f"| {name} | {found.used:.1%} | {found.refused:.2%} | {found.most:.1%} "
            f"| {found.jain:.3f} | {found.over:.1%} | {found.calls:.1f} "
            f"| {found.calls_per_send:.2f} | {found.lost} |"
        )
        print(lines[-1], flush=True)
    if write:
        PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
