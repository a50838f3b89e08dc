"""Headers from outside: every odd form gives an honest number or None, and nothing raises."""

import math
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_infe.classify.headers import (
    duration,
    header,
    http_date,
    limits,
    longest_reset,
    parse_retry_after,
    retry_after,
    seconds,
    text,
)
from resilient_infe.core.verdict import Limit

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()
NOON_TEXT = "Sun, 22 Nov 2026 12:00:00 GMT"

values = st.one_of(
    st.text(max_size=140),
    st.binary(max_size=140),
    st.text(alphabet="0123456789.,:-+ GMTSunNovJanhmsuxeE_/", max_size=40),
    st.none(),
    st.integers(),
    st.floats(),
    st.lists(st.integers(), max_size=2),
    st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,4} [A-Z][a-z]{2} -?[0-9]{1,6} [0-9:]{1,9} [A-Z+0-9]+"),
)


class _Raising:
    def get(self, *_):
        raise RuntimeError("hostile")


class _Lying:
    def __init__(self, value):
        self.value = value

    def get(self, *_):
        return self.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", 5.0),
        (" 5 ", 5.0),
        ("\t5", 5.0),
        (b"5", 5.0),
        ("5.5", 5.5),
        ("0", 0.0),
        ("0.000001", 0.000001),
        ("9999999999", 9_999_999_999.0),
        ("99999999999", 9_999_999_999.0),
        ("9" * 128, 9_999_999_999.0),
        ("5.1234567", 5.1234567),
        ("33.333333333333336", 33.333333333333336),
        ("0.30000000000000004", 0.30000000000000004),
        ("5e-05", 5e-05),
        ("5e5", None),
        ("5,5", None),
        ("5.", None),
        (".5", None),
        ("1_000", None),
        ("-1", None),
        ("+5", None),
        ("nan", None),
        ("NaN", None),
        ("inf", None),
        ("Infinity", None),
        ("1e3", None),
        ("0x10", None),
        ("\u0665", None),
        ("५", None),
        ("\uff15", None),
        ("²", None),
        ("5\n", None),
        ("5\r\nX: y", None),
        ("5 5", None),
        ("5s", None),
        ("", None),
        ("   ", None),
        (b"\xb2", None),
        (b"\xff" * 200, None),
        ("5" + " " * 128, None),
        ("1" * 129, 9_999_999_999.0),
        (f"12.{'3' * 200}", 12 + 1 / 3),
        ("1" * 9_000, None),
        (5, None),
        (5.0, None),
        (None, None),
        (["5"], None),
        (object(), None),
    ],
)
def test_retry_after_in_seconds(value, expected):
    """Only plain ASCII seconds are a number, of any number of digits."""
    assert seconds(value) == (None if expected is None else pytest.approx(expected, rel=1e-12))
    assert parse_retry_after(value) == expected


@pytest.mark.parametrize(
    "date",
    [
        NOON_TEXT,
        "Sunday, 22-Nov-26 12:00:00 GMT",
        "Sun Nov 22 12:00:00 2026",
        NOON_TEXT.encode(),
        f"  {NOON_TEXT} ",
    ],
)
def test_every_form_of_an_http_date_is_read(date):
    """RFC 1123, RFC 850 and asctime dates are all the same instant; no zone means UTC."""
    assert http_date(date) == NOON


def test_a_date_is_taken_relative_to_the_responses_own_date():
    """The server's `Date` counts, even when our own clock says something else."""
    later = "Sun, 22 Nov 2026 12:00:30 GMT"
    assert parse_retry_after(later, NOON_TEXT, wall=0.0) == 30.0
    assert parse_retry_after(later, None, wall=NOON + 10) == 20.0
    assert parse_retry_after(later, "nonsense", wall=NOON + 10) == 20.0


def test_a_date_with_nothing_to_compare_it_to_is_none():
    """Without `Date` and without a clock a date says nothing."""
    assert parse_retry_after(NOON_TEXT) is None
    assert retry_after({"retry-after": NOON_TEXT}) is None


def test_a_date_in_the_past_is_no_hint():
    """A date that is over asks to wait 0 s, which is no hint."""
    past = "Sun, 22 Nov 2026 11:00:00 GMT"
    assert parse_retry_after(past, NOON_TEXT) == 0.0
    assert retry_after({"retry-after": past, "date": NOON_TEXT}) is None


