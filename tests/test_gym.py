"""The limit gym: its servers, its score, and what it prints."""

from dataclasses import replace

import pytest

from benchmarks.gym import report
from benchmarks.gym.compare import SHIPPED, compare, summary
from benchmarks.gym.newer import Nopanic, Polars
from benchmarks.gym.rivals import AimdConcurrency, AimdRate, AwsAdaptive, Crowd, VectorArc
from benchmarks.gym.rows import is_held_out, rows
from benchmarks.gym.scenarios import ORACLE, OURS, WAYS, Scenario, chosen, everything
from benchmarks.gym.score import Score, jain, judge, play
from benchmarks.gym.servers import Answer, Outage, Server, Shedding, Waves
from benchmarks.gym.stacked import judged, play_stacked
from benchmarks.gym.targets import beaten_by, best_of, goals, verdicts
from benchmarks.gym.trade_off import Point
from benchmarks.gym.world import Books, Hour, Network, Work, World
from resilient_infe.testing.limits import make_limit

SHORT = Scenario("short", 600, "steady", seconds=60)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_hour(way):
    """Nothing but the seed decides."""
    assert play(SHORT, way) == play(SHORT, way)


def test_a_server_keeps_its_limit_whoever_asks():
    """Under a crowd it accepts the burst and what comes in, and rejects all else."""
    server = Server(600)
    world = World(server, [Crowd(200)])
    hour = world.run(60)
    accepted = sum(hour.books[0].accepted)
    assert 600 <= accepted <= 611
    assert sum(hour.books[0].rejected) > accepted


def test_a_server_changes_says_how_long_and_makes_noise():
    """The limit moves when it is to; hints are exact, rounded or lies; noise is drawn."""
    server = Server(60, changes=[(30.0, 3.0)])
    assert [server.limit_at(second) for second in (0, 29.9, 30, 99)] == [60, 60, 180, 180]
    told = {}
    for hint in ("none", "exact", "rounded", "lying"):
        server = Server(60, hint=hint)
        assert server.handle(0.0, 0.0).accepted
        told[hint] = server.handle(0.0, 0.4).retry_after
    assert told == {
        "none": None,
        "exact": pytest.approx(0.6),
        "rounded": 1.0,
        "lying": pytest.approx(0.06),
    }
    noisy = Server(6e6, noise=0.1)
    share = sum(not noisy.handle(0.0, n / 100).accepted for n in range(5_000)) / 5_000
    assert share == pytest.approx(0.1, abs=0.02)
    stated = Server(60, headers=True).handle(0.0, 0.0)
    assert (stated.limit, stated.remaining) == (60, 0)


def test_rejected_calls_may_be_charged():
    """A server that charges them never lets a crowd through again."""
    hour = World(Server(600, charge_rejected=True), [Crowd(200)]).run(60)
    assert sum(hour.books[0].accepted[10:]) == 0


def test_the_rivals_do_what_they_are_described_to_do():
    """Each gives way when it is rejected, and grows when it is not."""
    rate = AimdRate()
    rate.sent(0.0, 0.0)
    rate.answered(1.0, 0.0, Answer(False))
    assert rate.rate == 0.5
    rate.sent(2.0, 0.0)
    rate.answered(3.0, 2.0, Answer(False))
    assert rate.rate == pytest.approx(0.55 * 0.9)
    cubic = AwsAdaptive(100)
    for number in range(100):
        cubic.answered(number / 20, cubic.sent(number / 20, 0.0), Answer(True))
    assert cubic.ready_at(5.0, 0.0) <= 5.0
    cubic.answered(5.0, cubic.sent(5.0, 0.0), Answer(False))
    assert cubic.rate == pytest.approx(0.7 * 20, rel=0.2)
    some = AimdConcurrency(100)
    some.answered(1.0, some.sent(0.0, 0.0), Answer(True))
    assert some.limit == 21
    some.answered(1.0, some.sent(0.5, 0.0), Answer(False))
    assert some.limit == pytest.approx(0.8 * 21)
    arc = VectorArc(100)
    for number in range(10):
        arc.answered(2.0 * number + 1, arc.sent(2.0 * number, 0.0), Answer(True))
    assert arc.limit == 2.0  # one at a time uses no more
    before = arc.limit
    arc.answered(22.0, arc.sent(21.0, 0.0), Answer(False))
    assert arc.limit == pytest.approx(0.9 * before)
    crowd = Crowd(1)
    ticket = crowd.sent(0.0, 0.0)
    assert crowd.ready_at(0.0, 0.0) == float("inf")
    crowd.answered(1.0, ticket, Answer(False, retry_after=7.0))
    assert crowd.ready_at(1.0, 0.0) == 8.0


