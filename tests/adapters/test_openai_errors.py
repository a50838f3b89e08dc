"""The wrapped SDK's errors: its own, whole, with a note of what was tried."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest
from drivers import REFUSAL, complete, with_sdk
from loopback import ASK, ERROR, KEY, against, hang, lose, quick, response

from resilient_infe import (
    Allowance,
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    Kind,
    RateLimiter,
    ResilientTransport,
    Retry,
    Slots,
    Stack,
    wrap,
)

pytestmark = pytest.mark.network


async def open_unread(client):
    """Ask for a completion without reading it."""
    async with client.chat.completions.with_streaming_response.create(**ASK):
        pass


WAYS = {
    "plain": complete,
    "with_options": lambda client: complete(client.with_options(timeout=5)),
    "copy": lambda client: complete(client.copy().with_options()),
    "raw": lambda client: client.chat.completions.with_raw_response.create(**ASK),
    "client raw": lambda client: client.with_raw_response.chat.completions.create(**ASK),
    "streaming response": open_unread,
    "stream": lambda client: complete(client, stream=True),
    "embeddings": lambda client: client.embeddings.create(model="e", input="hi"),
    "models": lambda client: client.models.list(),
    "responses": lambda client: client.responses.create(model="m", input="hi"),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
def test_a_typed_error_has_all_its_fields_and_a_note(way):
    """However a call is made, its error is the SDK's own, whole, told what was tried."""

    async def test(client):
        with pytest.raises(openai.InternalServerError) as caught:
            await way(client)
        error = caught.value
        assert (error.status_code, error.code, error.type) == (500, "a_code", "a_type")
        assert (error.request_id, error.body) == ("r1", REFUSAL["error"])
        assert error.response.json() == REFUSAL
        [note] = error.__notes__
        assert "3 attempts" in note
        assert "x-request-id: r1, r1, r1" in note
        assert "server error; up to 3 retries may help" in note

    assert len(with_sdk(test, response(500, REFUSAL, x_request_id="r1")).asked) == 3


@pytest.mark.parametrize(
    ("status", "cls", "advice"),
    [
        (400, openai.BadRequestError, "fix the request"),
        (401, openai.AuthenticationError, "check the key"),
        (402, openai.APIStatusError, "top up credits"),
        (403, openai.PermissionDeniedError, "upgrade the plan"),
        (404, openai.NotFoundError, "exact model id"),
        (422, openai.UnprocessableEntityError, "fix the request"),
        (429, openai.RateLimitError, "RateLimiter"),
    ],
)
def test_a_final_error_is_told_after_one_request(status, cls, advice):
    """What another attempt cannot help is the SDK's own error with the reference's advice."""

    async def test(client):
        with pytest.raises(openai.APIStatusError) as caught:
            await complete(client)
        assert type(caught.value) is cls
        assert "1 attempt in" in caught.value.__notes__[0]
        assert advice in caught.value.__notes__[0]

    stack = quick(max_attempts=1) if status == 429 else quick()
    assert len(with_sdk(test, response(status, REFUSAL), stack).asked) == 1


@every_way
def test_a_lost_connection_is_told(way):
    """A connection that breaks each time is the SDK's connection error, with a note."""

    async def test(client):
        with pytest.raises(openai.APIConnectionError) as caught:
            await way(client)
        assert "3 attempts" in caught.value.__notes__[0]

    assert len(with_sdk(test, lose).asked) == 3


def test_nobody_listens():
    """A refused connection is the SDK's connection error, and the note says what to check."""

    async def main():
        async with openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:9/v1") as client:
            with pytest.raises(openai.APIConnectionError) as caught:
                await complete(wrap(client, quick()))
            assert "check the base URL" in caught.value.__notes__[0]

    asyncio.run(main())


