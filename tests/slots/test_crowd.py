"""The crowd: a limit on calls in flight that shows in bare refusals alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe.slots.crowd import FIRST_PAUSE, LAST_PAUSE, WITNESSES, Crowd, Stage


def burst(crowd, number, room, now=0.0):
    """Send so many at once at a server with so much room; return who was let in, by others."""
    others = [crowd.sent() for _ in range(number)]
    for each in others[room:]:
        crowd.answered(each, now, refused=True)
        crowd.ended()
    return others[:room]


def let_in(crowd, others, now=0.0):
    """Answer attempts that were let in."""
    for each in others:
        crowd.answered(each, now, refused=False)
        crowd.ended()


def found(room=2):
    """Return a crowd that has found a limit, with nothing in flight."""
    crowd = Crowd()
    let_in(crowd, burst(crowd, 2 * room + 6, room))
    assert (crowd.stage, crowd.limit, crowd.in_flight) == (Stage.FOUND, room, 0)
    return crowd


def one(crowd, now, *, refused):
    """Send one attempt, answer it, and return whether the crowd explains it."""
    others = crowd.sent()
    explained = crowd.answered(others, now, refused=refused)
    crowd.ended()
    return explained


@pytest.mark.parametrize("room", [1, 2, 5, 20])
def test_a_burst_shows_the_room(room):
    """Of a burst all above the room are refused: the limit is the room."""
    assert found(room).limit == room


def test_too_few_witnesses_set_no_limit():
    """Two refusals of a burst may be chance."""
    crowd = Crowd()
    let_in(crowd, burst(crowd, 4, 2))
    assert (crowd.stage, crowd.limit) == (Stage.UNKNOWN, None)


def test_refused_alone_is_no_crowd():
    """Any number of refusals with nothing else in flight set no limit."""
    crowd = Crowd()
    for _ in range(100):
        assert not one(crowd, 0.0, refused=True)
    assert crowd.stage is Stage.UNKNOWN


def test_calls_that_are_refused_again_are_no_witnesses():
    """Ten requests that the server refuses for what they are set no limit, however often."""
    crowd = Crowd()
    for _ in range(12):
        crowd.sent()  # they are answered later
    for number in range(40):
        crowd.answered(crowd.sent(), 0.0, refused=True, again=number >= 4)
        crowd.ended()
    assert crowd.stage is Stage.UNKNOWN


def test_one_let_in_with_as_many_others_ends_the_row():
    """Refusals do not add up if attempts with as many others are let in between."""
    crowd = Crowd()
    for _ in range(4):
        crowd.sent()
    for _ in range(10):
        for refused in (True, True, False):
            assert not one(crowd, 0.0, refused=refused)
    assert crowd.stage is Stage.UNKNOWN


def test_most_of_those_in_flight_must_be_refused():
    """Three quick refusals of fifty in flight, which may all be let in, set no limit."""
    crowd = Crowd()
    others = [crowd.sent() for _ in range(50)]
    for each in others[10 : 10 + WITNESSES]:
        assert not crowd.answered(each, 0.0, refused=True)
        crowd.ended()
    assert crowd.stage is Stage.UNKNOWN


def test_a_limit_that_was_wrong_is_given_up_and_needs_more_witnesses():
    """Refused below the limit as often as let in: all slots again, and twice the evidence."""
    crowd = found()
    for _ in range(5):
        one(crowd, 1.0, refused=True)
    assert (crowd.stage, crowd.limit) == (Stage.UNKNOWN, None)
    let_in(crowd, burst(crowd, 2 + WITNESSES, 2, now=2.0))
    assert crowd.stage is Stage.UNKNOWN
    let_in(crowd, burst(crowd, 2 + 2 * WITNESSES, 2, now=2.0))
    assert crowd.stage is Stage.FOUND


def test_a_server_with_less_room_than_before_is_found_again():
    """Refusals in a row below the limit that was found show the new one, and nobody floods it."""
    crowd = found(room=20)
    for number in range(15):  # it still lets some in, so that the row is no error
        let_in(crowd, burst(crowd, 20, 20, now=1.0 + number))
    let_in(crowd, burst(crowd, 20, 4, now=20.0), now=20.1)
    assert (crowd.stage, crowd.limit) == (Stage.FOUND, 4)
    let_in(crowd, burst(crowd, 4, 4, now=20.2), now=20.3)
    assert not crowd.answered(3, 20.4, refused=True, excuse=True)
    assert crowd.limit == 4


def test_what_was_let_in_before_a_limit_excuses_no_longer():
    """With less room than before, a 429 above what is let in now is a suspicion again."""
    crowd = Crowd()
    let_in(crowd, burst(crowd, 30, 30))
    let_in(crowd, burst(crowd, 30, 5))
    assert crowd.limit == 5
    crowd._forget()
    assert crowd.answered(10, 0.0, refused=True, excuse=True)
    assert crowd.proven == -1


def test_an_error_is_forgiven_by_time():
    """Ten minutes later as few witnesses are enough as at first."""
    crowd = found()
    for _ in range(5):
        one(crowd, 1.0, refused=True)
    let_in(crowd, burst(crowd, 2 + 2 * WITNESSES - 1, 2, now=700.0))
    assert crowd.stage is Stage.FOUND


def test_some_failures_below_the_limit_do_not_end_it():
    """One in ten refused for other reasons: the limit stands."""
    crowd = found()
    crowd.sent()
    for number in range(200):
        one(crowd, 1.0, refused=number % 10 == 9)
    assert crowd.limit == 2


def test_a_trial_that_is_refused_costs_one_call_and_doubles_the_pause():
    """The pauses are 2, 4, 8 ... 60 s, and each trial ends with its first refusal."""
    crowd, now, pause = found(), 0.0, FIRST_PAUSE
    for _ in range(8):
        crowd.try_more(now + pause - 0.1, configured=64)
        assert crowd.limit == 2
        now += pause
        crowd.try_more(now, configured=64)
        assert (crowd.stage, crowd.limit) == (Stage.TRYING, 3)
        working = burst(crowd, 3, 2, now=now)
        assert (crowd.stage, crowd.limit) == (Stage.FOUND, 2)
        let_in(crowd, working, now)
        pause = min(LAST_PAUSE, 2 * pause)


def test_a_limit_that_was_raised_is_followed_at_once():
    """Each trial that is let in is followed by the next, up to what is configured."""
    crowd = found()
    for _ in range(40):
        crowd.try_more(10.0, configured=16)
        let_in(crowd, burst(crowd, 16, 16, now=10.0), now=10.0)
    assert (crowd.stage, crowd.limit) == (Stage.UNKNOWN, None)


def test_a_server_that_is_down_is_not_excused():
    """Refusals above the limit are explained once one below it was let in, or on suspicion."""
    crowd = Crowd()
    working = burst(crowd, 8, 2)
    third = crowd.sent()
    assert crowd.full
    assert not crowd.answered(third, 0.1, refused=True)
    assert crowd.answered(third, 0.1, refused=True, excuse=True)
    let_in(crowd, working[:1], now=0.3)
    assert crowd.answered(third, 0.3, refused=True)


def test_an_excuse_needs_more_others_than_were_ever_let_in():
    """A 429 at an ordinary number in flight is about something else."""
    crowd = Crowd()
    let_in(crowd, burst(crowd, 5, 5))
    ordinary, new = 4, 5
    assert not crowd.answered(ordinary, 0.0, refused=True, excuse=True)
    assert crowd.answered(new, 0.0, refused=True, excuse=True)


def test_a_new_loop_and_a_new_clock():
    """What is in flight is forgotten with its loop; instants move with the clock."""
    crowd = found()
    crowd.sent()
    crowd.abandon()
    assert crowd.in_flight == 0
    crowd.rebase(100.0)
    crowd.try_more(FIRST_PAUSE + 99.0, configured=64)
    assert crowd.stage is Stage.FOUND
    crowd.try_more(FIRST_PAUSE + 100.0, configured=64)
    assert crowd.stage is Stage.TRYING


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), share=st.floats(0.0, 0.08), calls=st.integers(1, 64))
def test_random_refusals_leave_nearly_all_slots(seed, share, calls):
    """Random refusals of up to 8 % halve the slots for less than a tenth of the time."""
    draw, crowd, narrow = random.Random(seed), Crowd(), 0
    flying = []  # others of the attempts in flight
    for step in range(500):
        now = step / 10
        crowd.try_more(now, configured=calls)
        room = calls if crowd.limit is None else crowd.limit
        while len(flying) < room:
            others = crowd.sent()
            if draw.random() < share:
                crowd.answered(others, now, refused=True)
                crowd.ended()
                break
            flying.append(others)
        else:
            crowd.answered(flying.pop(0), now, refused=False)
            crowd.ended()
        narrow += crowd.limit is not None and crowd.limit < calls // 2
    assert narrow < 100


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), room=st.integers(1, 12), noise=st.floats(0.0, 0.05))
def test_a_limit_is_found_and_kept_among_random_refusals(seed, room, noise):
    """A real limit is found within a burst, and few calls are refused for it afterwards."""
    draw, crowd, refused = random.Random(seed), Crowd(), 0
    let_in(crowd, burst(crowd, 64, room))
    flying = []
    for step in range(400):
        now = step / 10
        crowd.try_more(now, configured=64)
        limit = 64 if crowd.limit is None else crowd.limit
        for _ in range(limit - len(flying)):
            others = crowd.sent()
            if len(flying) >= room or draw.random() < noise:
                refused += len(flying) >= room
                crowd.answered(others, now, refused=True)
                crowd.ended()
                break
            flying.append(others)
        if flying:
            crowd.answered(flying.pop(0), now, refused=False)
            crowd.ended()
    assert refused <= 100
