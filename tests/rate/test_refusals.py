"""Whether the 429s of a call are about that call: judged by how its neighbours fared."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.verdict import Kind, Limit, Verdict
from resilient_infe.rate.allowance import Allowance
from resilient_infe.rate.refusals import (
    ALONE,
    ALONE_UNSUSPECTED,
    MEMORY,
    PARKED_AFTER,
    Others,
    Refusals,
)
from resilient_infe.rate.settlement import learn


def let_in(others, at, count=10, tokens=100.0):
    """Note that calls were let in that were sent in the second after `at`."""
    for number in range(count):
        others.note(at + number / count, tokens, refused=False)


def refused_among(neighbours, *, times, tokens=100.0, size=100.0, every=2.0):
    """Return a call that was refused so often, each time among neighbours that were let in."""
    others, call = Others(), Refusals()
    for attempt in range(times):
        at = attempt * every
        let_in(others, at, neighbours, size)
        call.add(at, tokens, at + 0.06, others)
    return call


def test_1_the_first_429_counts_for_nothing():
    """Nobody knows yet whether the server refuses everything."""
    call = refused_among(10, times=1)
    assert (call.times, call.suspect, call.final) == (1, False, None)


def test_1_a_429_counts_once_others_were_let_in_since():
    """What was sent after its last 429 was let in, and it was not: a suspect."""
    assert refused_among(10, times=2).suspect
    assert not refused_among(0, times=9).suspect


def test_1_what_was_let_in_before_its_last_429_counts_for_nothing():
    """A server that goes down refuses everybody from then on: no suspect."""
    others, call = Others(), Refusals()
    let_in(others, 0.0)
    for attempt in range(20):
        call.add(2.0 + attempt, 100.0, 2.06 + attempt, others)
    assert (call.suspect, call.final) == (False, None)


def test_2_a_call_that_alone_is_refused_ends():
    """Ten neighbours a second: a refusal by chance is 1 in 11, and eleven more are no chance."""
    ends = next(n for n in range(1, 99) if refused_among(10, times=n).final)
    assert ends == 13  # one that does not count, and 12 of 1 in 11: less than 1 in 10^12
    final = refused_among(10, times=ends).final
    assert final is not None
    assert final.startswith("refused 13 times while others like it were let in")


def test_2_more_neighbours_end_it_sooner():
    """With a thousand neighbours four that count are no chance; but three have to in any case."""
    assert next(n for n in range(1, 99) if refused_among(1_000, times=n).final) == 5
    assert next(n for n in range(1, 99) if refused_among(30_000, times=n).final) == 4


def test_2_refusals_that_are_common_tell_little():
    """Where half of all are refused, ten in a row are honest."""
    others, call = Others(), Refusals()
    for at in range(20):
        for number in range(10):
            others.note(at + number / 10, 100.0, refused=number % 2 > 0)
        call.add(float(at), 100.0, at + 0.06, others)
    assert call.suspect
    assert call.final is None


def test_2_neighbours_are_those_of_a_second():
    """Whoever was sent more than a second apart met another state of the server."""
    others = Others()
    for at in (7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0):
        let_in(others, at, 1)
    assert others.near(10.5, 100.0) == (3, 0)


@pytest.mark.parametrize(("tokens", "counts"), [(60.0, 0), (65.0, 1), (127.0, 1), (5_000.0, 1)])
def test_2_neighbours_are_at_least_as_large(tokens, counts):
    """A small request fits where a large one does not; sizes are told apart by powers of two."""
    others = Others()
    others.note(10.0, tokens, refused=False)
    assert others.near(10.0, 100.0) == (counts, 0)


def test_3_the_largest_call_is_parked_after_ten():
    """Nothing is as large: that tells nothing, so it does not end, but waits for all others."""
    call = refused_among(10, times=PARKED_AFTER, tokens=100_000.0)
    assert (call.suspect, call.parked) == (True, False)
    call = refused_among(10, times=PARKED_AFTER + 1, tokens=100_000.0)
    assert (call.parked, call.final) == (True, None)
    assert refused_among(10, times=99, tokens=100_000.0).final is None


def test_4_alone_in_the_quiet_a_suspect_ends_in_ten_minutes():
    """A free limit that refuses counts 1 in 20, at most once a minute."""
    call, others, now = refused_among(10, times=2), Others(), 100.0
    for _ in range(9):
        assert call.final is None
        for _ in range(5):  # its tries within the minute count once
            now += (ALONE + 1.0) / 5
            call.add(now, 100.0, now, others)
    for _ in range(5):
        now += (ALONE + 1.0) / 5
        call.add(now, 100.0, now, others)
    assert call.final is not None


def test_4_alone_from_the_start_it_takes_an_hour():
    """Of a call that is no suspect the server may as well be down: once in six minutes."""
    others, call, now = Others(), Refusals(), 0.0
    while call.final is None:
        now += 60.0
        call.add(now, 100.0, now, others)
    assert 9 * ALONE_UNSUSPECTED < now < 5_400.0
    assert "nothing else was sent" in call.final


@pytest.mark.parametrize("count", [2, 3, 10])
def test_4_calls_that_are_refused_together_take_an_hour_each(count):
    """The more calls are refused that are no suspects, the longer an outage explains it."""
    others, calls, minute = Others(), [Refusals() for _ in range(count)], 0
    while calls[-1].final is None:
        minute += 1
        for call in calls:
            if call.final is None:
                call.add(minute * 60.0, 100.0, minute * 60.0, others)
    assert 60 * count - 6 * count <= minute <= 90 * count


def test_4_a_suspect_waits_for_those_that_are_none():
    """As long as another call may be refused for an outage, a suspect's 429 counts as rarely."""
    call, others, honest, now = refused_among(10, times=2), Others(), Refusals(), 100.0
    while call.final is None:
        now += 30.0
        honest.add(now, 100.0, now, others)
        call.add(now, 100.0, now, others)
    assert now >= 9 * ALONE_UNSUSPECTED


