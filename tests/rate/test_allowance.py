"""Requests and tokens per minute: in order, both at once, never above the limit, never stuck."""

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_infe.core.verdict import Limit
from resilient_infe.errors import ConfigurationError, QueueFull
from resilient_infe.rate.allowance import Allowance
from resilient_infe.rate.change import Change
from resilient_infe.rate.gate import GateClosed
from resilient_infe.rate.rates import Rates


def _spent(allowance, now=0.0):
    """Use up all requests that can be sent at once; return their reservations."""
    granted = []
    while allowance.statistics(now).requests_left >= 1:
        granted.append(allowance.reserve(now))
    assert all(reservation.granted for reservation in granted)
    return granted


def _drain(allowance, now):
    """Wake at each promised instant until nobody waits; return (instant, reservation) pairs."""
    granted = []
    while allowance.due is not None:
        assert len(granted) < 10_000
        now = max(now, allowance.due)
        got = list(allowance.poll(now))
        assert got, "woke at the promised instant and nobody was granted"
        granted += [(now, reservation) for reservation in got]
    return granted


class _AllowanceMachine(RuleBasedStateMachine):
    """Requests come, wait, leave, are sent and settled while the server complains."""

    @initialize(
        requests=st.sampled_from([None, 2, 5, 30, 120, 600]),
        tokens=st.sampled_from([None, 600, 6_000]),
        burst=st.sampled_from([0.5, 1.0, 10.0]),
    )
    def start(self, requests, tokens, burst):
        self.allowance = Allowance(requests, tokens, burst=burst)
        self.limit = math.inf if requests is None else requests
        self.now = 1_000.0
        self.calls = 0
        self.waiting = {}  # place -> reservation
        self.out = []  # granted, not yet ended
        self.ended = []  # places that may come back as retries
        self.sent = []  # reservations in the order of their grants, without the unsent
        self.opens = -math.inf  # when the gate opens, before what is granted now is sent

    def _granted(self, reservation):
        assert reservation.granted
        assert reservation.granted_at == self.now
        self.out.append(reservation)
        self.sent.append(reservation)
        recent = [r for r in self.sent if r.granted_at >= self.now - 60.0]
        assert len(recent) <= self.limit
        assert self.now >= self.opens

    def _polled(self):
        count = 0
        self.opens = self.allowance.gate.until
        for reservation in self.allowance.poll(self.now):
            oldest = min(self.waiting)
            assert reservation is self.waiting.pop(oldest)
            self._granted(reservation)
            self.opens = self.allowance.gate.until  # a question shuts the gate behind it
            count += 1
        return count

    def _wake(self):
        """Wake at the promised instant: the head must be granted."""
        self.now = max(self.now, self.allowance.due)
        assert self._polled()

    def _reserve(self, place, tokens):
        self.opens = self.allowance.gate.until
        reservation = self.allowance.reserve(self.now, tokens, place)
        if reservation.granted:
            assert not self.waiting
            self._granted(reservation)
        else:
            self.waiting[place] = reservation

    def _take_out(self, data):
        reservation = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.ended.append(reservation.place)
        return reservation

    @rule(tokens=st.sampled_from([0.0, 1.0, 50.0, 900.0, math.nan, -3.0, math.inf]))
    def arrive(self, tokens):
        self.calls += 1
        self._reserve(self.calls, tokens)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), tokens=st.sampled_from([0.0, 50.0]))
    def retry(self, data, tokens):
        place = data.draw(st.sampled_from(self.ended))
        self.ended.remove(place)
        self._reserve(place, tokens)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.4, 3.0, 61.0]))
    def wait(self, seconds):
        self.now += seconds
        self._polled()

    @precondition(lambda self: self.waiting)
    @rule(times=st.integers(1, 8))
    def wake(self, times):
        for _ in range(times):
            if self.waiting:
                self._wake()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data):
        place = data.draw(st.sampled_from(sorted(self.waiting)))
        reservation = self.waiting.pop(place)
        self.allowance.cancel(reservation, self.now)
        self.allowance.cancel(reservation, self.now)
        self.ended.append(place)
        self._polled()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), tokens=st.sampled_from([None, 0.0, 40.0, 2_000.0, math.nan, -1.0]))
    def settle(self, data, tokens):
        self.allowance.settle(self._take_out(data), self.now, tokens)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def refund_what_was_sent(self, data):
        self.allowance.refund(self._take_out(data), self.now, request=False)

    @precondition(lambda self: self.out and self.out[-1].granted_at == self.now)
    @rule()
    def refund_what_was_never_sent(self):
        reservation = self.out.pop()  # at once; later is the expected failure below
        self.ended.append(reservation.place)
        self.sent.remove(reservation)
        self.allowance.refund(reservation, self.now, request=True)
        self.allowance.refund(reservation, self.now, request=True)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def complain(self, data):
        reservation = data.draw(st.sampled_from(self.out))
        self.allowance.rejected(reservation, self.now)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), hint=st.sampled_from([-1.0, 0.5, 20.0]))
    def ask_to_wait(self, data, hint):
        reservation = data.draw(st.sampled_from(self.out))
        before = self.allowance.gate.until
        closed = self.allowance.told_to_wait(reservation, hint, self.now, "asked")
        if closed is None:
            assert self.allowance.gate.until == before
        else:
            assert self.now < self.allowance.gate.until <= self.allowance.gate.ends

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def hear_that_one_was_let_in(self, data):
        gate = self.allowance.gate
        before = gate.until
        self.allowance.let_in(data.draw(st.sampled_from(self.out)), self.now)
        assert gate.until == before or gate.until <= self.now

    @precondition(lambda self: self.out)
    @rule(data=st.data(), reset=st.sampled_from([-1.0, 0.5, 20.0]))
    def state_a_window(self, data, reset):
        sent_at = data.draw(st.sampled_from(self.out)).granted_at
        gate = self.allowance.gate
        before = gate.until
        closed = gate.close(self.now + reset, sent_at, self.now, "no requests remain")
        assert gate.until == (self.now + reset if closed else before) >= before

    @invariant()
    def counts_agree(self):
        if not hasattr(self, "allowance"):
            return
        told = self.allowance.statistics(self.now)
        assert (told.waiting, told.outstanding) == (len(self.waiting), len(self.out))
        assert told.requests_left is None or math.isfinite(told.requests_left)
        assert told.tokens_left is None or math.isfinite(told.tokens_left)
        assert self.allowance.busy is bool(self.waiting or self.out)
        assert (self.allowance.due is None) is not bool(self.waiting)

    def teardown(self):
        if not hasattr(self, "allowance"):
            return
        while self.waiting:
            self._wake()
        for reservation in self.out:
            self.allowance.settle(reservation, self.now)
        assert not self.allowance.busy
        self.allowance.settle(self.allowance.reserve(self.now + 1e6), self.now + 1e6)
        assert self.allowance.idle(self.now + 2e6)


