"""What a look upwards costs, and what it brings: the choice that no learner is spared.

A raised limit is noticed by a look, and each look costs a 429 at least. So how soon one notices is
bought with 429s. The curve is drawn by playing the same servers with more looks, and with fewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from resilient_infe.rate.learning.learner import Learner
from resilient_infe.rate.learning.tuning import DEFAULT

from .ours import Ours
from .scenarios import CHANGED_AT, KINDS, OURS, Scenario
from .score import Score, judge
from .world import World

LOOKS = (0.0007, 0.0013, DEFAULT.looks, 0.0052, 0.0104)
"""Looks per request: a quarter, a half, as chosen, twice, and four times as many."""

STARTS = (0.0, 61.0, 127.0, 199.0, 263.0)
"""Seconds by which the raise is moved: how soon it is noticed depends on when the last look was."""


@dataclass(frozen=True, slots=True)
class Point:
    """One choice.

    Attributes:
        looks: per request.
        kind: of the server's limit.
        rejected: the share of sends answered 429 while nothing changes.
        used: of the limit, meanwhile.
        followed: seconds until a threefold limit was followed, on the average; None if ever not.
    """

    looks: float
    kind: str
    rejected: float
    used: float
    followed: float | None


def curve() -> Iterator[Point]:
    """Yield a point per choice, for a bucket and for a fixed window of 600 a minute."""
    for kind in (KINDS[0], KINDS[2]):
        name, style, burst = kind
        steady = Scenario(name, 600, "steady", style, burst)
        for looks in LOOKS:
            still = _play(steady, looks)
            raised = [_raised(steady, looks, CHANGED_AT + start) for start in STARTS]
            seconds = [each.followed for each in raised if each.followed is not None]
            mean = sum(seconds) / len(seconds) if len(seconds) == len(raised) else None
            yield Point(looks, name, still.rejected, still.used, mean)


def _raised(steady: Scenario, looks: float, at: float) -> Score:
    return _play(replace(steady, group="raise", changes=((at, 3.0),)), looks)


def _play(scenario: Scenario, looks: float) -> Score:
    tuning = replace(DEFAULT, looks=looks)
    sender = Ours(learner=lambda requests, tokens: Learner(requests, tokens, tuning))
    world = World(scenario.server(), [sender], scenario.network, work=scenario.work_of())
    return judge(scenario, OURS, world.run(scenario.seconds))
