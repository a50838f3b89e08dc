"""The shared gate: one news closes it, old news does not, and nothing shortens it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.rate.gate import Gate


def test_it_starts_open():
    """A new gate holds nobody up and any rejection is news."""
    gate = Gate()
    assert gate.left(0.0) == 0.0
    assert gate.is_news(-1e9)
    assert gate.reason is None


def test_it_closes_until_an_instant():
    """It is closed until the instant given, and says why."""
    gate = Gate()
    assert gate.close(10.0, sent_at=1.0, now=2.0, reason="asked")
    assert gate.left(2.0) == 8.0
    assert gate.left(10.0) == gate.left(99.0) == 0.0
    assert gate.reason == "asked"


def test_requests_sent_before_the_last_correction_tell_nothing_new():
    """Sixty-four rejections of requests in flight are one piece of news."""
    gate = Gate()
    assert gate.close(10.0, sent_at=1.0, now=2.0, reason="first")
    assert not any(gate.close(99.0, sent_at=1.0, now=3.0, reason="more") for _ in range(64))
    assert gate.until == 10.0
    assert gate.reason == "first"


def test_a_request_sent_after_the_correction_is_news():
    """A rejection of what was sent since the last correction may close it further."""
    gate = Gate()
    gate.close(10.0, sent_at=1.0, now=2.0, reason="first")
    assert gate.close(20.0, sent_at=2.0, now=11.0, reason="second")
    assert gate.until == 20.0


def test_it_is_never_shortened():
    """A nearer instant changes nothing, not even when it is news."""
    gate = Gate()
    gate.close(10.0, sent_at=1.0, now=2.0, reason="first")
    assert not gate.close(9.0, sent_at=5.0, now=6.0, reason="second")
    assert not gate.close(10.0, sent_at=5.0, now=6.0, reason="second")
    assert gate.until == 10.0


def test_an_instant_in_the_past_closes_nothing():
    """A gate that would be over already is not a correction."""
    gate = Gate()
    assert not gate.close(2.0, sent_at=1.0, now=2.0, reason="late")
    assert gate.corrected_at == -math.inf


def test_rebase_moves_both_instants():
    """After a change of clock the same time is left and the same requests are news."""
    gate = Gate()
    gate.close(1_010.0, sent_at=1_000.0, now=1_005.0, reason="asked")
    gate.rebase(-1_000.0)
    assert gate.left(5.0) == 5.0
    assert not gate.is_news(4.9)
    assert gate.is_news(5.0)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-5, 50), st.floats(0, 20)), max_size=40))
def test_the_instant_only_ever_moves_later(steps):
    """Whatever closes it, its end never comes nearer and closing tells whether it moved."""
    gate, now = Gate(), 0.0
    for pause, hint, age in steps:
        now += pause
        before = gate.until
        closed = gate.close(now + hint, now - age, now, "asked")
        assert gate.until >= before
        assert closed is (gate.until > before)
        assert gate.left(now) >= 0.0
