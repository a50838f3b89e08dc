"""InfeTransport: over real HTTP on loopback, every answer a server can give."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import pickle
import re
import tracemalloc

import pytest
from aiohttp import web
from fakes import Remember

from resilient_infe import (
    AttemptTimeout,
    Call,
    ConcurrencyLimiter,
    Deadline,
    ErrorClassifier,
    InfeTransport,
    Kind,
    Retry,
    Stack,
    errors,
    presets,
    run_batch,
)
from resilient_infe.classify.table import STATUSES, classify_reply
from resilient_infe.testing import Faults, InfeModel
from resilient_infe.testing.server import InfeServer

pytestmark = pytest.mark.network

KEY = "sk-canary-4242424242"
ASK = {"model": "infe-pulse", "messages": [{"role": "user", "content": "hi"}]}


def over_http(test, **model):
    """Run an async test with a transport to a stand-in of its own; returns the server's model."""
    infe = InfeModel(**({"latency": 0.0} | model))

    async def main():
        async with InfeServer(infe).running() as url, InfeTransport(KEY, base_url=url) as transport:
            await test(transport)

    asyncio.run(main())
    return infe


def against(handler, test, key=KEY):
    """Run an async test with a transport to a server that answers with `handler`."""

    async def main():
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            async with InfeTransport(key, base_url=url) as transport:
                await test(transport)
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_json_in_json_out():
    """A completion comes back decoded, with its usage."""

    async def test(transport):
        answer = await transport(ASK)
        assert answer["choices"][0]["message"]["content"].startswith("word")
        assert answer["usage"]["total_tokens"] > 0

    assert over_http(test).books.answered == 1


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (402, errors.PaymentRequiredError),
        (403, errors.ForbiddenError),
        (404, errors.ModelNotFoundError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (502, errors.UpstreamError),
        (503, errors.OverloadedError),
    ],
)
def test_each_row_of_the_table_is_a_class(status, cls):
    """Every error of the reference has its class, with all fields and the reference's advice."""

    async def test(transport):
        with pytest.raises(errors.InfeError) as caught:
            await transport(ASK)
        error = caught.value
        assert type(error) is cls
        assert error.status == status
        assert STATUSES[status].advice in error.advice
        assert error.request_id.startswith("infe-")
        assert error.code
        assert error.type
        assert error.request_id in str(error)
        assert error.advice in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (cls, str(error), vars(error))

    over_http(test, faults=Faults(script=[status]))


def test_a_hint_is_on_the_error():
    """A 429's Retry-After is on the error."""

    async def test(transport):
        await transport(ASK)
        with pytest.raises(errors.RateLimitError) as caught:
            await transport(ASK)
        assert 50 < caught.value.retry_after <= 60

    over_http(test, requests_per_minute=1, retry_after="exact")


def test_a_wrong_model_names_the_nearest():
    """model_not_found suggests existing ids; the list is asked for once, however many fail."""
    asked = []

    class Counting(InfeModel):
        def list_models(self):
            asked.append(1)
            return super().list_models()

    infe = Counting(latency=0.0)

    async def main():
        async with InfeServer(infe).running() as url, InfeTransport(KEY, base_url=url) as transport:

            async def one():
                with pytest.raises(errors.ModelNotFoundError) as caught:
                    await transport({**ASK, "model": "infe-titn"})
                return caught.value.advice

            return await asyncio.gather(*(one() for _ in range(20)))

    advice = asyncio.run(main())
    assert all(text.startswith("did you mean infe-titan") for text in advice)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>bad gateway</html>", "text/html"),
        (b"", "application/json"),
        (b"[1, 2]", "application/json"),
        (b'{"id": 1}', "application/json"),
        (b'{"choices": "none"}', "application/json"),
        (b'{"choices": [', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'\xff\xfe{"choices": []}', "application/json"),
    ],
)
def test_a_200_of_the_wrong_shape_is_no_success(body, kind):
    """HTML, a list, cut JSON, no choices: each is an error that may be tried again."""

    async def handler(_):
        return web.Response(body=body, content_type=kind)

    async def test(transport):
        with pytest.raises(errors.MalformedResponseError):
            await transport(ASK)
        stack = Stack(Retry(2, uniform=lambda: 0.0), ErrorClassifier())
        with pytest.raises(errors.MalformedResponseError) as caught:
            await stack.around(transport)(ASK)
        assert "2 attempts" in caught.value.__notes__[0]

    against(handler, test)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"choices": [{}]}, Kind.OK),
        (200, {"choices": []}, Kind.UNKNOWN),
        (200, {}, Kind.TRANSIENT),
        (200, [], Kind.TRANSIENT),
        (200, {"error": {"code": "invalid_api_key"}}, Kind.AUTH),
        (429, {}, Kind.RATE_LIMITED),
        (502, None, Kind.TRANSIENT),
    ],
)
def test_a_reply_is_judged_once(monkeypatch, status, body, kind):
    """The typed error is made from the verdict that every layer reads, not by a second reading."""
    judged = []

    def counted(*args, **options):
        judged.append(classify_reply(*args, **options))
        return judged[-1]

    for module in ("adapters.infe.replies", "classify.layer"):
        monkeypatch.setattr(f"resilient_infe.{module}.classify_reply", counted)

    async def handler(_):
        return web.json_response(body, status=status)

    async def test(transport):
        call = Call(ASK)
        with contextlib.suppress(errors.InfeError):
            await Stack(ErrorClassifier()).around(transport).run(call)
        assert (len(judged), call.verdict.kind) == (1, kind)

    against(handler, test)


