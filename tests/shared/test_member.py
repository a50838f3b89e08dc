"""Member: what is held, until when, and what a running window may have."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.shared.member import Demand, Member
from resilient_infe.shared.script import Answer


def needing(need, **others):
    """Return the demand of a process that needs a part of the limit."""
    return Demand(needs=(0.0, need, 0.0), sends=need, **others)


def given_share(share, members=4, at=0.0, **options):
    """Return a member that was given a share."""
    member = Member(**options)
    member.asks(needing(9.0), at)
    member.answered(Answer(share, members, 0.0, 0.0, 0.0), at + 10.0, at)
    return member


def test_what_is_not_needed_is_given_up_before_it_is_told():
    """A member lowers its share by itself, and says so in the same call."""
    member = given_share(0.8)
    assert member.asks(needing(0.1), 1.0).held == pytest.approx(0.2)
    assert member.share == pytest.approx(0.2)


def test_a_need_is_told_when_it_changed_by_more_than_chance():
    """What is given up by chance would be free until another member asks."""
    member = given_share(0.5)
    assert member.asks(needing(0.30), 1.0).needs[1] == 0.30
    assert member.asks(needing(0.31), 2.0).needs[1] == 0.30
    assert member.asks(needing(0.32), 3.0).needs[1] == 0.32
    assert member.asks(needing(0.0), 4.0).needs[1] == 0.0
    assert member.asks(needing(1e-6), 5.0).needs[1] == 1e-6


def test_nothing_is_held_after_the_lease():
    """A process that was frozen finds its share gone."""
    member = given_share(0.8)
    assert member.asks(needing(9.0), 10.0).held == 0.0
    assert member.share == 0.0


@pytest.mark.parametrize(
    ("on_loss", "share"), [("keep", 0.25), ("stop", 0.0), (0.1, 0.1), (0, 0.0), (1, 1.0)]
)
def test_what_happens_when_the_store_is_gone_is_a_choice(on_loss, share):
    """After the lease: no more than an equal part, nothing, or the share that was chosen."""
    member = given_share(0.8, on_loss=on_loss)
    member.lost(until=9.0, now=2.0)
    assert (member.share, member.until) == (0.8, 10.0)  # the lease goes on
    member.asks(needing(0.01), 8.0)
    assert member.share == 0.8  # what it gives up now it could not get back
    member.lost(until=21.0, now=20.0)
    assert member.share == pytest.approx(share)
    assert (member.until > 20.0) == (share > 0 or on_loss == 0)


def test_a_member_that_was_frozen_while_the_store_is_gone_has_its_last_share():
    """No state is absorbing: it goes on when it finds out that nobody answers."""
    member = given_share(0.2)
    member.asks(needing(9.0), 30.0)
    member.lost(until=33.0, now=31.0)
    assert member.share == 0.2


@given(
    st.lists(st.tuples(st.floats(0.1, 30.0), st.floats(0.0, 1.0)), min_size=1, max_size=30),
    st.floats(1.0, 60.0),
)
def test_a_window_may_have_what_the_shares_over_it_come_to(steps, period):
    """The part of a window is the mean share over it, and one second of the present share."""
    member, now, held = Member(), 0.0, []
    for seconds, share in steps:
        member.asks(needing(9.0), now)
        member.answered(Answer(share, 1, 0.0, 0.0, 0.0), math.inf, now)
        held.append((now, now + seconds, share))
        now += seconds
    mean = sum(share * max(0.0, end - max(start, now - period)) for start, end, share in held)
    expected = min(1.0, (mean + held[-1][2]) / period)
    assert member.part(period, 0.0, now) == pytest.approx(expected, abs=1e-9)


def test_a_window_of_hours_may_have_all():
    """What is remembered is a minute."""
    assert Member().part(3_600.0, 0.0, 5.0) == 1.0


def test_what_was_spent_is_told_once():
    """A call that was not answered is told again."""
    member = Member()
    spends = {"requests": 10.0, "tokens": 100.0, "a_day": True}
    assert member.asks(needing(1.0, **spends), 0.0).requests == 10.0
    member.lost(1.0, 1.0)
    assert member.asks(needing(1.0, **spends), 2.0).tokens == 100.0
    member.answered(Answer(1.0, 1, 0.0, 10.0, 100.0), 12.0, 2.0)
    assert member.asks(needing(1.0, **spends), 3.0).requests == 0.0
