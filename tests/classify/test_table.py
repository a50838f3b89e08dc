"""The table: what a status, a structured code or an exception means; nothing ever raises."""

import asyncio
import json
import socket
import ssl
from collections import Counter
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_infe import errors
from resilient_infe.classify.error_body import clean_id
from resilient_infe.classify.table import (
    RETRYABLE,
    classify_exception,
    classify_reply,
)
from resilient_infe.classify.usage import usage_of
from resilient_infe.core.verdict import OK, Kind, Limit, Usage, Verdict, succeeded

CANARY = "CANARY-sk-secret-in-a-message"


def _body(code=None, error_type=None, **more):
    return json.dumps({"error": {"message": CANARY, "code": code, "type": error_type, **more}})


REFERENCE = [
    (400, "invalid_request_error", Kind.INVALID, False, "messages"),
    (401, "invalid_api_key", Kind.AUTH, False, "Bearer KEY"),
    (402, "payment_required", Kind.QUOTA, False, "top up"),
    (403, "forbidden", Kind.FORBIDDEN, False, "upgrade the plan"),
    (404, "model_not_found", Kind.NOT_FOUND, False, "infe-pulse"),
    (429, "rate_limit_exceeded", Kind.RATE_LIMITED, True, "per minute"),
    (500, "api_error", Kind.SERVER_ERROR, True, "server error"),
    (502, "api_error", Kind.TRANSIENT, True, "upstream"),
]


@pytest.mark.parametrize(("status", "code", "kind", "retryable", "advice"), REFERENCE)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_every_row_of_the_reference(status, code, kind, retryable, advice, as_bytes):
    """Each documented error has its kind, its advice, its code, and no word of its message."""
    body = _body(code, "some_type")
    verdict = classify_reply(status, {"x-request-id": "req-1"}, body.encode() if as_bytes else body)
    assert (verdict.kind, verdict.retryable, verdict.status) == (kind, retryable, status)
    assert (verdict.code, verdict.error, verdict.request_id) == (code, "some_type", "req-1")
    assert advice in verdict.advice
    assert verdict.sent
    assert CANARY not in repr(verdict)


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (Kind.INVALID, (300, 301, 307, 400, 405, 407, 409, 413, 418, 422, 499, 501, 505, 525, 526)),
        (Kind.AUTH, (401,)),
        (Kind.QUOTA, (402,)),
        (Kind.FORBIDDEN, (403,)),
        (Kind.NOT_FOUND, (404,)),
        (Kind.RATE_LIMITED, (429,)),
        (Kind.SERVER_ERROR, (500, 506, 507, 527, 599)),
        (Kind.TRANSIENT, (408, 425, 502, 504, 520, 521, 522, 523, 524)),
        (Kind.OVERLOADED, (503, 529)),
        (Kind.UNKNOWN, (0, -1, 99, 100, 101, 600, 999, 10**9)),
    ],
)
def test_a_status_alone_tells_its_kind(kind, statuses):
    """Without a body, every status has its kind, and only transient kinds are retryable."""
    for status in statuses:
        verdict = classify_reply(status, {}, None)
        assert verdict.kind is kind, status
        assert verdict.retryable is (kind in RETRYABLE)
        assert verdict.advice


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_success_is_ok(status):
    """A 2xx with a completion is OK, with its usage."""
    body = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}
    verdict = classify_reply(status, {}, body)
    assert (verdict.kind, verdict.status, verdict.usage) == (Kind.OK, status, Usage(1, 2, 3))
    assert not verdict.retryable


def test_the_plain_success_is_shared():
    """A 200 with nothing else to tell costs no new object."""
    assert classify_reply(200, {}, None) is OK
    assert classify_reply(200, {}, {"choices": [1]}) is OK