def test_an_error_inside_a_200_is_that_error():
    """A 200 with an error body raises the error that it names."""

    async def handler(_):
        return web.json_response({"error": {"code": "rate_limit_exceeded", "message": "slow"}})

    async def test(transport):
        with pytest.raises(errors.RateLimitError, match="slow"):
            await transport(ASK)

    against(handler, test)


def test_a_bomb_is_bounded():
    """An error body that decompresses to 100 MiB is read up to 64 KiB."""
    bomb = gzip.compress(b" " * (100 * 1024 * 1024))

    async def handler(_):
        return web.Response(status=500, body=bomb, headers={"Content-Encoding": "gzip"})

    async def test(transport):
        with pytest.raises(errors.ServerError):
            await transport(ASK)

    against(handler, test)


def test_a_redirect_is_not_followed():
    """A redirect would carry the key and the prompt elsewhere: it is an error instead."""

    async def handler(_):
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/"})

    async def test(transport):
        with pytest.raises(errors.InvalidRequestError, match="correct the base URL"):
            await transport(ASK)

    against(handler, test)


def test_nobody_listens():
    """A refused connection is never sent, retryable, and says what to check."""

    async def main():
        async with InfeTransport(KEY, base_url="http://127.0.0.1:9/v1") as transport:
            with pytest.raises(errors.NeverSentError, match="cannot be reached") as caught:
                await transport(ASK)
            assert caught.value.sent is False

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["cut", "reset", "garbage", "html"])
def test_broken_replies_are_retried(broken):
    """A reply that breaks on its way is tried again, and the slow one is waited for."""
    infe = InfeModel(latency=0.0, faults=Faults(breaks={broken: 0.5}), seed=3)

    async def main():
        async with InfeServer(infe).running() as url, InfeTransport(KEY, base_url=url) as transport:
            stack = Stack(Retry(30, uniform=lambda: 0.0), ErrorClassifier())
            send = stack.around(transport)
            results = await asyncio.gather(*(send(ASK) for _ in range(20)))
            assert len(results) == 20
            assert stack.statistics().attempts > 20

    asyncio.run(main())


def test_a_slow_reply_is_whole():
    """A reply that dribbles in is put together."""

    async def test(transport):
        assert (await transport(ASK))["choices"]

    over_http(test, faults=Faults(breaks={"slow": 1.0}))


@pytest.mark.parametrize("payload", [None, "text", {"x": float("nan")}, {"x": object()}])
def test_a_payload_that_is_no_json_is_told(payload):
    """What cannot be sent is refused before it is sent."""

    async def test(transport):
        with pytest.raises(errors.InvalidRequestError, match=r"mapping|JSON"):
            await transport(payload)

    assert over_http(test).books.sends == 0


def test_a_lone_surrogate_is_sent_escaped():
    """A prompt that is no valid UTF-8 does not break the request."""

    async def test(transport):
        ask = {**ASK, "messages": [{"role": "user", "content": "\ud800 hi"}]}
        assert (await transport(ask))["choices"]

    over_http(test)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("sk-x\n", "newline"),
        (" sk-x", "space"),
        ("Bearer sk-x", "without `Bearer`"),
        ("sk-\u00e9", "ASCII"),
        ("sk a", "space"),
        (5, "text"),
    ],
)
def test_a_key_that_cannot_be_is_told(key, told):
    """The usual mistakes are told when the key is given, without quoting it."""
    with pytest.raises(errors.ConfigurationError, match=told) as caught:
        InfeTransport(key)
    assert "sk-" not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch):
    """Without api_key the environment's is taken; without either the error says so."""
    monkeypatch.delenv("INFE_API_KEY", raising=False)
    with pytest.raises(errors.ConfigurationError, match="INFE_API_KEY"):
        InfeTransport()
    monkeypatch.setenv("INFE_API_KEY", KEY)
    assert repr(InfeTransport()) == "<InfeTransport https://api.infe.io/v1>"