def test_causes_that_go_in_a_circle_are_followed_to_no_end():
    """An error whose causes are a circle is told as any other."""

    class Circular(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            first, second = httpx2.ConnectError("first"), httpx2.ConnectError("second")
            first.__cause__, second.__cause__ = second, first
            raise first

    async def main():
        http = httpx2.AsyncClient(transport=Circular())
        async with openai.AsyncOpenAI(api_key=KEY, base_url="http://x/v1", http_client=http) as sdk:
            with pytest.raises(openai.APIConnectionError):
                await complete(wrap(sdk, Stack(ErrorClassifier())))

    asyncio.run(main())


def test_a_timeout_per_call_is_the_attempts():
    """`timeout=` of a call, or of the client, bounds each attempt as before, and is told."""
    stack = quick()

    async def test(client):
        for options in {"timeout": 0.02}, {"timeout": httpx2.Timeout(0.02)}:
            with pytest.raises(openai.APITimeoutError) as caught:
                await complete(client, **options)
            assert "3 attempts" in caught.value.__notes__[0]
        with pytest.raises(openai.APITimeoutError):
            await complete(client.with_options(timeout=0.02))

    with_sdk(test, hang, stack)
    assert stack.statistics().attempts == 9


def test_a_deadline_before_anything_was_sent_is_a_refusal():
    """The limit or a queue held the request up, not the server: a 503 says so, with a note."""
    allowance, slots = Allowance(1.0), Slots(1)

    async def test(client):
        allowance.take(asyncio.get_running_loop().time())  # both are used up
        slots.take()
        with pytest.raises(openai.InternalServerError) as caught:
            await complete(client)
        assert (caught.value.status_code, caught.value.code) == (503, "refused")
        assert caught.value.type == "DeadlineExceeded"
        assert "0 attempts" in caught.value.__notes__[0]
        hints.append(caught.value.response.headers.get("retry-after"))

    hints: list[str | None] = []
    for limit in RateLimiter(allowance), ConcurrencyLimiter(slots):
        stack = Stack(Deadline(0.05), limit, ErrorClassifier())
        assert with_sdk(test, hang, stack).asked == []
    [known, unknown] = hints
    assert 50 < float(known) < 62
    assert unknown is None


@every_way
def test_an_attempts_timeout_is_the_sdks_own(way):
    """Our AttemptTimeout reaches the caller as APITimeoutError, with a note."""
    stack = Stack(Retry(2, uniform=lambda: 0.0), ErrorClassifier(), AttemptTimeout(0.02))

    async def test(client):
        with pytest.raises(openai.APITimeoutError) as caught:
            await way(client)
        assert "2 attempts" in caught.value.__notes__[0]
        assert "AttemptTimeout" in str(caught.value.__cause__)

    with_sdk(test, hang, stack)
    assert stack.statistics().attempts == 2


@every_way
def test_a_refusal_is_typed_and_told(way):
    """An open circuit is a 503 of the SDK's, with our reason, its hint, and a note."""
    breaker = CircuitBreaker(Circuit(consecutive_failures=1))
    stack = Stack(Retry(1), breaker, ErrorClassifier())

    async def test(client):
        with pytest.raises(openai.InternalServerError):
            await complete(client)
        with pytest.raises(openai.InternalServerError, match="circuit") as caught:
            await way(client)
        error = caught.value
        assert (error.status_code, error.code, error.type) == (503, "refused", "CircuitOpen")
        assert 9 < float(error.response.headers["retry-after"]) <= 10
        assert "0 attempts" in error.__notes__[0]

    assert len(with_sdk(test, response(500, REFUSAL), stack).asked) == 1


def test_a_refusal_is_not_tried_again_by_an_sdk_whose_retries_are_on():
    """A refusal asks not to be retried, so an SDK above a resilient transport tells it at once."""
    stack = Stack(Retry(1), CircuitBreaker(Circuit(consecutive_failures=1)), ErrorClassifier())

    async def test(url):
        transport = ResilientTransport(httpx2.AsyncHTTPTransport(), stack)
        http = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url, http_client=http) as client:
            with pytest.raises(openai.InternalServerError):
                await complete(client.with_options(max_retries=0))
            with pytest.raises(openai.InternalServerError, match="circuit"):
                await complete(client)

    assert len(against(ERROR, test).asked) == 1
    assert stack.statistics().calls == 2


def test_a_stack_that_drains_is_typed():
    """A call to a stack that takes no more is the SDK's 503 with the reason."""
    stack = quick()

    async def test(client):
        await stack.drain(0)
        with pytest.raises(openai.InternalServerError, match="draining") as caught:
            await complete(client)
        assert caught.value.type == "Draining"

    assert with_sdk(test, stack=stack).asked == []


def test_a_full_queue_is_typed():
    """A call that finds the queue full is refused with the SDK's 503, which nothing retries."""
    stack = Stack(Deadline(0.2), ConcurrencyLimiter(Slots(1, max_waiting=0)), ErrorClassifier())

    async def test(client):
        [first, second] = await asyncio.gather(
            complete(client), complete(client), return_exceptions=True
        )
        assert isinstance(first, openai.APITimeoutError)
        assert isinstance(second, openai.InternalServerError)
        assert second.type == "QueueFull"

    with_sdk(test, hang, stack)
    assert stack.statistics().attempts == 1


@pytest.mark.parametrize("status", [302, 304])
def test_a_redirect_is_the_sdks_own_error(status):
    """An answer that is neither success nor error is the SDK's to tell, streamed or not."""
    stack = quick()

    async def test(client):
        for stream in False, True:
            with pytest.raises(openai.APIStatusError) as caught:
                await complete(client, stream=stream)
            assert caught.value.status_code == status

    body = b"" if status == 304 else b"elsewhere"
    with_sdk(test, response(status, body, "text/event-stream"), stack)
    assert stack.statistics().outcomes == {Kind.OK: 2}
