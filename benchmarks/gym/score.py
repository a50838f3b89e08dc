"""What a run is worth: how much of the limit was used, at how many 429s, and how soon."""

from __future__ import annotations

from dataclasses import dataclass

from .scenarios import Scenario
from .world import Hour, World

REACHED_RAISED, REACHED_CUT = 0.9, 0.95
"""Of the new limit, from when on a sender has followed it."""

ROUND = 10
"""Seconds, or requests, over which that is averaged, whichever is longer."""


@dataclass(frozen=True, slots=True)
class Score:
    """One way of sending in one scenario.

    Attributes:
        scenario, way: whose it is.
        used: of the limit, after the warm-up.
        rejected: the share of sends answered 429, after the warm-up.
        learning: how many were while it warmed up.
        followed: seconds until a changed limit was followed; None if it was not, or none changed.
        cost: 429s in the two minutes after a change.
        fairness: Jain's index over the last third; 1 is perfectly fair.
        per_minute: accepted in each minute, as parts of the first limit.
        passed, passed_all: units accepted after the warm-up, and from second 0.
        rejected_itself, rejected_all: the share of sends answered 429, the server's random ones
            apart, after the warm-up and from second 0.
        recovered: seconds after the last outage until 90 % of the limit was used again.
        least: what the sender had that had least, of an equal part.
        done_at: when the last row of a job was answered.
    """

    scenario: str
    way: str
    used: float
    rejected: float
    learning: int
    followed: float | None
    cost: int
    fairness: float
    per_minute: tuple[float, ...]
    passed: float = 0.0
    passed_all: float = 0.0
    rejected_itself: float = 0.0
    rejected_all: float = 0.0
    recovered: float | None = None
    least: float = 1.0
    done_at: float | None = None


def play(scenario: Scenario, way: str) -> Score:
    """Run one way of sending in one scenario."""
    server = scenario.server()
    world = World(server, scenario.senders(way, server), scenario.network, work=scenario.work_of())
    return judge(scenario, way, world.run(scenario.seconds))


def judge(scenario: Scenario, way: str, hour: Hour) -> Score:
    """Return what a run is worth."""
    server, warm = scenario.server(), scenario.warm_up
    by_tokens = scenario.tokens_per_minute is not None
    limits = [server.limit_at(second) / 60 for second in range(hour.seconds)]
    if scenario.tokens_per_minute is not None:
        limits = [scenario.tokens_per_minute / 60] * hour.seconds
    columns = [each.tokens if by_tokens else each.accepted for each in hour.books]
    accepted = [float(sum(column)) for column in zip(*columns, strict=True)]
    passed = [sum(column) for column in zip(*(b.accepted for b in hour.books), strict=True)]
    rejected = [sum(column) for column in zip(*(b.rejected for b in hour.books), strict=True)]
    sends = sum(passed[warm:]) + sum(rejected[warm:])
    last = [float(sum(each.accepted[hour.seconds * 2 // 3 :])) for each in hour.books]
    changed = int(scenario.changes[0][0]) if scenario.changes else None
    noise = [0] * hour.seconds
    if hour.books[0].random:
        noise = [sum(column) for column in zip(*(b.random for b in hour.books), strict=True)]
    minutes = range(0, hour.seconds - 59, 60)
    return Score(
        scenario=scenario.name,
        way=way,
        used=sum(accepted[warm:]) / sum(limits[warm:]),
        rejected=sum(rejected[warm:]) / max(sends, 1),
        learning=sum(rejected[:warm]),
        followed=None if changed is None else _followed(accepted, limits, changed),
        cost=0 if changed is None else sum(rejected[changed : changed + 120]),
        fairness=jain(last),
        per_minute=tuple(sum(accepted[at : at + 60]) / 60 / limits[0] for at in minutes),
        passed=sum(accepted[warm:]),
        passed_all=sum(accepted),
        rejected_itself=_share(rejected, noise, passed, warm),
        rejected_all=_share(rejected, noise, passed, 0),
        recovered=_recovered(scenario, accepted, limits),
        least=min(last) / max(sum(last) / len(last), 1e-9),
        done_at=hour.done_at,
    )


def _share(rejected: list[int], random: list[int], passed: list[int], since: int) -> float:
    """Return the share of sends that were rejected, but not at random."""
    avoidable = sum(rejected[since:]) - sum(random[since:])
    return avoidable / max(sum(passed[since:]) + sum(rejected[since:]), 1)


def jain(shares: list[float]) -> float:
    """Return Jain's index of fairness: 1 when all are equal, 1/n when one has it all."""
    squares = len(shares) * sum(each * each for each in shares)
    return sum(shares) ** 2 / squares if squares else 1.0


def _recovered(scenario: Scenario, accepted: list[float], limits: list[float]) -> float | None:
    """Return the seconds after the last outage until 90 % of what was possible was used."""
    if not scenario.outages:
        return None
    end = int(scenario.outages[-1].end)
    wanted = min(limits[end], (scenario.declared or 1e12) / 60.0)
    width = max(ROUND, round(ROUND / wanted))
    for at in range(end, len(accepted) - width):
        if sum(accepted[at : at + width]) / width >= REACHED_RAISED * wanted:
            return float(at - end)
    return None


def _followed(accepted: list[float], limits: list[float], changed: int) -> float | None:
    new = limits[changed + 1]
    part = REACHED_RAISED if new > limits[changed - 1] else REACHED_CUT
    width = max(ROUND, round(ROUND / new))
    for end in range(changed + width, len(accepted)):
        if sum(accepted[end - width : end]) / width >= part * new:
            return float(end - changed)
    return None
