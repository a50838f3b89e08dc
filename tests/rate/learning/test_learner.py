"""The learner: it finds limits that nobody told, keeps below them, and notices when they move."""

import json
import math
from dataclasses import replace

import pytest

from benchmarks.gym.ours import Ours
from benchmarks.gym.scenarios import KINDS, OURS, Scenario
from benchmarks.gym.score import play
from benchmarks.gym.world import World
from resilient_infe import Allowance
from resilient_infe.rate.learning.learner import Learner
from resilient_infe.rate.learning.noise import Noise
from resilient_infe.rate.learning.tuning import DEFAULT
from tests.histories import Driver, everything

BUCKET, DEEP, FIXED, SLIDING = KINDS
BY_NAME = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
PLAIN = Scenario("plain", 600, "steady", seconds=480)


def scene(kind=BUCKET, **changes):
    """Return eight minutes at 600 a minute with a kind of limit."""
    _, style, burst = kind
    return replace(PLAIN, style=style, burst=burst, **changes)


@BY_NAME
def test_it_finds_a_limit_and_keeps_just_below_it(kind):
    """After three minutes, 97 % of any kind of limit is used at under 0.75 % of 429s."""
    score = play(scene(kind), OURS)
    assert score.used >= 0.97
    assert score.rejected <= 0.0075
    assert score.learning <= 75


@pytest.mark.parametrize("per_minute", [60, 3_000])
def test_small_and_large_limits_are_found_too(per_minute):
    """A send a second, or fifty: the same steps lead there."""
    score = play(scene(per_minute=per_minute, seconds=900 if per_minute < 600 else 300), OURS)
    assert score.used >= 0.9
    assert score.rejected <= 0.02


@BY_NAME
def test_a_limit_that_is_cut_is_followed_down(kind):
    """A third of the limit is left: two minutes later it is kept to, at a few dozen 429s."""
    score = play(scene(kind, changes=((300.0, 1 / 3),)), OURS)
    assert score.followed is not None
    assert score.followed <= 80
    assert score.cost <= 40


@BY_NAME
def test_a_limit_that_is_raised_is_followed_up(kind):
    """Three times the limit is there: looks upwards find it."""
    score = play(scene(kind, changes=((240.0, 3.0),), seconds=540), OURS)
    assert score.followed is not None
    assert score.followed <= 130


@BY_NAME
def test_random_429s_are_no_limit(kind):
    """One 429 in two hundred for no reason does not slow it down."""
    assert play(scene(kind, noise=0.005), OURS).used >= 0.95


def test_many_random_429s_do_not_stop_a_climb():
    """Two of a dozen requests are refused for no reason: soon more is sent, so that was chance."""
    score = play(scene(BUCKET, per_minute=1_200, noise=0.05, seconds=600), OURS)
    assert score.used >= 0.93
    assert score.rejected_itself <= 0.015  # the random ones apart


def test_what_is_counted_as_chance_afterwards_is_bounded():
    """Where others use the limit too, refusals look like chance: at most 3 % are taken for it."""
    noise = Noise(DEFAULT)
    noise.was_chance(2)
    assert 0.009 < noise.share < 0.011
    noise.was_chance(100)
    assert noise.share == pytest.approx(0.03)
    for _ in range(30):
        noise.hit()
    noise.was_chance(2)
    assert noise.share > 0.1


@pytest.mark.parametrize(
    ("kind", "rejected"), [(BUCKET, 0.001), (FIXED, 0.0045)], ids=["bucket", "fixed"]
)
def test_a_server_that_says_how_long_to_wait_is_asked_less_often(kind, rejected):
    """With an exact Retry-After a fourth of the looks is enough.

    A fixed window asks for waits of up to a minute. Each takes three witnesses and up to 13
    questions, and so does each look, until three windows gave the same: 36 of 9,000 calls.
    """
    score = play(scene(kind, hint="exact", seconds=900), OURS)
    assert score.used >= 0.98
    assert score.rejected <= rejected


