"""Pulse: when the store is called."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.shared.member import Demand, Member
from resilient_infe.shared.pulse import Pulse
from resilient_infe.shared.script import Answer


def beat(pulse, now, *, sends=10.0, waiting=0, share=0.5, members=4):
    """Let a beat be sent and answered; return when the next one is due, from now."""
    member = Member()
    need = (sends + waiting) / 50.0
    member.asks(Demand((0.0, need, 0.0), sends, waiting), now)
    member.answered(Answer(share, members, 0.0, 0.0, 0.0), now + 10.0, now)
    if share > 0.0:  # it had as much before
        member.changes = False
    pulse.sent(now)
    pulse.answered([member], now)
    return None if pulse.due is None else pulse.due - now


@pytest.mark.parametrize(
    ("sends", "seconds"), [(100.0, 0.5), (6.25, 0.533), (2.0, 1.667), (0.1, 5.0), (0.001, 5.0)]
)
def test_a_call_for_three_attempts(sends, seconds):
    """At most two calls a second, at most 0.3 for each attempt, and one each 5 s in any case."""
    assert beat(Pulse(), 100.0, sends=sends) == pytest.approx(seconds, abs=0.001)


def test_ten_thousand_members_slow_down():
    """Redis is asked at most 2,000 times a second by all of them."""
    assert beat(Pulse(), 0.0, sends=100.0, members=4_000) == pytest.approx(2.0)
    assert beat(Pulse(), 0.0, sends=100.0, members=100_000) == 5.0


def test_no_beats_when_there_is_nothing_to_say():
    """A process that sends nothing and holds nothing is silent until a call comes."""
    pulse = Pulse()
    assert beat(pulse, 0.0, sends=0.0, share=0.0) is None
    pulse.hasten(3.0)
    assert pulse.due == 3.0


def test_who_waits_with_no_share_asks_again_soon():
    """The first calls of a process do not wait for a slow beat."""
    assert beat(Pulse(), 0.0, sends=0.0, waiting=5, share=0.0) == 0.5


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.booleans()), min_size=20, max_size=200))
def test_never_more_than_two_calls_a_second_and_few_for_each_attempt(script):
    """However often it is hastened, the calls stay within what the attempts pay for."""
    pulse, now, calls = Pulse(), 0.0, []
    beat(pulse, now, sends=0.5)
    for seconds, hasten in script:
        now += seconds
        if hasten:
            pulse.hasten(now)
        while pulse.due is not None and pulse.due <= now:
            calls.append(pulse.due)
            beat(pulse, pulse.due, sends=0.5)
    assert all(later - sooner >= 0.5 - 1e-9 for sooner, later in pairwise(calls))
    assert len(calls) <= now * (0.3 * 0.5 + 1 / 5) + 6


@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 2_000))
def test_a_store_that_is_gone_is_asked_again(u, failures):
    """Soon at first, later within 3.1 s, however long it is gone."""
    pulse = Pulse()
    for _ in range(failures):
        pulse.sent(10.0)
        pulse.failed(10.0, u)
        pulse.hasten(10.0)
    assert 0.5 <= pulse.due - 10.0 <= 3.1
    assert pulse.lost_at == 10.0
