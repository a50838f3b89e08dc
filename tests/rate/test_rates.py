"""The rate rule over simulated minutes, and the limits that a server states."""

import math
from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.verdict import Limit
from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.allowance import Allowance
from resilient_infe.rate.change import Change
from resilient_infe.rate.costs import costs_of
from resilient_infe.rate.rates import Rates, per_minute
from resilient_infe.rate.reservation import Reservation
from resilient_infe.rate.stated import window_reset

FIVE_MINUTES = 300.0


def _greedy(allowance, tokens=0.0, until=FIVE_MINUTES):
    """Return the instants of all grants when somebody always waits and wakes when promised."""
    now, granted = 0.0, []
    while now < until:
        reservation = allowance.reserve(now, tokens)
        if not reservation.granted:
            now = max(now, allowance.due)
            assert list(allowance.poll(now)) == [reservation]
        granted.append(now)
    return granted


def _most_in_a_minute(instants):
    """Return the largest number of instants in any closed window of 60 s."""
    window, most = deque(), 0
    for now in instants:
        window.append(now)
        while window[0] < now - 60.0:
            window.popleft()
        most = max(most, len(window))
    return most


@pytest.mark.parametrize("burst", [0.01, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("share", [1.0, 1 / 20])
@pytest.mark.parametrize("per_minute", [1, 2, 5, 10, 60, 600, 3_000])
def test_no_window_ever_holds_more_than_the_limit(per_minute, share, burst):
    """Polled greedily for five minutes, no closed minute holds more, and little is wasted."""
    limit = per_minute * share
    granted = _greedy(Allowance(per_minute, share=share, burst=burst))
    assert _most_in_a_minute(granted) <= max(1, math.floor(limit))
    used = sum(instant < FIVE_MINUTES for instant in granted) / (limit * 5)
    whole = math.floor(limit) if limit >= 1 else limit
    assert used >= 0.99 * whole / limit


@pytest.mark.parametrize(("per_minute", "share"), [(1, 0.5), (2, 1 / 20), (1, 0.01)])
def test_a_share_below_one_a_minute_is_spread_over_more_minutes(per_minute, share):
    """A share of less than one request a minute allows one in as many minutes as it takes."""
    granted = _greedy(Allowance(per_minute, share=share), until=20 * 60 / (per_minute * share))
    gaps = [later - earlier for earlier, later in pairwise(granted)]
    assert min(gaps) > 60 / (per_minute * share)
    assert max(gaps) < 63 / (per_minute * share)


@pytest.mark.parametrize("tokens", [7.0, 100.0, 999.5, 5_000.0])
def test_tokens_are_bounded_in_every_window_too(tokens):
    """No minute holds more tokens than the limit, and few less than as many as go into one."""
    allowance = Allowance(tokens_per_minute=12_000)
    granted = _greedy(allowance, tokens)
    most = 12_000 // tokens * tokens
    assert _most_in_a_minute(granted) * tokens <= most
    assert len(granted) * tokens >= 5 * most * 0.95


@given(
    st.floats(120, 1e5),
    st.floats(0.5, 10),
    st.lists(st.floats(0, 3_000), min_size=1, max_size=60),
    st.floats(0, 1e6),
)
def test_mixed_costs_stay_within_the_window(limit, burst, costs, start):
    """Any mix of costs stays within the limit."""
    allowance = Allowance(tokens_per_minute=limit, burst=burst)
    waiting = [allowance.reserve(start, cost) for cost in costs]
    now = start
    while allowance.waiting:
        now = max(now, allowance.due)
        assert list(allowance.poll(now))
    bound = max(limit, *costs, 0.0)
    for last in range(len(waiting)):
        end = waiting[last].granted_at
        inside = sum(r.tokens for r in waiting[: last + 1] if r.granted_at >= end - 60.0)
        assert inside <= bound * (1 + 1e-6) + 1e-6  # what the ledger takes for rounding


def _take(rates, tokens, now):
    """Take one request of `tokens`, which must fit."""
    costs = costs_of(tokens, None)
    assert rates.fits(costs, now)
    rates.take(Reservation(0, costs), now)


def _rates(requests=None, tokens=None, share=1.0, burst=1.0, **more):
    declared = {"requests_per_minute": requests, "tokens_per_minute": tokens, **more}
    return Rates(declared, burst, share)


def test_no_declared_limit_means_no_wait():
    """Without a bucket everything fits at once."""
    rates = _rates()
    assert rates.ready_at(costs_of(1e9, None)) == -math.inf
    assert rates.request_behind(1_000, 0.0) == -math.inf
    assert rates.full(0.0)
    assert rates.fits(costs_of(1e9, None), 0.0)
    assert per_minute(rates.requests) is None
    assert "learned" in str(rates)


def test_both_dimensions_are_taken_together():
    """The later of the two instants decides."""
    rates = _rates(60, 6_000)
    _take(rates, 100.0, 0.0)
    alone = _rates(60)
    _take(alone, 0.0, 0.0)
    assert rates.ready_at(costs_of(0.0, None)) == alone.ready_at(costs_of(0.0, None))
    assert rates.ready_at(costs_of(100.0, None)) == max(
        rates.requests.ready_at(1), rates.tokens.ready_at(100.0)
    )


def test_a_stated_limit_is_adopted_where_none_was_declared():
    """The server's limit is kept, times our share, and reported as a change from nothing."""
    rates = _rates(share=0.5)
    assert rates.adopt(Limit("requests", 600), 0.0) == Change("requests", None, 300)
    assert rates.requests.limit == 300
    assert rates.adopt(Limit("requests", 600), 1.0) is None


def test_a_stated_limit_lowers_a_declared_one_but_never_raises_it():
    """What was declared is an upper bound, and comes back when the server allows it again."""
    rates = _rates(600)
    assert rates.adopt(Limit("requests", 6_000), 0.0) is None
    assert rates.adopt(Limit("requests", 60), 0.0) == Change("requests", 600, 60)
    assert rates.adopt(Limit("requests", 6_000), 0.0) == Change("requests", 60, 600)


def test_a_stated_limit_of_an_hour_does_not_raise_a_declared_one_of_a_minute():
    """A whole hour's worth may not be sent at once: the limit is kept over a minute."""
    rates = _rates(100, burst=3_600.0)
    assert rates.adopt(Limit("requests", 4_800, window=3_600), 0.0) == Change("requests", 100, 80)
    assert (rates.requests.limit, rates.requests.period) == (80, 60)


def test_a_stated_window_is_kept():
    """A limit over an hour is kept over an hour, and told per minute."""
    rates = _rates()
    change = rates.adopt(Limit("tokens", 36_000, window=3_600), 0.0)
    assert change == Change("tokens", None, 600)
    assert rates.tokens.period == 3_600
    assert rates.tokens.limit == 36_000


def test_a_change_of_window_keeps_what_is_left():
    """Another window does not fill the bucket."""
    rates = _rates()
    rates.adopt(Limit("requests", 600), 0.0)
    for _ in range(10):
        _take(rates, 0.0, 0.0)
    rates.adopt(Limit("requests", 3_000, window=600), 0.0)
    assert rates.requests.level(0.0) == pytest.approx(0)
    assert rates.requests.period == 600


@pytest.mark.parametrize("stated", [None, 0.0, -5.0, math.nan, math.inf])
def test_a_stated_limit_that_makes_no_sense_is_ignored(stated):
    """Nothing, zero, negative, NaN and infinity change nothing."""
    rates = _rates(600)
    assert rates.adopt(Limit("requests", stated), 0.0) is None
    assert rates.requests.limit == 600


@pytest.mark.parametrize("window", [None, 0.0, -5.0, math.nan, math.inf])
def test_a_stated_window_that_makes_no_sense_is_a_minute(window):
    """A limit without an honest window is one per minute."""
    rates = _rates()
    rates.adopt(Limit("requests", 600, window=window), 0.0)
    assert rates.requests.period == 60


@pytest.mark.parametrize(
    ("remaining", "reset", "expected"),
    [
        (0, 20.0, 20.0),  # nothing left of a window that ends in 20 s
        (0, 60.0, None),  # a bucket that refills tells 60 s: all that is missing, at the rate
        (0.5, 20.0, 20.0),
        (1, 20.0, None),
        (0, None, None),
        (0, 0.0, None),
        (0, -3.0, None),
        (0, math.nan, None),
        (0, 301.0, None),
        (0, 300.0, 300.0),
        (None, 20.0, None),
        (math.nan, 20.0, None),
    ],
)
def test_only_the_reset_of_an_empty_window_is_waited_for(remaining, reset, expected):
    """One stands still for a window that is used up, not for a bucket that refills."""
    rates = _rates(600)
    assert window_reset(Limit("requests", 600, remaining, reset), rates) == expected


@pytest.mark.parametrize(
    ("reset", "opens"), [(20.0, 21.0), (30.0, 31.0), (60.0, -math.inf), (120.0, 121.0)]
)
def test_a_share_does_not_hide_that_a_bucket_refills(reset, opens):
    """The server refills at its whole rate, so the share changes no reset that is waited for."""
    allowance = Allowance(600, share=0.5)
    stated = Limit("requests", 600, remaining=0, reset=reset)
    allowance.observe([stated], allowance.reserve(0.0), 1.0)
    assert allowance.gate.until == opens


@pytest.mark.parametrize(
    ("tokens", "share", "oversized"),
    [(6_000, 1.0, False), (6_001, 1.0, True), (6_001, 0.5, False), (12_001, 0.5, True)],
)
def test_oversized_is_above_the_limit_of_all_processes(tokens, share, oversized):
    """One above the share of this process may pass; one above the whole limit may not."""
    rates = _rates(None, 6_000 if share == 1.0 else 12_000, share)
    assert rates.oversized(costs_of(tokens, None)) is oversized


def test_nothing_is_oversized_without_a_limit_of_tokens():
    """An unknown limit may be any."""
    assert not _rates(600).oversized(costs_of(1e9, None))


def test_an_oversized_request_is_sent_with_an_empty_window():
    """It waits until nothing was spent for a whole minute, and everything else waits for it."""
    rates = _rates(None, 6_000)
    _take(rates, 10.0, 0.0)
    assert not rates.fits(costs_of(7_000.0, None), 59.0)
    ready = rates.ready_at(costs_of(7_000.0, None))
    assert 60.0 <= ready <= 61.0
    _take(rates, 7_000.0, ready)
    assert not rates.fits(costs_of(10.0, None), ready + 59.0)


def test_what_was_let_in_once_is_not_oversized_again():
    """The estimate or the limit is wrong: others of at most this size are treated as usual."""
    rates = _rates(None, 6_000)
    rates.tokens.largest = 7_000.0
    assert not rates.oversized(costs_of(7_000.0, None))
    assert rates.oversized(costs_of(7_001.0, None))


def test_rebase_moves_buckets():
    """After a change of clock, the shortage is what it was."""
    rates = _rates(600, 6_000)
    _take(rates, 50.0, 1_000.0)
    rates.rebase(-1_000.0)
    assert rates.requests.level(0.0) == pytest.approx(9)
    assert rates.tokens.level(0.0) == pytest.approx(50)


@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan])
def test_declared_limits_out_of_range_are_refused(bad):
    """A declared limit is above 0 and finite, in both dimensions."""
    with pytest.raises(ConfigurationError):
        _rates(bad)
    with pytest.raises(ConfigurationError):
        _rates(None, bad)


