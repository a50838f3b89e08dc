"""`make bench-check`: what has grown fails, and so does a comparison with nothing."""

from __future__ import annotations

import pytest

from benchmarks.regress import TRIES, check, written

COMMITTED = {"layer": 2.0, "whole": 3.0}


@pytest.fixture
def committed(tmp_path):
    """Return a file of committed ratios."""
    path = tmp_path / "bench-3.99.json"
    path.write_text(written(COMMITTED))
    return path


def measured(*each):
    """Return what measures these ratios, one after the other, and how often it did."""
    left, count = list(each), []

    def measure():
        count.append(1)
        return left.pop(0) if len(left) > 1 else left[0]

    return measure, count


def test_what_has_not_grown_passes_at_once(committed):
    """Up to a quarter more is noise; one measurement will do."""
    measure, count = measured({"layer": 2.5, "whole": 1.0})
    lines, well = check(committed, measure)
    assert well
    assert len(count) == 1
    assert [line.split()[0] for line in lines] == ["layer", "whole"]
    assert lines[0].split()[1:] == ["2.50", "was", "2.00"]


@pytest.mark.parametrize("name", COMMITTED)
def test_what_has_grown_fails_by_its_name(committed, name):
    """Any one of the ratios that stays more than a quarter above fails, after all tries."""
    measure, count = measured(COMMITTED | {name: 1.3 * COMMITTED[name]})
    lines, well = check(committed, measure)
    assert not well
    assert len(count) == TRIES
    assert lines[-1] == f"GROWN: {name} costs 1.30x what it did"
    assert len(lines) == 3


def test_the_best_of_a_few_counts(committed):
    """A busy machine only ever adds: each ratio counts by its least, whichever try that was."""
    slow = {"layer": 9.0, "whole": 9.0}
    measure, count = measured(slow, slow | {"layer": 2.0}, slow | {"whole": 3.0})
    assert check(committed, measure)[1]
    assert len(count) == 3


@pytest.mark.parametrize("today", [{}, {"layer": 2.0}, COMMITTED | {"new": 1.0}, {"other": 1.0}])
def test_what_was_not_measured_on_both_sides_fails(committed, today):
    """A subject that was renamed, added or dropped is told, and nothing passes unseen."""
    lines, well = check(committed, lambda: today)
    assert not well
    [line] = lines
    assert all(name in line for name in today.keys() ^ COMMITTED.keys())
    assert "make bench" in line


NOTHING = ["", "{", "garbage", "[]", "null", "{}", "[" * 99_999]
NO_RATIO = ("null", "0", "-1", "NaN", "Infinity", "1" * 400, "true", '"2"', "[2]")
NO_RATIOS = [f'{{"layer": {each}, "whole": 3.0}}' for each in NO_RATIO]


@pytest.mark.parametrize("content", [None, *NOTHING, *NO_RATIOS])
def test_without_committed_ratios_it_says_what_to_do(tmp_path, content):
    """No file, or one without ratios, is told in one line; nothing is measured for it."""
    path = tmp_path / "bench-3.99.json"
    if content is not None:
        path.write_text(content)
    lines, well = check(path, lambda: pytest.fail("measured"))
    assert not well
    [line] = lines
    assert "bench-3.99.json" in line
    assert "make bench" in line