def test_the_key_is_shown_to_nobody(caplog):
    """The key is in no repr, error, note, log or pickle, even when the server quotes it."""
    shown = []

    async def handler(request):
        quoted = request.headers["Authorization"]
        return web.json_response({"error": {"message": f"bad key {quoted}"}}, status=401)

    async def test(transport):
        stack = presets.service()
        with pytest.raises(errors.AuthenticationError) as caught:
            await stack.around(transport)(ASK)
        error = caught.value
        shown.extend([repr(transport), repr(transport._key), str(error), repr(error),
                      repr(error.__notes__), repr(stack), repr(vars(error))])  # fmt: skip
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(transport._key)

    caplog.set_level("DEBUG")
    against(handler, test)
    assert KEY not in " ".join(shown) + caplog.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_every_encoding_of_json_is_one_line_of_a_batch(encoding, tmp_path):
    """A reply in UTF-16 is decoded, and is written into a batch's journal as any other."""
    answer = {"choices": [{"message": {"content": "h\u00e9"}}]}
    raw = json.dumps(answer).encode(encoding)

    async def handler(_):
        return web.Response(body=raw, content_type="application/json")

    async def test(transport):
        send = Stack(ErrorClassifier()).around(transport)
        async for result in run_batch([ASK], send, journal=tmp_path / "j"):
            assert json.loads(result.encoded) == result.value == answer

    against(handler, test)


QUOTED = ["infe_live_CANARY-0123456789", 'infe_live_CANARY/abc+def"ghi']
"""Keys: one that is safe in an id, and one with letters that JSON escapes, or may escape."""


def _all_letters(text):
    return re.sub("CANARY", lambda found: "".join(f"\\u{ord(c):04x}" for c in found[0]), text)


ESCAPES = [str, lambda text: text.replace("/", "\\/"), _all_letters]
"""Ways in which JSON may write a key."""


@pytest.mark.parametrize("status", [200, 302, 400, 404, 429, 502])
@pytest.mark.parametrize("escaped", ESCAPES, ids=["plain", "solidus", "letters"])
@pytest.mark.parametrize("key", QUOTED, ids=["safe", "odd"])
def test_a_key_that_the_server_quotes_goes_no_further(tmp_path, caplog, key, escaped, status):
    """Where a server quotes the key, no text of the error, no event and no journal has it."""
    bodies = [
        {"error": {"message": f"bad key {key}", "type": key, "code": "model_not_found"}},
        {"error": {"message": [key], "code": key, "headers": {key: key}}},
        {"error": f"bad key {key}"},
        [key],
        key,
        {"message": key},
    ]
    waiting, seen, texts = iter(bodies), Remember(), []

    async def handler(request):
        body = {"data": [{"id": f"m{key}"}]} if request.method == "GET" else next(waiting)
        told = {"text": escaped(json.dumps(body)), "content_type": "application/json"}
        return web.Response(status=status, headers={"x-request-id": key}, **told)

    async def test(transport):
        send = Stack(ErrorClassifier(), listeners=[seen]).around(transport)
        rows = [{"model": "m", "messages": ["hi"], "row": each} for each in range(len(bodies))]
        async for result in run_batch(rows, send, journal=tmp_path / "j"):
            error = result.exception
            assert isinstance(error, errors.InfeError)
            texts.extend([repr(result.failure), str(error), repr(vars(error)), repr(error)])

    caplog.set_level("DEBUG")
    against(handler, test, key)
    assert len(texts) >= 4
    assert "CANARY" not in "".join(texts) + repr(seen.events) + caplog.text
    assert b"CANARY" not in (tmp_path / "j").read_bytes()


@pytest.mark.parametrize("url", ["", "api.infe.io/v1", "ftp://x", "https://user:pw@host/v1",
                                 "https://host/v1?key=pw", "https://host/v1?", "https://h/v1#pw",
                                 "https://host/v1\n", "https://h t/", "https://h/\0"])  # fmt: skip
def test_a_url_that_cannot_be_is_told(url):
    """A base URL without a scheme, with credentials or with a query is refused, and not quoted."""
    with pytest.raises(errors.ConfigurationError, match="base_url") as caught:
        InfeTransport(KEY, base_url=url)
    assert "pw" not in str(caught.value)


