"""Names, codes, hints and ids count however a server joins their words, and wherever they stand."""

import pytest

from resilient_infe import Kind
from resilient_infe.classify.table import classify_reply

WALL = 1_796_000_000.0


def _error(**fields):
    return {"error": fields}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, _error(code="InsufficientQuota"), Kind.QUOTA),
        (403, _error(type="insufficient-quota"), Kind.QUOTA),
        (403, _error(code="InsufficientBalance"), Kind.QUOTA),
        (200, _error(code="Billing-Hard-Limit-Reached"), Kind.QUOTA),
        (403, {"code": 403, "reason": "NOT_ENOUGH_BALANCE"}, Kind.QUOTA),
        (429, _error(type="credit_limit"), Kind.QUOTA),
        (400, _error(code="blocked_api_access"), Kind.QUOTA),
        (429, _error(type="usage_not_included"), Kind.QUOTA),
        (200, _error(code="RateLimitExceeded"), Kind.RATE_LIMITED),
        (200, _error(http_status_code=429), Kind.RATE_LIMITED),
        (200, {"header": {"code": 11202, "sid": "s"}}, Kind.RATE_LIMITED),
        (200, {"status": {"code": 503, "message": "x"}}, Kind.OVERLOADED),
        (200, {"Response": {"Error": {"Code": "RequestLimitExceeded"}}}, Kind.RATE_LIMITED),
        (400, {"Code": "ThrottlingException", "Message": "x"}, Kind.RATE_LIMITED),
        (503, _error(code="slow_down"), Kind.OVERLOADED),
        (429, _error(code="token_quota_exceeded"), Kind.RATE_LIMITED),
    ],
)
def test_a_code_counts_however_it_is_written(status, body, kind):
    """In any style, with capitals, and in an object of the body."""
    assert classify_reply(status, {}, body, WALL, completion=True).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        _error(details=[{"@type": "x", "retry_delay": "12s"}]),
        _error(details=[{"reason": "x", "metadata": {"retryDelay": "12s"}}]),
        _error(details=[{"retryDelay": {"seconds": 11, "nanos": 1_000_000_000 - 1}}]),
        _error(details={"retry_after": 12}),
        _error(innererror={"retryAfter": "12"}),
        _error(headers={"Retry-After": "12"}),
        _error(retryAfterSecs=12),
        _error(retryAfterMillis=12_000),
        _error(retry_after=99, retry_after_ms=12_000),
        _error(retry_in=12),
        _error(try_again_in="12s"),
        _error(resets_at=int(WALL) + 12),
        {"parameters": {"retry_after": 12}, "error_code": 429},
        {"Retry-After": 12},
    ],
)
def test_a_hint_counts_wherever_it_stands(body):
    """In the error, in the objects of it, and beside it."""
    assert classify_reply(429, {}, body, WALL).retry_after == pytest.approx(12)


def test_a_body_without_end_holds_no_hint():
    """One that contains itself is searched to a depth; a value that is no wait is left out."""
    circle = _error(message="x")
    circle["error"]["self"] = circle["error"]
    assert classify_reply(429, {}, circle).retry_after is None
    for value in (
        "soon",
        -1,
        float("nan"),
        {"seconds": {}},
        {"seconds": -1, "nanos": "x"},
        [],
        True,
    ):
        assert classify_reply(429, {}, _error(retry_after=value)).retry_after is None


@pytest.mark.parametrize(
    "name",
    ["X-Retry-After", "X-RateLimit-Retry-After", "X-Rate-Limit-Retry-After-Seconds",
     "retry-after-seconds", "X-AI-RateLimit-Retry-After"],
)  # fmt: skip
def test_a_hint_in_a_header_of_another_name(name):
    """It counts, also in milliseconds, if the usual ones are not there."""
    assert classify_reply(429, {name: "12"}, {}).retry_after == 12
    assert classify_reply(429, {"x-retry-after-ms": "12000"}, {}).retry_after == 12
    assert classify_reply(429, {name: "12", "retry-after": "5"}, {}).retry_after == 5
    assert classify_reply(429, {"do-not-retry-after-all": "12"}, {}).retry_after is None


@pytest.mark.parametrize(
    ("suffix", "dimension", "window"),
    [("rpm", "requests", 60), ("tpm", "tokens", 60), ("itpm", "input_tokens", 60),
     ("requests-per-minute", "requests", 60), ("rpd", "requests", 86_400)],
)  # fmt: skip
def test_a_limit_that_is_named_in_short(suffix, dimension, window):
    """As requests or tokens per minute, in letters."""
    values = {"limit": "100", "remaining": "0", "reset": "30"}
    headers = {f"x-ratelimit-{field}-{suffix}": value for field, value in values.items()}
    (stated,) = classify_reply(429, headers, {}).limits
    assert (stated.dimension, stated.limit, stated.window) == (dimension, 100, window)
    assert (stated.remaining, stated.reset) == (0, 30)


def test_a_request_id_of_any_name():
    """In a header, in the body of an error, or in its details."""
    for name in ("x-bce-request-id", "msh-request-id", "x-tt-logid", "x-siliconcloud-trace-id"):
        assert classify_reply(500, {name: "r-1"}, {}).request_id == "r-1"
    details = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-1"}]
    for body in (
        _error(request_id="r-1"),
        _error(details=details),
        {"Response": {"Error": {}}, "RequestId": "r-1"},
        {"trace": "r-1"},
    ):
        assert classify_reply(500, {}, body).request_id == "r-1"
    assert classify_reply(500, {"x-request-id": "r-1", "x-trace-id": "r-2"}, {}).request_id == "r-1"
    assert classify_reply(500, {}, {"request_id": "not safe"}).request_id is None
