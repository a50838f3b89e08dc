"""Depth: the burst follows what passes and what is refused, and is tried again by time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.depth import AT_FIRST, FIRST_TRY, LAST_TRY, STEP, Depth
from resilient_infe.rate.ledger import Slice


def _slice(sent, cost=0.1, rest=0.0):
    """Return a slice in which so many were sent at once; `rest` is how late the first one came."""
    part = Slice(0.0)
    part.sent, part.ahead = sent, sent * cost - rest
    return part


def test_it_begins_small():
    """Two seconds of the rate, or two requests; never more than is wanted."""
    assert Depth(30.0, 0.1).burst == AT_FIRST
    assert Depth(0.5, 0.1).burst == 0.5
    assert Depth(30.0, 10.0).burst == 20.0
    assert Depth(0.5, 10.0).burst == 10.0
    depth = Depth(30.0, 0.001)
    depth.allow(6.0)
    assert depth.burst == 12.0  # two requests of the size that is sent


def test_a_lone_request_proves_nothing():
    """Any bucket that is full lets one in, however large it is."""
    depth = Depth(30.0, 0.1)
    depth.passed(20.0, 20.0, 1.0)
    assert depth.burst == AT_FIRST
    depth.passed(20.0, 19.0, 1.0)
    assert depth.burst == 30.0


@pytest.mark.parametrize("rejected", [1, 5, 10, 19])
def test_the_burst_becomes_what_passed(rejected):
    """However the answers are ordered, each 429 takes its part off the burst."""
    depth, part = Depth(30.0, 0.1), _slice(20)
    assert all(depth.refused(0.1, part, 0.1, alive=False) for _ in range(rejected))
    assert depth.burst == pytest.approx(max(0.1, 0.95 * (20 - rejected) / 10))
    assert depth.shallow


def test_what_is_refused_altogether_says_nothing():
    """Even the smallest bucket lets one in: it is an outage, or the requests are to blame."""
    depth, part = Depth(30.0, 0.1), _slice(20)
    for _ in range(20):
        depth.refused(0.1, part, 0.1, alive=False)
    assert not depth.shallow
    assert depth.burst == AT_FIRST


def test_while_others_are_let_in_a_lone_request_that_is_refused_counts():
    """At an even pace each slice has one request: a server's bucket of one unit refuses some."""
    depth = Depth(0.5, 1.0)
    assert not depth.refused(1.0, _slice(1, cost=1.0), 5.0, alive=False)
    assert depth.refused(1.0, _slice(1, cost=1.0), 5.0, alive=True)
    assert depth.shallow
    assert depth.burst == 1.0


def test_a_429_below_what_has_passed_says_nothing():
    """It is chance, or the limit is lower than was declared."""
    depth = Depth(30.0, 0.1)
    depth.passed(2.0, 0.1, 0.1)
    assert not depth.refused(0.1, _slice(15), 5.1, alive=True)
    assert not depth.shallow
    assert depth.burst == pytest.approx(4.1)


def test_a_429_by_chance_has_what_one_taught_tried_again_soon():
    """Where 429s come by chance, the one that has lowered the burst may have been chance too."""
    depth = Depth(0.5, 0.1)
    assert depth.refused(0.1, _slice(5), 0.1, alive=True)
    assert depth.try_at == FIRST_TRY + 0.1
    depth.passed(0.35, 0.1, 1.0)
    assert not depth.refused(0.1, _slice(3), 2.0, alive=True)
    assert depth.try_at == 2.0 + STEP


def test_a_429_by_chance_slows_no_growth():
    """Nothing has lowered the burst: nothing has to be tried again; it grows with what passes."""
    depth = Depth(30.0, 0.1)
    depth.passed(1.9, 0.1, 1.0)
    assert not depth.refused(0.1, _slice(15), 2.0, alive=True)
    assert depth.try_at == math.inf
    depth.passed(3.9, 0.1, 40.0)
    assert depth.burst == pytest.approx(7.9)


def test_what_passed_is_forgotten_after_a_while():
    """Servers change: after twenty minutes at most, old proof counts no more."""
    depth = Depth(30.0, 0.1)
    depth.passed(2.0, 0.1, 0.1)
    assert depth.refused(0.1, _slice(15), 1_300.1, alive=True)
    assert depth.burst == pytest.approx(0.95 * 1.4)


def test_a_429_after_a_rest_says_nothing():
    """Not even the shallowest bucket refuses the first request in a while."""
    depth = Depth(0.5, 1.0)
    assert not depth.refused(1.0, _slice(1, cost=1.0, rest=0.6), 50.1, alive=True)
    assert not depth.shallow


def test_it_is_tried_again_by_time_and_then_later():
    """Each try doubles the burst; one that fails doubles the time to the next, up to an hour."""
    depth, now, gaps = Depth(2.0, 0.1), 0.0, []
    for _ in range(5):
        part = _slice(20)
        for _ in range(10):
            depth.refused(0.1, part, now, alive=True)
        gaps.append((depth.try_at - now) / FIRST_TRY)
        now, steps = depth.try_at, 0
        while depth.shallow:
            depth.try_more(depth.try_at)
            steps += 1
        assert steps == 2  # 0.95, 1.9, 2
        assert depth.burst == 2.0
        assert depth.try_at == math.inf
        now += 5.0
    assert gaps == [1, 2, 4, LAST_TRY / FIRST_TRY, LAST_TRY / FIRST_TRY]


def test_a_new_limit_keeps_what_was_seen():
    """The depth is in seconds of the rate."""
    depth = Depth(30.0, 0.1)
    depth.passed(9.0, 0.1, 1.0)
    depth.resize(30.0, 0.01)
    assert depth.burst == pytest.approx(18.1)
    depth.resize(5.0, 10.0)
    assert depth.burst == 10.0


def test_rebase_moves_the_instants():
    """After a change of clock, tries come as soon, and proof is as old."""
    depth = Depth(2.0, 0.1)
    depth.refused(0.1, _slice(20), 1_000.0, alive=True)
    depth.passed(1.0, 0.1, 1_000.0)
    depth.rebase(-1_000.0)
    assert depth.try_at == FIRST_TRY
    assert depth.proven == 1.0
    assert not depth.refused(0.1, _slice(9), 599.0, alive=True)
    assert depth.refused(0.1, _slice(9), 1_300.0, alive=True)


@given(
    st.floats(0.01, 60.0),
    st.floats(1e-4, 30.0),
    st.lists(
        st.tuples(st.floats(0, 900), st.integers(1, 30), st.integers(0, 30), st.booleans()),
        max_size=20,
    ),
)
def test_the_burst_stays_between_one_unit_and_what_is_wanted(wanted, unit, steps):
    """Whatever passes and is refused."""
    depth, now = Depth(wanted, unit), 0.0
    for wait, count, rejected, alive in steps:
        now += wait
        part = _slice(count, cost=unit)
        if now >= depth.try_at:
            depth.try_more(now)
        for number in range(count):
            if number < rejected:
                depth.refused(unit, part, now, alive=alive)
            else:
                depth.passed((number + 1) * unit, unit, now)
        assert unit <= depth.burst <= max(unit, wanted)
        assert depth.shallow or depth.try_at in (math.inf, now + STEP) or depth.try_at > now
