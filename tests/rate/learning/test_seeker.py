"""How a sender goes on from a rate that it believes in."""

from __future__ import annotations

import pytest

from resilient_infe.rate.learning.seeker import Seeker
from resilient_infe.rate.learning.tuning import Tuning


@pytest.mark.parametrize(("rate", "gap"), [(0.5, 2.4), (100.0, 0.1)])
def test_the_first_question_waits_for_a_little_more_than_one_call(rate, gap):
    """It is asked after 1.2 times what lies between two calls, after 0.1 s at least."""
    seeker = Seeker(Tuning())
    seeker.resume_at(rate, 10.0)
    assert seeker.stop.gap == pytest.approx(gap)
