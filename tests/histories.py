"""What may happen to a learner: a sender in virtual time, limits, and histories of them."""

import heapq
import math

from hypothesis import strategies as st

from resilient_infe.rate.learning.learner import Learner
from resilient_infe.testing.limits import make_limit

SLOTS, LATENCY, REFUSAL = 4, 0.4, 0.05
"""Calls in flight and what answers take, in seconds: 10 a second at most."""

MOST = SLOTS / LATENCY


class Driver:
    """Sends with endless work through some slots, in virtual time."""

    def __init__(self, **learner):
        self.learner = Learner(**learner)
        self.now, self.slots = 0.0, SLOTS
        self.accepted = self.sends = 0
        self.flying, self.number = [], 0
        self.paces = []

    def run(self, seconds, accepts, hint=0.0, tokens=200.0):
        """Send for a while to a server; `accepts(now, cost)` says whether it lets a call in."""
        end, before = self.now + seconds, self.accepted
        while True:
            ready = max(self.now, self.learner.ready_at(tokens))
            assert not math.isnan(ready)
            full = len(self.flying) >= self.slots
            if self.flying and (full or self.flying[0][0] <= ready):
                self.now = max(self.now, self.flying[0][0])
                if self.now >= end:
                    break
                _, _, ticket, passed, told = heapq.heappop(self.flying)
                self._answer(ticket, passed, told)
                continue
            if ready >= end:
                break
            self.now = ready
            self._send(accepts(self.now, tokens), hint, tokens)
        self.now = max(self.now, end)
        return (self.accepted - before) / seconds

    def _send(self, passes, hint, tokens):
        ticket = self.learner.sent(self.now, tokens)
        self.sends += 1
        self.number += 1
        if (pace := self.learner.pace) is not None:  # else it rests
            assert 0.0 < pace < math.inf
            self.paces.append(pace / 60.0)
        self.accepted += passes
        at = self.now + (LATENCY if passes else REFUSAL)
        heapq.heappush(self.flying, (at, self.number, ticket, passes, hint))

    def _answer(self, ticket, passed, hint):
        if passed:
            self.learner.accepted(self.now, ticket, 180.0)
        else:
            self.learner.rejected(self.now, ticket, hint)

    def idle(self, seconds):
        """Send nothing for a while."""
        while self.flying:
            self.now = max(self.now, self.flying[0][0])
            _, _, ticket, passed, told = heapq.heappop(self.flying)
            self._answer(ticket, passed, told)
        self.now += seconds


def everything(_, __):
    """Accept all."""
    return True


def nothing(_, __):
    """Accept nothing."""
    return False


def every(count):
    """Refuse one call in so many."""
    calls = iter(range(10**9))
    return lambda _, __: next(calls) % count != 0


def kept(style, per_minute, period=60.0, burst=1.0):
    """Keep a limit, whatever was before."""
    limit = make_limit(style, per_minute * period / 60.0, period, burst)

    def accepts(now, _):
        if not limit.fits(1.0, now):
            return False
        limit.take(1.0, now)
        return True

    return accepts


LIMITS = [
    (style, per_minute, period, burst)
    for style, period, burst in (
        ("bucket", 60.0, 1.0),
        ("bucket", 60.0, 20.0),
        ("fixed", 10.0, 1.0),
        ("fixed", 60.0, 1.0),
        ("sliding", 10.0, 1.0),
        ("sliding", 60.0, 1.0),
    )
    for per_minute in (30.0, 120.0, 600.0)
]

PHASES = st.one_of(
    st.tuples(st.just("refuse"), st.sampled_from([1.0, 30.0, 120.0]), st.sampled_from([0, 1, 60])),
    st.tuples(st.just("idle"), st.sampled_from([2.0, 60.0, 400.0]), st.just(0)),
    st.tuples(st.just("accept"), st.sampled_from([1.0, 20.0]), st.just(0)),
    st.tuples(st.just("noise"), st.sampled_from([5.0, 60.0]), st.sampled_from([2, 10, 30])),
    st.tuples(st.just("limit"), st.sampled_from([20.0, 150.0]), st.integers(0, len(LIMITS) - 1)),
)  # fmt: skip
HISTORIES = st.lists(PHASES, max_size=6)


def live(driver, history):
    """Let a history happen."""
    for what, seconds, value in history:
        if what == "refuse":
            driver.run(seconds, nothing, hint=float(value))
        elif what == "idle":
            driver.idle(seconds)
        elif what == "accept":
            driver.run(seconds, everything)
        elif what == "noise":
            driver.run(seconds, every(value))
        else:
            driver.run(seconds, kept(*LIMITS[value]))
