"""Values of the stand-in's options, as they stand on a command line."""

from __future__ import annotations

import argparse

from ..batch.kinds import number, whole


def duration(text: str) -> float:
    """Read seconds, from 0."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds of at least 0")
    return value


def port(text: str) -> int:
    """Read a port."""
    value = whole(text)
    if not 0 <= value < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return value


def share(text: str) -> tuple[str, float]:
    """Read a name and a share of all requests."""
    name, _, part = text.partition("=")
    value = number(part)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give NAME=SHARE with a share from 0 to 1")
    return name, value


def stretch(text: str) -> tuple[float, float]:
    """Read the start and the end of a stretch of time."""
    start, _, end = text.partition(":")
    first, last = number(start), number(end)
    if not 0 <= first < last:
        raise argparse.ArgumentTypeError(f"{text}: give START:END in seconds, like 5:9")
    return first, last