def test_headers_leave_nothing_to_learn():
    """A stated limit is kept without a single 429, and the learner rests."""
    scenario = scene(headers=True)
    server = scenario.server()
    sender = Ours()
    World(server, [sender]).run(240)
    told = sender.allowance.statistics(240.0)
    assert (told.requests_per_minute, told.learned, told.pace) == (600, None, None)
    assert "at rest" in told.evidence


def test_a_limit_of_tokens_is_told_from_one_of_requests():
    """Requests of very different sizes: what stays the same between two 429s is the limit."""
    server = replace(
        scene(), per_minute=60_000.0, tokens_per_minute=60_000.0, seconds=1_200
    ).server()
    sender = Ours()
    world = World(server, [sender], tokens=100.0)
    world._cost = lambda: world._random.choice([10.0, 20.0, 400.0])
    world.run(1_200)
    told = sender.allowance.statistics(1_200.0)
    assert told.learned_dimension == "tokens"
    assert told.learned == pytest.approx(60_000, rel=0.15)


def test_two_senders_share_a_window_fairly():
    """Two that do not talk to each other get about the same."""
    score = play(scene(SLIDING, per_minute=1_200, processes=2), OURS)
    assert score.fairness >= 0.95
    assert score.used >= 0.95


def test_a_belief_saves_the_learning():
    """Who is told what was found before begins there, and is not rejected on the way."""
    server = scene().server()
    first = Ours()
    World(server, [first]).run(300)
    kept = json.loads(json.dumps(first.allowance.belief()))
    assert kept["per_minute"] == pytest.approx(600, rel=0.03)
    again, fresh = Ours(Allowance(belief=kept)), Ours()
    rejected, used = {}, {}
    for name, sender in (("again", again), ("fresh", fresh)):
        hour = World(scene().server(), [sender]).run(60)
        rejected[name], used[name] = sum(hour.books[0].rejected), sum(hour.books[0].accepted)
    assert rejected["again"] < rejected["fresh"]
    assert used["again"] > 0.95 * 600 > used["fresh"]


def test_it_tells_what_it_believes_and_why():
    """News come when the belief moves by over a twentieth, with the evidence in words."""
    sender = Ours()
    learner = sender.allowance._rates.learner
    told = []
    plain = sender.answered

    def answered(now, ticket, answer):
        plain(now, ticket, answer)
        if change := learner.news():
            told.append(change)

    sender.answered = answered
    World(scene().server(), [sender]).run(120)
    assert told == []  # the allowance had told them already
    assert learner.news() is None
    assert "accepted in" in learner.evidence
    assert "429" in learner.evidence


def test_at_rest_it_wakes_when_several_rejections_stand_together():
    """A few 429s below the declared limit mean nothing; eight among twelve requests do."""
    learner = Learner(600)
    assert not learner.active
    assert learner.wait(0.0) == 0.0
    learner.rejected_at_rest(1.0, 10)
    for number in range(90, 97):
        learner.rejected_at_rest(number / 2, number)
    assert not learner.active
    learner.rejected_at_rest(48.5, 97)
    assert learner.active
    assert 0 < learner.pace <= 600
    learner.bound("requests", 300.0)
    assert not learner.active


def test_a_declared_limit_is_never_exceeded():
    """However much the server takes, the pace stays at what was declared."""
    learner = Learner(60)
    for number in range(8):
        learner.rejected_at_rest(number / 2, number)
    now, sent = 4.0, 0
    while learner.active:
        assert learner.pace <= 60 + 1e-9
        now, sent = max(now, learner.ready_at()), sent + 1
        learner.accepted(now, learner.sent(now))
    assert now > 34  # half a minute at the bound, before it rests
    assert sent <= now


def test_another_clock_keeps_the_belief():
    """After a move to another loop it goes on from what it found."""
    sender = Ours()
    World(scene().server(), [sender]).run(240)
    learner = sender.allowance._rates.learner
    limit = learner.limit
    learner.rebase()
    assert learner.limit == pytest.approx(limit)
    assert learner.evidence == "believed from an earlier run"
    assert learner.idle(1e9)
    fresh = Learner()
    fresh.rebase()
    assert fresh.limit is None


