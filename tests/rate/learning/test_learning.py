"""The stages of learning, one by one: what each does with a rejection."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_infe.rate.learning.belief import believed
from resilient_infe.rate.learning.closed import Closed, Turn
from resilient_infe.rate.learning.finder import Finder
from resilient_infe.rate.learning.search import Climb, Depth, Search
from resilient_infe.rate.learning.shared import Shared, Trial
from resilient_infe.rate.learning.stage import Belief
from resilient_infe.rate.learning.suspicion import Suspicion
from resilient_infe.rate.learning.track import Track
from resilient_infe.rate.learning.trail import Sent, Trail
from resilient_infe.rate.learning.windowed import Kind, Windowed


def send(finder, count=1, now=None):
    """Send as soon as may be; return what was sent."""
    sent = []
    for _ in range(count):
        now = max(finder.ready_at(1.0), -1e9 if now is None else now)
        sent.append(finder.sent(now, 1.0))
    return sent


def a_sent(number, at=0.0):
    """Return a request as a suspicion sees it."""
    return Sent(at, 1.0, float(number), number, 1.0, looking=False, quiet=False)


def test_a_search_lets_a_few_go_at_once_and_then_doubles():
    """Who makes a few calls feels nothing; who has much work gets ever faster."""
    finder = Finder()
    first = send(finder, 8, now=0.0)
    assert {each.at for each in first} == {0.0}
    later = send(finder, 200, now=0.0)
    pace = [each.pace for each in later]
    assert pace == sorted(pace)
    assert pace[-1] > 10 * pace[0]
    assert isinstance(finder.stage, Search)
    assert finder.stage.belief() is None


def test_one_rejection_is_none():
    """While it searches, a single 429 among many only holds the pace for a while."""
    finder = Finder()
    sent = send(finder, 20, now=0.0)
    finder.rejected(sent[-1].at + 0.05, sent[-1])
    held = finder.pace()
    send(finder, 10)
    assert isinstance(finder.stage, Search)
    assert finder.pace() == held
    send(finder, 20)
    assert finder.pace() > held


def test_two_rejections_that_stand_together_begin_the_climb():
    """It goes on from between what surely comes in and half of what was too much."""
    finder = Finder()
    sent = send(finder, 60, now=0.0)
    for each in sent[-2:]:
        finder.rejected(sent[-1].at + 0.05, each)
    assert isinstance(finder.stage, Climb)
    assert 60 / (sent[-1].at + 60) <= finder.pace() <= sent[-1].pace / 2
    assert finder.trail.anchor is sent[-2]


def test_what_was_accepted_between_two_rejections_is_the_limit():
    """Thirty accepted in ten seconds between two that were not: three per second."""
    trail = Trail()
    sent = [trail.add(n / 3, 1.0, 3.0, looking=False, quiet=False) for n in range(40)]
    trail.take_off(sent[5], sent[5].at + 0.01)
    trail.anchor = sent[5]
    trail.take_off(sent[20], sent[20].at + 0.01)
    trail.take_off(sent[36], sent[36].at + 0.01)
    measure = trail.measure(sent[36])
    assert measure.units == 29  # 30 in between, and one of them was rejected
    assert measure.seconds == pytest.approx(31 / 3)
    assert measure.rate == pytest.approx(29.5 / (31 / 3))
    assert trail.measure(sent[5]) is None
    assert trail.beyond_anchor(14.0).units == 32


def test_a_rejection_from_before_the_anchor_that_comes_late_does_not_count():
    """Answers overtake each other: what was sent before the anchor is no part of the measure."""
    trail = Trail()
    sent = [trail.add(float(n), 1.0, 1.0, looking=False, quiet=False) for n in range(20)]
    trail.take_off(sent[5], 5.1)
    trail.anchor = sent[5]
    trail.take_off(sent[4], 6.0)
    trail.take_off(sent[15], 15.1)
    assert trail.measure(sent[15]).units == 9


def test_a_suspicion_needs_others_close_by():
    """Three among twelve stand together; three among many do not, and noise is left out."""
    assert [Suspicion(3, 12).add(a_sent(n)) for n in (1, 5)] == [False, False]
    near, far, noisy = Suspicion(3, 12), Suspicion(3, 12), Suspicion(3, 12)
    assert [near.add(a_sent(n)) for n in (1, 5, 12)][-1]
    assert not any(far.add(a_sent(n)) for n in (1, 20, 40, 60))
    assert not any(noisy.add(a_sent(n), noise=0.1) for n in (1, 5, 12))
    assert near.first.number == 1
    assert near.pending(20)
    assert not near.pending(40)


def test_a_track_dips_rises_and_looks():
    """Below the limit after a look, at it when the period ends, above it afterwards."""
    track = Track(10.0, 40.0, Depth.unknown(1.0), period=30.0)
    trail = Trail()
    paces = []
    for _ in range(45):
        paces.append(track.pace())
        track.advance(1.0, 1.0, 0.0, trail)
    assert paces == sorted(paces)
    assert 9.0 < paces[0] < 9.9
    assert paces[30] == pytest.approx(10.0, rel=0.01)
    assert paces[-1] > 15
    assert track.looking
    assert track.belief() == Belief(10.0, windowed=False, exact=40.0)


def test_the_dip_never_fills_more_than_the_bucket_holds():
    """What is saved up below the limit is there for the look: nothing of it spills."""
    for period in (15.0, 60.0, 600.0):
        track = Track(10.0, 6_000.0, Depth.unknown(1.0), period)
        trail, saved = Trail(), 0.0
        for _ in range(int(period)):
            saved += 10.0 - track.pace()
            track.advance(1.0, 1.0, 0.0, trail)
        assert saved < 10.0


def test_a_stop_is_asked_at_less_and_less_often():
    """While nothing gets through, one request at a time, at ever longer gaps up to 15 s."""
    finder = Finder(stage=believed(Belief(10.0, windowed=False, exact=40.0), 1.0))
    now = 0.0
    gaps = []
    for _ in range(40):
        [sent] = send(finder, now=now)
        finder.rejected(sent.at + 0.05, sent)
        gaps.append(sent.at - now)
        now = sent.at
    assert isinstance(finder.stage, Closed)
    assert max(gaps) == pytest.approx(15.0, abs=0.1)
    unsent = finder.sent(finder.ready_at(1.0), 1.0)
    finder.unsent(unsent)
    assert finder.ready_at(1.0) <= unsent.at + 15.0


def test_a_stop_of_a_minute_is_that_of_a_window():
    """Sixty went through, then nothing until the minute was over: that is a window of sixty."""
    finder = Finder()
    sent = send(finder, 60, now=0.0)
    now = sent[-1].at
    while now < 60.0:
        [probe] = send(finder, now=now)
        now = max(now, probe.at)
        if probe.at < 60.0:
            finder.rejected(probe.at + 0.05, probe)
    finder.accepted(now + 1.0, probe)
    assert isinstance(finder.stage, Windowed)
    assert finder.stage.kind is Kind.UNKNOWN
    assert finder.stage.limit == pytest.approx(1.0, rel=0.05)


def test_a_long_hint_is_the_end_of_a_window():
    """A server that asks for half a minute at ten a second counts in windows."""
    finder = Finder(stage=believed(Belief(10.0, windowed=False, exact=40.0), 1.0))
    sent = send(finder, 300, now=0.0)
    finder.rejected(sent[-1].at + 0.05, sent[-1], hint=30.0)
    assert isinstance(finder.stage, Windowed)
    again = send(finder, 400)
    finder.rejected(again[-1].at + 0.05, again[-1], hint=30.0)
    assert finder.stage.kind is Kind.FIXED


def test_the_turn_of_a_window_is_looked_for_between_what_is_known():
    """In the middle first, and at its end once that is exact."""
    turn = Turn(40.0, 50.0)
    assert turn.next_ask(0.0, 0.1) == 45.0
    assert Turn(49.99, 50.0).next_ask(0.0, 0.1) == 50.0
    assert turn.next_ask(60.0, 0.1) == 60.0
    later = turn.after(100.0)
    assert (later.low, later.high) == (100.0, 110.0)
    assert turn.after(10.0).high == 50.0


def test_a_stop_of_a_bucket_that_is_known_is_no_window():
    """A server that was measured as a bucket and then stands still for a while is one still."""
    finder = Finder(stage=believed(Belief(1.0, windowed=False, exact=40.0), 1.0))
    sent = send(finder, 5, now=0.0)
    for each in sent:
        finder.rejected(each.at + 0.05, each)
    while finder.ready_at(1.0) < 30.0:
        [probe] = send(finder)
        finder.rejected(probe.at + 0.05, probe)
    send(finder, 3)
    assert not isinstance(finder.stage, Windowed)


def test_a_pace_that_is_not_used_does_not_grow():
    """Who sends less than the pace learns nothing by it, for however long."""
    for stage in (None, believed(Belief(30.0, windowed=False, exact=99.0), 1.0)):
        finder = Finder(stage=stage)
        send(finder, 200, now=0.0)
        start = finder.trail.number / 4
        for number in range(6_000):
            finder.sent(start + 100 + number / 25, 1.0)
        before = finder.pace()
        for number in range(6_000):
            finder.sent(start + 400 + number / 25, 1.0)
        assert finder.pace() == before < 1_000


def test_a_search_that_nothing_stops_ends_its_growth():
    """No pace is infinite, and what is kept of the growth is bounded."""
    finder = Finder()
    now = 0.0
    for _ in range(3_000):
        now = max(now + 0.2, finder.ready_at(1.0))
        finder._last = now - 50.0  # as if it had all been used
        finder.stage.advance(50.0, 50.0, now, finder.trail)
    assert finder.pace() < math.inf
    assert len(finder.stage._growth) <= 600


def test_a_giant_request_does_not_stop_the_others():
    """However much one is estimated at, the next one goes within half a minute."""
    finder = Finder(300.0, stage=believed(Belief(1_000.0, windowed=False, exact=40.0), 300.0))
    giant = finder.sent(0.0, 5e6)
    assert finder.ready_at(300.0) <= 31.0
    finder.unsent(giant)
    assert finder.ready_at(300.0) <= 1.0


def test_a_hint_at_light_traffic_makes_no_window_of_it():
    """Who sent forty in a minute because that was all there was has not found a limit of forty."""
    finder = Finder()
    for minute in range(3):
        sent = send(finder, 20, now=60.0 * minute)
    finder.rejected(sent[-1].at + 0.05, sent[-1], hint=20.0)
    assert isinstance(finder.stage, Search)


def test_what_is_shared_grows_evenly_and_gives_way_in_part():
    """Additive increase, multiplicative decrease; the smaller of two grows relatively more."""
    small, large = Shared(1.0), Shared(4.0)
    trail = Trail()
    for stage in (small, large):
        for _ in range(60):
            stage.advance(1.0, 1.0, 0.0, trail)
    assert small.pace() / 1.0 > large.pace() / 4.0 > 1.0
    sent = trail.add(60.0, 1.0, 4.0, looking=False, quiet=False)
    trail.take_off(sent, 60.1)
    before = large.pace()
    assert large.rejected(sent, 60.1, trail).pace() == pytest.approx(0.9 * before)
    assert large.resumed(5.0, trail).pace() == 4.0


def test_a_trial_tells_noise_from_others():
    """Rejections that go on are noise; a silence means that there was room made for others."""
    trail = Trail()
    track = Track(10.0, 40.0, Depth.unknown(1.0), period=30.0)
    trial = Trial(track, 0.05, trail.number)
    assert trial.pace() == 7.0
    assert trial.quiet
    sent = trail.add(1.0, 1.0, 7.0, looking=False, quiet=True)
    trail.take_off(sent, 1.05)
    assert isinstance(trial.rejected(sent, 1.05, trail), Track)
    for number in range(130):
        trail.add(2.0 + number / 7, 1.0, 7.0, looking=False, quiet=True)
    assert isinstance(Trial(track, 0.05, 0).sending(30.0, trail), Shared)


class _FinderMachine(RuleBasedStateMachine):
    """A server that accepts, rejects, hints and stops as it likes."""

    @initialize(
        unit=st.sampled_from([1.0, 300.0]),
        ceiling=st.sampled_from([math.inf, 5.0, 1e4]),
        known=st.sampled_from([None, (10.0, False), (2.0, True)]),
    )
    def start(self, unit, ceiling, known):
        stage = None
        if known is not None:
            belief = Belief(known[0] * unit, windowed=known[1], exact=30.0)
            stage = believed(belief, unit)
        self.finder = Finder(unit, ceiling * unit, stage)
        self.unit, self.ceiling = unit, ceiling * unit
        self.now = 0.0
        self.flying = []

    @rule(count=st.integers(1, 30), late=st.sampled_from([0.0, 0.0, 0.02, 3.0, 90.0]))
    def send(self, count, late):
        for _ in range(count):
            ready = self.finder.ready_at(self.unit)
            assert ready - self.now < 130
            self.now = max(self.now, ready) + late
            self.flying.append(self.finder.sent(self.now, self.unit))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), hint=st.sampled_from([0.0, 0.0, 0.1, 1.0, 45.0, 1e6]))
    def reject(self, data, hint):
        self.now += 0.03
        sent = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.finder.rejected(self.now, sent, hint)

    @precondition(lambda self: len(self.flying) > 4)
    @rule()
    def reject_all(self):
        self.now += 0.05
        for sent in self.flying:
            self.finder.rejected(self.now, sent)
        self.flying = []

    @precondition(lambda self: self.flying)
    @rule()
    def accept_all(self):
        self.now += 0.5
        for sent in self.flying:
            self.finder.accepted(self.now, sent)
        self.flying = []

    @precondition(lambda self: self.flying)
    @rule()
    def take_back(self):
        self.finder.unsent(self.flying.pop())

    @rule()
    def move_to_another_clock(self):
        self.finder.start_over()
        self.now, self.flying = 0.0, []

    @invariant()
    def the_pace_makes_sense(self):
        if hasattr(self, "finder"):
            assert 0 < self.finder.pace() < math.inf
            assert self.finder.pace() <= self.ceiling
            assert not math.isnan(self.finder.ready_at(self.unit))
            belief = self.finder.stage.belief()
            assert belief is None or 0 < belief.limit < math.inf


class TestFinderMachine(_FinderMachine.TestCase):
    """Whatever the server does, a probe always gets through, and the pace stays a number."""

    settings = settings(max_examples=50, stateful_step_count=30)