def test_those_that_were_refused_are_forgotten():
    """What is kept of calls that are no suspects is what the last six minutes brought."""
    others = Others()
    for second in range(2_000):
        Refusals().add(float(second), 100.0, float(second), others)
    assert len(others._honest) <= ALONE_UNSUSPECTED + 2
    call = Refusals()
    for at in (2_000.0,):
        call.add(at, 100.0, at, others)
        assert call in others._honest
        let_in(others, at + 1.0)
    call.add(2_020.0, 100.0, 2_020.0, others)
    assert call.suspect
    assert call not in others._honest


def test_its_memory_is_bounded():
    """However long a run is, at most so many seconds are kept, and the latest ones are."""
    others = Others()
    for second in range(5_000):
        others.note(float(second), 100.0, refused=False)
    assert len(others._seconds) <= MEMORY + 1
    assert others.near(4_999.0, 100.0) == (2, 0)


def test_what_is_let_in_is_noted_only_after_a_429():
    """A run without 429s notes nothing; from one on it is noted for a quarter of an hour."""
    others = Others()
    assert others.watched_until < 0.0
    Refusals().add(10.0, 100.0, 10.1, others)
    assert others.watched_until == pytest.approx(10.1 + MEMORY)


@given(st.floats(0.0, 0.95), st.integers(1, 40), st.integers(0, 2**32))
def test_an_honest_call_never_ends(share, neighbours, seed):
    """Whatever share of calls is refused: a call that shares that fate is tried until it is in."""
    draw, others, call, at = random.Random(seed), Others(), Refusals(), 0.0
    while draw.random() < share and call.times < 300:
        for _ in range(neighbours):
            if draw.random() < share:
                Refusals().add(at, 100.0, at + 0.06, others)
            else:
                others.note(at, 100.0, refused=False)
        call.add(at, 100.0, at + 0.06, others)
        at += draw.uniform(1.0, 30.0)
    assert call.final is None


@given(st.integers(1, 8), st.floats(1.0, 50_000.0))
def test_calls_that_are_always_refused_end(poison, tokens):
    """Where ten neighbours as large are let in each second, they end within twenty counted 429s."""
    others, calls, at, wait = Others(), [Refusals() for _ in range(poison)], 0.0, 1.0
    for _ in range(26):
        at, wait = at + wait, min(60.0, 2 * wait)
        for second in (-1.0, 0.0, 1.0):
            let_in(others, at + second, 10, tokens)
        for call in calls:
            if call.final is None:
                call.add(at, tokens, at + 0.06, others)
    assert all(call.final is not None and call._counted <= 20 for call in calls)


def refuse(allowance, call, at, **verdict):
    """Send a call at `at` and let it be refused; return what changed."""
    reservation = allowance.reserve(at, 100.0)
    assert reservation.granted
    call.add(at, 100.0, at, allowance.others)
    refused = Verdict(Kind.RATE_LIMITED, **verdict)
    changes = list(learn(allowance, reservation, refused, at, 300.0, call))
    allowance.refund(reservation, at, request=False)
    return changes