class TestAllowanceMachine(_AllowanceMachine.TestCase):
    """Never above the limit in 60 s, strictly by age, every promised instant grants, all drains."""

    settings = settings(max_examples=60, stateful_step_count=40)


def test_it_grants_at_once_while_there_is_room():
    """A burst goes out at once and the next one waits."""
    allowance = Allowance(600)
    assert len(_spent(allowance)) == 10
    late = allowance.reserve(0.0)
    assert not late.granted
    assert allowance.waiting == 1
    assert _drain(allowance, 0.0) == [(pytest.approx(0.1), late)]


def test_without_any_limit_one_is_searched_for():
    """No declared limit means that a few go at once, and then ever more."""
    allowance = Allowance()
    waiting = [allowance.reserve(0.0, 1e6) for _ in range(1_000)]
    assert sum(each.granted for each in waiting) == 8
    assert allowance.counts_tokens
    assert allowance.admits_within(60.0) is None
    told = allowance.statistics(0.0)
    assert told.requests_per_minute is told.tokens_left is told.learned is None
    assert "nothing is known" in told.evidence
    assert allowance.waits_for(0.0) == "the limit is being learned"
    granted = [at for at, _ in _drain(allowance, 0.0)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(granted)]
    assert gaps[0] > 0.03
    assert gaps[-1] < 0.03
    assert granted[-1] < 20


def test_what_was_learned_is_kept_and_given_back():
    """A belief is a value that JSON can hold, and another allowance goes on from it."""
    kept = {"dimension": "requests", "per_minute": 600.0, "windowed": False, "measured_by": 40.0}
    allowance = Allowance(belief=json.loads(json.dumps(kept)))
    told = allowance.statistics(0.0)
    kept["kind"] = "a bucket of 1 s"
    assert (told.learned, told.evidence) == (600.0, "believed from an earlier run")
    assert allowance.belief() == kept
    assert Allowance().belief() is None
    for bad in ({}, {**kept, "per_minute": 0}, {**kept, "per_minute": "many"}, [1]):
        with pytest.raises(ConfigurationError, match="no belief"):
            Allowance(belief=bad)


def test_it_is_first_come_first_served():
    """Those who wait are granted in the order of their coming."""
    allowance = Allowance(60)
    _spent(allowance)
    waiting = [allowance.reserve(0.0) for _ in range(20)]
    assert [reservation for _, reservation in _drain(allowance, 0.0)] == waiting


def test_a_newcomer_never_takes_what_a_waiter_is_due():
    """Even when there is room again, who comes later stands behind."""
    allowance = Allowance(600)
    _spent(allowance)
    first = allowance.reserve(0.0)
    second = allowance.reserve(30.0)
    assert not second.granted
    assert list(allowance.poll(30.0)) == [first, second]


