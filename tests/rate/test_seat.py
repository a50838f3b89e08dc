"""What a process tells others that use the same limit."""

from __future__ import annotations

from types import SimpleNamespace

from resilient_infe.rate.allowance import Allowance
from resilient_infe.rate.costs import NOTHING
from resilient_infe.rate.seat import Seat


def line(waiting, *, ranked=False, asked=(0, 0, 0)):
    """Return a queue in which so many calls wait, by class."""
    queue = SimpleNamespace(live=sum(waiting), waiting=lambda: list(waiting))
    queued = (float(sum(waiting)), *NOTHING[1:])
    return SimpleNamespace(queue=queue, queued=queued, ranked=ranked, asked=list(asked))


def seat_of(*lines):
    """Return the seat of a limit of one request a second, and its allowance."""
    allowance = Allowance(60)
    return Seat(allowance, "a", lambda: lines, allowance), allowance


def test_calls_without_a_class_are_of_the_middle_one():
    """Their need stands there, and in no other class."""
    seat, _ = seat_of(line((0, 30, 0)))
    interactive, normal, batch = seat.demand(10.0).needs
    assert (interactive, batch) == (0.0, 0.0)
    assert normal > 0.0


def test_what_waits_is_divided_by_who_waits():
    """Three of four are of a batch, so it has three quarters of the need."""
    seat, _ = seat_of(line((10, 0, 30), ranked=True))
    interactive, normal, batch = seat.demand(10.0).needs
    assert normal == 0.0
    assert batch == 3 * interactive > 0.0


def test_what_was_sent_is_divided_by_who_came():
    """Nobody waits: what came since the last time counts, and no class that did not come."""
    asked = [4, 0, 0]
    seat, allowance = seat_of(line((0, 0, 0), ranked=True, asked=asked))
    allowance.reserve(0.0)
    interactive, normal, batch = seat.demand(1.0).needs
    assert (normal, batch) == (0.0, 0.0)
    assert interactive > 0.0
