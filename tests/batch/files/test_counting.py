"""RowCount: a user's count of tokens, and what is said where it fails."""

from __future__ import annotations

import functools

import pytest

from resilient_infe.batch.files.counting import RowCount, name_of
from resilient_infe.batch.request import Request
from resilient_infe.rate.estimate import estimate_tokens

BODY = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hello"}]}


def fails(body):
    """Fail, as a function of a user's may."""
    raise KeyError("content")


def test_a_count_is_of_the_body():
    """Nothing is said where it works."""
    said = []
    assert RowCount(lambda body: len(body), said.append)({"url": "/x", "body": BODY}) == 2
    assert said == []


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (fails, "test_counting:fails raised KeyError ('content') for row r1: the built-in"),
        (lambda body: "5", "returned '5', not a number of tokens, for row r1"),
        (lambda body: -1, "returned -1"),
        (lambda body: float("nan"), "returned nan"),
        (lambda body: 10**5_000, "returned a int"),
    ],
)
def test_a_count_that_fails_is_told_once_with_its_row(count, told):
    """The built-in estimate is used, of the body, and the run goes on."""
    said = []
    counting = RowCount(count, said.append)
    for number in (1, 2):
        request = Request(f"r{number}", number, "/x", dict(BODY))
        counting.began(request)
        payload = {"url": "/x", "body": request.body}
        assert counting(payload) == estimate_tokens(BODY) > 0
        counting.ended(request)
    [line] = said
    assert told in line
    assert counting._rows == {}


def test_a_function_is_named_as_the_option_takes_it():
    """Also one that is an object."""
    assert name_of(fails).endswith("test_counting:fails")
    assert name_of(functools.partial(fails)) == "functools:partial"
