"""The shared gate: three witnesses shut it, one question opens it, and time alone always does."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.rate.gate import (
    FIRST_QUESTION,
    LEAST_PATIENCE,
    QUESTION_SHARE,
    WITNESSES,
    Gate,
)


def shut(gate, *, hint=60.0, at=0.0, takes=0.1):
    """Shut a gate at `at`, with calls that were sent `takes` seconds before."""
    for _ in range(WITNESSES):
        closed = gate.refused(at - takes, at + hint, at, "asked")
    assert closed


def refuse(gate, sent_at, until, now):
    """Tell a call to wait, as its layer does: first it was not let in."""
    gate.not_let_in(sent_at)
    return gate.refused(sent_at, until, now, "asked")


def test_it_starts_open():
    """A new gate holds nobody up, watches nobody, and any refusal is news."""
    gate = Gate()
    assert gate.left(0.0) == 0.0
    assert gate.is_news(-1e9)
    assert not gate.watches
    assert gate.reason is None


def test_the_example_of_the_module():
    """Three calls are told to wait for 60 s: shut at the third; asks after 1 s, and again."""
    gate = Gate()
    assert not gate.refused(0.0, 60.2, 0.2, "asked")
    assert not gate.refused(0.1, 60.3, 0.3, "asked")
    assert gate.refused(0.2, 60.4, 0.4, "asked")
    assert (gate.until, gate.ends, gate.reason) == (1.4, 60.4, "asked")
    gate.sent(1.4)
    assert gate.until > 1.4  # nobody goes behind the question until something is known of it
    assert refuse(gate, 1.4, 61.6, 1.6)
    assert gate.until == pytest.approx(2.6)
    gate.sent(2.6)
    gate.let_in(2.6, 2.8)
    assert gate.left(2.8) == 0.0
    assert not gate.watches


@pytest.mark.parametrize("told", [1, 2])
def test_fewer_than_three_witnesses_shut_nothing(told):
    """One or two 429s with a hint may be chance, or about those calls."""
    gate = Gate()
    assert not any(gate.refused(0.0, 60.0, 0.1, "asked") for _ in range(told))
    assert gate.left(0.1) == 0.0
    assert gate.watches


def test_a_call_that_is_let_in_takes_the_witnesses_back():
    """Of four 429s with one call let in between, the last is the second in a row."""
    gate = Gate()
    for at in (0.0, 1.0):
        assert not gate.refused(at, at + 60.0, at + 0.1, "asked")
    gate.let_in(1.5, 1.6)
    for at in (2.0, 3.0):
        assert not gate.refused(at, at + 60.0, at + 0.1, "asked")
    assert gate.refused(4.0, 64.0, 4.1, "asked")


def test_what_was_sent_before_the_first_witness_proves_nothing():
    """A call that was let in before the limit was used up leaves the witnesses in place."""
    gate = Gate()
    for _ in range(2):
        gate.refused(1.0, 60.0, 1.1, "asked")
    gate.let_in(0.5, 2.0)  # its answer took long
    assert gate.refused(1.0, 60.0, 2.1, "asked")


def test_a_call_that_is_not_refused_in_time_was_let_in():
    """Answers may take minutes: 0.5 s without a refusal is enough, if those take 0.1 s."""
    gate = Gate()
    for _ in range(2):
        gate.refused(0.0, 60.0, 0.1, "asked")
    gate.sent(1.0)
    gate.sent(1.5)  # the one of 1 s is not refused yet: somebody was let in
    assert not gate.watches
    assert not gate.refused(1.5, 60.0, 1.6, "asked")


def test_the_patience_grows_with_what_a_refusal_takes():
    """If refusals take 2 s, a question is waited for 8 s, and not 0.5 s."""
    gate = Gate()
    shut(gate, takes=2.0)
    gate.sent(1.0)
    assert gate.until == pytest.approx(1.0 + 4 * 2.0)
    gate = Gate()
    shut(gate, takes=0.01)
    gate.sent(1.0)
    assert gate.until == pytest.approx(1.0 + LEAST_PATIENCE)


def test_sixty_four_in_flight_are_one_piece_of_news():
    """What was sent before the gate shut corrects nothing again, whatever it is told."""
    gate = Gate()
    closed = [gate.refused(0.0, 60.0 + number, 0.1, f"{number}") for number in range(64)]
    assert [number for number, each in enumerate(closed) if each] == [2]
    assert gate.reason == "2"
    assert gate.ends == 62.0


def test_the_latest_of_the_hints_is_when_it_opens():
    """Three calls are told different times; without questions it opens at the last of them."""
    gate = Gate()
    for hint in (1.2, 1.9, 0.4):
        gate.refused(0.0, hint, 0.1, "asked")
    assert gate.until == gate.ends == 1.9  # too short for a question


def test_a_hint_in_the_past_is_no_witness():
    """A wait that is over already asks nobody to wait."""
    gate = Gate()
    assert not any(gate.refused(0.0, 0.1, 0.1, "asked") for _ in range(9))
    assert not gate.watches


def test_questions_come_after_a_second_then_after_a_fifth_of_the_stop():
    """An hour's stop has 41 questions."""
    gate, asked = Gate(), []
    shut(gate, hint=3_600.0)
    while gate.until < 3_600.0:
        now = gate.until
        asked.append(now)
        gate.sent(now)
        assert refuse(gate, now, 3_600.0, now)
        pause = max(FIRST_QUESTION, QUESTION_SHARE * now)
        assert gate.until in (pytest.approx(now + pause), 3_600.0)
    assert 36 <= len(asked) <= 41