def test_a_retry_goes_ahead_of_younger_calls():
    """A retry keeps its call's old place in the queue."""
    allowance = Allowance(60)
    allowance.reserve(0.0, place=1)
    younger = [allowance.reserve(0.0, place=place) for place in (2, 3)]
    retry = allowance.reserve(0.5, place=1)
    assert [reservation for _, reservation in _drain(allowance, 0.5)] == [retry, *younger]


def test_a_big_request_is_not_starved_by_small_ones():
    """Small requests that come later wait behind a big one, though they would fit."""
    allowance = Allowance(6_000, 6_000)
    allowance.reserve(0.0, 100.0)
    big = allowance.reserve(0.0, 3_000.0)
    small = [allowance.reserve(0.0, 1.0) for _ in range(5)]
    granted = _drain(allowance, 0.0)
    assert [reservation for _, reservation in granted] == [big, *small]
    assert granted[0][0] < 1.1


def test_a_big_request_does_not_block_for_ever():
    """It goes into debt: while the window has room, others wait for 5 s of that, not for all."""
    allowance = Allowance(tokens_per_minute=6_000)
    assert allowance.reserve(0.0, 4_000.0).granted
    assert allowance.statistics(0.0).tokens_left == pytest.approx(-400)
    small = allowance.reserve(0.0, 1.0)
    assert _drain(allowance, 0.0) == [(pytest.approx(4.01), small)]


def test_both_dimensions_are_admitted_at_once_or_not_at_all():
    """A request that lacks tokens takes no request, and one that lacks a request no tokens."""
    allowance = Allowance(600, 6_000)
    allowance.reserve(0.0, 100.0)
    assert not allowance.reserve(0.0, 50.0).granted
    told = allowance.statistics(0.0)
    assert told.requests_left == pytest.approx(9)
    assert told.tokens_left == pytest.approx(0)


def test_settling_corrects_to_the_real_cost():
    """Tokens that were not used come back, tokens used beyond the estimate are charged."""
    allowance = Allowance(tokens_per_minute=6_000)
    low, high = allowance.reserve(0.0, 40.0), allowance.reserve(0.0, 40.0)
    allowance.settle(low, 0.0, 10.0)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(50)
    allowance.settle(high, 0.0, 140.0)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(-50)
    assert allowance.statistics(0.0).outstanding == 0


@pytest.mark.parametrize("odd", [None, -1.0, math.nan, math.inf, -math.inf])
def test_settling_without_an_honest_cost_leaves_the_estimate(odd):
    """No usage, or one that makes no sense, leaves the reservation as it is."""
    allowance = Allowance(tokens_per_minute=6_000)
    allowance.settle(allowance.reserve(0.0, 40.0), 0.0, odd)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(60)


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf, -math.inf])
def test_an_estimate_that_makes_no_sense_costs_nothing(odd):
    """A request with an odd estimate is sent and charges no tokens."""
    allowance = Allowance(tokens_per_minute=6_000)
    assert allowance.reserve(0.0, odd).granted
    assert allowance.statistics(0.0).tokens_left == 100


def test_only_what_was_never_sent_gives_its_request_back():
    """A refund returns the tokens; the request only when it never left."""
    allowance = Allowance(600, 6_000)
    allowance.refund(allowance.reserve(0.0, 40.0), 0.0, request=False)
    told = allowance.statistics(0.0)
    assert (told.requests_left, told.tokens_left) == (pytest.approx(9), pytest.approx(100))
    allowance.refund(allowance.reserve(0.0, 40.0), 0.0, request=True)
    assert allowance.statistics(0.0).requests_left == pytest.approx(9)


def test_a_reservation_ends_once():
    """The second ending of a reservation changes nothing, whichever it is."""
    allowance = Allowance(600, 6_000)
    reservation = allowance.reserve(0.0, 40.0)
    allowance.settle(reservation, 0.0, 40.0)
    before = allowance.statistics(0.0)
    allowance.settle(reservation, 0.0, 10.0)
    allowance.refund(reservation, 0.0, request=True)
    allowance.cancel(reservation, 0.0)
    assert allowance.statistics(0.0) == before


def test_a_waiter_that_gives_up_costs_nothing():
    """Cancelling a waiter spends nothing and lets the next one go."""
    allowance = Allowance(60, 600)
    _spent(allowance)
    big, small = allowance.reserve(0.0, 500.0), allowance.reserve(0.0)
    allowance.cancel(big, 0.0)
    assert allowance.waiting == 1
    assert [reservation for _, reservation in _drain(allowance, 0.0)] == [small]
    assert allowance.statistics(2.0).tokens_left == 10


