"""Values of options as they are written, in a command or a file, checked before anything starts."""

from __future__ import annotations

import argparse
import math
from string import ascii_letters

from ..core import bounds
from ..shared.shares import NAME
from .progress import NO_LIMIT

PERIODS = {
    **dict.fromkeys(("s", "sec", "second"), 60.0),
    **dict.fromkeys(("m", "min", "minute"), 1.0),
    **dict.fromkeys(("h", "hour"), 1 / 60),
    **dict.fromkeys(("d", "day"), 1 / 1440),
}
"""Minutes' worth of a limit, by the period that it is for."""

SIZES = {
    **dict.fromkeys(("", "b"), 1),
    **dict.fromkeys(("k", "kib"), 2**10),
    **dict.fromkeys(("m", "mib"), 2**20),
    **dict.fromkeys(("g", "gib"), 2**30),
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip
"""Bytes, by the unit."""

LARGEST_SIZE = 2**40
"""Bytes from which on a size is a slip."""


def positive(text: str) -> float:
    """Read a number above 0."""
    value = number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def from_zero(text: str) -> float:
    """Read a number from 0."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def weight(text: str) -> float:
    """Read a number from 0 to 1."""
    value = number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def count(text: str) -> int:
    """Read a whole number from 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def rate(text: str) -> float | None:
    """Read a limit per minute, ``auto`` for one that is to be learned, or ``none`` for no limit.

    One of another period has it behind a slash: ``10/s`` is 600.
    """
    if text == "none":
        return NO_LIMIT * 1e6  # the part of one of many processes is still none
    if text == "auto":
        return None
    amount, slash, period = text.partition("/")
    periods = PERIODS.get(period.strip().lower() if slash else "min")
    if periods is None:
        raise argparse.ArgumentTypeError(
            f"{text} is not a limit: {period.strip() or 'nothing'} is no period; give one like "
            f"600, 10/s, 600/min or 36000/h"
        )
    try:
        return positive(str(number(amount) * periods))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number above 0; or give auto, or none"
        ) from None


def redis_url(text: str) -> str:
    """Read the URL of a Redis; it may have a password, so no message quotes it."""
    scheme, found, rest = text.partition("://")
    if scheme not in ("redis", "rediss", "unix") or not (found and rest):
        raise argparse.ArgumentTypeError("not a URL of Redis: give one like redis://host:6379/0")
    return text


def shared_name(text: str) -> str:
    """Read the name of what runs share."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{bounds.shown(text)} is not a name: 1 to 64 letters, digits or ._:-"
        )
    return text


def size(text: str) -> int:
    """Read a number of bytes, like ``64MiB``, ``64MB`` or ``65536``."""
    amount = text.rstrip(ascii_letters + " ")
    factor = SIZES.get(text[len(amount) :].strip().lower())
    value = number(amount) * (factor or math.nan)
    if not 1 <= value < LARGEST_SIZE:
        raise argparse.ArgumentTypeError(f"{text} is not a size: give one like 64MiB")
    return int(value)


def number(text: str) -> float:
    """Read a number; NaN stands for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def whole(text: str) -> int:
    """Read a whole number; -1 stands for what is none."""
    try:
        return int(text)
    except ValueError:
        return -1
