"""From where in the queue the next call comes, while a server refuses one after the other."""

import random

import pytest
from endpoints import Endpoint, played, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import Allowance, Kind, Verdict, presets
from resilient_infe.core.queue import Standing
from resilient_infe.rate.refusals import Refusals
from resilient_infe.rate.samples import LONGEST_RUN, Samples
from resilient_infe.rate.settlement import learn

ROWS = 300
PLAIN = Standing()
BOTH = [PLAIN, Standing(tenant="b")]
CLASSES = [PLAIN, Standing(rank=0)]


def play(refused, sends=400):
    """Send one after the other; `refused(young, number)` says which are. Return who came."""
    ends, came = Samples(), []
    for number in range(sends):
        young = ends.left > 0
        came.append(young)
        ends.left -= young
        if refused(young, number):
            ends.refused(float(number), number + 0.5, sample=young, asks=number >= 3)
        else:
            ends.let_in(float(number), sample=young)
    return came


def test_the_head_is_tried_after_1_2_4_and_8_samples():
    """While the head is refused and samples are let in, one in nine is the head."""
    came = play(lambda young, _: not young, 40)
    assert came[:4] == [False] * 4
    runs = "".join("y" if young else "-" for young in came[4:]).split("-")
    assert [len(run) for run in runs[:6]] == [1, 2, 4, 8, LONGEST_RUN, LONGEST_RUN]


def test_one_head_that_is_let_in_ends_it():
    """From then on all go in their order, and only a new stop begins again."""
    came = play(lambda young, number: not young and number < 20, 60)
    assert any(came[:30])
    assert not any(came[30:])


def test_in_a_stop_the_head_and_samples_ask_in_turn():
    """What asks may be refused for what it is, wherever it stands."""
    came = play(lambda young, number: True, 40)
    assert came[3:] == [bool(number % 2) for number in range(37)]


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=20, max_size=80))
def test_whatever_is_refused_the_head_is_never_passed_by_more_than_a_run(refused):
    """An honest call at the head waits for eight others at most before it is tried."""
    came = play(lambda _, number: refused[number], len(refused))
    runs = "".join("y" if young else "-" for young in came).split("-")
    assert max(map(len, runs)) <= LONGEST_RUN


def test_what_was_sent_before_the_last_change_changes_nothing():
    """Ten calls of the head, in flight when the first of them is refused, are one trial."""
    ends = Samples()
    for _ in range(10):
        ends.refused(1.0, 2.0, sample=False, asks=True)
    assert ends.left == 1
    ends.let_in(1.0, sample=False)
    assert ends.left == 1
    ends.rebase(10.0)
    ends.refused(11.5, 12.5, sample=False, asks=True)
    assert ends.left == 1
    ends.refused(12.5, 13.0, sample=False, asks=True)
    assert ends.left == 2


def test_only_a_head_that_is_tried_between_others_says_nothing():
    """In a stop every refusal says something, that of a sample too."""
    ends = Samples()
    assert not ends.is_trial(0.0, sample=False)
    ends.refused(0.0, 0.5, sample=False, asks=True)  # the question before the first sample
    assert not ends.is_trial(2.0, sample=False)
    ends.refused(2.0, 2.5, sample=False, asks=True)  # that one was let in, and the head is not
    assert ends.is_trial(3.0, sample=False)
    assert not ends.is_trial(3.0, sample=True)
    assert not ends.is_trial(2.0, sample=False)  # sent before
    ends.refused(3.0, 3.5, sample=True, asks=True)  # a sample is refused too: a stop
    assert not ends.is_trial(4.0, sample=False)


def shut(allowance, now=0.0):
    """Let three calls be refused with a hint, so that the gate is shut and asks."""
    refused = Verdict(Kind.RATE_LIMITED, retry_after=60.0)
    for _ in range(3):
        taken = allowance.take(now)
        own = Refusals()
        own.add(now, 0.0, now + 0.1, allowance.others)
        list(learn(allowance, taken, refused, now + 0.1, 300.0, own))
        allowance.refund(taken, now + 0.1, request=False)
    return now + 0.1


@pytest.mark.parametrize("standings", [[PLAIN], BOTH, CLASSES], ids=["plain", "tenants", "classes"])
def test_the_first_sample_is_the_youngest_of_the_first_class_that_was_not_tried(standings):
    """Neither one that comes back for a retry, nor one that waits behind all others."""
    allowance = Allowance(60_000)
    now = shut(allowance)
    top = min(each.rank for each in standings)
    waiting = [
        allowance.enqueue((1.0, 0.0, 0.0, 0.0), place, standing=standings[place % len(standings)])
        for place in range(1, 9)
    ]
    fresh = [each for each in waiting if each.standing.rank == top]
    allowance.enqueue((1.0, 0.0, 0.0, 0.0), 20, again=True, standing=fresh[0].standing)
    allowance.cancel(fresh[-1], now)  # it went away
    [granted] = allowance.poll(allowance.gate.until)
    assert granted in fresh[:-1]
    assert granted is fresh[-2] or len({each.tenant for each in standings}) > 1
    assert allowance.waiting == 7


def test_without_an_untried_call_the_head_asks():
    """All that wait were refused before: the oldest goes."""
    allowance = Allowance(60_000)
    shut(allowance)
    waiting = [allowance.enqueue((1.0, 0.0, 0.0, 0.0), n, again=True) for n in (5, 6, 7)]
    assert list(allowance.poll(allowance.gate.until)) == [waiting[0]]


@pytest.mark.parametrize(
    ("declared", "hint"), [(600.0, None), (600.0, 1.0), (600.0, 12.0), (600.0, 60.0), (None, None)]
)
def test_rows_at_the_head_hold_up_nobody(declared, hint):
    """A file that begins with 20 rows that the server refuses: the others are done in time."""
    stack = presets.batch(requests_per_minute=declared, concurrency=64, log=False)
    endpoint = Endpoint(refuse=rows_of(*range(20)), hint=hint)
    outcome = played(stack, endpoint, [100.0] * ROWS)
    assert sorted(outcome.failed) == list(range(20))
    assert len(outcome.done) == ROWS - 20
    assert outcome.last <= 1.3 * ROWS / 10 + 3.0


def test_rows_at_both_ends_hold_up_nobody():
    """Sixty that are always refused: the first thirty, and the last thirty."""
    poison = [*range(30), *range(ROWS - 30, ROWS)]
    stack = presets.batch(requests_per_minute=600, concurrency=ROWS, log=False)
    endpoint = Endpoint(refuse=rows_of(*poison), hint=60.0)
    outcome = played(stack, endpoint, [100.0] * ROWS, longest=3_600.0)
    assert sorted(outcome.done) == list(range(30, ROWS - 30))
    assert outcome.last <= 60.0


def test_an_honest_limit_keeps_the_order():
    """Declared 1.5 times too high, with hints: a call passes eight others at most."""
    started = []

    def refuse(row, _):
        started.append(row)
        return False

    stack = presets.batch(requests_per_minute=900, concurrency=ROWS, log=False)
    outcome = played(stack, Endpoint(hint=2.0, refuse=refuse, style="fixed"), [100.0] * ROWS)
    assert not outcome.failed
    first = {row: place for place, row in reversed(list(enumerate(started)))}
    assert sum(first[row] > row + 10 for row in range(ROWS)) < random.Random(1).randrange(20, 30)