def test_the_quick_way_to_a_success_is_the_class():
    """It has every field, as the class sets them."""
    usage, limits = Usage(1, 2, 3), (Limit("requests", 60.0),)
    assert succeeded(None) == OK
    assert repr(succeeded(usage)) == repr(Verdict(Kind.OK, usage=usage))
    assert repr(succeeded(usage, limits, 200, "infe-1")) == repr(
        Verdict(Kind.OK, limits=limits, usage=usage, status=200, request_id="infe-1")
    )


def test_a_success_keeps_its_id_and_limits():
    """What the headers of a 200 state is kept."""
    headers = {"x-request-id": "r", "x-ratelimit-limit-requests": "60"}
    verdict = classify_reply(200, headers, None)
    assert (verdict.kind, verdict.request_id) == (Kind.OK, "r")
    assert verdict.limits == (Limit("requests", 60.0),)


@pytest.mark.parametrize(
    "code",
    [
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "project_spend_limit_exceeded",
        "monthly_spend_limit_exceeded",
    ],
)
@pytest.mark.parametrize("field", ["code", "error_type"])
def test_a_429_without_credit_is_no_rate_limit(code, field):
    """A 429 for an empty account is QUOTA: no waiting helps."""
    verdict = classify_reply(429, {"retry-after": "5"}, _body(**{field: code}))
    assert (verdict.kind, verdict.retryable) == (Kind.QUOTA, False)
    assert "top up" in verdict.advice


@pytest.mark.parametrize("code", ["lock_conflict", "lock_timeout", "conflict_retryable"])
def test_a_409_is_retried_only_as_a_lock_conflict(code):
    """A conflict over a lock passes by itself; any other 409 does not."""
    assert classify_reply(409, {}, _body(code)).kind is Kind.TRANSIENT
    assert classify_reply(409, {}, _body(code)).retryable
    assert classify_reply(409, {}, _body("conflict")).kind is Kind.INVALID


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("insufficient_quota", Kind.QUOTA),
        ("rate_limit_exceeded", Kind.RATE_LIMITED),
        ("invalid_api_key", Kind.AUTH),
        ("model_not_found", Kind.NOT_FOUND),
        ("invalid_request_error", Kind.INVALID),
        ("overloaded_error", Kind.OVERLOADED),
        ("api_error", Kind.SERVER_ERROR),
        ("never_heard_of", Kind.TRANSIENT),
        (None, Kind.TRANSIENT),
    ],
)
def test_a_200_with_an_error_inside_is_an_error(code, kind):
    """Where the status lies, the structured code tells; without one it may pass by itself."""
    for body in (_body(code), _body(error_type=code)):
        verdict = classify_reply(200, {}, body)
        assert (verdict.kind, verdict.retryable) == (kind, kind in RETRYABLE)
        assert verdict.status == 200
        assert verdict.advice


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("insufficient_quota", 402),
        ("rate_limit_exceeded", 429),
        ("invalid_api_key", 401),
        ("forbidden", 403),
        ("model_not_found", 404),
        ("invalid_request_error", 400),
        ("overloaded_error", 503),
        ("server_error", 500),
        ("timeout_error", 408),
    ],
)
def test_the_advice_of_an_error_inside_a_200_is_that_of_its_kind(code, status):
    """The user is told the same as when the status itself names the error."""
    inside = classify_reply(200, {}, _body(code))
    assert inside.advice == classify_reply(status, {}, _body(code)).advice


@pytest.mark.parametrize("error", ["broken", ["a"], 5, {"code": 7}, {"code": None}])
def test_an_error_of_any_shape_in_a_200_is_no_success(error):
    """A string, a list, a number or an odd object as `error` is an error all the same."""
    assert classify_reply(200, {}, {"error": error}).kind is Kind.TRANSIENT


@pytest.mark.parametrize("error", [None, "", [], {}, 0, False])
def test_no_error_in_a_200_is_a_success(error):
    """An `error` that is null or empty is none."""
    assert classify_reply(200, {}, {"error": error, "data": []}).kind is Kind.OK


