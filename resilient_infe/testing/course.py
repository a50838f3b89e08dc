"""The course of a simulation: what happened in each second of it, or in each longer step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

STEPS = 240
"""The most steps in which a course is drawn: narrower bars cannot be told apart."""

Span = tuple[float, float]
"""A start and an end, in seconds from the start of the simulation."""


@dataclass(slots=True)
class Second:
    """What happened in one second, or in one step of another length.

    Attributes:
        start: when it began, in seconds from the start of the simulation.
        sent: attempts that arrived at the server.
        rejected: those of them that were answered with 429.
        failed: those of them that were answered with another error, or not at all.
        answered: calls that were answered in this second.
        waiting: calls at its end that were not being answered by the server: they waited for a
            limit or a slot, or slept before a retry.
        in_flight: attempts at its end that the server was working on.
    """

    start: float
    sent: int = 0
    rejected: int = 0
    failed: int = 0
    answered: int = 0
    waiting: int = 0
    in_flight: int = 0


def seconds(
    length: float, calls: Iterable[Span], sent: Iterable[Span], step: float
) -> list[Second]:
    """Return the steps of a simulation, with what is open at the end of each.

    Args:
        length: of the simulation, in seconds.
        calls: from when to when each call was under way.
        sent: the same for each attempt.
        step: the seconds of each step, above 0.
    """
    number = int(length / step) + 1
    under_way, in_flight = _open_at_ends(calls, step, number), _open_at_ends(sent, step, number)
    return [
        Second(step * place, waiting=calls - sent, in_flight=sent)
        for place, (calls, sent) in enumerate(zip(under_way, in_flight, strict=True))
    ]


def step_of(length: float) -> float:
    """Return the shortest round step in which a simulation can be drawn, in seconds."""
    for step in (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0):
        if length / step <= STEPS:
            return step
    return math.ceil(length / STEPS / 3_600.0) * 3_600.0


def _open_at_ends(spans: Iterable[Span], step: float, number: int) -> list[int]:
    """Return how many of the spans are open at the end of each step."""
    changes = [0] * (number + 1)
    for start, end in spans:
        changes[max(0, math.ceil(start / step) - 1)] += 1
        changes[max(0, math.ceil(end / step) - 1)] -= 1
    return list(accumulate(changes[:number]))
