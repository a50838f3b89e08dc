"""Limits of a day: counted and not paced, kept over a restart, and never waited for."""

import json
import math

import anyio
import pytest
from fakes import FakeServer

from resilient_infe import ErrorClassifier, RateLimiter, Stack, errors, presets
from resilient_infe.batch import Journal, run_batch
from resilient_infe.core.keyed import Keyed
from resilient_infe.core.verdict import DAY, Kind, Limit
from resilient_infe.errors import ConfigurationError, DayUsedUp
from resilient_infe.rate.allowance import Allowance

WALL = 1_700_000_000.0
HOUR = 3_600.0
NEVER_MET = 6e6


def spend(allowance, now, number, tokens=0.0):
    """Send so many at once, and settle them; returns how many were granted."""
    granted = 0
    for _ in range(number):
        reservation = allowance.take(now, tokens)
        if reservation is not None:
            allowance.settle(reservation, now, tokens or None)
            granted += 1
    return granted


def test_a_day_is_counted_and_not_paced():
    """All of it may go at once, and no more in any 24 hours."""
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=100)
    assert spend(allowance, 0.0, 60) == 60
    assert spend(allowance, 10 * HOUR, 60) == 40
    assert spend(allowance, 23.9 * HOUR, 60) == 0
    assert spend(allowance, 24.3 * HOUR, 100) == 60
    assert spend(allowance, 34.3 * HOUR, 100) == 40


def test_tokens_of_a_day_are_counted_by_their_real_cost():
    """Estimates that are too high come back; what was really spent does not."""
    allowance = Allowance(tokens_per_day=10_000)
    first = allowance.take(0.0, 9_000)
    assert allowance.take(0.0, 9_000) is None
    allowance.settle(first, 1.0, 3_000)
    [day] = [each for each in allowance.statistics(1.0).limits if each.period == DAY]
    assert (day.dimension, day.limit, day.spent) == ("tokens", 10_000, 3_000)
    assert allowance.full_until(3_000.0) <= 1.0
    assert allowance.full_until(30_000.0) > DAY


def test_a_limit_of_a_day_leaves_the_minute_to_be_learned():
    """It says nothing of the rate."""
    assert Allowance(requests_per_day=100).statistics(0.0).pace is not None


@pytest.mark.parametrize("period", ["minute", "day"])
@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "many"])
def test_values_out_of_range_are_refused(period, bad):
    """A limit is a number above 0, whatever its period."""
    with pytest.raises(ConfigurationError, match=f"tokens_per_{period}"):
        Allowance(**{f"tokens_per_{period}": bad})
    with pytest.raises(ConfigurationError, match=f"requests_per_{period}"):
        RateLimiter(**{f"requests_per_{period}": bad})
    with pytest.raises(ConfigurationError):
        Allowance().resize(0.0, **{f"requests_per_{period}": bad})


def test_what_is_not_a_limit_is_not_resized():
    """A wrong name is told with those that exist."""
    with pytest.raises(ConfigurationError, match="requests_per_day"):
        Allowance().resize(0.0, requests_per_second=5)


def test_a_day_is_resized_while_in_use():
    """What was spent stays spent."""
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=100)
    spend(allowance, 0.0, 100)
    allowance.resize(1.0, requests_per_day=110)
    assert spend(allowance, 1.0, 100) == 10
    allowance.resize(1.0, requests_per_day=50)
    assert spend(allowance, 1.0, 100) == 0


def test_what_was_spent_survives_a_restart():
    """As a value that JSON can hold, by instants since 1970, whatever the loop's clock says."""
    first = Allowance(NEVER_MET, burst="window", requests_per_day=100, tokens_per_day=1e6)
    spend(first, 50.0, 40, tokens=1_000.0)
    spend(first, 50.0 + 10 * HOUR, 20, tokens=1_000.0)
    kept = json.loads(json.dumps(first.belief(50.0 + 10 * HOUR, WALL)))
    second = Allowance(NEVER_MET, burst="window", requests_per_day=100, tokens_per_day=1e6)
    second.believe(kept, 7.0, WALL + HOUR)
    assert {each.spent for each in second.statistics(7.0).limits} >= {60.0, 60_000.0}
    assert spend(second, 7.0, 100) == 40
    assert spend(second, 7.0 + 13.6 * HOUR, 100) == 40  # those of the first hour have left
    assert first.belief() is None  # without a clock it is not known when


