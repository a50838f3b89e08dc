"""Targets, and which failures send a call to the next one."""

from __future__ import annotations

import pytest

from resilient_infe import Fallback, Kind, Target, Verdict, errors
from resilient_infe.fallback.targets import USUAL, goes_on

KINDS = frozenset(USUAL)


@pytest.mark.parametrize("kind", list(Kind))
def test_only_the_given_kinds_go_on(kind):
    """By default an overload and a timeout; not an error that the next attempt may not meet."""
    expected = kind in (Kind.OVERLOADED, Kind.TIMEOUT)
    assert goes_on(Verdict(kind), KINDS, 0.0, None) == expected
    assert goes_on(Verdict(kind), frozenset((kind,)), 0.0, None) == (
        kind not in (Kind.RATE_LIMITED, Kind.REFUSED)
    )


@pytest.mark.parametrize(
    ("hint", "deadline", "expected"),
    [(None, 10.0, False), (5.0, None, False), (5.0, 10.0, False), (15.0, 10.0, True)],
)
def test_a_429_goes_on_only_past_the_deadline(hint, deadline, expected):
    """A wait that fits is worth making."""
    verdict = Verdict(Kind.RATE_LIMITED, retryable=True, retry_after=hint)
    assert goes_on(verdict, KINDS, 0.0, deadline) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [("CircuitOpen", True), ("DeadlineExceeded", True), ("QueueFull", False), ("Draining", False)],
)
def test_a_refusal_goes_on_if_it_is_the_targets(error, expected):
    """An open circuit is; a full queue of this program is not."""
    assert goes_on(Verdict(Kind.REFUSED, error=error), KINDS, 0.0, 5.0) == expected


def test_nothing_goes_on_after_the_deadline():
    """Nor does what nothing has classified."""
    assert not goes_on(Verdict(Kind.TIMEOUT), KINDS, 10.0, 10.0)
    assert not goes_on(None, KINDS, 0.0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fallback(),
        lambda: Fallback("a", "a"),
        lambda: Fallback(""),
        lambda: Fallback(None),
        lambda: Fallback(["a"]),
        lambda: Fallback(Target),
        lambda: Target(),
        lambda: Target(3),
        lambda: Target(partition=""),
        lambda: Target(transport="x"),
        lambda: Target(transport=dict),
        lambda: Fallback("a", on=["timeout"]),
        lambda: Fallback("a", on="timeout"),
        lambda: Fallback("a", on=[Kind.OK]),
        lambda: Fallback("a", on=Kind.CANCELLED),
    ],
)
def test_wrong_values_are_refused_at_once(wrong):
    """A value of a wrong type raises when the layer is made."""
    with pytest.raises(errors.ConfigurationError):
        wrong()


def test_a_target_has_a_name():
    """The partition, else the model made safe to log, else the transport."""

    async def other(_):
        return None

    names = [Target("a"), Target("a", "eu"), Target(transport=other), Target("a\nb")]
    assert list(map(str, names)) == ["a", "eu", "other", "a_b"]


def test_it_says_what_it_does():
    """The description names the targets in order, and the kinds."""
    assert Fallback("b", Target("c", "eu"), on=[Kind.TIMEOUT]).describe() == (
        "then b, then eu; on timeout"
    )
