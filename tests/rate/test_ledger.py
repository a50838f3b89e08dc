"""Ledger: what was really spent in any window, corrections included."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.ledger import Ledger, Slice

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
        ledger.correct(ledger.newest, cost * real - cost)
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
    ledger.correct(ledger.newest, -600.0)
    assert ledger.room_at(600.0, 1_000.0) == -math.inf
    assert ledger.room_at(601.0, 1_000.0) > 60.0


def test_a_correction_never_takes_what_is_not_its_own():
    """Giving back more than a slice holds leaves it at nothing."""
    ledger = Ledger(60.0)
    ledger.add(100.0, 5.0)
    ledger.correct(ledger.newest, -500.0)
    ledger.correct(Slice(1.0), -500.0)
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


def test_a_cost_counts_until_its_slice_has_left_the_window():
    """A cost counts up to the last instant of its slice, a window later, and then no more."""
    ledger = Ledger(60.0)
    ledger.add(100.0, 10.0)
    ledger.add(1.0, 30.0)
    assert [ledger.spent(now) for now in (70.0, 70.2, 70.25)] == [101.0, 101.0, 1.0]


def test_what_is_left_of_odd_costs_is_nothing():
    """The sum of an empty window is exactly 0, although the sum of floats is not exact."""
    ledger = Ledger(60.0)
    for second, cost in enumerate((0.1, 0.2, 0.3)):
        ledger.add(cost, float(second))
    assert ledger.spent(100.0) == 0.0


@pytest.mark.parametrize(
    ("start", "end", "spent"),
    [
        (0.0, 60.0, 140.0),
        (10.0, 10.25, 100.0),
        (10.0, 10.125, 50.0),
        (10.125, 10.25, 50.0),
        (10.0625, 10.125, 25.0),
        (10.125, 10.625, 70.0),
        (10.25, 10.5, 0.0),
        (10.6, 10.6, 0.0),
        (20.0, 30.0, 0.0),
    ],
)
def test_what_was_spent_between_two_instants(start, end, spent):
    """A slice that lies in part between the two instants counts in proportion."""
    ledger = Ledger(60.0)
    ledger.add(100.0, 10.0)
    ledger.add(40.0, 10.5)
    assert ledger.within(start, end) == spent


def test_what_was_sent_before_and_is_not_refused_was_let_in():
    """Only a slice before the one of a 429 counts, and only since an instant."""
    ledger, parts = Ledger(60.0), list[Slice]()
    for now, sent in ((10.0, 1), (11.0, 0), (12.0, 2)):
        ledger.add(1.0, now)
        ledger.newest.sent = sent
        parts.append(ledger.newest)
    assert [ledger.unrefused(0.0, part) for part in parts] == [False, True, True]
    assert not ledger.unrefused(10.5, parts[2])


def test_rebase_moves_what_was_spent_to_another_clock():
    """A cost leaves the window as long after a change of clock as it would have without one."""
    ledger = Ledger(60.0)
    ledger.add(400.0, 1_000.0)
    ledger.rebase(-1_000.0)
    ledger.add(500.0, 30.0)
    assert [ledger.spent(now) for now in (60.0, 60.25, 90.0, 90.25)] == [900.0, 500.0, 500.0, 0.0]


def test_a_cost_counts_no_longer_after_a_window_was_long_for_a_while():
    """Its slice ends when it did, whatever the width of the slices meanwhile."""
    ledger = Ledger(60.0)
    ledger.add(5.0, 100.0)
    ledger.resize(1e9, 110.0)
    assert ledger.spent(110.0) == 5.0
    ledger.resize(60.0, 120.0)
    assert ledger.spent(159.9) == 5.0
    assert ledger.spent(160.5) == 0.0
