"""A limit that several processes use: the part of each, the law of all, and the suspicion."""

import math

import pytest
from fakes import FakeServer, Remember
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import Allowance, ErrorClassifier, RateLimiter, Stack, presets
from resilient_infe.errors import ConfigurationError
from resilient_infe.rate.learning.learner import Learner
from resilient_infe.rate.processes import SUSPECT, WITHIN, Falls, parts

PRESETS = pytest.mark.parametrize("make", [presets.service, presets.batch])
BELIEF = {"dimension": "requests", "per_minute": 600.0, "windowed": False, "measured_by": 300.0}


@given(st.floats(0.001, 1.0), st.integers(1, 10_000), st.booleans())
def test_the_parts_of_all_processes_are_the_share(share, processes, shared):
    """Together they keep what one would; several of them learn by one law, told or not."""
    part, law = parts(share, processes, shared)
    assert part * processes == pytest.approx(share)
    assert law == (shared or processes > 1)


def test_each_process_keeps_its_part_of_all_that_is_declared():
    """Requests and tokens, of a minute and of a day, and those of an account."""
    limiter = RateLimiter(
        requests_per_minute=6_000,
        output_tokens_per_minute=40_000,
        requests_per_day=100_000,
        account={"requests_per_minute": 8_000},
        processes=20,
        share=0.5,
    )
    limits = {
        (each.dimension, each.period): each.limit for each in limiter.statistics(0.0)[None].limits
    }
    assert limits["requests", 60.0] == pytest.approx(150)
    assert limits["output_tokens", 60.0] == pytest.approx(1_000)
    assert limits["requests", 86_400.0] == pytest.approx(2_500)
    assert limiter.account.statistics(0.0).requests_per_minute == pytest.approx(400)


@PRESETS
def test_the_presets_divide_the_limits_and_not_the_slots(make):
    """What is printed is what one process keeps; its slots are its own."""
    told = str(
        make(requests_per_minute=6_000, account={"requests_per_minute": 8_000}, processes=20)
    )
    assert "300 requests per minute (a share of 0.05), per partition" in told
    assert "the account: 400 requests per minute" in told
    assert "64 in flight" in told


@PRESETS
@pytest.mark.parametrize("told", [{"shared": True}, {"processes": 2}], ids=str)
def test_a_learned_limit_is_shared_where_that_is_told(make, told):
    """By either word, and it is printed; without one it is a process's own."""
    assert "as the server states it, shared with others" in str(make(**told))
    assert "shared" not in str(make())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"processes": 0}, "processes, which counts this one, must be a whole number of 1"),
        ({"processes": 2.0}, "processes, which"),
        ({"processes": True}, "processes, which"),
        ({"processes": 10**400}, "processes, which"),
        ({"processes": 10**308, "share": 1e-300}, "share / processes must be above 0"),
        ({"shared": 20}, "the number goes into processes="),
        ({"shared": "yes"}, "True or False"),
        ({"account": {"requests_per_minute": 60, "shared": True}}, "an account has no 'shared'"),
    ],
    ids=str,
)
def test_odd_values_are_refused_with_what_to_do(wrong, said):
    """At once, and not at the first call; an account learns nothing, so it is not shared."""
    for make in (RateLimiter, presets.service, presets.batch):
        with pytest.raises(ConfigurationError, match=said):
            make(**wrong)


@pytest.mark.parametrize("more", [{"processes": 2}, {"shared": True}], ids=str)
def test_an_allowance_of_ones_own_says_it_itself(more):
    """`RateLimiter` cannot divide an object that is made already."""
    with pytest.raises(ConfigurationError, match="an Allowance or the numbers, not both"):
        RateLimiter(Allowance(600), **more)


@pytest.mark.parametrize("shared", [False, True])
def test_a_belief_of_an_earlier_run_is_shared_too(shared):
    """From the first request on it gives way once a moment, and never looks above by itself."""
    learner = Learner(shared=shared)
    learner.restore(BELIEF)
    assert (learner.pace == pytest.approx(600)) == shared
    now = 0.0
    for _ in range(40):
        now = max(now, learner.ready_at())
        learner.accepted(now + 0.02, learner.sent(now))
    before = learner.limit
    learner.rejected(now + 0.1, learner.sent(max(now, learner.ready_at())))
    assert (learner.limit < 0.8 * before) == shared


def test_a_declared_limit_that_is_too_high_is_given_way_in_by_the_same_law():
    """Where the others use the declared limit as well, each of them learns by the law of all."""
    learner = Learner(600, shared=True)
    for number in range(40):
        learner.rejected_at_rest(number * 0.5, number)
    assert learner.active
    now = 20.0
    while learner.waits_for != "the limit is used up":
        now = max(now, learner.ready_at())
        learner.accepted(now + 0.02, learner.sent(now))
    before = learner.limit
    learner.rejected(now + 2.0, learner.sent(now + 1.9))
    assert learner.limit < 0.8 * before


class Falling(Learner):
    """A learner at rest whose limit falls at each second 429, and is found again at the others."""

    limit, evidence = 600.0, "measured"

    def rejected_at_rest(self, sent_at, number):
        """Fall, or find the limit."""
        self.limit = None if self.limit else 600.0

    def news(self):
        """Have none."""


def allowance(*, shared=False):
    """Return an allowance whose learned limit falls at every second 429."""
    made = Allowance(600)
    made._rates.learner = Falling(600, shared=shared)
    return made


def test_falls_that_nothing_explains_are_told_once_and_shown_while_they_last(run):
    """The event comes with the fifth fall; the statistics say it for as long as it may be so."""
    made, seen = allowance(), Remember()
    stack = Stack(RateLimiter(made), ErrorClassifier(), listeners=[seen])
    send = stack.around(FakeServer(default=429))

    async def main():
        for _ in range(4 * SUSPECT):
            with pytest.raises(Exception, match="429"):
                await send({"model": "infe-pulse"})

    run(main)
    [event] = seen.named("rate.maybe_shared")
    assert "fell 5 times in 10 minutes" in event.reason
    assert "shared=True or processes=n" in event.reason
    assert made.statistics(10.0).evidence == f"measured; {event.reason}"
    assert made.statistics(10.0 + 2 * WITHIN).evidence == "measured"


def test_who_was_told_of_the_others_suspects_nobody():
    """With the law of all, a limit falls at every 429 of a moment."""
    made = allowance(shared=True)
    for second in range(50):
        taken = made.reserve(float(second))
        made.refund(taken, second + 0.1, request=False)
        made.rejected(taken, second + 0.1)
    assert "others" not in made.statistics(50.0).evidence


@given(st.lists(st.floats(0.0, 1e9), max_size=40).map(sorted))
def test_falls_count_within_their_time_only(times):
    """There is one suspicion at most, at the first instant that has enough falls behind it."""
    falls = Falls()
    found = [now for now in times if falls.note(600.0, None, now)]
    enough = [
        late
        for early, late in zip(times, times[SUSPECT - 1 :], strict=False)
        if late - early <= WITHIN
    ]
    assert found == enough[:1]


@pytest.mark.parametrize(
    ("old", "new"),
    [(None, None), (None, 5.0), (600.0, 600.0), (600.0, 541.0), (600.0, math.inf), (math.inf,) * 2],
)
def test_what_is_no_fall(old, new):
    """A limit that is found, stays, grows, or moves by less than a tenth."""
    falls = Falls()
    assert not any(falls.note(old, new, float(now)) for now in range(20))
    assert falls.reason(20.0) == ""