def test_a_date_in_year_9999_is_finite():
    """The last date there is gives a finite number; capping it is the layers' business."""
    wait = parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", NOON_TEXT)
    assert 2.5e11 < wait < 2.6e11


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "2026-11-22T12:00:00Z",
        "2026-11-22 12:00:00",
        "22 Nov 2026 12:00:00",
        "Sun, 22 Nov 2026 13:00:00 +0100",
        "Sun, 22 Nov 2026 12:00:00 -0000",
        "Sun, 22 Nov 2026 12:00:00",
        "Sun, 22 Nov 2026 12:00 GMT",
        "Nov 22 12:00:00 2026",
        "Sun, 32 Nov 2026 12:00:00 GMT",
        "Sun, 22 Foo 2026 12:00:00 GMT",
        "Sun, 22 Nov 99999 12:00:00 GMT",
        "Sun, 22 Nov 2026 25:61:61 GMT",
        "Sun, 22 Nov ٢٠٢٦ 12:00:00 GMT",
        "Sun, 22 Nov 2026 12:00:00 +99999999999999999999",
        f"{NOON_TEXT}{' ' * 120}",
        None,
        7,
    ],
)
def test_a_date_that_is_none_is_none(date):
    """What cannot be read as a date with certainty is None."""
    assert http_date(date) is None


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "nan", "", None])
def test_zero_and_nonsense_are_no_hint(value):
    """`Retry-After: 0` is no hint, nor is anything that cannot be read."""
    assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [("1500", 1.5), ("1500.5", 1.5005), ("0", 7.0), ("-5", 7.0), ("nan", 7.0), ("1_000", 7.0)],
)
def test_milliseconds_come_first_where_they_make_sense(milliseconds, expected):
    """`retry-after-ms` is finer and counts first; an odd one falls back to `Retry-After`."""
    assert retry_after({"retry-after-ms": milliseconds, "retry-after": "7"}) == expected


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_a_plain_dict_may_have_any_case(name):
    """A dict is searched without regard to case."""
    assert retry_after({"other": "1", 5: "x", name: "3"}) == 3.0


@pytest.mark.parametrize(
    "hostile", [_Raising(), None, 5, [], "retry-after", _Lying(object()), _Lying(["5"]), {}]
)
def test_hostile_headers_tell_nothing(hostile):
    """A mapping that raises, lies or is none gives no hint and no limit."""
    assert header(hostile, "retry-after") is None
    assert retry_after(hostile, NOON) is None
    assert limits(hostile, NOON) == ()


def test_other_mappings_are_asked_by_lower_case_name():
    """Anything with `get` will do."""
    assert retry_after(MappingProxyType({"retry-after": b"4"})) == 4.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a" * 128, "a" * 128),
        ("a" * 129, None),
        (b"a" * 129, None),
        (b"a" * 10_000_000, None),
        (b"caf\xe9", "café"),
        ("  a\t", "a"),
        (None, None),
        (5, None),
    ],
)
def test_a_value_is_text_of_an_honest_length(value, expected):
    """Bytes are latin-1, blanks are stripped, and nothing is longer than 128 characters."""
    assert text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("2m59.56s", 179.56),
        ("1h", 3_600.0),
        ("1h2m3s", 3_723.0),
        ("0s", 0.0),
        ("20", 20.0),
        ("1.5", 1.5),
        ("100us", 1e-4),
        ("5ns", 5e-9),
        (b"1s", 1.0),
        (" 1s ", 1.0),
        ("1d", None),
        ("s", None),
        ("1m garbage", None),
        ("garbage1m", None),
        ("-1s", None),
        ("1 m", None),
        ("1S", None),
        ("\u0665s", None),
        ("12345678901s", 9_999_999_999.0),
        ("1.12345678901234s", 1.12345678901234),
        ("500µs", 5e-4),
        ("500μs", 5e-4),  # the Greek letter
        ("500µs".encode(), 5e-4),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_go_durations(value, expected):
    """A reset is plain seconds or a Go duration; garbage is None."""
    read = duration(value)
    assert read == (None if expected is None else pytest.approx(expected))


def test_openais_headers_state_both_dimensions():
    """`x-ratelimit-*` gives limit, remaining and reset of requests and of tokens."""
    stated = limits(
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "X-RateLimit-Limit-Tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
        }
    )
    assert stated == (
        Limit("requests", 60.0, 59.0, 1.0),
        Limit("tokens", 150_000.0, 149_984.0, 360.0),
    )


def test_azures_unknown_is_no_limit():
    """Azure says -1/-1/0 where it does not know: nothing is stated."""
    prefix = "x-ratelimit-{}-requests"
    headers = dict(
        zip(map(prefix.format, ("limit", "remaining", "reset")), ("-1", "-1", "0"), strict=True)
    )
    assert limits(headers) == ()


def test_a_limit_of_zero_is_not_stated():
    """A limit of 0 would stop everything for ever: only what remains is believed."""
    stated = limits({"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"})
    assert stated == (Limit("tokens", None, 0.0),)


@pytest.mark.parametrize(
    "count", ["nan", "inf", "1e9", "1_000", "\u0665", "", "1" * 13, "0x1", "5 5"]
)
def test_a_count_that_makes_no_sense_is_not_stated(count):
    """Only plain ASCII numbers of at most 12 digits are counts."""
    assert limits({"x-ratelimit-limit-requests": count}) == ()


def test_anthropics_resets_are_instants():
    """An RFC 3339 reset is taken relative to `Date`, else to our own clock."""
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:20Z",
    }
    assert limits({**headers, "date": NOON_TEXT}) == (Limit("requests", 50.0, 0.0, 20.0),)
    assert limits(headers, NOON + 15) == (Limit("requests", 50.0, 0.0, 5.0),)
    assert limits(headers, NOON + 99) == (Limit("requests", 50.0, 0.0, 0.0),)
    assert limits(headers) == (Limit("requests", 50.0, 0.0, None),)