def test_cancelling_what_was_just_granted_gives_all_back():
    """A waiter that was granted but never sent returns its request and its tokens."""
    allowance = Allowance(600, 6_000)
    allowance.cancel(allowance.reserve(0.0, 40.0), 0.0)
    told = allowance.statistics(0.0)
    assert (told.requests_left, told.tokens_left) == (pytest.approx(10), pytest.approx(100))
    assert not allowance.busy


def test_a_full_queue_refuses_newcomers_but_no_retry():
    """No more than `max_waiting` wait, except calls that were let in before."""
    allowance = Allowance(60, max_waiting=1)
    allowance.reserve(0.0, place=1)
    younger = allowance.reserve(0.0, place=2)
    for place in (3, None):
        with pytest.raises(QueueFull) as caught:
            allowance.reserve(0.0, place=place)
        assert caught.value.retry_after is None
    retry = allowance.reserve(0.0, place=1, again=True)
    assert allowance.waiting == 2
    assert [reservation for _, reservation in _drain(allowance, 0.0)] == [retry, younger]


def test_a_stated_window_closes_the_gate_for_all():
    """While the gate is shut nobody is granted, and all who wait go on afterwards."""
    allowance = Allowance(600)
    rejected = allowance.reserve(0.0)
    assert allowance.gate.close(30.0, rejected.granted_at, 1.0, "the server asked")
    waiting = [allowance.reserve(2.0) for _ in range(3)]
    assert not any(reservation.granted for reservation in waiting)
    assert list(allowance.poll(29.9)) == []
    assert allowance.due == 30.0
    assert list(allowance.poll(30.0)) == waiting
    told = allowance.statistics(10.0)
    assert (told.gate, told.gate_reason) == (20.0, "the server asked")


def test_three_hints_close_the_gate_and_one_call_asks():
    """The third of three calls that are told to wait shuts the gate; after 1 s one call goes."""
    allowance = Allowance(600)
    told = [allowance.reserve(number / 10) for number in range(3)]
    closed = [allowance.told_to_wait(each, 30.0, 0.5, "the server asked") for each in told]
    assert closed == [None, None, GateClosed(1.0, "the server asked")]
    waiting = [allowance.reserve(0.5) for _ in range(3)]
    assert allowance.waits_for(0.5) == "the server asked"
    assert allowance.due == 1.5
    assert list(allowance.poll(1.5)) == waiting[:1]  # the question
    allowance.let_in(waiting[0], 1.6)
    assert list(allowance.poll(1.6)) == waiting[1:]


def test_requests_in_flight_close_the_gate_only_once():
    """A request sent before the last correction corrects nothing again."""
    allowance = Allowance(6_000)
    crowd = [allowance.reserve(0.0) for _ in range(64)]
    closed = [allowance.told_to_wait(each, 1.5, 1.0, "first") for each in crowd]
    assert [each is not None for each in closed] == [False, False, True] + [False] * 61
    assert allowance.gate.until == 2.5
    later = allowance.reserve(2.5)
    assert allowance.told_to_wait(later, 1.0, 2.6, "second") == GateClosed(1.0, "second")


def test_a_stated_window_is_never_shortened():
    """A nearer reset that comes later leaves the longer wait in place."""
    allowance = Allowance(600)
    first = allowance.reserve(0.0)
    allowance.gate.close(50.0, first.granted_at, 0.0, "long")
    assert not allowance.gate.close(10.0, first.granted_at, 0.0, "short")
    assert allowance.gate.until == 50.0


def test_a_stated_limit_is_adopted_or_lowers():
    """Stated limits supply what was not declared, lower what was, and are reported."""
    allowance = Allowance(600)
    reservation = allowance.reserve(0.0)
    stated = [Limit("requests", 60), Limit("tokens", 6_000)]
    changes = allowance.observe(stated, reservation, 1.0)
    assert changes == [Change("requests", 600, 60), Change("tokens", None, 6_000)]
    assert allowance.observe(stated, reservation, 2.0) == []
    assert allowance.counts_tokens
    assert allowance.statistics(2.0).tokens_per_minute == 6_000


def test_what_remains_bounds_what_is_sent_at_once():
    """The server's remaining, less what was granted afterwards, is all that may go at once."""
    allowance = Allowance(6_000)
    first = allowance.reserve(0.0)
    for _ in range(3):
        allowance.reserve(0.0)
    allowance.observe([Limit("requests", 6_000, remaining=10)], first, 0.0)
    assert allowance.statistics(0.0).requests_left == pytest.approx(7)


def test_what_remains_is_credited_with_the_refill_since():
    """A slow answer's remaining is old: what came in since is added."""
    allowance = Allowance(6_000)
    first = allowance.reserve(0.0)
    allowance.observe([Limit("requests", 6_000, remaining=10)], first, 0.5)
    assert allowance.statistics(0.5).requests_left == pytest.approx(10 + 0.5 * 100)


