"""Rows of rules: those of the package, and a user's own."""

from __future__ import annotations

import json
import tomllib

import pytest

from resilient_infe import ErrorClassifier, Kind, errors
from resilient_infe.classify.error_body import status_in
from resilient_infe.classify.rules import BUILT_IN, built_in, made, with_own
from resilient_infe.classify.table import classify_reply

ROWS = tomllib.loads(BUILT_IN.read_text())


def body(**error):
    """Return the body of an error."""
    return {"error": {"message": "m", **error}}


def test_every_row_names_its_vendor_and_its_source():
    """Each row of the package says whose code it is, and where that is written."""
    for row in [*ROWS["rule"], *ROWS["hint"]]:
        assert row["vendor"], row
        assert row["source"].startswith("https://"), row


def test_no_name_stands_in_two_rows_for_one_status():
    """The order of the rows of the package decides nothing."""
    seen = set()
    for row in ROWS["rule"]:
        statuses = row.get("status", ["4xx"])
        for status in [statuses] if isinstance(statuses, int) else statuses:
            for name in {name.lower() for name in row.get("names", [])}:
                assert (name, status) not in seen, name
                seen.add((name, status))


def test_no_name_is_an_http_status():
    """A code that is an HTTP status counts as that status, so no row may have it as a name."""
    assert not [name for name in built_in().named if status_in(name) is not None]


def test_a_row_of_ones_own_comes_first():
    """It may change what a row of the package, or the table, says."""
    rules = with_own(
        [
            {"names": ["Arrearage"], "kind": "auth", "advice": "ask finance"},
            {"status": [418, 420], "kind": "overloaded"},
        ]
    )
    verdict = classify_reply(400, {}, body(code="ARREARAGE"), rules=rules)
    assert (verdict.kind, verdict.advice) == (Kind.AUTH, "ask finance")
    assert classify_reply(418, {}, b"teapot", rules=rules).kind is Kind.OVERLOADED
    assert classify_reply(418, {}, b"teapot").kind is Kind.INVALID
    assert classify_reply(403, {}, body(code="budget_exceeded"), rules=rules).kind is Kind.QUOTA


@pytest.mark.parametrize(
    ("row", "status", "error", "holds"),
    [
        ({"names": "a"}, 400, {"code": "A"}, True),
        ({"names": ["a"]}, 403, {"type": "a"}, True),
        ({"names": ["a"]}, 500, {"code": "a"}, False),
        ({"names": ["a"], "status": 500}, 500, {"code": "a"}, True),
        ({"names": ["a"], "status": 500}, 200, {"code": "a"}, True),
        ({"names": ["a"], "status": 500}, 400, {"code": "a"}, False),
        ({"names": ["a"]}, 200, {"code": "a"}, True),
        ({"names": ["a"], "where": {"error.b.c": "d"}}, 400, {"code": "a", "b": {"c": "d"}}, True),
        ({"names": ["a"], "where": {"error.b.c": 5}}, 400, {"code": "a", "b": {"c": 5}}, True),
        ({"names": ["a"], "where": {"error.b.c": "d"}}, 400, {"code": "a", "b": "c"}, False),
        ({"names": ["a"], "hinted": True}, 400, {"code": "a"}, False),
        ({"names": ["a"], "hinted": True}, 400, {"code": "a", "retry_after": 3}, True),
        ({"names": ["a"]}, 429, {"code": 429, "type": "a"}, True),
    ],
)
def test_when_a_row_holds(row, status, error, holds):
    """By its names, its statuses, its fields, and whether there is a hint."""
    rules = with_own([{"kind": "overloaded", **row}])
    verdict = classify_reply(status, {}, body(**error), rules=rules)
    assert (verdict.kind is Kind.OVERLOADED) is holds


def test_a_row_may_say_that_too_many_were_in_flight():
    """Then the slots are to be narrowed, not the rate."""
    assert classify_reply(429, {}, body(code="1302")).crowded
    assert not classify_reply(429, {}, body(code="1303")).crowded


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_rules_of_a_file(tmp_path, suffix):
    """A TOML or a JSON file holds rows and hints."""
    path = tmp_path / f"mine.{suffix}"
    rows = {
        "rule": [{"names": ["spent"], "kind": "quota"}],
        "hint": [{"field": "wait"}, {"prefix": "Up-"}, {"header": "X-Error"}],
    }
    text = json.dumps(rows)
    if suffix == "toml":
        text = """
            rule = [{names = ["spent"], kind = "quota"}]
            hint = [{field = "wait"}, {prefix = "Up-"}, {header = "X-Error"}]
        """
    path.write_text(text)
    for given in (path, str(path)):
        rules = with_own(given)
        assert classify_reply(403, {}, body(code="spent"), rules=rules).kind is Kind.QUOTA
        assert classify_reply(403, {"x-error": "spent"}, b"", rules=rules).kind is Kind.QUOTA
        assert classify_reply(503, {}, body(wait=4), rules=rules).retry_after == 4.0
        assert classify_reply(503, {"up-retry-after": "5"}, b"", rules=rules).retry_after == 5.0
        assert classify_reply(503, {}, {"estimated_time": 6}, rules=rules).retry_after == 6.0


@pytest.mark.parametrize(
    "rows",
    [
        "missing.toml",
        [{"names": ["a"]}],
        [{"names": ["a"], "kind": "wonderful"}],
        [{"kind": "quota"}],
        [{"names": [5], "kind": "quota"}],
        [{"names": ["a"], "status": 5, "kind": "quota"}],
        [{"names": ["a"], "status": True, "kind": "quota"}],
        [{"names": ["a"], "where": "b", "kind": "quota"}],
        [{"names": ["a"], "hinted": "yes", "kind": "quota"}],
        [{"names": ["a"], "advice": 5, "kind": "quota"}],
        [{"name": "a", "kind": "quota"}],
        ["a"],
        5,
    ],
)
def test_a_wrong_row_is_refused_in_words(rows):
    """The mistake is told when the classifier is made, not when the error comes."""
    with pytest.raises(errors.ConfigurationError):
        ErrorClassifier(rules=rows)


@pytest.mark.parametrize("text", ["rule = 5", "rules = []", "[[rule", "hint = [5]", "\x00"])
def test_a_wrong_file_is_refused_in_words(tmp_path, text):
    """A file that is no TOML, or holds something else, is told of by its name or its lists."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(errors.ConfigurationError, match=r"rule|hint|mine"):
        made(path, None)


def test_the_describing_line_names_what_is_ones_own():
    """`print(stack)` says which rules apply."""
    described = ErrorClassifier(lambda *_: None, rules=[]).describe()
    assert described == "the Infe API's table, after your own rule and rows of your own"


def test_a_success_reads_no_rules():
    """The file is read when the first error comes, and then once."""
    built_in.cache_clear()
    classify_reply(200, {}, b'{"choices": [{}]}')
    assert not built_in.cache_info().currsize
    for _ in range(2):
        classify_reply(429, {}, b"")
    assert built_in.cache_info().misses == 1