@pytest.mark.parametrize("reset", ["soon", "2026-11-22T12:00:20", "0001-01-01T00:00:00+23:59", ""])
def test_a_reset_that_is_no_instant_is_unknown(reset):
    """An RFC 3339 instant needs its zone; anything odd leaves the reset unknown or over."""
    headers = {
        "anthropic-ratelimit-tokens-limit": "50",
        "anthropic-ratelimit-tokens-reset": reset,
    }
    (stated,) = limits(headers, NOON)
    assert stated.limit == 50.0
    assert stated.reset in (None, 0.0)


def test_structured_fields_state_policy_and_state():
    """`RateLimit` and `RateLimit-Policy` are joined by name; a token policy counts tokens."""
    pytest.importorskip("http_sf")
    headers = {
        "ratelimit-policy": '"burst";q=100;w=60, "daily-tokens";q=10000;w=86400',
        "ratelimit": '"burst";r=50;t=30, "daily-tokens";r=9000;t=3600',
    }
    assert limits(headers) == (
        Limit("requests", 100.0, 50.0, 30.0, 60.0),
        Limit("tokens", 10_000.0, 9_000.0, 3_600.0, 86_400.0),
    )


def test_structured_fields_may_come_alone():
    """A policy without a state, or a state without a policy, states what it says."""
    pytest.importorskip("http_sf")
    assert limits({"ratelimit-policy": '"a";q=5;w=10'}) == (Limit("requests", 5, None, None, 10),)
    assert limits({"ratelimit": '"a";r=0;t=9'}) == (Limit("requests", None, 0, 9, None),)


@pytest.mark.parametrize(
    "field",
    [
        "limit=100, remaining=50, reset=30",
        '"a";r=-5;t=-1',
        '"a";r="x";t=?1',
        '"a";r=999999999999999999999',
        "(1 2 3);r=5",
        '"unterminated',
        "é",
        "\x00",
        ",,,,",
        '"a";r=@5',
    ],
)
def test_odd_structured_fields_never_raise(field):
    """Older drafts and nonsense state nothing that is negative or infinite."""
    for stated in limits({"ratelimit": field, "ratelimit-policy": field}):
        for number in (stated.limit, stated.remaining, stated.reset, stated.window):
            assert number is None or 0 <= number < math.inf


def test_the_longest_reset_of_an_empty_limit_binds():
    """Only limits with nothing left count, and of these the longest reset."""
    stated = (
        Limit("requests", 60, 5, reset=500.0),
        Limit("requests", 60, 0, reset=10.0),
        Limit("tokens", 600, 0.5, reset=20.0),
        Limit("tokens", 600, None, reset=900.0),
        Limit("tokens", 600, 0, reset=None),
    )
    assert longest_reset(stated) == 20.0
    assert longest_reset(()) is None
    assert longest_reset(stated[:1]) is None


@pytest.mark.parametrize(
    ("remaining", "reset"), [("0", 360.0), ("0.9", 360.0), ("1", None), (None, None)]
)
def test_a_limit_with_a_unit_left_does_not_bind(remaining, reset):
    """A limit that still allows a request, or does not say how many, is not waited for."""
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "6m0s"}
    if remaining is not None:
        headers["x-ratelimit-remaining-requests"] = remaining
    assert longest_reset(limits(headers)) == reset


@settings(max_examples=100)
@given(values, values, st.one_of(st.none(), st.floats(0, 1e11)))
@example("Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", None)
@example("0 0 0 0:0 0-", None, 0.0)
def test_no_value_ever_raises_or_gives_nonsense(value, date, wall):
    """Any value gives None or a finite number from 0, whatever it is compared to."""
    for number in (
        seconds(value),
        duration(value),
        parse_retry_after(value, date, wall),
        retry_after({"retry-after": value, "Date": date, "retry-after-ms": date}, wall),
    ):
        assert number is None or 0 <= number < math.inf
    instant = http_date(value)
    assert instant is None or math.isfinite(instant)


NAMES = (
    *(f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-requests-{what}" for what in ("limit", "remaining", "reset")),
    "ratelimit",
    "ratelimit-policy",
    "date",
)


@given(st.dictionaries(st.sampled_from(NAMES), values), st.one_of(st.none(), st.floats(0, 1e11)))
def test_no_headers_ever_raise_or_state_nonsense(headers, wall):
    """Any headers state only limits whose numbers are unknown or finite and from 0."""
    for stated in limits(headers, wall):
        for number in (stated.limit, stated.remaining, stated.reset, stated.window):
            assert number is None or 0 <= number < math.inf
        assert stated.limit != 0


def test_headers_that_are_no_mapping_are_only_asked():
    """An object with a `get` and a `__getitem__` of its own is not iterated over."""

    class Odd:
        def get(self, name):
            return {"x-ratelimit-limit-requests": "60"}.get(name)

        def __getitem__(self, name):
            raise KeyError(name)

    assert limits(Odd()) == (Limit("requests", 60.0),)