def test_remaining_tokens_count_what_was_granted_afterwards():
    """Tokens granted after the observed request are taken off what remained."""
    allowance = Allowance(tokens_per_minute=60_000)
    first = allowance.reserve(0.0, 100.0)
    allowance.reserve(0.0, 200.0)
    allowance.observe([Limit("tokens", 60_000, remaining=500)], first, 0.0)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(300)


@pytest.mark.parametrize(("really", "left"), [(None, 300), (50.0, 450), (350.0, 150)])
def test_remaining_tokens_count_what_it_really_cost(really, left):
    """A later request that is over is taken off at its real cost, and not at its estimate."""
    allowance = Allowance(tokens_per_minute=60_000)
    first = allowance.reserve(0.0, 100.0)
    allowance.settle(allowance.reserve(0.0, 200.0), 0.0, really)
    allowance.observe([Limit("tokens", 60_000, remaining=500)], first, 0.0)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(left)


def test_remaining_tokens_do_not_count_what_was_given_back():
    """A later request whose tokens came back takes nothing off what remained."""
    allowance = Allowance(tokens_per_minute=60_000)
    first = allowance.reserve(0.0, 100.0)
    allowance.refund(allowance.reserve(0.0, 200.0), 0.0, request=False)
    allowance.observe([Limit("tokens", 60_000, remaining=500)], first, 0.0)
    assert allowance.statistics(0.0).tokens_left == pytest.approx(500)


def test_remaining_tokens_count_what_was_granted_after_a_wait():
    """One that had to wait knows, as any other, how many tokens had been granted before it."""
    allowance = Allowance(None, 6_000, burst=1.0)
    first = allowance.reserve(0.0, 100)
    waited = allowance.reserve(0.0, 60)
    assert not waited.granted
    ((now, granted),) = _drain(allowance, 0.0)
    assert granted is waited
    allowance.observe([], waited, now)
    assert (first.ordinal, first.total_tokens) == (1, 100)
    assert (waited.ordinal, waited.total_tokens, waited.granted_at) == (2, 160, now)


def test_what_a_request_really_cost_is_learned_from():
    """A limit that is followed in estimates is told in real tokens."""
    kept = {"dimension": "tokens", "per_minute": 60_000, "windowed": False, "measured_by": 40.0}
    allowance = Allowance(belief=kept)
    allowance.settle(allowance.reserve(1.0, 100.0), 1.1, 200)
    assert allowance.statistics(1.2).learned > 60_000


def test_what_remains_never_fills_the_bucket():
    """A generous remaining does not lift what the limit allows at once."""
    allowance = Allowance(600)
    granted = _spent(allowance)
    allowance.observe([Limit("requests", 600, remaining=500)], granted[-1], 0.0)
    assert allowance.statistics(0.0).requests_left == pytest.approx(0)


def test_an_empty_window_closes_the_gate_until_its_reset():
    """Where nothing remains of a window, everyone waits for its end."""
    allowance = Allowance(600)
    reservation = allowance.reserve(0.0)
    allowance.observe([Limit("requests", 600, remaining=0, reset=20.0)], reservation, 1.0)
    assert allowance.gate.until == 21.0
    assert allowance.statistics(1.0).gate_reason == "no requests remain"
    assert "requests" in allowance.waits_for(1.0)


def test_a_bucket_that_refills_closes_no_gate():
    """The reset of a refilling bucket is when it is full again: no reason to stand still."""
    allowance = Allowance(600)
    reservation = allowance.reserve(0.0)
    allowance.observe([Limit("requests", 600, remaining=0, reset=60.0)], reservation, 1.0)
    assert allowance.gate.until == -math.inf
    assert allowance.waits_for(1.0) == "the limit is used up"


@pytest.mark.parametrize("remaining", [None, -1.0, math.nan, math.inf])
def test_a_remaining_that_makes_no_sense_is_ignored(remaining):
    """An odd remaining lowers nothing and closes nothing."""
    allowance = Allowance(600)
    reservation = allowance.reserve(0.0)
    allowance.observe([Limit("requests", 600, remaining, 20.0)], reservation, 0.0)
    assert allowance.statistics(0.0).requests_left == pytest.approx(9)
    assert allowance.statistics(0.0).gate == 0.0


def test_resize_applies_at_once_and_forgives_nothing():
    """A lower limit keeps the debt, a higher one lets waiters go sooner."""
    allowance = Allowance(60)
    _spent(allowance)
    waiting = allowance.reserve(0.0)
    assert allowance.due == pytest.approx(1.0)
    allowance.resize(0.0, requests_per_minute=120)
    assert list(allowance.poll(0.0)) == [waiting]
    assert allowance.statistics(0.0).requests_left == pytest.approx(0)
    allowance.resize(0.0, requests_per_minute=6_000)
    assert allowance.statistics(0.0).requests_left == pytest.approx(98)
    allowance.resize(1.0, tokens_per_minute=600)
    assert allowance.statistics(1.0).tokens_per_minute == 600
    assert allowance.statistics(1.0).requests_per_minute == 6_000
    with pytest.raises(ConfigurationError):
        allowance.resize(1.0, requests_per_minute=0)