ODD_BODIES = {
    "nothing": None,
    "empty": b"",
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "list": b"[1, 2]",
    "string": b'"rate_limit_exceeded"',
    "number": b"5",
    "null": b"null",
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "deep object": b'{"error":' * 7_000 + b"1" + b"}" * 7_000,
    "5,000 digits": b'{"error": {"code": ' + b"9" * 5_000 + b"}}",
    "NaN": b'{"error": {"code": NaN, "type": Infinity}}',
    "lone surrogate": b'{"error": {"code": "\\ud800", "type": "\\udfff"}}',
    "BOM": b'\xef\xbb\xbf{"error": {"code": "insufficient_funds"}}',
    "BOM in text": '\ufeff{"error": {"code": "x"}}',
    "not UTF-8": b'{"error": {"code": "\xff\xfe"}}',
    "UTF-16": '{"error": {"code": "x"}}'.encode("utf-16"),
    "10 MB": b'{"error": {"code": "insufficient_quota"}}' + b" " * 10_000_000,
    "error string": b'{"error": "a whole sentence of it"}',
    "error list": b'{"error": ["insufficient_quota"]}',
    "error null": b'{"error": null}',
    "error number": b'{"error": 429}',
    "code list": b'{"error": {"code": ["insufficient_quota"], "type": {}}}',
    "code long": json.dumps({"error": {"code": "x" * 129, "type": "a b"}}),
    "escape": json.dumps({"error": {"code": "a\x1b[31m", "type": "a\r\nb"}}),
    "bytearray": bytearray(b'{"error": {"code": 5}}'),
    "memory": memoryview(b"{}"),
    "object": object(),
    "cut": b'{"error": {"code": "insufficient_quo',
}


@pytest.mark.parametrize("name", ODD_BODIES)
@pytest.mark.parametrize("status", [429, 500, 502])
def test_a_gateways_odd_body_changes_nothing(name, status):
    """Whatever a body holds that is no structured code, the status decides."""
    verdict = classify_reply(status, {}, ODD_BODIES[name])
    assert verdict.kind is classify_reply(status, {}, None).kind
    assert verdict.retryable
    assert verdict.code is None or clean_id(verdict.code) == verdict.code
    assert verdict.error is None
    json.dumps(repr(verdict)).encode()


def test_a_bom_does_not_hide_a_code():
    """Bytes that begin with a byte order mark are read."""
    body = b"\xef\xbb\xbf" + _body("insufficient_quota").encode()
    assert classify_reply(429, {}, body).kind is Kind.QUOTA


def test_a_long_answer_tells_its_usage_whole_or_cut_off():
    """Embeddings are not decoded for their usage, which stands at their end; a cut is seen."""
    data = [{"embedding": [0.25] * 1_000, "index": n} for n in range(3)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    body = json.dumps({"object": "list", "data": data, "usage": usage}).encode()
    assert classify_reply(200, {}, body).usage == Usage(5, 0, 5)
    assert classify_reply(200, {}, body + b"\n").kind is Kind.OK
    assert classify_reply(200, {}, body[:-1]).kind is Kind.TRANSIENT
    assert classify_reply(200, {}, body + body).kind is Kind.TRANSIENT


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 502, 200])
def test_no_message_decides_and_none_is_kept(status):
    """Messages that claim anything at all change nothing, and no word of them stays."""
    plain = classify_reply(status, {}, {"error": {"code": "x", "message": "hello"}})
    for claim in ("insufficient_quota", "rate limit exceeded, try again in 20s", CANARY):
        body = {"error": {"code": "x", "message": claim, "param": claim}, "message": claim}
        verdict = classify_reply(status, {"x-message": claim}, body)
        assert verdict == plain
        assert claim not in repr(verdict)


def test_the_server_may_forbid_a_retry():
    """`x-should-retry: false` makes a retryable kind final; it makes none retryable."""
    verdict = classify_reply(500, {"x-should-retry": "false"}, None)
    assert (verdict.kind, verdict.retryable) == (Kind.SERVER_ERROR, False)
    assert classify_reply(500, {"x-should-retry": "true"}, None).retryable
    assert not classify_reply(401, {"x-should-retry": "true"}, None).retryable