def test_the_first_call_after_a_stop_with_questions_is_one_too():
    """A hint that ends while the server still refuses lets one call go, and no crowd."""
    gate = Gate()
    shut(gate, hint=4.0)
    gate.sent(gate.until)
    refuse(gate, 1.0, 4.0, 1.1)
    while gate.until < 4.0:
        now = gate.until
        gate.sent(now)
        refuse(gate, now, 4.0, now + 0.1)
    assert gate.until == gate.ends == 4.0
    gate.sent(4.0)
    assert gate.until == pytest.approx(4.0 + LEAST_PATIENCE)


def test_a_question_that_is_not_refused_opens_it_by_time():
    """The next call after the patience is over finds the gate open, and forgets the witnesses."""
    gate = Gate()
    shut(gate)
    gate.sent(1.0)
    opens = gate.until
    gate.sent(opens)
    assert gate.left(opens) == 0.0
    assert not gate.watches


@given(st.floats(0.0, 1e6), st.floats(0.0, 30.0))
def test_the_instant_at_which_it_opens_is_late_enough(at, takes):
    """Who waits for exactly that instant finds it open, whatever the rounding of the sum."""
    gate = Gate()
    shut(gate, at=at, takes=takes)
    gate.sent(gate.until)
    gate.sent(gate.until)
    assert not gate.watches


def test_an_answer_to_what_was_sent_before_it_shut_opens_nothing():
    """A call that was in flight when the gate shut tells of the time before."""
    gate = Gate()
    for _ in range(2):
        gate.refused(1.0, 60.0, 1.1, "asked")
    gate.refused(1.2, 60.0, 1.3, "asked")
    gate.let_in(1.1, 1.4)  # sent after the first witness, but before that was told
    assert gate.until == pytest.approx(2.3)


def shut_with_others_in_flight(*instants):
    """Shut a gate at 1 s, by three calls; more were sent at `instants`, and are unanswered."""
    gate = Gate()
    refuse(gate, 0.0, 60.0, 0.1)
    for at in sorted((0.6, 0.9, *instants)):
        gate.sent(at)
    refuse(gate, 0.6, 60.0, 0.7)
    assert refuse(gate, 0.9, 60.0, 1.0)
    return gate


def test_what_is_in_flight_when_it_shuts_is_the_first_question():
    """A call that was sent after the first witness was told is let in: not all are refused."""
    gate = shut_with_others_in_flight(0.8)
    gate.let_in(0.8, 1.2)
    assert gate.left(1.2) == 0.0
    assert not gate.watches


def test_what_is_in_flight_opens_it_by_time_too():
    """Its answer may take minutes; that it is not refused within the patience is enough."""
    gate = shut_with_others_in_flight(0.8)
    assert gate.until == pytest.approx(0.8 + LEAST_PATIENCE)
    gate.sent(1.3)
    assert gate.left(1.3) == 0.0
    assert not gate.watches


