"""What the learner is to reach, scenario by scenario."""

from __future__ import annotations

from dataclasses import dataclass

from .scenarios import OURS, Scenario
from .score import Score


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one scenario, and whether it is met."""

    what: str
    met: bool


def verdicts(scenario: Scenario, score: Score) -> list[Verdict]:
    """Return the targets that apply to a scenario, and whether a score meets them."""
    group, found = scenario.group, []
    if group == "steady":
        found = _steady(scenario, score)
    elif group == "told":
        found = _both(score, 0.98, 0.0005)
    elif group == "noise" and scenario.noise <= 0.005:
        found = [Verdict("95 % used", score.used >= 0.95)]
    elif group == "cut":
        within = max(30.0, 60 * 60 / (scenario.per_minute / 3))
        found = [
            Verdict(f"95 % within {within:.0f} s", _within(score.followed, within)),
            Verdict("15 429s for it", score.cost <= 15),
        ]
    elif group == "raise":
        rate = scenario.per_minute / 60
        within = 60.0 if scenario.per_minute >= 1_500 else 1.5 / (0.003 * rate)
        found = [Verdict(f"90 % within {within:.0f} s", _within(score.followed, within))]
    elif group == "processes":
        found = [Verdict("fairness 0.98", score.fairness >= 0.98)]
    return found


def beaten_by(ours: Score, others: list[Score]) -> list[str]:
    """Return the rivals that use over a point more of the limit at no more 429s than ours."""
    return [
        each.way
        for each in others
        if each.way != OURS
        and min(each.used, 1.0) > ours.used + 0.01
        and each.rejected <= ours.rejected
    ]


def _steady(scenario: Scenario, score: Score) -> list[Verdict]:
    if scenario.per_minute >= 600:
        return _both(score, 0.97, 0.003)
    if scenario.per_minute >= 60:
        return _both(score, 0.90, 0.01)
    return []


def _both(score: Score, used: float, rejected: float) -> list[Verdict]:
    return [
        Verdict(f"{used:.0%} used", score.used >= used),
        Verdict(f"429s {rejected:.2%}", score.rejected <= rejected),
    ]


def _within(seconds: float | None, bound: float) -> bool:
    return seconds is not None and seconds <= bound