def test_a_hint_is_kept_and_a_429_without_one_takes_the_reset():
    """`Retry-After` comes first; else a 429 waits for the reset of the limit that is used up."""
    reset = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "6m0s",
    }
    assert classify_reply(429, {**reset, "retry-after": "2"}, None).retry_after == 2.0
    assert classify_reply(429, reset, None).retry_after == 360.0
    assert classify_reply(503, reset, None).retry_after is None
    assert classify_reply(429, {"retry-after": "0"}, None).retry_after is None
    assert classify_reply(503, {"retry-after": "7"}, None).retry_after == 7.0


@pytest.mark.parametrize("odd", ["", "a b", "x" * 129, "a\nb", "\x1b[31m", "é", "a\u202eb", None])
def test_an_id_that_is_not_safe_to_log_is_dropped(odd):
    """A server's id is plain ASCII of at most 128 characters, or none."""
    assert clean_id(odd) is None
    assert classify_reply(500, {"x-request-id": odd}, None).request_id is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4}, Usage(1, 2, 4)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, Usage(1, 2, 3)),
        (Counter(input_tokens=10, output_tokens=5), Usage(10, 5, 15)),
        ({"prompt_tokens": 1}, Usage(1, 0, 1)),
        ({"total_tokens": 9}, Usage(0, 0, 9)),
        ({"prompt_tokens": -1, "total_tokens": 5}, Usage(0, 0, 5)),
        ({"prompt_tokens": 10**12}, None),
        ({"prompt_tokens": True, "total_tokens": "5"}, None),
        ({"total_tokens": float("nan")}, None),
        ({}, None),
        ([], None),
        ("many", None),
        (None, None),
    ],
)
def test_usage_is_read_from_dicts_and_objects(usage, expected):
    """Only honest whole numbers count; what is missing is added up."""
    assert usage_of({"usage": usage}) == expected
    assert usage_of(SimpleNamespace(usage=usage)) == expected
    if isinstance(usage, dict):
        assert usage_of(SimpleNamespace(usage=SimpleNamespace(**usage))) == expected


# Exceptions


def _caused(error, *causes):
    """Chain an exception to its causes."""
    current = error
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return error


def _named(name, *bases):
    return type(name, bases or (Exception,), {})


@pytest.mark.parametrize(
    ("error", "kind", "sent"),
    [
        (ConnectionRefusedError(111, CANARY), Kind.TRANSIENT, False),
        (socket.gaierror(-2, CANARY), Kind.TRANSIENT, False),
        (_named("ConnectTimeout")(CANARY), Kind.TRANSIENT, False),
        (_named("PoolTimeout")(CANARY), Kind.TRANSIENT, False),
        (errors.NeverSentError(CANARY), Kind.TRANSIENT, False),
        (ssl.SSLCertVerificationError(1, CANARY), Kind.INVALID, False),
        (_named("InvalidURL")(CANARY), Kind.INVALID, False),
        (_named("UnsupportedProtocol")(CANARY), Kind.INVALID, False),
        (TimeoutError(CANARY), Kind.TIMEOUT, True),
        (errors.AttemptTimedOut(CANARY), Kind.TIMEOUT, True),
        (ConnectionResetError(104, CANARY), Kind.TRANSIENT, True),
        (ConnectionAbortedError(CANARY), Kind.TRANSIENT, True),
        (BrokenPipeError(32, CANARY), Kind.TRANSIENT, True),
        (ssl.SSLError(1, CANARY), Kind.TRANSIENT, True),
        (asyncio.IncompleteReadError(b"CANARY", 99), Kind.TRANSIENT, True),
        (anyio.BrokenResourceError(CANARY), Kind.TRANSIENT, True),
        (anyio.ClosedResourceError(CANARY), Kind.TRANSIENT, True),
        (errors.TransportError(CANARY), Kind.TRANSIENT, True),
        (errors.MalformedResponseError(CANARY), Kind.TRANSIENT, True),
        (ValueError(CANARY), Kind.UNKNOWN, True),
        (KeyError(CANARY), Kind.UNKNOWN, True),
        (OSError(5, CANARY), Kind.UNKNOWN, True),
        (Exception(), Kind.UNKNOWN, True),
    ],
)
def test_an_exception_is_known_by_its_class(error, kind, sent):
    """Kind, whether it was sent and its class's name, but no word of its message."""
    verdict = classify_exception(error)
    assert (verdict.kind, verdict.sent) == (kind, sent)
    assert verdict.retryable is (kind in RETRYABLE)
    assert verdict.error == type(error).__name__
    assert "CANARY" not in repr(verdict)


