"""The bound of an attempt, and of the silence of a body that its caller reads."""

from __future__ import annotations

import pytest

from resilient_infe import AttemptTimeout, Call, ErrorClassifier, Stack, errors


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({}, 60.0),
        ({"seconds": 600.0}, 60.0),
        ({"seconds": 1.0}, 1.0),
        ({"seconds": 1.0, "idle": 90.0}, 90.0),
        ({"idle": None}, None),
    ],
)
def test_the_silence_of_a_body_is_bounded(run, given, idle):
    """By a minute, or the attempt's own bound if that is less, unless another is given."""
    seen = []

    async def transport(call):
        seen.append(call.state.idle)

    stack = Stack(ErrorClassifier(), AttemptTimeout(**given))
    run(lambda: stack.handler(transport)(Call("x")))
    assert seen == [idle]


@pytest.mark.parametrize(
    ("given", "first_chunk"),
    [
        ({}, None),
        ({"seconds": 1.0}, None),
        ({"seconds": 120.0}, 60.0),
        ({"first_chunk": 5.0}, 5.0),
        ({"first_chunk": 90.0}, None),
        ({"first_chunk": None, "seconds": 600.0}, None),
    ],
)
def test_the_first_event_is_bounded_apart_if_it_is_sooner(run, given, first_chunk):
    """Where it is not, the attempt's own timer serves both, and nothing is added."""
    seen = []

    async def transport(call):
        seen.append(call.state.first_chunk)

    stack = Stack(ErrorClassifier(), AttemptTimeout(**given))
    run(lambda: stack.handler(transport)(Call("x")))
    assert seen == [first_chunk]


@pytest.mark.parametrize("idle", [0, -1.0, "soon"])
def test_a_silence_that_cannot_be_is_refused(idle):
    """It is a number of seconds above 0."""
    with pytest.raises(errors.ConfigurationError, match="idle"):
        AttemptTimeout(idle=idle)
