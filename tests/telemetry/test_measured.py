"""Counts by partition and by dimensions of one's own: always bounded, always text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import Kind
from resilient_infe.events import CallFinished
from resilient_infe.telemetry import exposition, otel
from resilient_infe.telemetry.measured import (
    LONGEST_LABEL,
    OTHER,
    Dimensions,
    Labels,
    Measured,
)


def finished(partition):
    """Return the event of a call that succeeded."""
    return CallFinished(
        "id", partition, Kind.OK, 200, None, None, None, 1, {}, 0.0, 1.0, None, (), {}
    )


hostile = st.text(st.characters(), max_size=200) | st.sampled_from(["a" * 129, "a" * 200, OTHER])
names = (
    hostile | st.sampled_from(["team", "kind", "le", "gen_ai.x", "a.b", "__name__", ""]) | st.none()
)
values = hostile | st.none() | st.integers() | st.floats() | st.lists(st.integers(), max_size=3)
enriched = st.dictionaries(names, values, max_size=5) | st.just("no mapping") | st.just(None)


@settings(max_examples=50)
@given(st.lists(st.tuples(hostile | st.none(), enriched), max_size=10), st.booleans())
def test_whatever_is_returned_can_be_exposed(calls, prometheus):
    """Every call counts once, by texts that are short and whole and by names that are allowed."""
    pattern = exposition.NAMES if prometheus else otel.NAMES
    left = iter(calls)
    measured = Measured(Labels(3), Dimensions(lambda _: next(left)[1], pattern))
    for partition, _ in calls:
        measured(finished(partition))
    assert sum(measured.calls.values()) == len(calls)
    for label, kind, *own in measured.calls:
        assert kind == "ok"
        for text in (label, *(value for _, value in own)):
            assert len(text.encode()) <= 4 * LONGEST_LABEL
        assert all(value and pattern.fullmatch(name) for name, value in own)
        assert len(dict(own)) == len(own)
    assert len({label for label, *_ in measured.calls}) <= 5  # 3, other, and none


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_a_combination_that_was_given_out_stays(pairs):
    """What had a series of its own keeps it, however many come after it."""
    value, seen = 0, {}
    dimensions = Dimensions(lambda _: {"n": value}, exposition.NAMES, most=20)
    for partition, value in [*pairs, *((0, n) for n in range(20)), *pairs]:
        found = dimensions.of(finished("x"), f"{partition}")
        assert seen.setdefault((partition, value), found) == found
    assert len({each for each in seen.values() if each[0][1] != OTHER}) <= 20
