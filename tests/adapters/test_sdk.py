"""What an SDK does for each attempt is done after the waits of the stack, and counted rightly."""

from __future__ import annotations

import io
import warnings

import httpx2
import openai
import pytest
from fakes import Remember
from loopback import ASK, COMPLETION, KEY
from sdk_server import DOWN, GOOD, Server, ask, steady

from resilient_infe import (
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    Kind,
    RateLimiter,
    Retry,
    Stack,
    call_options,
    presets,
    wrap,
)
from resilient_infe.aio import current
from resilient_infe.errors import NestedRetriesWarning
from resilient_infe.testing import run_virtually


async def instant():
    """Return the time as a token."""
    return f"{current().now():.1f}"


def short_lived(seconds, until=0.0):
    """Return a server that is down at first, and then refuses tokens that are too old."""

    def answer(request):
        now = current().now()
        if now < until:
            return DOWN
        age = now - float(request.headers["authorization"].removeprefix("Bearer "))
        return GOOD if age <= seconds else (401, {"error": {"message": "expired"}}, {})

    return Server(answer)


AZURE = {"azure_ad_token_provider": instant, "azure_endpoint": "http://t", "api_version": "1"}
PROVIDERS = {
    "callable key": (openai.AsyncOpenAI, {"api_key": instant}),
    "azure": (openai.AsyncAzureOpenAI, AZURE),
}
providers = pytest.mark.parametrize(("cls", "options"), PROVIDERS.values(), ids=PROVIDERS)


@providers
def test_a_token_is_asked_for_after_a_backoff(cls, options, backend):
    """An outage that is longer than the life of a token costs no call."""
    server = short_lived(2.0, until=10.0)
    stack = presets.batch(requests_per_minute=6_000, log=False)

    async def test():
        client = wrap(server.client(cls, **options), stack)
        for _ in range(3):
            assert (await ask(client)).id == "c"

    run_virtually(test, backend)
    assert stack.statistics().outcomes == {Kind.OK: 3}
    assert len(stack.statistics().allowances) == 1  # a token that changes is no new partition


@providers
def test_a_token_is_asked_for_after_the_limit(cls, options, backend):
    """A call that waits for the rate limit, or for a slot, asks for its token after that."""
    import anyio

    server = short_lived(2.0)
    stack = steady(ConcurrencyLimiter(4), RateLimiter(requests_per_minute=60, burst=1.0))

    async def test():
        client = wrap(server.client(cls, **options), stack)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask, client)

    run_virtually(test, backend)
    assert stack.statistics().outcomes == {Kind.OK: 20}


class Signing(openai.AsyncOpenAI):
    """Signs each request that it sends."""

    async def _prepare_options(self, options):
        options.headers = {**options.headers, "x-prepared": await instant()}
        return await super()._prepare_options(options)

    async def _prepare_request(self, request):
        request.headers["x-signed"] = await instant()


def test_hooks_and_the_header_that_counts_run_for_each_attempt(backend):
    """Hooks of the SDK and of its http client, and its count of retries, are those of attempts."""
    server = Server(DOWN, DOWN, GOOD)
    hooked = []

    async def hook(request):
        hooked.append(await instant())

    async def test():
        client = server.client(Signing)
        client._client.event_hooks = {"request": [hook]}
        raw = await wrap(client, steady()).chat.completions.with_raw_response.create(**ASK)
        assert raw.retries_taken == 2

    run_virtually(test, backend)
    assert server.sent("x-stainless-retry-count") == ["0", "1", "2"]
    seconds = [float(each) for each in hooked]
    assert [round(each - seconds[0]) for each in seconds] == [0, 1, 2]
    assert server.sent("x-signed") == server.sent("x-prepared") == hooked


def test_the_key_that_makes_a_request_idempotent_is_kept():
    """All attempts of a call have the same idempotency key."""
    server = Server(DOWN, GOOD)

    async def test():
        client = server.client()
        client._idempotency_header = "Idempotency-Key"
        await ask(wrap(client, steady()))

    run_virtually(test)
    first, second = server.sent("idempotency-key")
    assert first == second != ""


