"""Simulated hours of drawn worlds, with the rules checked at every event, on both backends."""

from __future__ import annotations

import pytest
import tally
from hours import HOUR, lived

SECONDS = max(300.0, tally.SCALE * HOUR)


def counted(seed, backend, *, even):
    """Live in a world, and count what was tried; returns its hash."""
    rules, digest = lived(seed, SECONDS, backend, even=even)
    assert not rules.violations, rules.violations[:5]
    tally.tried("simulated minutes", round(SECONDS / 60.0))
    tally.tried("attempts", len(rules.sends))
    tally.tried("checks", rules.checks)
    return rules, digest


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seed", range(tally.scaled(4)))
def test_no_rule_is_broken(seed, backend):
    """Faults, hints, stalls, other users and limits are drawn for each call."""
    counted(seed, backend, even=False)


@pytest.mark.parametrize("seed", range(100, 100 + tally.scaled(3)))
def test_both_backends_do_the_same(seed):
    """Where the order of what wakes at one instant does not matter, all has one hash."""
    assert len({counted(seed, each, even=True)[1] for each in ("asyncio", "trio")}) == 1


@pytest.mark.parametrize("seed", range(200, 200 + tally.scaled(2)))
def test_the_same_seed_does_the_same(seed):
    """Under asyncio every event and every attempt is the same, call by call."""
    first, again = (counted(seed, "asyncio", even=False)[0] for _ in range(2))
    assert first.course == again.course