@pytest.mark.parametrize("message", ["Connection refused", "timed out", "certificate verify"])
def test_the_message_of_an_exception_decides_nothing(message):
    """An unknown class stays unknown whatever it says."""
    assert classify_exception(RuntimeError(message)).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("cause", "kind", "sent"),
    [
        (ssl.SSLCertVerificationError(), Kind.INVALID, False),
        (ConnectionRefusedError(), Kind.TRANSIENT, False),
        (socket.gaierror(), Kind.TRANSIENT, False),
        (ConnectionResetError(), Kind.TRANSIENT, True),
    ],
)
def test_the_cause_tells_what_a_wrapper_hides(cause, kind, sent):
    """Certificate failure, refusal and DNS inside one and the same wrapper are told apart."""
    error = _caused(_named("APIConnectionError")(), _named("ReadError")(), OSError(), cause)
    verdict = classify_exception(error)
    assert (verdict.kind, verdict.sent) == (kind, sent)


def test_a_suppressed_context_is_not_looked_at():
    """What `raise ... from None` hides does not count."""
    error = ValueError()
    error.__context__ = ConnectionRefusedError()
    error.__suppress_context__ = True
    assert classify_exception(error).kind is Kind.UNKNOWN


def test_a_cycle_of_causes_ends():
    """Causes that lead back to the start are each looked at once."""
    first, second = ValueError(), ConnectionResetError()
    first.__cause__, second.__cause__ = second, first
    assert classify_exception(first).kind is Kind.TRANSIENT
    first.__cause__ = first
    assert classify_exception(first).kind is Kind.UNKNOWN


def test_a_chain_is_followed_for_16_links():
    """The sixteenth link still counts, the seventeenth does not."""
    near = _caused(ValueError(), *(ValueError() for _ in range(14)), ConnectionResetError())
    far = _caused(ValueError(), *(ValueError() for _ in range(15)), ConnectionResetError())
    assert classify_exception(near).kind is Kind.TRANSIENT
    assert classify_exception(far).kind is Kind.UNKNOWN
    endless = _caused(ValueError(), *(ValueError() for _ in range(50_000)))
    assert classify_exception(endless).kind is Kind.UNKNOWN


def test_a_group_is_fatal_if_any_leaf_is():
    """One failed certificate among refused connections is not retried."""
    group = ExceptionGroup("x", [ConnectionRefusedError(), ssl.SSLCertVerificationError()])
    assert classify_exception(group).kind is Kind.INVALID
    nested = ExceptionGroup("x", [TimeoutError(), ExceptionGroup("y", [group])])
    assert classify_exception(nested).kind is Kind.INVALID
    assert classify_exception(_caused(OSError(), nested)).kind is Kind.INVALID


def test_a_group_of_refusals_was_never_sent():
    """When every address refuses, nothing left."""
    group = ExceptionGroup("x", [ConnectionRefusedError(), ConnectionRefusedError()])
    verdict = classify_exception(_caused(OSError(), group))
    assert (verdict.kind, verdict.sent) == (Kind.TRANSIENT, False)