@pytest.mark.parametrize("ago", [DAY, 10 * DAY])
def test_what_was_spent_before_a_day_does_not_count(ago):
    """An old belief holds nothing back."""
    kept = {"days": {"requests": [[WALL - ago, 100.0]]}}
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=100)
    allowance.believe(kept, 1e6, WALL + 1_000.0)
    assert spend(allowance, 1e6, 100) == 100


@pytest.mark.parametrize("at", [WALL + 1e9, WALL, WALL - 60.0])
def test_a_wall_clock_that_is_wrong_holds_back_for_a_day_at_most(at):
    """What was spent in the future was spent now."""
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=100)
    allowance.believe({"days": {"requests": [[at, 100.0]]}}, 5.0, WALL)
    assert spend(allowance, 5.0, 100) == 0
    assert spend(allowance, 5.0 + 24.3 * HOUR, 100) == 100


@pytest.mark.parametrize(
    "bad",
    [
        {"days": 5},
        {"days": {"requests": 5}},
        {"days": {"requests": [5]}},
        {"days": {"requests": [[1.0, -5.0]]}},
        {"days": {"requests": [[math.nan, 5.0]]}},
        {"days": {"requests": [["x", 5.0]]}},
        {"days": {"requests": [[1.0, math.inf]]}},
    ],
)
def test_a_belief_that_is_none_is_refused(bad):
    """What does not say what was spent raises when it is given, not at the first call."""
    with pytest.raises(ConfigurationError, match="of a day"):
        RateLimiter(requests_per_day=5, beliefs={"": bad})


def test_a_stated_day_is_kept_and_what_remains_is_believed():
    """The server counts for all processes, and over restarts."""
    allowance = Allowance(NEVER_MET, burst="window")
    stated = Limit("requests", 1_000.0, 30.0, None, DAY)
    assert allowance.observe([stated], allowance.take(0.0), 0.0) == []  # it changes no rate
    assert spend(allowance, 1.0, 29) == 29
    last = allowance.take(1.0)
    assert allowance.take(1.0) is None
    later = Limit("requests", 1_000.0, 990.0, None, DAY)  # its day has begun anew
    allowance.observe([later], last, 2.0)
    assert spend(allowance, 3.0, 2_000) == 990


def test_a_stated_reset_is_when_the_day_begins_anew():
    """Nothing remains for two hours, so the calls are told to come back then."""
    allowance = Allowance(NEVER_MET, burst="window")
    stated = Limit("requests", 1_000.0, 0.0, 2 * HOUR, DAY)
    allowance.observe([stated], allowance.take(0.0), 0.0)
    assert allowance.full_until() == pytest.approx(2 * HOUR, abs=901.0)
    assert allowance.gate.until <= 0.0


def test_a_stated_day_lowers_a_declared_one():
    """The tighter one counts."""
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=100)
    first = allowance.take(0.0)
    allowance.observe([Limit("requests", 50.0, window=DAY)], first, 0.0)
    assert spend(allowance, 0.0, 100) == 49
    allowance.observe([Limit("requests", 500.0, window=DAY)], first, 0.0)
    assert spend(allowance, 0.0, 100) == 50


def test_it_rests_and_comes_back_while_a_day_is_spent():
    """`Keyed` may drop it only once nothing is lost by it."""
    allowance = Allowance(requests_per_minute=60, requests_per_day=100)
    spend(allowance, 0.0, 1)
    assert not allowance.idle(HOUR)
    assert allowance.idle(DAY + HOUR)


def test_a_service_is_refused_with_the_time_to_come_back(run):
    """Also the calls that wait when the day ends; nothing waits for tomorrow."""
    server = FakeServer(latency=0.1)

    async def main():
        server.sent.clear()
        stack = presets.service(requests_per_minute=60, requests_per_day=3, deadline=3_600.0)
        send, failures = stack.around(server), []

        async def one():
            try:
                await send({})
            except DayUsedUp as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(one)
        assert len(server.sent) == 3
        assert all(23 * HOUR < error.retry_after <= DAY + 901.0 for error in failures)
        assert stack.statistics().allowances[None].waiting == 0
        return [str(error) for error in failures]

    words = run(main)
    assert len(words) == 3
    assert "3 requests per day" in words[0]
    assert "UTC" in words[0]