def test_what_is_in_flight_and_is_refused_opens_nothing():
    """Each call that ends otherwise is one fewer that may have been let in; then a question."""
    gate = shut_with_others_in_flight(0.7, 0.8, 0.9)
    gate.not_let_in(0.7)
    assert gate.until == pytest.approx(0.8 + LEAST_PATIENCE)
    gate.not_let_in(0.8)
    assert gate.until == pytest.approx(0.9 + LEAST_PATIENCE)
    gate.not_let_in(0.9)
    assert gate.until == 1.0 + FIRST_QUESTION


def test_a_call_sent_at_the_instant_of_the_first_refusal_counts_as_refused():
    """The next call goes at the very instant at which the first witness is told."""
    gate = Gate()
    gate.refused(0.0, 60.0, 0.1, "asked")
    for at in (0.1, 0.2):
        gate.sent(at)
        refuse(gate, at, 60.0, at + 0.1)
    assert gate.until == pytest.approx(0.3 + FIRST_QUESTION)


def test_a_question_that_is_about_its_call_is_asked_again_at_once():
    """A suspect's refusal says nothing: another call may go in its place."""
    gate = Gate()
    shut(gate)
    gate.sent(1.0)
    assert gate.asked(1.0)
    gate.ask_another(1.0, 1.1)
    assert gate.until == 1.1
    gate.sent(1.1)
    assert gate.until == pytest.approx(1.1 + LEAST_PATIENCE)
    gate.ask_another(1.0, 1.2)  # no longer the last question
    assert gate.until == pytest.approx(1.1 + LEAST_PATIENCE)


def test_it_knows_what_was_sent_into_a_stop():
    """A call that was sent after the first witness was noticed could have known."""
    gate = Gate()
    assert not gate.told(5.0, 6.0)
    gate.refused(0.0, 60.0, 1.0, "asked")
    assert not gate.told(1.0, 2.0)
    assert gate.told(1.1, 1.2)
    gate.sent(1.1)
    assert not gate.told(1.1, 9.0)  # one was let in since


def test_a_stated_window_shuts_it_without_a_question():
    """It is closed until the instant given, and says why."""
    gate = Gate()
    assert gate.close(10.0, sent_at=1.0, now=2.0, reason="none left")
    assert gate.left(2.0) == 8.0
    assert gate.left(10.0) == gate.left(99.0) == 0.0
    assert gate.reason == "none left"


def test_a_window_stated_to_what_was_sent_before_is_old():
    """Sixty-four answers that state one window are one piece of news."""
    gate = Gate()
    assert gate.close(10.0, sent_at=1.0, now=2.0, reason="first")
    assert not any(gate.close(99.0, sent_at=1.0, now=3.0, reason="more") for _ in range(64))
    assert gate.until == 10.0
    assert gate.close(20.0, sent_at=2.0, now=11.0, reason="second")


def test_a_stated_window_is_never_shortened_by_another():
    """A nearer instant changes nothing, not even when it is news."""
    gate = Gate()
    gate.close(10.0, sent_at=1.0, now=2.0, reason="first")
    assert not gate.close(9.0, sent_at=5.0, now=6.0, reason="second")
    assert not gate.close(10.0, sent_at=5.0, now=6.0, reason="second")
    assert gate.until == 10.0


def test_a_window_in_the_past_closes_nothing():
    """A gate that would be over already is not a correction."""
    gate = Gate()
    assert not gate.close(2.0, sent_at=1.0, now=2.0, reason="late")
    assert gate.corrected_at == -math.inf


def test_nothing_but_its_end_opens_a_stated_window():
    """Neither a call that is let in, nor another witness, nor a suspect's question does."""
    gate = Gate()
    gate.refused(0.0, 30.0, 0.1, "asked")
    gate.close(20.0, sent_at=0.0, now=0.1, reason="none left")
    gate.let_in(0.05, 0.2)  # was under way when the window ended
    assert gate.until == 20.0
    gate = Gate()
    shut(gate)
    gate.sent(1.0)
    gate.close(20.0, sent_at=1.0, now=1.1, reason="none left")
    gate.ask_another(1.0, 1.2)
    assert gate.until == 20.0
    gate.refused(1.1, 9.0, 1.2, "asked")
    assert gate.until == 20.0


