"""The log of what the windows have yet to count, and the room that is lent meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.core.verdict import Limit
from resilient_infe.rate.allowance import Allowance

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("send", "send", "send", "settle", "settle", "refund", "refuse", "look")),
        st.floats(0.0, 4.0) | st.sampled_from((0.0, 0.0, 0.01)),
        st.floats(0.0, 3_000.0) | st.sampled_from((0.0, 1.0, 50.0)),
        st.integers(0, 50),
    ),
    max_size=120,
)


def _run(allowance, steps, *, at_once):
    """Return what each step brought about; `at_once` counts everything when it happens."""
    now, out, seen = 0.0, [], []
    for what, wait, tokens, chosen in steps:
        now += wait
        if what == "send":
            reservation = allowance.take(now, tokens)
            seen.append(reservation is not None)
            out += [] if reservation is None else [reservation]
        elif what == "look":
            seen.append(allowance.statistics(now))
        elif out:
            reservation = out.pop(chosen % len(out))
            if what == "settle":
                allowance.settle(reservation, now, tokens or None)
            else:
                allowance.refund(reservation, now, request=what == "refund")
                if what == "refuse":
                    seen.append(allowance.refused(reservation, now))
        if at_once:
            allowance._rates.catch_up()
    return seen, allowance.statistics(now + 1.0), allowance._rates.granted_tokens


@given(STEPS, st.sampled_from((60, 600, 60_000)), st.sampled_from((None, 6_000, 1_000_000)))
def test_the_log_changes_nothing(steps, requests, tokens):
    """What is granted, and what the windows show, is as if everything was counted at once."""
    late, prompt = (Allowance(requests, tokens) for _ in range(2))
    assert _run(late, steps, at_once=False) == _run(prompt, steps, at_once=True)


def test_room_is_lent_while_all_is_quiet():
    """Requests that certainly fit are granted, and are counted when somebody looks."""
    allowance = Allowance(60_000, 6_000_000)
    for _ in range(40):
        reservation = allowance.take(0.0, 100.0)
        assert reservation is not None
        allowance.settle(reservation, 0.0, 50.0)
    assert len(allowance._rates._log) > 40
    assert allowance.statistics(0.0).limits[1].spent < 40 * 100.0
    assert not allowance._rates._log


def test_what_is_lent_is_bounded():
    """The log is counted after 64 requests at the latest, and no limit is exceeded."""
    allowance = Allowance(60_000_000, 1_000_000)
    for _ in range(1_000):
        assert allowance.take(0.0, 1.0) is not None
        assert len(allowance._rates._log) <= 65
    granted = sum(allowance.take(0.0, 10_000.0) is not None for _ in range(1_000))
    assert 0 < granted * 10_000 <= 1_000_000


def _told(allowance, now, remaining, *, limit=60_000, refused=False):
    """Send one request, and let its answer state what remains."""
    reservation = allowance.take(now)
    assert reservation is not None
    allowance.settle(reservation, now)
    stated = (Limit("requests", limit, remaining, 60.0 * (1 - remaining / limit)),)
    allowance.observe(iter(stated), reservation, now, refused=refused)


def test_an_answer_that_states_what_is_known_is_not_followed():
    """Where far more remains than is sent, the windows are looked at four times a second."""
    allowance = Allowance(60_000)
    _told(allowance, 1.0, 59_999)
    assert not allowance._rates._log
    _told(allowance, 1.3, 59_997)
    assert not allowance._rates._log
    for number in range(10):
        _told(allowance, 1.31, 59_990 - number)
    assert len(allowance._rates._log) >= 20
    _told(allowance, 1.6, 59_980)
    assert not allowance._rates._log


@given(st.sampled_from(("limit", "remaining", "refused")), st.integers(0, 8))
def test_an_answer_that_states_something_else_is_followed_at_once(what, after):
    """Another limit, little that remains, and a 429."""
    allowance = Allowance(60_000)
    for number in range(1 + after):
        _told(allowance, 1.0, 59_999 - number)
    limit, remaining = (
        (30_000 if what == "limit" else 60_000),
        (5 if what == "remaining" else 20_000),
    )
    remaining = 59_000 if what == "refused" else remaining
    _told(allowance, 1.0, remaining, limit=limit, refused=what == "refused")
    assert not allowance._rates._log
    left = allowance.statistics(1.0)
    if what == "limit":
        assert left.requests_per_minute == 30_000
    elif what == "remaining":
        assert left.requests_left <= 5


def test_a_usage_above_its_estimate_takes_from_what_is_lent():
    """Or requests that cost more than they seemed to would pass a limit that they are near."""
    allowance = Allowance(tokens_per_minute=60_000)
    first = allowance.take(0.0, 10.0)
    assert first is not None
    lent = allowance._rates._lent_tokens
    allowance.settle(first, 0.1, 500.0)
    assert allowance._rates._lent_tokens == lent - 490.0