def test_the_request_id_is_sent():
    """The server's books see the call's own id."""

    async def test(transport):
        await presets.service().around(transport)(ASK, request_id="row-17")

    assert over_http(test).books.answers["row-17"] == 1


def test_connections_are_used_again():
    """Error bodies are read, so that a retry does not open a new connection."""
    peers = set()

    async def handler(request):
        peers.add(request.transport.get_extra_info("peername"))
        status = 502 if len(seen) < 5 else 200
        seen.append(status)
        return web.json_response({"choices": [{}]}, status=status)

    seen = []

    async def test(transport):
        stack = Stack(Retry(10, uniform=lambda: 0.0), ErrorClassifier())
        await stack.around(transport)(ASK)

    against(handler, test)
    assert (len(seen), len(peers)) == (6, 1)


@pytest.mark.parametrize("stated", [True, False], ids=["length", "chunks"])
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("end", ["cancelled", "cut off"])
def test_a_body_that_does_not_arrive_leaves_no_connection(stated, status, end):
    """A call that is cancelled inside a body, or whose body breaks off, closes its connection."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def handler(request):
        response = web.StreamResponse(status=status)
        if stated:
            response.content_length = 100
        await response.prepare(request)
        await response.write(b'{"id":')
        begun.set()
        if end == "cut off":
            request.transport.close()
        await over.wait()
        return response

    async def test(transport):
        call = asyncio.ensure_future(transport(ASK))
        await begun.wait()
        for _ in range(20):  # what was written is read, and the call waits for more
            await asyncio.sleep(0)  # noqa: TID251  # sockets live in real time
        if end == "cancelled":
            call.cancel()
        with pytest.raises((asyncio.CancelledError, errors.TransportError)):
            await call
        connector = transport._session.connector
        assert not connector._acquired
        assert not connector._conns
        over.set()

    against(handler, test)


def test_a_stream_is_read_to_its_end():
    """All chunks come, in order, the usage with them, and the hold closes at the end."""

    async def test(transport):
        stack = presets.service(concurrency=1)
        ask = {**ASK, "stream_options": {"include_usage": True}}
        stream = await stack.around(transport.stream)(ask)
        assert stack.statistics().in_flight == 1
        text = "".join([
            choice["delta"].get("content", "")
            async for chunk in stream for choice in chunk["choices"]
        ])  # fmt: skip
        assert text.split()
        assert set(text.split()) == {"word"}
        assert stream.usage.total_tokens > 0
        assert stack.statistics().in_flight == 0
        assert [c async for c in stream] == []

    over_http(test)


def test_streams_use_their_connection_again():
    """A stream read to its end gives its connection back to the pool."""

    async def test(transport):
        for _ in range(3):
            assert [c async for c in await transport.stream(ASK)]
        assert len(transport._session.connector._conns) == 1
        [pooled] = transport._session.connector._conns.values()
        assert len(pooled) == 1

    over_http(test)


@pytest.mark.parametrize("broken", ["cut", "reset"])
def test_a_broken_stream_is_told(broken):
    """A stream that ends half-way raises, delivers nothing twice, and gives everything back."""

    async def test(transport):
        stack = presets.service()
        stream = await stack.around(transport.stream)(ASK)
        chunks = []

        async def read():
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401  # what came before the break is kept

        with pytest.raises(errors.StreamBroken):
            await read()
        assert chunks
        assert stack.statistics().in_flight == 0
        assert stack.statistics().slots["infe-pulse"].held == 0

    over_http(test, faults=Faults(breaks={broken: 1.0}), output_tokens=30)


def test_a_stream_dropped_unread_comes_home():
    """A stream that nobody reads and nobody closes is closed when it is collected."""

    async def test(transport):
        stack = presets.service()
        await stack.around(transport.stream)(ASK)
        gc.collect()
        await asyncio.sleep(0.01)  # noqa: TID251  # the finaliser runs in the loop
        assert stack.statistics().in_flight == 0
        assert stack.statistics().allowances["infe-pulse"].outstanding == 0

    over_http(test)


def test_leaving_a_stream_early():
    """A caller who breaks out of `async with` gives everything back at once."""

    async def test(transport):
        stack = presets.service()
        async with await stack.around(transport.stream)(ASK) as stream:
            async for _ in stream:
                break
        assert stack.statistics().in_flight == 0

    over_http(test, output_tokens=30)


def test_a_stream_ends_at_the_deadline():
    """Reading goes on only as long as the call's deadline allows."""

    async def test(transport):
        stack = presets.service(deadline=0.2)
        with pytest.raises(errors.DeadlineExceeded):
            async for _ in await stack.around(transport.stream)(ASK):
                pass
        assert stack.statistics().in_flight == 0

    over_http(test, output_tokens=50, seconds_per_token=0.1)