def test_rebase_moves_its_instants_and_forgets_the_witnesses():
    """After a change of clock the same time is left and the same requests are news."""
    gate = Gate()
    gate.close(1_010.0, sent_at=1_000.0, now=1_005.0, reason="asked")
    gate.refused(1_006.0, 1_050.0, 1_007.0, "asked")
    gate.rebase(-1_000.0)
    assert gate.left(5.0) == 5.0
    assert not gate.is_news(4.9)
    assert gate.is_news(5.0)
    assert not any(gate.refused(6.0, 50.0, 7.0, "asked") for _ in range(2))


class Played:
    """A gate, and the instants until which it may be shut at most, and has to be at least."""

    def __init__(self):
        self.gate, self.now, self.calls = Gate(), 0.0, []
        self.latest = self.window = -math.inf

    def send(self, *_):
        """Send a call, if the gate is open."""
        if self.now < self.gate.until:
            return
        self.calls.append(self.now)
        if self.gate.watches:
            self.gate.sent(self.now)
            self.latest = max(self.latest, self.now + self.gate._patience)

    def refuse(self, sent_at, hint):
        """Refuse a call with a hint."""
        self.latest = max(self.latest, self.now + hint)
        self.gate.not_let_in(sent_at)
        before = self.gate.until
        closed = self.gate.refused(sent_at, self.now + hint, self.now, "asked")
        assert (self.gate.until > self.now) if closed else self.gate.until == before

    def fail(self, sent_at, _):
        """Let a call fail otherwise."""
        self.gate.not_let_in(sent_at)

    def let_in(self, sent_at, _):
        """Let a call in."""
        self.gate.let_in(sent_at, self.now)

    def ask_another(self, sent_at, _):
        """Refuse a suspect."""
        self.gate.ask_another(sent_at, self.now)

    def close(self, _, reset):
        """State a window that is used up."""
        if self.gate.close(self.now + reset, self.now, self.now, "none left"):
            self.window = self.now + reset


WHAT = [Played.send, Played.send, Played.refuse, Played.refuse, Played.let_in, Played.fail,
        Played.ask_another, Played.close]  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(WHAT),
        st.sampled_from([0.0, 0.05, 0.3, 2.0, 40.0]),  # the pause before it
        st.integers(0, 5),  # which of the calls in flight it is about
        st.sampled_from([-1.0, 0.5, 2.0, 30.0, 300.0]),  # the hint, or the reset
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_it_opens_by_time_alone(steps):
    """It is never shut past the latest hint and the patience; and a silent server opens it."""
    played = Played()
    gate, calls = played.gate, played.calls
    for what, pause, which, hint in steps:
        played.now += pause
        if what in (Played.send, Played.close):
            what(played, None, hint)
        elif calls:
            what(played, calls.pop(min(which, len(calls) - 1)), hint)
        assert played.window <= played.now or gate.until >= played.window
        assert gate.until <= max(played.latest, played.window)
    for _ in range(2):  # a question, and what comes after it
        played.now = max(played.now, gate.until)
        played.send()
    assert gate.left(played.now) == 0.0


@settings(max_examples=40)
@given(
    st.floats(0.01, 3.0),  # what a refusal takes
    st.sampled_from([1.0, 12.0, 60.0, 300.0]),
    st.sampled_from([0.05, 0.3, 1.0]),  # seconds between calls that want to go
)
def test_a_stop_is_asked_at_most_once_per_pause(takes, hint, spacing):
    """While all are refused, calls go one at a time: each at least a second after a refusal."""
    gate, now, sent, under_way, refused_at = Gate(), 0.0, [], [], -math.inf
    while now < 120.0:
        while under_way and under_way[0] + takes <= now:
            at = under_way.pop(0)
            if refuse(gate, at, at + takes + hint, at + takes):
                refused_at = at + takes
        if now >= gate.until:
            if gate.watches:
                gate.sent(now)
            if refused_at > -math.inf:
                sent.append(now)
                assert now >= refused_at + min(FIRST_QUESTION, hint) - 1e-9
            under_way.append(now)
        now += spacing
    if hint >= 12.0:
        assert len(sent) <= 24  # five in the first 5 s, then each 1.2 times as late as the last