def test_rebase_moves_everything_to_another_clock():
    """After a change of clock the debt and the gate have as long to go as before."""
    allowance = Allowance(60)
    reservation = allowance.reserve(1_000.0)
    allowance.gate.close(1_030.0, reservation.granted_at, 1_000.0, "asked")
    allowance.settle(reservation, 1_000.0)
    allowance.rebase(-1_000.0)
    assert allowance.statistics(0.0).gate == 30.0
    assert allowance.statistics(0.0).requests_left == pytest.approx(0)
    assert not allowance.idle(29.0)
    assert not allowance.idle(31.0)  # its window still holds what was sent
    assert allowance.idle(61.0)


@given(
    st.sampled_from([5, 60, 600]),
    st.sampled_from([None, 6_000]),
    st.lists(st.floats(0, 100), max_size=15),
    st.floats(0, 100),
    st.floats(0, 40),
)
def test_earliest_is_when_one_more_call_is_granted(requests, per_minute, queued, tokens, gate):
    """The instant that is foretold for one more call is the one at which it is granted."""
    allowance = Allowance(requests, per_minute)
    first = allowance.reserve(0.0, 10.0)
    allowance.gate.close(gate, first.granted_at, 0.0, "asked")
    for cost in queued:
        allowance.reserve(0.0, cost)
    foretold = allowance.earliest(0.0, tokens)
    last = allowance.reserve(0.0, tokens)
    _drain(allowance, 0.0)
    assert foretold <= last.granted_at + 1e-6
    if gate == 0.0:
        assert foretold == pytest.approx(last.granted_at, abs=1.0)  # three windows' margin


@pytest.mark.parametrize("served", [True, False])
def test_earliest_counts_only_who_still_waits(served):
    """Tokens of those who were granted, or who gave up, do not delay what is foretold."""
    allowance, now = Allowance(tokens_per_minute=6_000), 0.0
    allowance.reserve(now, 100.0)
    waiting = [allowance.reserve(now, cost) for cost in (60.0, 80.0)]
    if served:
        now = _drain(allowance, now)[-1][0]
    else:
        for each in waiting:
            allowance.cancel(each, now)
    foretold = allowance.earliest(now, 50.0)
    last = allowance.reserve(now, 50.0)
    _drain(allowance, now)
    assert now < foretold == pytest.approx(last.granted_at)


@given(
    st.floats(1, 5_000),
    st.floats(1, 1e5),
    st.floats(0.1, 30),
    st.lists(st.floats(0, 1e5), min_size=1, max_size=30),
    st.floats(0, 1e7),
)
def test_waking_at_the_promised_instant_always_makes_progress(
    requests, tokens, burst, costs, start
):
    """The loop `now = due; poll(now)` grants somebody each time, at any rate and any clock."""
    allowance = Allowance(requests, tokens, burst=burst)
    waiting = [allowance.reserve(start, cost) for cost in costs]
    _drain(allowance, start)
    instants = [reservation.granted_at for reservation in waiting]
    assert instants == sorted(instants)
    assert all(reservation.granted for reservation in waiting)


def test_it_tells_how_many_requests_fit_into_a_time():
    """From a full start a minute admits just the limit."""
    allowance = Allowance(600)
    assert allowance.admits_within(0.0) == 10
    assert allowance.admits_within(60.0) == pytest.approx(600)


def test_statistics_tell_the_whole_state():
    """The snapshot shows limits, what is left, the queue and the gate."""
    allowance = Allowance(60, 6_000)
    allowance.reserve(0.0, 30.0)
    allowance.reserve(0.0, 30.0)
    told = allowance.statistics(0.0)
    assert (told.requests_per_minute, told.tokens_per_minute) == (60, 6_000)
    assert told.requests_left == pytest.approx(0)
    assert told.tokens_left == pytest.approx(70)
    assert (told.waiting, told.outstanding, told.gate) == (1, 1, 0.0)
    assert (told.learned, told.pace) == (None, None)
    assert "at rest" in told.evidence
    assert "60 requests" in str(allowance)
    assert "1 waiting" in repr(allowance)