def test_a_provider_that_fails_is_no_failure_of_the_server(backend):
    """What a token provider raises is raised as it is, at once, and opens no circuit."""

    class ProviderError(Exception):
        pass

    async def fail():
        raise ProviderError

    server, seen = Server(GOOD), Remember()
    stack = steady(CircuitBreaker(Circuit(consecutive_failures=1)), listeners=[seen])

    async def test():
        client = wrap(server.client(api_key=fail), stack)
        for _ in range(3):
            with pytest.raises(ProviderError):
                await ask(client)

    run_virtually(test, backend)
    assert server.asked == []
    assert stack.statistics().outcomes == {Kind.INVALID: 3}
    assert {event.error for event in seen.named("call.finished")} == {"ProviderError"}


class Renewing(openai.AsyncOpenAI):
    """Renews its key after a 401, and then tries again, as Anthropic's client does."""

    def _should_retry(self, response):
        if response.status_code == 401:
            self.api_key = "new"
            return response.request.headers.get("x-stainless-retry-count") == "0"
        return super()._should_retry(response)


@pytest.mark.parametrize("once", [False, True])
def test_a_client_that_renews_its_key_after_a_401_sends_again(once, backend):
    """A rule of the client's own for a status is heard once, and not if the call is sent once."""
    server = Server((401, {"error": {"message": "expired"}}, {}))

    async def test():
        client = wrap(server.client(Renewing), steady())
        with pytest.raises(openai.AuthenticationError), call_options(max_attempts=1 + (not once)):
            await ask(client)
        assert client.api_key == "new"

    run_virtually(test, backend)
    keys = [f"Bearer {KEY}", "Bearer new"]
    assert server.sent("authorization") == keys[: 2 - once]


LOST = httpx2.ReadError("lost")


def with_options(client):
    """Ask a client that was derived to send once."""
    return ask(client.with_options(max_retries=0))


def derived_again(client):
    """Ask one that was derived from it for another reason."""
    return ask(client.with_options(max_retries=0).with_options(timeout=5))


def by_options(client):
    """Send one request with options of its own."""
    return client.post("/x", cast_to=object, body={}, options={"max_retries": 0})


async def by_call_options(client):
    """Ask inside of a block."""
    with call_options(max_attempts=1):
        return await ask(client)


WAYS = [with_options, derived_again, by_options, by_call_options]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("failure", [LOST, DOWN, (429, DOWN[1], {"retry-after": "9"})], ids=str)
def test_send_me_once_is_heard(way, failure):
    """Each way of the SDK, and ours, to say that a request must not be sent twice is heard."""
    server = Server(failure)

    async def test():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(openai.APIError) as caught:
                await way(wrap(server.client(), presets.batch(log=False)))
        assert "1 attempt in" in caught.value.__notes__[0]
        assert "at most 1 attempt" in caught.value.__notes__[0]

    run_virtually(test)
    assert len(server.asked) == 1


def test_a_call_that_is_sent_once_waits_out_what_keeps_it_from_being_sent(backend):
    """A refusal of the stack sends nothing, so it is waited out, and then the call is sent."""
    server = Server(DOWN, GOOD)
    retry = Retry(3, wait_out_refusals=True)
    breaker = CircuitBreaker(Circuit(consecutive_failures=1, open_for=5.0))

    async def test():
        client = wrap(server.client(), Stack(retry, breaker, ErrorClassifier()))
        once = client.with_options(max_retries=0)
        with pytest.raises(openai.InternalServerError):
            await ask(once)
        assert (await ask(once)).id == "c"

    run_virtually(test, backend)
    assert len(server.asked) == 2


