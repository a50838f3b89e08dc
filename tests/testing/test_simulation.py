"""The simulator: what a stack does in a scenario, the same in every run, judged by the record."""

from __future__ import annotations

import math
import random

import pytest

from resilient_infe import ErrorClassifier, Retry, Stack, presets
from resilient_infe.errors import ConfigurationError
from resilient_infe.testing import (
    Broken,
    Errors,
    Limit,
    Rows,
    Scenario,
    Traffic,
)
from resilient_infe.testing import (
    simulate as simulated,
)


def service():
    """Return a service with a declared limit."""
    return presets.service(requests_per_minute=600)


OUTAGE = Scenario(requests_per_minute=600, happenings=[Errors(10, 20)])


def test_an_outage_fails_calls_only_while_it_lasts(simulate):
    """Calls fail in an outage of ten seconds; soon after it, all are answered again."""
    record = simulate(service, Traffic(5.0, seconds=60), OUTAGE)
    assert record.between(0, 10).failed == {}
    assert record.between(10, 25).failed["CircuitOpen"] > 10
    assert record.between(35, 70).failed == {}
    assert record.rejected == 0
    assert record.answered + record.failed.total() == len(record.calls)


def test_a_batch_ends(simulate):
    """Every row is answered once, and the limit is kept, though it is halved on the way."""
    scenario = Scenario(
        requests_per_minute=600, happenings=[Limit(10, 20, requests_per_minute=300)]
    )
    record = simulate(
        lambda: presets.batch(requests_per_minute=600), Rows(300, workers=50), scenario
    )
    assert sorted(each.number for each in record.calls) == list(range(300))
    assert record.answered == record.books.answered == 300
    assert record.sends_per_answer < 1.1


def test_streams_that_fall_silent_end(simulate):
    """A silent stream fails when the silence has lasted too long; the others are read whole."""
    scenario = Scenario(happenings=[Broken(0, 5, "silent", share=0.5)])
    record = simulate(service, Traffic(4.0, seconds=10, streams=True), scenario)
    failed = record.failed["StreamStalled"]
    assert 0 < failed == record.failed.total() < len(record.calls)
    assert sum(each.status == 0 for each in record.attempts) == failed


def test_the_same_seed_gives_the_same_record():
    """Arrivals, faults and backoff are drawn from the seed, and another seed draws others."""
    traffic = Traffic(10.0, seconds=30)
    first, again, other = (simulated(service, traffic, OUTAGE, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_random_source_of_the_program_is_left_alone():
    """A simulation puts the state of `random` back."""
    random.seed(5)
    expected = random.random()
    random.seed(5)
    simulated(service, Traffic(10.0, seconds=2), OUTAGE)
    assert random.random() == expected


def test_what_takes_too_long_is_cut_off(simulate):
    """A call that has not ended in time is unfinished, and its attempts end with the simulation."""
    record = simulate(
        lambda: Stack(ErrorClassifier()),
        Rows(3, workers=2),
        Scenario(happenings=[Broken()]),
        longest=30.0,
    )
    assert record.failed == {"unfinished": 2}
    assert record.seconds == 30.0
    assert [each.end for each in record.attempts] == [30.0, 30.0]


def test_evenly_spaced_calls():
    """Traffic may come at equal intervals."""
    record = simulated(
        lambda: Stack(ErrorClassifier()), Traffic(2.0, seconds=5, evenly=True), Scenario(latency=0)
    )
    assert [each.at for each in record.attempts] == [0.5 * number for number in range(1, 11)]


def test_requests_and_options_of_ones_own():
    """A workload makes each request and its options from the number of the call."""
    asked = []

    async def note(call, call_next):
        asked.append((call.payload["model"], call.tags))
        return await call_next(call)

    def request(number, _):
        return {"model": ("infe-pulse", "infe-titan")[number % 2], "messages": []}

    rows = Rows(2, request=request, options=lambda number, _: {"tags": {"row": number}})
    record = simulated(lambda: Stack(note, ErrorClassifier()), rows)
    assert record.answered == 2
    assert asked == [("infe-pulse", {"row": 0}), ("infe-titan", {"row": 1})]


def test_a_stack_may_be_given_itself():
    """A stack that was not used before needs no function around it."""
    record = simulated(Stack(Retry(3), ErrorClassifier()), Rows(5), Scenario())
    assert record.answered == 5


def test_the_course_of_a_record():
    """The seconds add up to the whole, and count what is open at their ends."""
    record = simulated(service, Traffic(10.0, seconds=30), OUTAGE)
    course = record.per_second()
    assert sum(each.sent for each in course) == len(record.attempts)
    assert sum(each.answered for each in course) == record.answered
    assert sum(each.failed for each in course) == record.books.by_status[503]
    assert course[-1].waiting == course[-1].in_flight == 0
    assert max(each.in_flight for each in course) > 0
    ten = record.per_second(10.0)
    assert [each.start for each in ten] == [10.0 * number for number in range(len(ten))]
    assert [each.in_flight for each in ten[:3]] == [course[9 + 10 * n].in_flight for n in range(3)]


def test_a_record_in_words():
    """It says how many calls were answered, what failed, and how long an answer took."""
    record = simulated(service, Traffic(10.0, seconds=30), OUTAGE)
    text = str(record)
    assert f"{record.answered} answered" in text
    assert f"{record.failed['CircuitOpen']} CircuitOpen" in text
    assert "(p99)" in text


def test_a_record_without_an_answer():
    """Where nothing was answered, there is no latency, and no answer to divide by."""
    record = simulated(
        lambda: Stack(ErrorClassifier()), Rows(2), Scenario(happenings=[Errors(0, 10)])
    )
    assert math.isnan(record.seconds_of(0.99))
    assert record.sends_per_answer == math.inf
    assert "p99" not in str(record)


@pytest.mark.parametrize(
    "make",
    [lambda: Traffic(0), lambda: Traffic(1, seconds=0), lambda: Rows(0), lambda: Rows(1, 0)],
)
def test_a_workload_without_work_is_refused(make):
    """Numbers out of range raise when the workload is made."""
    with pytest.raises(ConfigurationError):
        make()