@pytest.mark.parametrize("burst", [30.0, 60.0, "window"])
def test_a_large_burst_never_lowers_the_rate(burst):
    """With all of the limit in the burst, five minutes still hold five times the limit."""
    allowance, now, sent = Allowance(600, burst=burst), 0.0, 0
    while now < 300.0:
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = max(now, allowance.due)
            assert list(allowance.poll(now)) == [reservation]
        allowance.settle(reservation, now)
        sent += now < 300.0
    assert sent == pytest.approx(3_000, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": math.nan},
        {"tokens_per_minute": -1},
        {"tokens_per_minute": math.inf},
        {"share": 0.0},
        {"share": 1.01},
        {"share": math.nan},
        {"burst": 0.0},
        {"burst": math.inf},
        {"burst": "minute"},
        {"burst": math.nan},
        {"max_waiting": -1},
    ],
)
def test_values_out_of_range_are_refused(values):
    """An allowance that cannot work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        Allowance(**values)


def test_earliest_of_an_over_size_request_is_not_delayed_by_its_own_debt():
    """A request above the burst that is granted now can be sent now: no deadline refuses it."""
    allowance = Allowance(tokens_per_minute=200_000)
    foretold = allowance.earliest(0.0, 30_000.0)
    assert allowance.reserve(0.0, 30_000.0).granted
    assert foretold == 0.0


def test_one_response_closes_the_gate_for_its_longest_reset():
    """Two empty windows in one response are one piece of news: the longer reset counts."""
    allowance = Allowance(600, 60_000)
    reservation = allowance.reserve(0.0, 10.0)
    stated = [Limit("requests", 600, 0, reset=5.0), Limit("tokens", 60_000, 0, reset=50.0)]
    allowance.observe(stated, reservation, 1.0)
    assert allowance.gate.until == 51.0


def test_an_absurd_estimate_does_not_lift_the_limit():
    """After an absurd estimate was refunded, the token limit still holds."""
    allowance = Allowance(tokens_per_minute=1)
    allowance.refund(allowance.reserve(0.0, 1e308), 0.0, request=True)
    granted = [allowance.reserve(0.0, 1.0).granted for _ in range(10)]
    assert granted.count(True) <= 1


@pytest.mark.parametrize("limit", [2, 600])
def test_requests_refunded_late_do_not_add_to_a_later_minute(limit):
    """Connections that time out a minute later, unsent, do not make the next minute overflow."""
    allowance, now = Allowance(limit), 0.0
    unsent, sent = [], []
    while now < 65.0:
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = allowance.due
            assert list(allowance.poll(now)) == [reservation]
        unsent.append(reservation)
    while now < 125.0:
        reservation = allowance.reserve(now)
        while not reservation.granted:
            if unsent and unsent[0].granted_at + 60.0 <= now:
                allowance.refund(unsent.pop(0), now, request=True)
            now = max(now, allowance.due)
            list(allowance.poll(now))
        sent.append(now)
    assert max(sum(then <= at <= then + 60.0 for at in sent) for then in sent) <= limit


def test_a_rate_that_grew_too_fast_is_halved_and_nothing_is_measured():
    """A server that minds the slope says nothing about the limit."""
    allowance = Allowance()
    now, reservation = 0.0, allowance.reserve(0.0)
    for _ in range(60):
        allowance.settle(reservation, now)
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = allowance.due
            list(allowance.poll(now))
    fast = allowance.statistics(now).pace
    for _ in range(5):  # one wave is one piece of news
        allowance.rejected(reservation, now + 0.3, steep=True)
    told = allowance.statistics(now)
    assert told.pace == pytest.approx(fast / 2)
    assert told.learned is None


class Followed(Rates):
    """Follows every reply, as if none were as expected."""

    __slots__ = ()

    def are_as_expected(self, *_):
        """Expect nothing."""
        return False


SHAPES = [
    [("requests", 600.0)],
    [("requests", 60.0)],
    [("requests", 600.0), ("tokens", 60_000.0)],
    [("requests", None), ("requests", 600.0)],
]
"""Which limits a server states in its replies; it states the same again and again."""


@given(
    numbers=st.sampled_from([(), (600, 60_000), (600, None)]),
    replies=st.lists(
        st.tuples(
            st.sampled_from([0.01, 1.0, 5.0]),  # after the one before
            st.integers(0, 2),  # how many more were sent before it came
            st.sampled_from([*SHAPES, SHAPES[0], SHAPES[2]]),
            st.sampled_from([None, 0.0, 1.0, 5.0, 500.0, 50_000.0]),  # remaining
            st.sampled_from([None, 0.5, 20.0]),  # until the reset
        ),
        max_size=20,
    ),
)
def test_a_reply_as_expected_changes_nothing(numbers, replies):
    """To leave such a reply aside ends as to follow it would."""
    quick, thorough, now = Allowance(*numbers), Allowance(*numbers), 0.0
    thorough._rates.__class__ = Followed
    for gap, more, shape, remaining, reset in replies:
        limits = [Limit(dimension, limit, remaining, reset) for dimension, limit in shape]
        now += gap
        changes = []
        for allowance in (quick, thorough):
            reservations = [allowance.reserve(now, 300.0) for _ in range(1 + more)]
            list(allowance.poll(now + 0.2))
            if reservations[0].granted:
                changes.append(allowance.observe(limits, reservations[0], now + 0.2))
        now += 0.2
        assert changes[:1] == changes[1:]
        assert quick.statistics(now) == thorough.statistics(now)


def test_nothing_left_closes_the_gate_although_it_was_expected():
    """A window that is used up is news, even where a large request has gone into debt."""
    allowance = Allowance()
    allowance.observe([Limit("tokens", 6_000.0, 5_999.0)], allowance.reserve(0.0), 0.0)
    large = allowance.reserve(0.0, 5_000.0)
    assert allowance.statistics(0.0).tokens_left < 0
    [closed] = allowance.observe([Limit("tokens", 6_000.0, 0.0, 20.0)], large, 0.0)
    assert (closed.delay, allowance.gate.until) == (20.0, 20.0)


def test_a_limit_that_was_declared_anew_is_followed_again():
    """What the server states lowers the new number, as it lowered the old one."""
    allowance, told = Allowance(600), [Limit("requests", 300.0)]
    reservation = allowance.reserve(0.0)
    assert len(allowance.observe(told, reservation, 0.0)) == 1
    assert allowance.observe(told, reservation, 0.0) == []
    allowance.resize(0.0, requests_per_minute=900)
    assert [change.new for change in allowance.observe(told, reservation, 0.0)] == [300.0]


def test_reservations_of_a_loop_that_was_closed_end():
    """They stay spent; who waited is gone, and what is settled later changes nothing."""
    allowance = Allowance(60.0, 6_000.0)
    granted = allowance.reserve(0.0, 50.0)
    waiting = allowance.reserve(0.0, 50.0)
    assert (granted.granted, waiting.granted, allowance.busy) == (True, False, True)
    allowance.abandon()
    assert (allowance.busy, allowance.waiting, waiting.gone) == (False, 0, True)
    left = allowance.statistics(0.0)
    allowance.settle(granted, 0.0, 5.0)
    allowance.cancel(waiting, 0.0)
    assert allowance.statistics(0.0) == left
    later = allowance.reserve(10.0, 50.0)
    assert (later.granted, allowance.busy) == (True, True)
    allowance.refund(later, 10.0, request=True)
    assert not allowance.busy


@pytest.mark.parametrize("before", [5, 100])
def test_one_estimate_that_was_far_too_high_admits_no_more_than_the_limit(before):
    """What it does to the mean of the others is held back while they are in flight."""
    allowance = Allowance(tokens_per_minute=200_000, burst="window")
    for number in range(before):
        allowance.settle(allowance.reserve(number / 10, 1_000.0), number / 10, 1_000.0)
    freak = allowance.reserve(100.0, 190_000.0)
    allowance.settle(freak, 160.0, 1_000.0)
    for _ in range(1_000):
        allowance.reserve(170.0, 1_000.0)
    for now in range(170, 230):
        assert list(allowance.poll(float(now))) == []
    assert allowance.statistics(230.0).outstanding == 200


@pytest.mark.parametrize(("real", "charged"), [(3_000.0, 3_000.0), (250.0, 1_000.0)])
def test_a_request_without_a_usage_costs_no_less_than_was_reserved(real, charged):
    """Where estimates are too low, others show what it costs; else its estimate is a bound."""
    allowance = Allowance(tokens_per_minute=60_000_000)
    for number in range(1_000):
        reservation = allowance.reserve(float(number), 1_000.0)
        allowance.settle(reservation, float(number), real)
    before = allowance._rates.tokens.ledger.spent(2_000.0)
    allowance.settle(allowance.reserve(2_000.0, 1_000.0), 2_008.0)
    assert before == 0.0
    assert allowance._rates.tokens.ledger.total == pytest.approx(charged, rel=0.01)


def test_a_question_that_was_never_sent_opens_no_gate():
    """That it is not refused shows nothing: the next call is the question."""
    allowance = Allowance(requests_per_minute=6_000)
    for witness in [allowance.reserve(number / 10) for number in range(3)]:
        allowance.told_to_wait(witness, 60.0, 0.4, "the server asked for it")
    for _ in range(20):
        allowance.reserve(0.5)
    [question] = allowance.poll(1.4)
    allowance.refund(question, 1.41, request=True)
    due = allowance.due
    assert due is not None
    assert len(list(allowance.poll(due))) == 1


def test_a_usage_of_nothing_is_no_usage():
    """Some gateways state 0 for all: believed, it would take away the limit on tokens."""
    allowance = Allowance(tokens_per_minute=60_000)
    for number in range(300):
        now = 100.0 * number
        allowance.settle(allowance.reserve(now, 1_000.0), now, 0)
    last = allowance.reserve(40_000.0, 1_000.0)
    assert last.tokens == 1_000.0