def test_retries_that_were_off_before_are_not_send_me_once():
    """``max_retries=0`` of the client that is wrapped says only that the SDK does not retry."""
    server = Server(DOWN, GOOD)

    async def test():
        wrapped = wrap(server.client(max_retries=0), steady())
        wrapped.max_retries = 0  # some libraries set it on each client that they use
        assert (await ask(wrapped)).id == "c"

    run_virtually(test)
    assert len(server.asked) == 2


async def fail_twice(client):
    """Ask two times of a server that is down."""
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await ask(client)


def test_other_numbers_of_retries_stay_unheard_and_kept():
    """Retries that are asked for above the stack are told of once, and the number can be read."""
    server = Server(DOWN)

    async def test():
        wrapped = wrap(server.client(max_retries=4), steady(attempts=2))
        assert wrapped.max_retries == 0
        derived = wrapped.with_options(max_retries=7)
        assert derived.max_retries == derived.with_options(timeout=1).max_retries == 7
        with pytest.warns(NestedRetriesWarning, match="stay off") as told:
            await fail_twice(derived)
        assert len(told) == 1

    run_virtually(test)
    assert len(server.asked) == 4


@pytest.mark.parametrize("retries", [0, 2, None])
def test_a_stack_without_retry_leaves_the_sdks_own(retries, backend):
    """The SDK retries as often as it was told to, each attempt through the stack, unwarned."""
    server = Server(DOWN, DOWN, DOWN)
    stack = Stack(RateLimiter(requests_per_minute=60_000), ErrorClassifier())

    async def test():
        client = server.client(**{} if retries is None else {"max_retries": retries})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(openai.InternalServerError):
                await ask(wrap(client, stack))
            with pytest.raises(openai.InternalServerError), call_options(max_attempts=1):
                await ask(wrap(client, stack))

    run_virtually(test, backend)
    sent = 3 if retries is None else 1 + retries
    assert server.sent("x-stainless-retry-count") == [*map(str, range(sent)), "0"]
    assert stack.statistics().calls == sent + 1


def test_a_stack_without_retry_keeps_the_sdks_rules():
    """What the SDK does not repeat, and what the stack refuses, is not repeated."""
    server = Server((400, DOWN[1], {}), LOST, GOOD)
    circuit = Circuit()
    stack = Stack(CircuitBreaker(circuit), ErrorClassifier())

    async def test():
        client = wrap(server.client(), stack)
        with pytest.raises(openai.BadRequestError):
            await ask(client)
        assert (await client.chat.completions.with_raw_response.create(**ASK)).retries_taken == 1
        circuit.force_open()
        with pytest.raises(openai.InternalServerError, match="circuit"):
            await ask(client)

    run_virtually(test)
    assert len(server.asked) == 3


INSIDE = {
    "an error": {"error": {"message": "slow down", "code": 429}},
    "nothing": {},
}


@pytest.mark.parametrize("body", INSIDE.values(), ids=INSIDE)
def test_a_stack_without_retry_lets_the_sdk_repeat_a_success_that_is_none(body, backend):
    """An error inside a success is repeated by the SDK as its status would be."""
    server = Server((200, body, {"retry-after": "3"}), GOOD)

    async def test():
        client = wrap(server.client(), Stack(ErrorClassifier()))
        assert (await ask(client)).id == "c"

    run_virtually(test, backend)
    assert server.sent("x-stainless-retry-count") == ["0", "1"]


def test_a_stack_without_retry_lets_the_sdk_end_at_a_final_error():
    """An error inside a success that no attempt helps is not repeated."""
    server = Server((200, {"error": {"message": "no", "code": "insufficient_quota"}}, {}))

    async def test():
        with pytest.raises(openai.APIStatusError, match="no"):
            await ask(wrap(server.client(), Stack(ErrorClassifier())))

    run_virtually(test)
    assert len(server.asked) == 1