def near(beliefs):
    """Return beliefs with instants that may differ by a rounding."""
    return {
        name: {
            dimension: [[pytest.approx(at, abs=0.2), units] for at, units in spent]
            for dimension, spent in each["days"].items()
        }
        for name, each in beliefs.items()
    }


def test_a_batch_pauses_with_the_instant_of_the_end(run, tmp_path):
    """The next run knows what was spent, and sends nothing before."""
    server = FakeServer(latency=0.01)
    path = tmp_path / "journal"

    async def once(beliefs=None):
        limits = {"requests_per_minute": 6_000, "requests_per_day": 5}
        stack = presets.batch(**limits, beliefs=beliefs)
        journal = Journal(path, threaded=False)
        rows, seen = [{"custom_id": f"r{n}", "model": "m"} for n in range(12)], []
        try:
            async for result in run_batch(rows, stack.around(server), journal=journal):
                seen += [result]  # what came before the pause is kept
        except errors.BatchPaused as pause:
            return seen, pause, journal.recorded.beliefs, stack.beliefs()
        finally:
            journal.close()
        return seen, None, None, None

    async def main():
        path.unlink(missing_ok=True)
        server.sent.clear()
        seen, pause, _, beliefs = await once()
        assert sum(result.ok for result in seen) == len(server.sent) == 5
        kept = Journal(path, threaded=False)
        recorded = kept.recorded.beliefs
        kept.close()
        assert {name: each["days"] for name, each in recorded.items()} == near(beliefs)
        again = await once(recorded)
        assert len(server.sent) == 5
        assert again[1].until == pytest.approx(pause.until, abs=1_000.0)
        return pause

    pause = run(main)
    assert pause.kind is Kind.REFUSED
    assert "run the same again at 2" in str(pause)


@pytest.mark.parametrize("shared", [True, False])
def test_each_partition_has_its_days_again(run, shared):
    """With one allowance for all, or one for each model."""

    def limiter(beliefs=None):
        limits = {"requests_per_minute": 6_000, "requests_per_day": 5, "burst": 30.0}
        one = Allowance(**limits) if shared else Keyed(lambda: Allowance(**limits))
        return RateLimiter(one, beliefs=beliefs)

    async def main():
        server = FakeServer()
        first = limiter()
        for _ in range(4):
            await Stack(first, ErrorClassifier()).around(server)({}, partition="m")
        second = limiter(json.loads(json.dumps(first.beliefs())))
        send = Stack(second, ErrorClassifier()).around(server)
        await send({}, partition="m")
        with pytest.raises(DayUsedUp):
            await send({}, partition="m")
        return len(server.sent)

    assert run(main) == 5


def test_a_waiter_that_is_refused_by_a_day_may_be_cancelled(run):
    """Its cancellation takes nothing back twice."""

    async def main():
        allowance = Allowance(60, requests_per_day=2, burst=1.0)
        send = Stack(RateLimiter(allowance), ErrorClassifier()).around(FakeServer(latency=5.0))

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(_quietly, send)
            await anyio.sleep(1.5)
            group.cancel_scope.cancel()
        assert allowance.waiting == 0
        assert not allowance.busy

    run(main)


async def _quietly(send):
    try:
        await send({})
    except DayUsedUp:
        return


def test_a_day_that_is_cut_short_is_over_after_a_day():
    """However much was spent before, a smaller limit has room within 24 hours and a quarter."""
    allowance = Allowance(NEVER_MET, burst="window", requests_per_day=1_000)
    spend(allowance, 0.0, 1_000)
    allowance.resize(1.0, requests_per_day=10)
    assert DAY < allowance.full_until() <= DAY + 901.0
    assert spend(allowance, DAY + 901.0, 100) == 10


def test_a_request_above_a_whole_day_is_sent_with_an_empty_one():
    """Its estimate may be wrong; the server decides."""
    allowance = Allowance(tokens_per_day=1_000)
    assert allowance.full_until(5_000.0) <= 0.0
    reservation = allowance.take(0.0, 5_000.0)
    allowance.settle(reservation, 1.0, 4_000)
    assert DAY < allowance.full_until(1.0) <= DAY + 901.0