def test_a_ticket_of_another_dimension_is_ignored():
    """What was sent while tokens were followed says nothing once requests are."""
    kept = {"dimension": "tokens", "per_minute": 6e5, "windowed": False, "measured_by": 40}
    learner = Learner()
    learner.restore(kept)
    old = [learner.sent(number / 10, 1_000.0) for number in range(20)]
    learner.restore({**kept, "dimension": "requests", "per_minute": 600.0})
    for ticket in old:
        learner.rejected(3.0, ticket)
        learner.accepted(3.0, ticket, 5.0)
        learner.unsent(ticket)
    assert learner.limit == 600.0
    assert learner.evidence == "believed from an earlier run"
    assert 0 <= learner.wait(3.0) < 1.0


def test_absurd_usage_does_not_spoil_the_estimates():
    """A usage that is infinite or negative is none."""
    learner = Learner()
    for bad in (float("inf"), -5.0, float("nan")):
        learner.accepted(1.0, learner.sent(0.0, 100.0), bad)
    learner.restore(
        {"dimension": "tokens", "per_minute": 60.0, "windowed": False, "measured_by": 9}
    )
    assert learner.limit == pytest.approx(60.0)


def test_below_a_stated_limit_it_searches_as_if_nothing_were_known():
    """The server states a limit and keeps a lower one: no belief is infinite."""
    learner = Learner()
    learner.stated("requests")
    for number in range(3, 400, 4):
        learner.rejected_at_rest(number / 2, number)
    assert learner.active
    assert learner.limit is None
    assert learner.pace == pytest.approx(60.0 * DEFAULT.start)


def test_back_at_the_ceiling_it_rests():
    """Once the server takes all that was declared again, nothing is believed against it."""
    server = scene(per_minute=900, changes=((100.0, 0.4), (300.0, 1.0))).server()
    sender = Ours(Allowance(requests_per_minute=600))
    world = World(server, [sender])
    world.run(290)
    assert sender.allowance.statistics(290.0).learned == pytest.approx(360, rel=0.05)
    server = scene(per_minute=900, changes=((100.0, 0.4), (300.0, 1.0))).server()
    sender = Ours(Allowance(requests_per_minute=600))
    World(server, [sender]).run(900)
    told = sender.allowance.statistics(900.0)
    assert (told.learned, told.pace) == (None, None)


class Recorder(Learner):
    """A learner that notes what it is told."""

    __slots__ = ("told",)

    def __init__(self, told):
        super().__init__()
        self.told = told

    def sent(self, now, tokens=0.0, held_until=-math.inf):
        """Note a request, and how long the gate held it back."""
        ticket = super().sent(now, tokens, held_until)
        self.told.append(("sent", (now, tokens, held_until), ticket))
        return ticket

    def accepted(self, now, ticket, tokens=None):
        """Note an answer."""
        self.told.append(("accepted", (now, tokens), ticket))
        super().accepted(now, ticket, tokens)

    def rejected(self, now, ticket, hint=0.0):
        """Note a 429."""
        self.told.append(("rejected", (now, hint), ticket))
        super().rejected(now, ticket, hint)


@BY_NAME
def test_a_recorded_sequence_replays_to_the_same_belief(kind):
    """Nothing but what it is told decides: no clock, no chance."""
    told = []
    sender = Ours()
    recorder = sender.allowance._rates.learner = Recorder(told)
    World(scene(kind, noise=0.003).server(), [sender]).run(300)
    assert len(told) > 2_000
    again, tickets = Learner(), {}
    for what, (now, value, *held_until), ticket in told:
        if what == "sent":
            tickets[id(ticket)] = again.sent(now, value, *held_until)
        elif what == "accepted":
            again.accepted(now, tickets[id(ticket)], value)
        else:
            again.rejected(now, tickets[id(ticket)], value)
    assert again.belief() == recorder.belief() is not None
    assert (again.pace, again.evidence) == (recorder.pace, recorder.evidence)


