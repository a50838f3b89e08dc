"""Window: counts of the last seconds, by slices."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.circuit.window import SLICES, Window


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_it_counts_what_a_list_of_instants_counts(steps):
    """Nothing younger than the window less a slice is lost, nothing older than it stays."""
    window, now, log = Window(10.0), 100.0, deque()
    for wait, success in steps:
        now += wait
        if now >= window.end:
            window.move(now)
        if success:
            window.newest.successes += 1
        else:
            window.newest.failures += 1
        log.append((now, success))
        window.forget(now)
        surely = [good for at, good in log if at > now - 10.0 + 10.0 / SLICES]
        perhaps = [good for at, good in log if at > now - 10.0 - 1e-6]
        assert sum(surely) <= window.successes <= sum(perhaps)
        bad, at_most = len(surely) - sum(surely), len(perhaps) - sum(perhaps)
        assert bad <= window.failures <= at_most


def test_it_ends_empty_and_starts_anew():
    """A window that is left alone is as good as new."""
    window = Window(10.0)
    window.move(5.0)
    window.newest.failures += 1
    assert not window.empty
    window.forget(30.0)
    assert window.empty
    assert (window.successes, window.failures) == (0, 0)
    assert window.end < 0


def test_the_same_instant_opens_one_slice():
    """Moving twice at one instant keeps what was counted in between."""
    window = Window(10.0)
    window.move(5.0)
    window.newest.successes += 1
    window.move(5.0)
    assert window.successes == 1
