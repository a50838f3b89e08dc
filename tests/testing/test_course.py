"""The steps in which a simulation is drawn."""

from __future__ import annotations

import pytest

from resilient_infe.testing.course import STEPS, step_of


@pytest.mark.parametrize(
    ("length", "step"),
    [
        (1.0, 1.0),
        (STEPS * 1.0, 1.0),
        (STEPS * 1.5, 2.0),
        (STEPS * 600.0, 600.0),
        (STEPS * 601.0, 3_600.0),
        (STEPS * 3_601.0, 7_200.0),
    ],
)
def test_the_step_is_the_shortest_round_one(length, step):
    """At most so many steps are drawn; from ten minutes on, a step is whole hours."""
    assert step_of(length) == step
