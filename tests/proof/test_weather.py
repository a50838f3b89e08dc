"""The long forms of composition/test_weather: five minutes, several seeds, both budgets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resilient_infe import Circuit, RetryBudget

sys.path.insert(0, str(Path(__file__).parents[1] / "composition"))

from test_weather import crowded, recovery, sent_to_the_dead, shedding

SEEDS = [1, 2, 3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("budget", "least"), [(0.2, 0.55), (1.0, 0.9)])
def test_five_minutes_of_shedding(run, budget, least, seed):
    """Half of the attempts fail for 300 s."""
    assert shedding(run, RetryBudget(budget), 300, seed) >= least


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("budget", [0.2, 1.0])
def test_an_overload_ends(run, budget, seed):
    """With either budget the server is well 10 s after the cause has gone."""
    assert recovery(run, RetryBudget(budget), seed, slow=30) <= 10


def test_five_minutes_of_a_dead_server(run):
    """It is sent no more than by a circuit that lets no share through."""
    assert sent_to_the_dead(run, 300) <= sent_to_the_dead(run, 300, Circuit()) + 2


@pytest.mark.parametrize("full", [503, 429])
@pytest.mark.parametrize("room", [1, 2, 5, 20])
def test_room_is_found(run, full, room):
    """Within one and a half times the ideal, with under 10 % rejected."""
    times, rejected = crowded(run, full, max(150, 75 * room), room)
    assert times <= 1.5
    assert rejected < 0.1
