"""Replies read off results and exceptions of clients that the library has never heard of."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe.classify.foreign import reply_of_exception, reply_of_result
from resilient_infe.classify.table import classify_reply
from resilient_infe.core.verdict import Kind


class _Hostile:
    """An object every unusual attribute of which raises."""

    def __getattr__(self, name):
        raise AttributeError(name) if name.startswith("__") else RuntimeError(name)


class _ApiError(Exception):
    """An error as OpenAI's SDK makes it."""

    def __init__(self, **fields):
        super().__init__("CANARY")
        self.__dict__.update(fields)


@pytest.mark.parametrize("name", ["status_code", "status"])
def test_what_has_a_status_and_headers_is_a_response(name):
    """A status by either name and headers with `get` make a reply; the body is not read."""
    reply = reply_of_result(SimpleNamespace(**{name: 503, "headers": {"retry-after": "3"}}))
    assert (reply.status, reply.body) == (503, None)
    assert reply.headers.get("retry-after") == "3"


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"status": 500, "headers": {}},
        [500],
        "500",
        b"500",
        500,
        (500, {}),
        object(),
        SimpleNamespace(status=500),
        SimpleNamespace(status=500, headers=None),
        SimpleNamespace(status=500, headers="none"),
        SimpleNamespace(status="500", headers={}),
        SimpleNamespace(status=True, headers={}),
        SimpleNamespace(status=99, headers={}),
        SimpleNamespace(status=600, headers={}),
        SimpleNamespace(headers={}),
        _Hostile(),
    ],
)
def test_what_only_resembles_a_response_is_none(result):
    """Plain values, and objects without an honest status and headers, are no reply."""
    assert reply_of_result(result) is None


def test_an_sdks_error_is_read_from_its_response():
    """Status and headers come from the error's response, code and type from its body."""
    error = _ApiError(
        response=SimpleNamespace(status_code=429, headers={"retry-after": "2"}),
        body={"message": "CANARY", "code": "insufficient_quota", "type": "x"},
    )
    reply = reply_of_exception(error)
    assert reply.status == 429
    verdict = classify_reply(reply.status, reply.headers, reply.body)
    assert (verdict.kind, verdict.code, verdict.retry_after) == (
        Kind.QUOTA,
        "insufficient_quota",
        2,
    )
    assert "CANARY" not in repr(verdict)
    assert "CANARY" not in repr(reply)


def test_a_body_that_holds_the_error_is_kept_as_it_is():
    """The whole body and the inner error object are both understood."""
    whole = {"error": {"code": "a"}}
    assert reply_of_exception(_ApiError(status=500, body=whole)).body is whole
    assert reply_of_exception(_ApiError(status=500, body={"code": "a"})).body == whole


def test_code_and_type_may_stand_on_the_error_itself():
    """Without a body the error's own code and type are taken."""
    reply = reply_of_exception(_ApiError(status_code=400, code="c", type="t"))
    assert reply.body == {"error": {"code": "c", "type": "t"}}
    assert reply_of_exception(_ApiError(status_code=400)).body is None


def test_headers_may_stand_on_the_error_itself():
    """Without a response the error's own headers are taken, and odd ones replaced by none."""
    reply = reply_of_exception(_ApiError(status=429, headers={"retry-after": "2"}))
    assert reply.headers.get("retry-after") == "2"
    assert reply_of_exception(_ApiError(status=429, headers=5)).headers == {}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("500"),
        _ApiError(response=None),
        _ApiError(response=_Hostile()),
        _ApiError(status="500"),
        _ApiError(status=0),
        _ApiError(status=True),
        KeyboardInterrupt(),
        ExceptionGroup("x", [ValueError()]),
    ],
)
def test_an_error_without_a_status_is_no_reply(error):
    """Whatever carries no honest status is left to the classifier of exceptions."""
    assert reply_of_exception(error) is None


@given(
    st.one_of(st.none(), st.integers(), st.text(), st.floats()),
    st.one_of(st.none(), st.integers(), st.dictionaries(st.text(), st.text())),
    st.one_of(st.none(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers())),
)
def test_no_attribute_of_an_error_ever_raises(status, headers, body):
    """Whatever stands in a foreign error's attributes, reading and classifying it works."""
    error = _ApiError(status=status, headers=headers, body=body, code=status, type=headers)
    reply = reply_of_exception(error)
    if reply is not None:
        assert 100 <= reply.status < 600
        assert classify_reply(reply.status, reply.headers, reply.body).status in (status, None)


def test_hostile_headers_of_a_result_never_raise():
    """Headers whose attributes raise make the result no response, not a failure."""
    assert reply_of_result(SimpleNamespace(status=200, headers=_Hostile())) is None


def test_aiohttps_error_is_read_without_a_warning():
    """`ClientResponseError` has its status and headers; its deprecated `code` is left alone."""
    aiohttp = pytest.importorskip("aiohttp")
    headers = {"Retry-After": "3"}
    reply = reply_of_exception(aiohttp.ClientResponseError(None, (), status=429, headers=headers))
    assert reply is not None
    assert (reply.status, reply.headers) == (429, headers)