def test_a_group_of_unknowns_is_unknown():
    """A group tells no more than its members."""
    assert classify_exception(ExceptionGroup("x", [ValueError()])).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        ("ConnectError", Kind.TRANSIENT, False),
        ("ConnectTimeout", Kind.TRANSIENT, False),
        ("PoolTimeout", Kind.TRANSIENT, False),
        ("ReadTimeout", Kind.TIMEOUT, True),
        ("WriteTimeout", Kind.TIMEOUT, True),
        ("ReadError", Kind.TRANSIENT, True),
        ("WriteError", Kind.TRANSIENT, True),
        ("CloseError", Kind.TRANSIENT, True),
        ("RemoteProtocolError", Kind.TRANSIENT, True),
        ("UnsupportedProtocol", Kind.INVALID, False),
        ("TooManyRedirects", Kind.INVALID, False),
        ("InvalidURL", Kind.INVALID, False),
    ],
)
def test_httpxs_exceptions(name, kind, sent):
    """The real classes of httpx are known by their names."""
    httpx = pytest.importorskip("httpx")
    verdict = classify_exception(getattr(httpx, name)(CANARY))
    assert (verdict.kind, verdict.sent) == (kind, sent)
    assert CANARY not in repr(verdict)


def test_httpxs_connect_error_is_fatal_for_a_certificate():
    """Httpx wraps certificate failures in ConnectError: the cause decides."""
    httpx = pytest.importorskip("httpx")
    error = _caused(httpx.ConnectError("x"), OSError(), ssl.SSLCertVerificationError())
    assert classify_exception(error).kind is Kind.INVALID


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "sent"),
    [
        ("ClientConnectorError", (None, OSError(1, "x")), Kind.TRANSIENT, False),
        ("ClientConnectorDNSError", (None, OSError(1, "x")), Kind.TRANSIENT, False),
        ("ClientConnectorCertificateError", (None, OSError(1, "x")), Kind.INVALID, False),
        ("ConnectionTimeoutError", (), Kind.TRANSIENT, False),
        ("SocketTimeoutError", (), Kind.TIMEOUT, True),
        ("ServerTimeoutError", (), Kind.TIMEOUT, True),
        ("ServerDisconnectedError", (), Kind.TRANSIENT, True),
        ("ClientOSError", (), Kind.TRANSIENT, True),
        ("ClientConnectionResetError", (), Kind.TRANSIENT, True),
        ("ClientPayloadError", (), Kind.TRANSIENT, True),
        ("InvalidURL", ("http://[",), Kind.INVALID, False),
        ("NonHttpUrlClientError", ("ftp://x",), Kind.INVALID, False),
    ],
)
def test_aiohttps_exceptions(name, arguments, kind, sent):
    """The real classes of aiohttp are known by their names."""
    aiohttp = pytest.importorskip("aiohttp")
    verdict = classify_exception(getattr(aiohttp, name)(*arguments))
    assert (verdict.kind, verdict.sent) == (kind, sent)


# Fuzz

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["error", "code", "type", "usage"]), st.text(max_size=5)),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
bodies = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.text(max_size=60),
    json_values,
    json_values.map(json.dumps),
)
headers = st.dictionaries(
    st.sampled_from(["retry-after", "Retry-After", "x-request-id", "date", "x-should-retry"]),
    st.one_of(st.text(max_size=20), st.binary(max_size=20), st.integers()),
)


@given(st.one_of(st.integers(), st.sampled_from([200, 409, 429, 500])), headers, bodies)
def test_no_reply_ever_raises_out_of_the_classifier(status, stated, body):
    """Any status, headers and body give a verdict with an honest hint and safe ids."""
    verdict = classify_reply(status, stated, body)
    assert verdict.retry_after is None or 0 < verdict.retry_after < float("inf")
    assert verdict.retryable <= (verdict.kind in RETRYABLE)
    for name in (verdict.code, verdict.error, verdict.request_id):
        assert name is None or clean_id(name) == name
    assert verdict.kind is not Kind.OK or 200 <= (verdict.status or 200) < 300