def test_a_false_alarm_below_a_declared_limit_is_forgotten():
    """Eight 429s that were chance wake it; it climbs back to the bound, and rests there."""
    learner = Learner(600)
    for number in range(8):
        learner.rejected_at_rest(number / 2, number)
    assert learner.active
    assert learner.evidence
    now = 4.0
    while learner.active:
        now = max(now, learner.ready_at())
        assert now < 120
        learner.sent(now)
    assert (learner.limit, learner.pace) == (None, None)


class Late(Ours):
    """A sender of five calls at once, whose endless work comes some seconds later."""

    def __init__(self, work_at):
        super().__init__()
        self.calls, self.work_at = 0, work_at

    def ready_at(self, now, cost):
        """Have nothing to send between the first calls and the work."""
        if self.calls == 5 and now < self.work_at:
            return self.work_at
        return super().ready_at(now, cost)

    def sent(self, now, cost):
        """Count a call."""
        self.calls += 1
        return super().sent(now, cost)


@pytest.mark.parametrize("work_at", [2.0, 3.0, 5.0, 9.0])
def test_a_wait_that_the_server_asked_for_is_no_growth(work_at):
    """Nothing is tried in a stop of a minute, so the pace does not grow by that minute.

    The four stops of these five minutes take 27 429s, and 13 to 18 questions each.
    """
    [books] = World(scene(FIXED, hint="exact").server(), [Late(work_at)]).run(300).books
    assert max(books.rejected) <= 48
    assert sum(books.rejected) <= 27 + 4 * 18


def poisoned(scenario, share):
    """Return what is used of a declared limit if so many calls are refused for what they are."""
    [books] = World(scenario.server(), [Ours(Allowance(600))], work=scenario.work).run(600).books
    return sum(books.accepted[60:]) / (540 * 10 * (1 - share))


@pytest.mark.parametrize("share", [0.01, 0.08])
def test_random_refusals_sink_no_declared_limit(share):
    """One call in twelve is refused: nine tenths of what the others may have are used."""
    assert poisoned(scene(per_minute=700, noise=share), 0.0) >= 0.9


@pytest.mark.parametrize("declared", [{"requests_per_minute": 600}, {"tokens_per_minute": 1.08e5}])
@pytest.mark.parametrize("hint", [0.0, 60.0])
def test_fifty_refused_calls_at_the_head_cost_seconds(declared, hint):
    """A declared limit is used again as soon as others are let in."""
    driver = Driver(**declared)
    learner = driver.learner
    for number in range(50):
        learner.rejected_at_rest(number / 10, number)
    assert learner.active
    driver.now = 5.0
    driver.run(5.0, everything, hint, tokens=180.0)
    assert driver.run(10.0, everything, hint, tokens=180.0) >= 8.5
    assert learner.limit == pytest.approx(
        600 if learner.dimension == "requests" else 1.08e5, rel=0.15
    )
    driver.run(40.0, everything, hint, tokens=180.0)
    assert not learner.active  # nothing contradicts what was declared


def test_tokens_are_counted_in_units_of_a_call_wherever_it_began():
    """Restored or woken, a limit of tokens is not taken for one of single tokens."""
    driver = Driver(requests_per_minute=600)
    driver.learner.restore(
        {"dimension": "tokens", "per_minute": 1.08e5, "windowed": False, "measured_by": 9}
    )
    assert driver.run(30.0, everything, tokens=180.0) >= 7.0


@pytest.mark.parametrize("per_minute", [5, 9, 14])
def test_a_window_of_a_few_costs_few_429s(per_minute):
    """One 429 in four windows: at most 6 % at five a minute, and all of it is used."""
    score = play(scene(FIXED, per_minute=per_minute, seconds=2_400), OURS)
    assert score.used >= 0.97
    assert score.rejected <= 0.06