@pytest.mark.parametrize("suspect", [True, False])
def test_a_suspect_is_no_witness(suspect):
    """Its hints stop only itself; those of any other call shut the gate."""
    allowance, call = Allowance(6_000), Refusals()
    call.suspect = suspect
    changes = [refuse(allowance, call, at / 10, retry_after=30.0) for at in range(3)]
    assert any(changes) is not suspect


class Told(Allowance):
    """An allowance that counts the 429s that its learner is told of."""

    told = 0

    def rejected(self, reservation, now, hint=0.0, *, steep=False):
        """Count it."""
        self.told += 1
        return []


@pytest.mark.parametrize(("others_refused", "told"), [(0, 1), (9, 9)])
def test_a_suspect_teaches_while_its_429s_may_be_the_rates(others_refused, told):
    """Once others like it are let in too often for chance, its 429s lower no limit."""
    allowance, call = Told(), Refusals()
    for at in range(9):
        for number in range(10):
            allowance.others.note(at - 0.5, 100.0, refused=number < others_refused)
        refuse(allowance, call, float(at))
    assert call.suspect
    assert allowance.told == told


def test_at_rest_one_call_speaks_once():
    """Below a declared limit only the first 429 of a call is held against the limit."""
    allowance, call = Told(600.0), Refusals()
    for at in range(3):
        refuse(allowance, call, float(at))
    assert allowance.told == 1


def test_limits_that_a_suspect_is_told_are_followed():
    """What the server states in numbers holds whoever is told."""
    allowance, call = Allowance(6_000), Refusals()
    call.suspect = True
    [change] = refuse(allowance, call, 0.0, limits=(Limit("requests", 600.0),))
    assert change.new == 600.0


@pytest.mark.parametrize("kind", [Kind.RATE_LIMITED, Kind.OVERLOADED])
def test_a_question_that_is_refused_without_a_hint_is_refused(kind):
    """A bare refusal of a question is no silence: the gate stays shut until the next question."""
    allowance = Allowance(6_000)
    for at in (0.0, 0.1, 0.2):
        refuse(allowance, Refusals(), at, retry_after=30.0)
    question = allowance.reserve(1.2, 100.0)
    assert question.granted
    [closed] = learn(allowance, question, Verdict(kind), 1.3, 300.0)
    assert closed.delay == pytest.approx(1.0)
    assert allowance.gate.until == 2.3


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.SERVER_ERROR, Kind.TIMEOUT])
def test_a_question_that_fails_otherwise_is_asked_again(kind):
    """It was not let in and not refused: the next call is a question, and no crowd goes."""
    allowance = Allowance(6_000)
    for at in (0.0, 0.1, 0.2):
        refuse(allowance, Refusals(), at, retry_after=30.0)
    question = allowance.reserve(1.2, 100.0)
    assert list(learn(allowance, question, Verdict(kind), 1.3, 300.0)) == []
    opens = allowance.gate.until
    assert allowance.reserve(opens, 100.0).granted
    assert allowance.gate.asked(opens)
    assert not allowance.reserve(opens + 0.1, 100.0).granted


def test_what_was_in_flight_and_refused_without_a_hint_was_not_let_in():
    """Of four in flight one is refused without a hint: nothing is left that may be let in."""
    allowance = Allowance(6_000)
    refuse(allowance, Refusals(), 0.0, retry_after=30.0)
    bare, *told = [allowance.reserve(0.1, 100.0) for _ in range(3)]
    for each in told:
        list(learn(allowance, each, Verdict(Kind.RATE_LIMITED, retry_after=30.0), 0.2, 300.0))
    assert allowance.gate.until == 0.6
    list(learn(allowance, bare, Verdict(Kind.RATE_LIMITED), 0.3, 300.0))
    assert allowance.gate.until == 1.2


def test_a_question_whose_caller_leaves_was_not_asked():
    """It got its turn and was cancelled before it was sent: the next call is the question."""
    allowance = Allowance(6_000)
    for at in (0.0, 0.1, 0.2):
        refuse(allowance, Refusals(), at, retry_after=30.0)
    allowance.cancel(allowance.reserve(1.2, 100.0), 1.2)
    opens = allowance.gate.until
    assert allowance.reserve(opens, 100.0).granted
    assert allowance.gate.asked(opens)
    assert allowance.gate.until > opens