@pytest.mark.parametrize("deadline", [None, 60.0])
def test_a_stream_that_falls_silent_ends(deadline):
    """A server that keeps a stream open and sends nothing holds its caller for a bounded time."""
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    asked = []

    async def handler(request):
        asked.append(request)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return response

    async def test(transport):
        stack = Stack(
            Deadline(deadline),
            Retry(),
            ConcurrencyLimiter(1),
            ErrorClassifier(),
            AttemptTimeout(5.0, idle=0.25),
        )
        stream = await stack.around(transport.stream)(ASK)
        came = 0

        async def read():
            nonlocal came
            async for _ in stream:
                came += 1

        with pytest.raises(errors.StreamStalled, match=r"sent nothing for 0\.25 s"):
            await read()
        told = stack.statistics()
        assert (came, told.slots[None].held, told.in_flight) == (1, 0, 0)
        assert told.outcomes == {Kind.TIMEOUT: 1}

    against(handler, test)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "cls"), [(429, errors.RateLimitError), (502, errors.UpstreamError)]
)
def test_a_stream_that_does_not_open_is_an_error(status, cls):
    """An error instead of a stream is the typed error, and the stack retries it."""

    async def test(transport):
        with pytest.raises(cls):
            await transport.stream(ASK)
        retrying = Stack(Retry(uniform=lambda: 0.0), ErrorClassifier())
        assert [c async for c in await retrying.around(transport.stream)(ASK)]

    over_http(test, faults=Faults(script=[status]))


def test_a_plain_answer_to_a_stream_request_is_malformed():
    """JSON instead of events is an error, not an empty stream."""

    async def handler(_):
        return web.json_response({"choices": [{}]})

    async def test(transport):
        with pytest.raises(errors.MalformedResponseError):
            await transport.stream(ASK)

    against(handler, test)


def test_many_calls_at_once():
    """Five hundred calls through a preset: all answered, none twice, and the pool is no limit."""

    async def test(transport):
        stack = presets.batch(requests_per_minute=600_000, concurrency=100)
        send = stack.around(transport)
        results = await asyncio.gather(*(send(ASK) for _ in range(500)))
        assert len(results) == 500
        assert stack.statistics().outcomes == {Kind.OK: 500}

    infe = over_http(test, faults=Faults(rates={502: 0.01}))
    assert infe.books.answered == 500
    assert infe.books.summary()["answered_twice"] == 0


def test_one_transport_after_another_loop():
    """A transport that was closed serves the next loop."""
    transport = InfeTransport(KEY, base_url="http://127.0.0.1:9/v1")
    for _ in range(2):

        async def main():
            with contextlib.suppress(errors.NeverSentError):
                await transport(ASK)
            await transport.aclose()

        asyncio.run(main())


def test_json_is_what_the_server_gets():
    """The body is plain JSON with the key in the header and nowhere else."""
    got = {}

    async def handler(request):
        got.update(body=await request.text(), headers=dict(request.headers))
        return web.json_response({"choices": [{}]})

    async def test(transport):
        await transport(ASK)

    against(handler, test)
    assert json.loads(got["body"]) == ASK
    assert got["headers"]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in got["body"]


def test_a_call_holds_two_copies_of_its_answer():
    """The bytes are dropped before the text of a long answer is decoded."""
    answer = json.dumps({"choices": [{"message": {"content": "x" * 4_000_000}}]}).encode()

    async def handler(_):
        return web.Response(body=answer, content_type="application/json")

    async def test(transport):
        tracemalloc.start()
        try:
            content = await transport(ASK)
            assert tracemalloc.get_traced_memory()[1] < 2.2 * len(answer) + 500_000
        finally:
            tracemalloc.stop()
        assert len(content["choices"][0]["message"]["content"]) == 4_000_000

    against(handler, test)


def test_an_answer_that_is_too_long_is_told(monkeypatch):
    """Reading stops at the limit, and the error says so; it is not asked for again."""
    monkeypatch.setattr("resilient_infe.adapters.infe.transport.LONGEST_RESPONSE", 1_000)
    asked = []

    async def handler(_):
        asked.append(1)
        return web.json_response({"choices": ["x" * 5_000]})

    async def test(transport):
        with pytest.raises(errors.MalformedResponseError, match=r"over 1,000 bytes"):
            await presets.service().around(transport)(ASK)

    against(handler, test)
    assert len(asked) == 1