LEAVES = (
    ValueError,
    TimeoutError,
    ConnectionRefusedError,
    ConnectionResetError,
    ssl.SSLCertVerificationError,
    KeyboardInterrupt,
    socket.gaierror,
)


@st.composite
def exceptions(draw):
    """Draw exceptions in groups, with causes and contexts that may form cycles."""
    made = [draw(st.sampled_from(LEAVES))(CANARY) for _ in range(draw(st.integers(1, 5)))]
    for _ in range(draw(st.integers(0, 3))):
        made.append(BaseExceptionGroup(CANARY, draw(st.lists(st.sampled_from(made), min_size=1))))
    for error in made:
        error.__cause__ = draw(st.one_of(st.none(), st.sampled_from(made)))
        error.__context__ = draw(st.one_of(st.none(), st.sampled_from(made)))
    return draw(st.sampled_from(made))


@settings(max_examples=100)
@given(exceptions())
def test_no_exception_ever_raises_out_of_the_classifier(error):
    """Any web of groups, causes and contexts gives a verdict without a message in it."""
    verdict = classify_exception(error)
    assert verdict.retryable <= (verdict.kind in RETRYABLE)
    assert CANARY not in repr(verdict)
    assert verdict.sent or verdict.kind in (Kind.TRANSIENT, Kind.INVALID)


# Suspected faults


class _Hostile:
    @property
    def usage(self):
        raise RuntimeError(CANARY)


@pytest.mark.parametrize("body", [b"<html>captive portal</html>", b"", "", b"[]", b'"x"', b"{cut"])
def test_a_200_that_is_no_answer_is_no_success(body):
    """A 200 with a gateway's page, an empty or cut body, or a list is not of the right shape."""
    verdict = classify_reply(200, {}, body)
    assert verdict.kind is Kind.TRANSIENT
    assert verdict.retryable


def test_a_hostile_object_never_raises_out_of_the_classifier():
    """A decoded body or result whose `usage` raises has no usage."""
    assert classify_reply(200, {}, _Hostile()) is OK
    assert usage_of(_Hostile()) is None


def test_what_was_handled_before_does_not_decide():
    """A read timeout in a fallback for a refused connection was sent, and is a timeout."""
    error = TimeoutError()
    error.__context__ = ConnectionRefusedError()  # `except ConnectionRefusedError: await send()`
    verdict = classify_exception(error)
    assert (verdict.kind, verdict.sent) == (Kind.TIMEOUT, True)


@pytest.mark.parametrize("other", [ConnectionResetError, TimeoutError, ValueError])
def test_a_group_was_never_sent_only_if_no_leaf_was(other):
    """Where one of a group's attempts may have left, nothing is refunded."""
    assert classify_exception(ExceptionGroup("x", [ConnectionRefusedError(), other()])).sent


def test_a_fatal_leaf_of_a_large_group_is_found():
    """A group of twenty is fatal for one certificate, wherever it stands."""
    leaves = [ssl.SSLCertVerificationError(), *(ConnectionRefusedError() for _ in range(20))]
    assert classify_exception(ExceptionGroup("x", leaves)).kind is Kind.INVALID


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("capacity_exceeded", id="Groq, flex processing"),
        pytest.param("engine_overloaded", id="OpenAI"),
        pytest.param("engine_overloaded_error", id="Moonshot, Kimi API"),
        pytest.param("overloaded_error", id="Anthropic"),
    ],
)
def test_a_429_about_the_servers_capacity_is_none_of_the_callers_limit(code):
    """The server has too much to do: back off and count it, but learn no limit from it."""
    for error in ({"type": None, "code": code}, {"type": code}):
        verdict = classify_reply(429, {}, {"error": {"message": "?", **error}})
        assert (verdict.kind, verdict.retryable) == (Kind.OVERLOADED, True)
    usual = classify_reply(429, {}, {"error": {"code": "rate_limit_exceeded"}})
    assert usual.kind is Kind.RATE_LIMITED
