"""When failures are about what every row would meet: each case of the rule, as a pure policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.batch.result import PERMANENT, Failure, Result
from resilient_infe.batch.trial import FEWEST, FIRST, IN_A_ROW, QUESTIONS, Trial, Trials
from resilient_infe.core.verdict import Kind

INVALID = Kind.INVALID, 400, "invalid"


def failed(kind=Kind.INVALID, status=400, code="invalid", message="no such model"):
    """A result that has failed."""
    failure = Failure(kind, message, status, code, permanent=kind in PERMANENT)
    return Result(0, "row-1", None, failure=failure)


def passed():
    """A result with a value."""
    return Result(0, "row-1", None, value="ok")


def feed(trial, *results):
    """Let rows end one after another; returns whether each failure stood."""
    return [trial.end(trial.begin(), result, "digest") for result in results]


def test_the_first_results_that_fail_alike_pause():
    """Twenty are enough, nineteen are not."""
    trial = Trial()
    feed(trial, *[failed()] * (FIRST - 1))
    assert (trial.state, trial.admits()) == ("open", True)
    feed(trial, failed())
    assert (trial.state, trial.admits()) == ("paused", False)
    assert trial.last.message == "no such model"


@pytest.mark.parametrize("other", [failed(status=422), failed(code="x"), failed(Kind.UNKNOWN)])
def test_one_that_is_unlike_begins_the_count_anew(other):
    """Another status, code or kind: twenty alike are needed after it."""
    trial = Trial()
    feed(trial, *[failed()] * (FIRST - 1), other, *[failed()] * (FIRST - 1))
    assert trial.state == "open"
    feed(trial, failed())
    assert trial.state == "paused"


def test_a_turn_is_told_once():
    """Whether rows may be sent is compared with the last time that somebody asked."""
    trial = Trial()
    assert not trial.has_turned()
    feed(trial, *[failed()] * FIRST)
    assert trial.has_turned()
    assert not trial.has_turned()
    again = Trial(again=True)
    feed(again, failed())
    assert not again.has_turned()
    feed(again, passed())
    assert again.has_turned()


def test_a_success_is_the_end_of_it():
    """Then failures are about their rows, however many there are."""
    trial = Trial()
    feed(trial, failed(), passed(), *[failed()] * 100)
    trial.close()
    assert trial.state == "open"


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.CANCELLED, Kind.RATE_LIMITED])
def test_what_is_about_the_time_counts_for_nothing(kind):
    """What the stack refused, and a row that is refused with 429s, say nothing of the others."""
    trial = Trial()
    assert all(feed(trial, *[failed(kind, None, None)] * 100))
    trial.close()
    assert trial.state == "open"


def test_a_pause_waits_for_the_rows_under_way():
    """No new row is sent; the last one under way decides."""
    trial = Trial()
    number = trial.begin()
    feed(trial, *[failed()] * FIRST)
    assert (trial.state, trial.admits()) == ("held", False)
    trial.end(number, failed(), None)
    assert trial.state == "paused"


def test_a_row_under_way_that_passes_ends_the_pause():
    """Then rows are sent again. The failures stand once a row passes that was begun after them."""
    trial = Trial()
    number = trial.begin()
    feed(trial, *[failed()] * FIRST)
    trial.end(number, passed(), None)
    assert trial.admits()
    assert trial.settled() == []
    feed(trial, passed())
    assert len(trial.settled()) == FIRST
    assert trial.settled() == []


def test_a_row_that_is_cut_decides_too():
    """What was not sent after all is not waited for."""
    trial = Trial()
    trial.begin()
    feed(trial, *[failed()] * FIRST)
    trial.cut()
    assert trial.state == "paused"


def test_a_failure_stands_once_a_row_has_passed():
    """Before that it is recorded as one that is sent again."""
    trial = Trial()
    assert feed(trial, failed(), failed(Kind.TIMEOUT), failed()) == [False, True, False]
    trial = Trial()
    assert feed(trial, failed(), passed(), failed()) == [False, True, True]


@pytest.mark.parametrize(("rows", "state"), [(FEWEST - 1, "open"), (FEWEST, "paused")])
def test_a_short_input_pauses_from_six_rows_on(rows, state):
    """Five that fail alike may well be five bad rows."""
    trial = Trial()
    feed(trial, *[failed()] * rows)
    settled = trial.close()
    assert trial.state == state
    assert len(settled) == (0 if state == "paused" else rows)


@pytest.mark.parametrize("kind", [Kind.AUTH, Kind.QUOTA])
def test_the_account_pauses_at_the_first_result(kind):
    """A key or credits that are refused before any row has passed are about all rows."""
    trial = Trial()
    feed(trial, failed(kind, 401, None))
    assert trial.state == "paused"


@pytest.mark.parametrize("kind", [Kind.AUTH, Kind.FORBIDDEN, Kind.QUOTA, Kind.NOT_FOUND])
def test_later_fifty_in_a_row_pause(kind):
    """One that passes, or fails otherwise, begins the count anew."""
    trial = Trial()
    refused = failed(kind, 403, "suspended")
    feed(trial, passed(), *[refused] * (IN_A_ROW - 1), passed(), *[refused] * (IN_A_ROW - 1))
    feed(trial, failed(), *[refused] * (IN_A_ROW - 1))
    assert trial.state == "open"
    feed(trial, failed(Kind.QUOTA, 402, None))  # unlike, and as much about the account
    assert trial.state == "paused"


def test_later_bad_rows_never_pause():
    """However many rows are invalid, once one has passed."""
    trial = Trial()
    feed(trial, passed(), *[failed()] * 1_000)
    assert trial.state == "open"


def test_after_a_pause_five_rows_are_asked_with():
    """No more are sent before one has passed; five that fail, however, pause again."""
    trial = Trial(again=True)
    for _ in range(QUESTIONS):
        assert trial.admits()
        trial.begin()
    assert not trial.admits()
    for number in range(1, QUESTIONS + 1):
        trial.end(number, failed(status=400 + number), None)
    assert trial.state == "paused"
    trial = Trial(again=True)
    feed(trial, failed(), passed())
    assert (trial.asks, trial.admits()) == (False, True)


def test_it_never_pauses_where_it_is_told_to_keep_going():
    """Also after a pause, and at the end."""
    trial = Trial(again=True, keep_going=True)
    stood = feed(trial, *[failed(Kind.AUTH, 401, None)] * 200)
    assert trial.close() == []
    assert (trial.state, all(stood)) == ("open", True)


def test_a_pause_is_told_in_the_servers_words():
    """With the partition's name where there are several."""
    trials = Trials(again=frozenset(["b"]), keep_going=False)
    assert trials.pause() is None
    feed(trials.of("a"), *[failed()] * FIRST)
    assert (trials.paused, trials.all_paused) == (["a"], True)
    assert str(trials.pause()) == "400 no such model"
    assert trials.of("b").asks
    assert not trials.all_paused
    feed(trials.of("b"), passed())
    assert str(trials.pause()) == "a: 400 no such model"
    assert trials.pause().kind is Kind.INVALID


@given(
    st.lists(st.sampled_from(["pass", "bad", "gone", "auth", "down", "begin", "cut"]), max_size=200)
)
def test_whatever_ends_it_is_decided_when_nothing_is_under_way(steps):
    """It is never held with no row under way, and a pause admits nothing."""
    results = {
        "pass": passed(),
        "bad": failed(),
        "gone": failed(Kind.NOT_FOUND, 404, "gone"),
        "auth": failed(Kind.AUTH, 401, None),
        "down": failed(Kind.TRANSIENT, 502, None),
    }
    trial, under_way = Trial(), 0
    for step in steps:
        if step == "begin" and trial.admits():
            trial.begin()
            under_way += 1
        elif step == "cut" and under_way:
            trial.cut()
            under_way -= 1
        elif step in results and under_way:
            trial.end(1, results[step], None)
            under_way -= 1
        assert not (trial.state == "held" and not under_way)
        assert trial.admits() == (trial.state == "open")