def test_the_score_is_what_the_books_say():
    """Used, rejected, how soon a change was followed, and at what cost."""
    scenario = replace(SHORT, seconds=300, changes=((150.0, 0.5),))
    accepted = [10] * 150 + [0] * 20 + [5] * 130
    rejected = [0] * 150 + [3] * 20 + [0] * 130
    score = judge(scenario, OURS, Hour(300, [Books(accepted, rejected, [0.0] * 300)]))
    assert score.used == pytest.approx(sum(accepted[100:]) / (50 * 10 + 150 * 5))
    assert score.rejected == pytest.approx(60 / (sum(accepted[100:]) + 60))
    assert (score.followed, score.cost, score.learning) == (30.0, 60, 0)
    assert jain([1, 1, 1, 1]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25


def test_every_scenario_has_a_name_of_its_own_and_runs():
    """About forty are chosen; the full cross has all kinds."""
    names = [each.name for each in chosen()]
    assert 40 <= len(names) == len(set(names)) <= 45
    crossed = [each.name for each in everything()]
    assert len(crossed) == len(set(crossed)) == 220


def test_a_target_is_met_or_missed():
    """The verdicts follow from the score, and a rival that is better is named."""
    good = Score("x", OURS, 0.99, 0.001, 5, None, 0, 1.0, ())
    bad = replace(good, used=0.9, rejected=0.02)
    assert all(each.met for each in verdicts(SHORT, good))
    assert not any(each.met for each in verdicts(SHORT, bad))
    assert beaten_by(bad, [replace(good, way="rival")]) == ["rival"]
    assert beaten_by(good, [replace(bad, way="rival")]) == []
    cut = replace(SHORT, group="cut", changes=((30.0, 1 / 3),))
    assert [each.met for each in verdicts(cut, replace(good, followed=20.0, cost=99))] == [
        True,
        False,
    ]


def test_the_page_shows_what_was_played():
    """Every scenario is a row, every way a column, every target met or missed."""
    scenarios = [replace(SHORT, name=name) for name in report.FIGURE]
    scores = {(each.name, way): play(each, way) for each in scenarios for way in (OURS, ORACLE)}
    for way in WAYS:
        for each in scenarios:
            scores.setdefault((each.name, way), scores[each.name, ORACLE])
    reached = compare(SHORT, SHIPPED, 1)
    page = report.page(
        "make gym", [reached], scenarios, scores, [], [Point(0.0026, "bucket", 0.0024, 1.0, 38.0)]
    )
    assert page.count(f"| {report.FIGURE[0]} |") == 3  # the table, and two targets
    assert "| bucket | 2.6 | 0.24% | 100.0% | 38 s |" in page
    assert "| rows below 70 % | 0 | 0 | met |" in page


def test_nopanic_halves_its_rate_and_adds_a_tenth():
    """A hint blocks all senders for a minute at most, and the rate stays in its bounds."""
    sender = Nopanic(10.0)
    assert [sender.ready_at(0.0, 0.0), sender.sent(0.0, 0.0)] == [0.0, 0.0]
    sender.answered(0.1, 0.0, Answer(False))
    assert sender.rate == 5.0
    sender.answered(0.1, 0.0, Answer(True))
    assert sender.rate == pytest.approx(5.1)
    sender.answered(0.2, 0.0, Answer(False, 300.0))
    assert sender.ready_at(0.2, 0.0) == pytest.approx(60.2)
    for _ in range(9):
        sender.answered(0.3, 0.0, Answer(False))
    assert sender.rate == 1.0


def test_polars_doubles_cuts_and_probes():
    """From 1,000 a second; a cut is 0.7 of what passed, once a second; then up to that, and on."""
    sender = Polars()
    for number in range(1_000):
        sender.sent(number / 1_000, 0.0)
        sender.answered(number / 1_000, 0.0, Answer(True))
    sender.answered(1.0, 0.0, Answer(True))
    assert sender.rate == 2_000.0
    sender.answered(1.1, 0.0, Answer(False))
    cut = sender.rate
    assert cut == pytest.approx(0.7 * 1_001.0)
    sender.answered(1.2, 0.0, Answer(False))
    assert sender.rate == cut
    for second in (2.0, 4.0, 6.0):
        for _ in range(5_000):
            sender.sent(second, 0.0)
        sender.answered(second + 0.5, 0.0, Answer(True))
    assert sender.rate == pytest.approx(1_001.0 * 1.1)
    assert Polars().rate / 100 == Polars.LEAST


def test_the_best_way_is_found_among_those_that_were_played():
    """A rival with as much used at as many 429s leaves ours the best; one with more does not."""
    mine = Score("short", OURS, 0.9, 0.0, 5, None, 0, 1.0, ())
    scores = {("short", way): replace(mine, way=way, used=0.9) for way in WAYS}
    assert best_of([SHORT], scores).met
    scores["short", "Polars"] = replace(mine, used=0.95)
    assert not best_of([SHORT], scores).met


def test_each_goal_is_judged_on_the_worst_row():
    """Of jobs, the one that took longest; of told processes, the one with most 429s."""
    base = compare(SHORT, SHIPPED, 1)
    found = [
        replace(base, group="job", row="100 rows, no limit", seconds=3.0, oracle_seconds=1.0),
        replace(base, group="job", row="5 rows, no limit", seconds=1.5, oracle_seconds=1.0),
        replace(base, group="told processes", row="2 told processes", rejected=0.05),
    ]
    told = {goal.what: (goal.reached, goal.met) for goal in goals(found)}
    assert told["jobs without a limit, above no learner"] == ("2.0 s", False)
    assert told["429s, told"] == ("5.00%", False)


def test_the_whole_stack_does_as_well_as_the_allowance_alone():
    """Tasks, slots and retries around it change nothing of note."""
    scenario = replace(SHORT, seconds=420)
    whole, alone = play_stacked(scenario), play(scenario, OURS)
    assert whole.used == pytest.approx(alone.used, abs=0.02)
    assert whole.rejected <= alone.rejected + 0.003
    assert judged(Answer(True), None) is None


def test_a_server_may_be_out_shed_and_serve_others():
    """Outages, shedding, other tenants and a second limit are the server's."""
    server = Server(600, outages=[Outage(1.0, 2.0, 20.0)])
    assert server.handle(0.0, 0.5).accepted
    assert server.handle(0.0, 1.5) == Answer(False, 20.0)
    shedding = Server(6e6, shedding=Shedding(60.0, 2.0, 1.0), noise_hint=1.0)
    assert shedding.handle(0.0, 61.0) == Answer(False, 1.0, random=True)
    assert shedding.handle(0.0, 63.0).accepted
    shared = Server(60, waves=Waves(100.0, 0.5))
    assert [shared.limit_at(second) for second in (10, 60, 110)] == [60, 30, 60]
    two = Server(600, second=make_limit("fixed", 2, 60.0, 1.0))
    assert [two.handle(0.0, at).accepted for at in (0.0, 1.0, 2.0)] == [True, True, False]


@pytest.mark.parametrize(("hint", "told"), [(5.0, 5.0), ("milliseconds", 600.0), ("clock", 30.6)])
def test_hints_are_wrong_in_known_ways(hint, told):
    """A constant, the wrong unit, the wrong clock."""
    server = Server(60, hint=hint)
    server.handle(0.0, 0.0)
    assert server.handle(0.0, 0.4).retry_after == pytest.approx(told)


def test_work_may_end_pause_and_cost_more_than_was_estimated():
    """A job ends with its last answer; nothing is sent in idle moments; estimates are off."""
    work = Work(tokens=200.0, rows=100, slots=8)
    job = World(Server(6e6), [Crowd(64)], Network(spread=0.5), work=work).run(60)
    assert job.done_at is not None
    assert sum(job.books[0].accepted) == 100
    idle = World(Server(6e6), [Crowd(4)], work=Work(idle=((10.0, 20.0),))).run(30)
    assert sum(idle.books[0].accepted[11:20]) == 0 < sum(idle.books[0].accepted[20:])
    world = World(Server(60), [], work=Work(tokens=200.0, wrong_by=0.8))
    assert world._estimate(200.0) == world._estimate(200.0) != 200.0


def test_half_of_the_rows_are_held_out_and_a_row_is_played_in_seconds():
    """The hash of a name decides; the same seed gives the same figures."""
    names = [each.name for each in rows()]
    assert len(names) == len(set(names)) > 140
    assert 0.4 < sum(map(is_held_out, names)) / len(names) < 0.6
    row = replace(SHORT, outages=(Outage(30.0, 35.0),), work=Work(tokens=200.0))
    reached = compare(row, SHIPPED, 1)
    assert reached == compare(row, SHIPPED, 1)
    assert 0 < reached.used <= 1
    assert reached.row in summary([reached])
