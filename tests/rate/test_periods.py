"""Periods: which period a stated limit has, and which limits are not believed."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.classify.headers import limits
from resilient_infe.core.verdict import DAY, Limit
from resilient_infe.rate.allowance import Allowance

HOUR = 3_600.0


class Proxy:
    """Lets `limit` requests pass in each window of `period` seconds, and states that.

    Attributes:
        passed, refused: how many were.
    """

    def __init__(self, limit, period, *, remaining=True, slides=True):
        self.limit, self.period = limit, period
        self.remaining, self.slides = remaining, slides
        self.inside = deque()
        self.passed = self.refused = 0

    def ask(self, now):
        """Return whether a request passes, and the headers."""
        start = now - self.period if self.slides else now // self.period * self.period
        while self.inside and self.inside[0] <= start:
            self.inside.popleft()
        passes = len(self.inside) < self.limit
        if passes:
            self.inside.append(now)
        self.passed += passes
        self.refused += not passes
        reset = self.period if self.slides else start + self.period - now
        headers = {"x-ratelimit-limit": str(self.limit), "x-ratelimit-reset": f"{reset:.3f}"}
        if self.remaining:
            headers["x-ratelimit-remaining"] = str(self.limit - len(self.inside))
        return passes, headers


def send(allowance, proxy, seconds, start=0.0):
    """Send as fast as the allowance lets, each answered at once; a 429 waits for a second."""
    now = start
    while now < start + seconds:
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = max(now, allowance.due)
            list(allowance.poll(now))
        passes, headers = proxy.ask(now)
        allowance.observe(limits(headers), reservation, now, refused=not passes)
        if passes:
            allowance.settle(reservation, now)
            continue
        allowance.refund(reservation, now, request=False)
        if not allowance.refused(reservation, now):
            allowance.rejected(reservation, now)
        now += 1.0


@pytest.mark.parametrize("remaining", [True, False])
@pytest.mark.parametrize("declared", [300, 600, None])
@pytest.mark.parametrize(("limit", "period"), [(10, 2.0), (50, 10.0), (5, 1.0)])
def test_a_short_period_is_read_from_the_reset(limit, period, declared, remaining):
    """Ten with a reset of 2 s are 300 a minute, and not ten, with and without a declared limit."""
    allowance = Allowance(declared, burst=0.5)
    proxy = Proxy(limit, period, remaining=remaining)
    send(allowance, proxy, 90.0)
    proxy.passed = proxy.refused = 0
    send(allowance, proxy, 60.0, start=90.0)
    assert proxy.passed >= 0.93 * limit * 60.0 / period
    assert proxy.refused <= 0.01 * proxy.passed


@pytest.mark.parametrize(("limit", "period"), [(100, 20.0), (150, 30.0)])
def test_resets_that_all_were_short_tell_it_after_a_minute(limit, period):
    """A first reset of 20 s may be that of a minute; when none was longer, it is not."""
    allowance, proxy = Allowance(300, burst=0.5), Proxy(limit, period)
    send(allowance, proxy, 70.0)
    proxy.passed = proxy.refused = 0
    send(allowance, proxy, 120.0, start=70.0)
    assert proxy.passed >= 0.9 * 600
    assert proxy.refused <= 6


@pytest.mark.parametrize("remaining", [True, False])
@pytest.mark.parametrize("start", [0.0, 30.0, 52.0, 58.0])
@pytest.mark.parametrize("declared", [600, 3_000, None])
def test_a_window_of_a_minute_that_ends_soon_is_read_rightly_afterwards(declared, start, remaining):
    """Whatever the first reset is, a window of a minute is known within two."""
    allowance = Allowance(declared, burst=0.5)
    proxy = Proxy(600, 60.0, remaining=remaining, slides=False)
    send(allowance, proxy, 120.0, start)
    assert allowance.statistics(start + 120.0).requests_per_minute == pytest.approx(600)
    proxy.refused = 0
    send(allowance, proxy, 120.0, start=start + 120.0)
    assert proxy.refused <= 3


def test_a_bucket_of_a_minute_is_one_however_short_its_resets_are():
    """One of 600 was used and comes back in 0.1 s."""
    allowance = Allowance()
    reservation = allowance.reserve(0.0)
    for remaining, reset in ((599, 0.1), (590, 1.0), (300, 30.0), (0, 60.0)):
        allowance.observe([Limit("requests", 600.0, remaining, reset)], reservation, 0.1)
        assert allowance.statistics(0.1).requests_per_minute == 600


@pytest.mark.parametrize(
    ("stated", "per_minute"),
    [
        (Limit("requests", 3_000.0, 0.0, HOUR), 50.0),
        (Limit("requests", 600.0, 0.0, 70.0), 600.0),  # a bucket in debt
        (Limit("requests", 600.0, 300.0, HOUR), 600.0),
        (Limit("requests", 900.0, window=HOUR), 15.0),
    ],
)
def test_a_long_period_is_read_where_nothing_remains(stated, per_minute):
    """No minute takes over two minutes to come back; while something remains it says nothing."""
    allowance = Allowance()
    allowance.observe([stated], allowance.reserve(0.0), 0.1)
    assert allowance.statistics(0.1).requests_per_minute == pytest.approx(per_minute)


def accepted(allowance, number, seconds, stated):
    """Have so many requests let in; each answer states the same. Return all changes."""
    changes = []
    for each in range(number):
        now = each * seconds / number
        reservation = allowance.reserve(now)
        allowance.settle(reservation, now)
        changes += allowance.observe([stated], reservation, now)
    return changes


@pytest.mark.parametrize("window", [60.0, 2.0])
def test_what_contradicts_what_was_accepted_is_not_believed(window):
    """A server that states ten and lets 200 pass within the period does not keep the ten."""
    allowance = Allowance(6_000, burst=60.0)
    accepted(allowance, 200, 1.9, Limit("requests"))
    reservation = allowance.reserve(2.0)
    stated = Limit("requests", 10.0, window=window)
    assert allowance.observe([stated], reservation, 2.0) == []
    assert allowance.statistics(2.0).requests_per_minute == 6_000


def test_what_is_stated_with_a_429_is_believed():
    """The server refuses: it keeps a limit now, whatever it let pass before."""
    allowance = Allowance(6_000, burst=60.0)
    accepted(allowance, 200, 1.9, Limit("requests"))
    reservation = allowance.reserve(2.0)
    [change] = allowance.observe([Limit("requests", 70.0)], reservation, 2.0, refused=True)
    assert (change.old, change.new) == (6_000, 70)


def test_up_to_twice_the_limit_contradicts_nothing():
    """A fixed window, or a full bucket, lets twice the limit pass within a period."""
    allowance = Allowance(6_000, burst=60.0)
    accepted(allowance, 200, 1.9, Limit("requests"))
    [change] = allowance.observe([Limit("requests", 100.0)], allowance.reserve(2.0), 2.0)
    assert change.new == 100


def test_a_limit_that_is_stated_too_low_is_kept():
    """Nothing contradicts it: what it allows is all that is sent."""
    allowance, now = Allowance(600, burst=0.5), 0.0
    for _ in range(30):
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = allowance.due
            list(allowance.poll(now))
        allowance.settle(reservation, now)
        allowance.observe([Limit("requests", 20.0)], reservation, now)
    assert now > 60.0
    assert allowance.statistics(now).requests_per_minute == 20


def test_headers_need_not_be_followed():
    """With `follow_headers=False` what a server states changes nothing, and shuts no gate."""
    allowance = Allowance(600, follow_headers=False)
    stated = [Limit("requests", 10.0, 0.0, 20.0), Limit("requests", 5.0, 0.0, window=DAY)]
    assert allowance.observe(stated, allowance.reserve(0.0), 0.1) == []
    assert allowance.statistics(0.1).gate == 0
    assert allowance.statistics(0.1).requests_per_minute == 600


def test_a_short_window_is_kept_beside_the_declared_minute():
    """Ten in 2 s, and 100 in a minute: each binds in its turn."""
    allowance, now, sent = Allowance(100, burst="window"), 0.0, []
    for number in range(300):
        reservation = allowance.reserve(now)
        if not reservation.granted:
            now = allowance.due
            list(allowance.poll(now))
        sent.append(now)
        allowance.settle(reservation, now)
        if not number:
            stated = Limit("requests", 10.0, window=2.0)
            assert allowance.observe([stated], reservation, now) == []
    for period, most in ((2.0, 10), (60.0, 100)):
        assert max(sum(at - period < each <= at for each in sent) for at in sent[20:]) <= most
    assert now <= 140.0


def test_a_short_window_goes_when_the_server_states_a_minute_instead():
    """A proxy that was set up anew is followed."""
    allowance = Allowance(600)
    reservation = allowance.reserve(0.0)
    allowance.observe([Limit("requests", 5.0, window=1.0)], reservation, 0.0)
    assert len(allowance.statistics(0.0).limits) == 2
    allowance.observe([Limit("requests", 300.0, window=60.0)], reservation, 0.0)
    [left] = allowance.statistics(0.0).limits
    assert (left.limit, left.period) == (300, 60)
    allowance.observe([Limit("requests", 5.0, window=1.0)], reservation, 0.0)
    assert [each.limit for each in allowance.statistics(0.0).limits] == [600, 5]


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.3, 5.0, 70.0]),
            st.sampled_from(["requests", "tokens", "input_tokens", "output_tokens"]),
            st.sampled_from([None, 1.0, 10.0, 600.0, 1e12]),
            st.sampled_from([None, 0.0, 1.0, 599.0, 1e12]),
            st.sampled_from([None, 1e-9, 0.5, 2.0, 59.0, 3_000.0, 1e9]),
            st.sampled_from([None, 1e-9, 1.0, 60.0, 3_600.0, DAY, 1e9]),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.sampled_from([{}, {"requests_per_minute": 600}, {"tokens_per_day": 1e6}]),
)
def test_nothing_that_is_stated_stops_it_for_ever(steps, declared):
    """Whatever a server states, a call can be sent or is told when, in finite time."""
    allowance, now = Allowance(**declared), 1_000.0
    for pause, dimension, limit, remaining, reset, window, refused in steps:
        now += pause
        reservation = allowance.reserve(now, 50.0)
        if not reservation.granted:
            allowance.cancel(reservation, now)
            reservation = None
            continue
        stated = [Limit(dimension, limit, remaining, reset, window)]
        allowance.observe(stated, reservation, now, refused=refused)
        allowance.settle(reservation, now, 40.0)
        waiting = allowance.reserve(now, 50.0)
        if waiting.granted:
            allowance.refund(waiting, now, request=True)
        else:
            assert allowance.due <= now + 1.01 * DAY + 20.0 * DAY * (remaining == 1e12)
            allowance.cancel(waiting, now)


@pytest.mark.parametrize(
    ("headers", "refused", "kept"),
    [
        (  # Envoy's rate limit service
            {"x-ratelimit-limit": "10, 10;w=1, 300;w=60", "x-ratelimit-remaining": "9",
             "x-ratelimit-reset": "1"},
            False, [(300, 60), (10, 1)],
        ),
        (  # HAProxy's 429, as it is usually set up
            {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "0",
             "x-ratelimit-reset-requests": "2s", "retry-after": "2"},
            True, [(300, 60), (10, 2)],
        ),
        (  # Groq: requests per day, tokens per minute
            {"x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "14370",
             "x-ratelimit-reset-requests": "2m59.56s", "x-ratelimit-limit-tokens": "18000",
             "x-ratelimit-remaining-tokens": "17997", "x-ratelimit-reset-tokens": "10ms"},
            False, [(300, 60), (14_400, DAY), (18_000, 60)],
        ),
        (  # Cerebras
            {"x-ratelimit-limit-requests-day": "14400", "x-ratelimit-remaining-requests-day": "9",
             "x-ratelimit-reset-requests-day": "33011.38",
             "x-ratelimit-limit-tokens-minute": "60000"},
            False, [(300, 60), (14_400, DAY), (60_000, 60)],
        ),
    ],
)  # fmt: skip
def test_recorded_headers_are_followed(headers, refused, kept):
    """What is kept beside 300 declared requests a minute."""
    allowance = Allowance(300)
    first = allowance.reserve(0.0, 1.0)
    allowance.observe(limits(headers), first, 0.1, refused=refused)
    found = [(each.limit, each.period) for each in allowance.statistics(0.1).limits]
    assert found == kept