def test_a_number_of_retries_that_is_none_is_the_sdks_to_refuse():
    """2.5 and NaN raise what they raise without the stack."""
    server = Server(GOOD)

    async def test():
        client = wrap(server.client(), steady())
        for value in (2.5, float("nan"), -1):
            with pytest.raises((TypeError, ValueError), match="max_retries"):
                await client.get("/x", cast_to=object, options={"max_retries": value})

    run_virtually(test)
    assert server.asked == []


def test_an_answer_that_the_sdk_cannot_read_is_no_failure():
    """What the SDK raises after a good response counts as a success, and is raised as it is."""
    odd = (200, COMPLETION | {"created": "yesterday"}, {})
    server = Server(odd)
    stack = steady()

    async def test():
        client = wrap(server.client(_strict_response_validation=True), stack)
        with pytest.raises(openai.APIResponseValidationError) as caught:
            await ask(client)
        assert not hasattr(caught.value, "__notes__")

    run_virtually(test)
    assert len(server.asked) == 1
    assert stack.statistics().outcomes == {Kind.OK: 1}


def test_a_file_is_sent_again_whole(backend):
    """A form with a file is the same in each attempt."""
    good = (200, {"text": "hi"}, {})
    server = Server(DOWN, DOWN, good)

    async def test():
        client = wrap(server.client(), steady())
        await client.audio.transcriptions.create(model="w", file=("a.wav", io.BytesIO(b"RIFF")))

    run_virtually(test, backend)
    bodies = [request.content for request in server.asked]
    assert all(b"RIFF" in each for each in bodies)
    assert len(bodies) == 3


def test_a_body_that_can_be_read_once_is_sent_once():
    """An iterator as a body is not sent again."""
    server = Server(DOWN)

    async def parts():
        yield b"one"

    async def test():
        for stack in steady(), Stack(ErrorClassifier()):
            with pytest.raises(openai.InternalServerError):
                await wrap(server.client(), stack).post("/x", cast_to=object, content=parts())

    run_virtually(test)
    assert [request.extensions is not None for request in server.asked] == [True, True]


def test_a_renewed_key_does_not_send_a_body_again_that_is_gone():
    """A form with a file that cannot be rewound ends with the 401: the next would be empty."""
    server = Server((401, {"error": {"message": "expired"}}, {}), (200, {}, {}))

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    async def test():
        client = wrap(server.client(Renewing), steady())
        with pytest.raises(openai.AuthenticationError):
            await client.files.create(file=("x", Pipe(b"rows")), purpose="batch")

    run_virtually(test)
    assert [b"rows" in request.content for request in server.asked] == [True]


class Slowly(httpx2.AsyncByteStream):
    """A body of ten parts, one each 30 seconds."""

    async def __aiter__(self):
        """Yield each part."""
        for _ in range(10):
            runtime = current()
            await runtime.sleep_until(runtime.now() + 30.0)
            yield b"x"


def test_a_long_download_is_not_bounded_by_the_attempts_timeout(backend):
    """Only the head of a body that is handed over open is the attempt's; the SDK reads the rest."""
    stack = Stack(Retry(2), ErrorClassifier(), AttemptTimeout(60.0))

    async def answer(request):
        return httpx2.Response(200, stream=Slowly(), headers={"content-type": "audio/mpeg"})

    async def test():
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        client = openai.AsyncOpenAI(api_key=KEY, base_url="http://t/v1", http_client=http)
        client._platform = "Linux"
        assert (await wrap(client, stack).files.content("f")).content == b"x" * 10

    run_virtually(test, backend)
    assert stack.statistics().outcomes == {Kind.OK: 1}


def test_a_long_answer_settles_its_usage():
    """An answer over 4 MiB, which is read after its head, gives its slot back."""
    long = COMPLETION | {"x": "y" * 5_000_000}
    server = Server((200, long, {}))
    stack = presets.batch(tokens_per_minute=6e6, log=False)

    async def test():
        assert (await ask(wrap(server.client(), stack))).id == "c"

    run_virtually(test)
    [allowance] = stack.statistics().allowances.values()
    assert allowance.outstanding == stack.statistics().in_flight == 0