def test_it_describes_the_limits():
    """The text tells the limits that are kept and the share."""
    assert str(_rates(600, 6_000)) == "600 requests per minute and 6,000 tokens per minute"
    assert str(_rates(600, share=0.5)).endswith("(a share of 0.5)")


@pytest.mark.parametrize(("per_minute", "share"), [(30, 1 / 20), (50, 1 / 20), (1.5, 1.0)])
def test_a_share_that_is_no_whole_number_is_never_exceeded(per_minute, share):
    """With a share of 1.5 requests a minute, no minute holds two: 20 replicas would send 40."""
    granted = _greedy(Allowance(per_minute, share=share))
    assert _most_in_a_minute(granted) <= per_minute * share


@pytest.mark.parametrize(
    ("limit", "remaining", "window", "far"),
    [
        (600.0, 590.0, 60.0, True),
        (600.0, None, 60.0, False),
        (600.0, 100.0, 60.0, False),
        (601.0, 590.0, 60.0, False),
        (600.0, 590.0, 30.0, False),
    ],
)
def test_limits_are_looked_at_again_unless_they_are_the_same_and_far_away(
    limit, remaining, window, far
):
    """A number that has changed is never passed over, however much remains."""
    rates = Rates({"requests_per_minute": 600.0}, 1.0, 1.0)
    rates.note_followed([Limit("requests", 600.0, 600.0, 1.0, 60.0)])
    stated = [Limit("requests", limit, remaining, 1.0, window)]
    assert not rates.are_far_away(stated), "nothing is lent, so all is looked at"
    rates._lent_requests = 5.0
    assert rates.are_far_away(stated) is far
    assert not rates.are_far_away([*stated, *stated])
