"""Ledger: what was really spent in any window, corrections included."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.policies.ledger import Ledger

STEPS = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.floats(1.0, 400.0), st.floats(0.0, 1.0)), max_size=60
)


@given(STEPS)
def test_no_window_holds_more_than_the_limit(steps):
    """However costs are corrected afterwards, what is admitted stays within the limit."""
    ledger, now, limit, window = Ledger(60.0), 0.0, 1_000.0, 60.0
    spent: list[list[float]] = []
    for wait, cost, real in steps:
        now += wait
        now = max(now, ledger.room_at(cost, limit))
        ledger.add(cost, now)
        spent.append([now, cost])
        assert sum(c for at, c in spent if now - window < at <= now) <= limit * (1 + 1e-6)
        ledger.correct(cost * real - cost, now)
        spent[-1][1] = cost * real


@given(STEPS)
def test_waking_when_told_finds_room(steps):
    """The instant that is promised is enough, and promising again moves it no further."""
    ledger, now = Ledger(60.0), 0.0
    for wait, cost, _ in steps:
        now += wait
        promised = ledger.room_at(cost, 1_000.0)
        assert ledger.room_at(cost, 1_000.0) == promised
        now = max(now, promised)
        ledger.add(cost, now)
        assert math.isfinite(ledger.total)


def test_a_full_window_makes_wait():
    """With the limit spent, the next cost waits until the first has left the window."""
    ledger = Ledger(60.0)
    ledger.add(1_000.0, 0.0)
    assert 60.0 <= ledger.room_at(1.0, 1_000.0) <= 60.5
    ledger.correct(-600.0, 0.0)
    assert ledger.room_at(600.0, 1_000.0) == -math.inf
    assert ledger.room_at(601.0, 1_000.0) > 60.0


def test_a_correction_never_takes_what_is_not_its_own():
    """Giving back more than a slice holds leaves it at nothing."""
    ledger = Ledger(60.0)
    ledger.add(100.0, 5.0)
    ledger.correct(-500.0, 5.0)
    ledger.correct(-500.0, 1.0)
    assert ledger.total == 0.0
    assert ledger.spent(5.0) == 0.0


def test_it_forgets_what_has_left():
    """After a window nothing is left, and nothing is kept."""
    ledger = Ledger(60.0)
    for second in range(500):
        ledger.add(1.0, float(second))
    assert len(ledger._slices) <= 62
    assert ledger.spent(600.0) == 0.0
    ledger.rebase(100.0)
    assert ledger.total == 0.0
