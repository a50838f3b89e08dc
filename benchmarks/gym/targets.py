"""What the learner is to reach, scenario by scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .compare import Reached
from .scenarios import OURS, RIVALS, Scenario
from .score import Score

LOW = 0.7
"""Of what could be used, the part below which no row may stay."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of one scenario, and whether it is met."""

    what: str
    met: bool


@dataclass(frozen=True, slots=True)
class Goal:
    """One target over many rows, and what was reached."""

    what: str
    bound: str
    reached: str
    met: bool


def goals(reached: list[Reached]) -> Iterator[Goal]:
    """Yield the targets over many rows, of which any was played."""

    def of(*words: str) -> list[Reached]:
        return [
            each for each in reached if all(word in f"{each.group}: {each.row}" for word in words)
        ]

    def least(what: str, found: list[Reached], bound: float,
              value: Callable[[Reached], float]) -> Iterator[Goal]:  # fmt: skip
        if found:
            worst = min(map(value, found))
            yield Goal(what, f">= {bound:g}", f"{worst:.3f}", worst >= bound)

    count = len(reached)
    if not count:
        return
    used = sum(each.used for each in reached) / count
    rejected = sum(each.rejected for each in reached) / count
    low = sum(each.used < LOW for each in reached)
    yield Goal("mean used", ">= 95 %", f"{used:.1%}", used >= 0.95)
    yield Goal("rows below 70 %", "0", f"{low}", low == 0)
    yield Goal("mean share of 429s", "<= 1.5 %", f"{rejected:.2%}", rejected <= 0.015)
    for what, group, bound in (("learned", "outage", 60.0), ("declared", "declared", 15.0)):
        found = [each for each in reached if each.group == group and " of 429s" in each.row]
        if found:
            last = max(1e9 if each.recovered is None else each.recovered for each in found)
            shown = "never" if last == 1e9 else f"{last:.0f} s"
            yield Goal(
                f"90 % again after an outage, {what}", f"<= {bound:g} s", shown, last <= bound
            )
    for name, bound in (("fixed window", 0.85), ("sliding window", 0.85), ("bucket", 0.8)):
        found = [each for each in of("hints", name, "always 60") if "an hour" not in each.row]
        yield from least(f"used, Retry-After always 60, {name}", found, bound, _used)
    hour = of("hints", "always 60, an hour")
    yield from least("used, Retry-After always 60, bucket, an hour", hour, 0.9, _used)
    yield from least("used, Retry-After always 5, bucket", of("bucket", "always 5"), 0.85, _used)
    yield from least("used, 2 % noise", of("noise", "2 % noise"), 0.95, _used)
    yield from least("used, 5 % noise", of("noise", " 5 % noise"), 0.9, _used)
    yield from least("used, 429s that take 3 s", of("429s that take 3 s"), 0.9, _used)
    yield from least("used, heavy tails", of("heavy tails"), 0.85, _used)
    yield from least("used, estimates off", of("estimates off"), 0.85, _used)
    declared = of("6,000 declared")
    bare = [each for each in declared if "Retry-After" not in each.row]
    hinted = [each for each in declared if "Retry-After" in each.row]
    yield from least("used, declared, 0.5 % noise", bare, 0.97, _used)
    yield from least("used, declared, 0.5 % noise with Retry-After 1", hinted, 0.9, _used)
    yield from least("used, 15 to 120 a minute, chat", of("small", "chat"), 0.8, _used)
    yield from _jobs(of("job", "no limit"))
    told = of("told processes")
    yield from least("Jain, told", told, 0.95, _fairness)
    if told:
        most = max(each.rejected for each in told)
        yield Goal("429s, told", "<= 4 %", f"{most:.2%}", most <= 0.04)
    several = [each for each in of("processes") if each.group != "told processes"]
    yield from least("of an equal part, the process with least", several, 0.1, _least)
    for name, bound in (("fixed window", 0.95), ("bucket", 0.9)):
        untold = [each for each in of("processes", name) if each.group != "told processes"]
        yield from least(f"Jain, untold, {name}", untold, bound, _fairness)


def _jobs(found: list[Reached]) -> Iterator[Goal]:
    """Yield how much longer a job takes than for one that knows that there is no limit."""
    if found:
        late = max((each.seconds or 1e9) - (each.oracle_seconds or 0.0) for each in found)
        yield Goal("jobs without a limit, above no learner", "<= 1 s", f"{late:.1f} s", late <= 1.0)


def best_of(scenarios: list[Scenario], scores: Mapping[tuple[str, str], Score]) -> Goal:
    """Return in how many rows no rival is worth over a point more; ours and they obey hints.

    Args:
        scenarios: the rows that every way played.
        scores: by row and way.
    """

    def worth(score: Score) -> float:
        return min(score.used, 1.0) - 5.0 * score.rejected

    best = sum(
        worth(scores[row.name, OURS]) >= max(worth(scores[row.name, way]) for way in RIVALS) - 0.01
        for row in scenarios
    )
    part = best / max(len(scenarios), 1)
    reached = f"{best} of {len(scenarios)}"
    return Goal("best of the ways, or within a point", ">= 75 % of rows", reached, part >= 0.75)


def _least(each: Reached) -> float:
    return each.least


def _used(each: Reached) -> float:
    return each.used


def _fairness(each: Reached) -> float:
    return each.fairness


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
