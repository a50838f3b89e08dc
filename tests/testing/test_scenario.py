"""A scenario brings its model up to date: each happening in its time, and nothing after it."""

from __future__ import annotations

import pytest

from resilient_infe.errors import ConfigurationError
from resilient_infe.testing import (
    Broken,
    Errors,
    Limit,
    ModelRequest,
    OtherUsers,
    Scenario,
    Slow,
    Stalls,
)
from resilient_infe.testing.scenario import Weather

ASK = ModelRequest({"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]})


def statuses(scenario, instants):
    """Return the status of one request at each of these instants."""
    model = scenario.model()
    weather, found = Weather(scenario, model), []
    for now in instants:
        weather.advance(now)
        found.append(model.handle(ASK, now).status)
    return found


def test_an_outage_has_a_start_and_an_end():
    """It begins at its start, and is over at its end."""
    scenario = Scenario(happenings=[Errors(10, 20)])
    assert statuses(scenario, [9.9, 10.0, 19.9, 20.0]) == [200, 503, 503, 200]


def test_nothing_is_left_out_when_no_request_came_in_between():
    """What began and ended between two requests leaves no trace but what it used up."""
    scenario = Scenario(requests_per_minute=60, happenings=[Errors(10, 20), OtherUsers(0, 30, 600)])
    model = scenario.model()
    weather = Weather(scenario, model)
    weather.advance(31.0)
    assert model.faults.rates == {}
    assert model.handle(ASK, 31.0).status == 429  # the others used the limit up


def test_the_hint_of_an_outage():
    """Each error states the seconds that the outage tells, whatever the status."""
    scenario = Scenario(happenings=[Errors(0, 20, status=502, retry_after=30)])
    model = scenario.model()
    Weather(scenario, model).advance(0.0)
    assert model.handle(ASK, 0.0).headers["retry-after"] == "30"


def test_two_storms_at_once_are_both_drawn():
    """Errors of two statuses share the requests between them."""
    storms = [Errors(0, 60, 500, share=0.5), Errors(0, 60, 502, share=0.5)]
    assert set(statuses(Scenario(happenings=storms), range(60))) == {500, 502}


def test_a_slow_server_is_quick_again():
    """The latency is multiplied while it lasts."""
    scenario = Scenario(latency=1.0, seconds_per_token=0.0, happenings=[Slow(5, 10, 4)])
    model = scenario.model()
    weather, delays = Weather(scenario, model), []
    for now in (4.0, 5.0, 10.0):
        weather.advance(now)
        delays.append(model.handle(ASK, now).delay)
    assert delays == [1.0, 4.0, 1.0]


def test_another_limit_for_a_while():
    """A limit changes at its start, and is the usual one again at its end."""
    scenario = Scenario(requests_per_minute=6, happenings=[Limit(0, 100, requests_per_minute=2)])
    assert statuses(scenario, [1, 2, 3, 100, 101, 102]) == [200, 200, 429, 200, 200, 200]


def test_broken_replies():
    """A share of the replies breaks as told; a silent one never comes."""
    scenario = Scenario(happenings=[Broken(0, 10, "silent")])
    model = scenario.model()
    weather = Weather(scenario, model)
    weather.advance(0.0)
    assert model.handle(ASK, 0.0).delay > 1e5
    weather.advance(10.0)
    assert model.handle(ASK, 10.0).delay < 10.0
    assert model.books.by_status == {0: 1, 200: 1}


def test_other_users_without_end_cost_nothing_in_advance():
    """Their requests are drawn when they are due, so they may be sent for ever."""
    scenario = Scenario(requests_per_minute=60, happenings=[OtherUsers(requests_per_minute=30)])
    accepted = statuses(scenario, range(600)).count(200)
    assert 0.4 * 600 <= accepted <= 0.8 * 600, accepted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Errors(5, 5), "must end after its start"),
        (lambda: Errors(-1, 5), "start must be a number of 0 or more"),
        (lambda: Errors(0, 5, share=1.5), "share of Errors must be above 0 and at most 1"),
        (lambda: Slow(0, 5, factor=0), "factor of Slow must be a number above 0"),
        (lambda: Errors(0, 5, retry_after=float("nan")), "retry_after of Errors must be"),
        (lambda: Scenario(happenings=[Limit(0, 5, 60)]), "no limit of requests"),
        (lambda: Scenario(happenings=[(0, 5)]), "give Errors"),
        (lambda: Scenario(requests_per_minute=0), "requests_per_minute must be a number above 0"),
        (lambda: Scenario(concurrency=0), "concurrency must be a whole number of 1 or more"),
        (lambda: Scenario(latency=-1), "latency must be a number of 0 or more"),
    ],
)
def test_what_cannot_work_is_refused_at_once(make, message):
    """A mistake is told when the scenario is made, not in the middle of a simulation."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_latencies_are_spread_and_some_are_stuck():
    """The median is the latency, few take far longer, and the stuck ones take their own time."""
    scenario = Scenario(latency=0.6, spread=0.6, happenings=[Stalls(0, 10, share=0.5), Stalls(20)])
    model = scenario.model()
    weather = Weather(scenario, model)
    stream = ModelRequest({**ASK.body, "stream": True})

    def delays(now):
        weather.advance(now)
        return sorted(model.handle(stream, now).delay for _ in range(400))

    assert 160 < sum(each >= 20.0 for each in delays(5.0)) < 240
    quiet = delays(15.0)
    assert quiet[200] == pytest.approx(0.6, rel=0.1)
    assert quiet[379] == pytest.approx(0.6 * 2.7, rel=0.15)
    assert sum(each >= 20.0 for each in delays(25.0)) in range(2, 20)
