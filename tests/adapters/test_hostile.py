"""What a broken or hostile server sends: each ends in a typed error or an answer, never a hang."""

from __future__ import annotations

import gzip
import json

import aiohttp
import httpx
import httpx2
import openai
import pytest

from resilient_infe import AttemptTimeout, ErrorClassifier, InfeTransport, Stack, errors, wrap
from tests.loopback import ASK, COMPLETED, KEY, against, head, response

pytestmark = pytest.mark.network

JSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOUND = 1024 * 1024


def _json(text):
    return response(200, text.encode() if isinstance(text, str) else text)


def _raw(lines, body=COMPLETED):
    return f"{JSON}{lines}\r\n\r\n".encode("latin-1") + body


BROKEN = {
    "many headers": _raw("".join(f"x-h{n}: {n}\r\n" for n in range(5_000)) + "content-length: 2"),
    "a long header": _raw("x-a: " + "a" * 200_000),
    "a negative length": _raw("content-length: -5"),
    "a length that is text": _raw("content-length: abc"),
    "two lengths": _raw("content-length: 5\r\ncontent-length: 7"),
    "a huge length": _raw("content-length: " + "9" * 5_000),
    "a negative chunk": _raw("transfer-encoding: chunked", b"-5\r\nabc\r\n"),
    "a huge chunk": _raw("transfer-encoding: chunked", b"f" * 20 + b"\r\n"),
    "a wrong encoding": response(200, COMPLETED, content_encoding="gzip"),
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x00\xff" * 20,
    "UTF-16 cut": _json(COMPLETED.decode().encode("utf-16")[:-1]),
    "a deep body": _json('{"choices":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a deep error": _json('{"error":' * 50_000 + "1" + "}" * 50_000),
    "a huge integer": _json('{"choices": [], "n": %s}' % ("9" * 100_000)),
    "an empty body": _json(""),
    "lone surrogates": response(
        400, b'{"error": {"message": "\\ud800\\u001b[2J", "code": "\\udfff"}}'
    ),
}
"""Answers that are none."""

ODD = {
    "a mark": _json(b"\xef\xbb\xbf" + COMPLETED),
    "NaN": _json(COMPLETED.decode().replace('"created": 1', '"created": NaN')),
    "a large float": _json(COMPLETED.decode().replace('"created": 1', '"created": 1e999')),
    "an unknown encoding": response(200, COMPLETED, content_encoding="banana"),
    "an odd id": response(200, COMPLETED, x_request_id="a\x1b[2J\xff"),
    "packed twice": response(
        200, gzip.compress(gzip.compress(COMPLETED)), content_encoding="gzip, gzip"
    ),
}
"""Answers that are readable, at least by some clients."""

TYPED = (errors.ResilienceError, aiohttp.ClientError, httpx.HTTPError, httpx2.HTTPError,
         openai.OpenAIError)  # fmt: skip


def _stack():
    return Stack(ErrorClassifier(), AttemptTimeout(5.0))


async def _infe(url):
    async with InfeTransport(KEY, base_url=url) as transport:
        return await _stack().around(transport)(ASK)


async def _aiohttp(url):
    async with aiohttp.ClientSession() as session:
        answer = await wrap(session, _stack()).post(f"{url}/chat/completions", json=ASK)
        return await answer.read()


async def _of(library, url):
    async with library.AsyncClient() as client:
        return (await wrap(client, _stack()).post(f"{url}/chat/completions", json=ASK)).content


async def _openai(url):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        return await wrap(client, _stack()).chat.completions.create(**ASK)


CLIENTS = {
    "infe": _infe,
    "aiohttp": _aiohttp,
    "httpx": lambda url: _of(httpx, url),
    "httpx2": lambda url: _of(httpx2, url),
    "openai": _openai,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_each_ends_in_a_typed_error_or_an_answer(client):
    """Nothing hangs, and nothing raw is raised; the transport and the SDK accept no broken one."""
    for name, raw in {**BROKEN, **ODD}.items():
        told = []

        async def test(url, told=told):
            try:
                told.append(await CLIENTS[client](url))
            except TYPED as error:
                told.append(error)

        against(_once(raw), test)
        assert str(told[0]), name
        if client in ("infe", "openai") and name in BROKEN:
            assert isinstance(told[0], TYPED), name
        if client == "infe":
            assert "\x1b" not in str(told[0])


def _once(raw):
    async def answer(_, writer):
        writer.write(raw)
        await writer.drain()
        writer.close()

    return answer


def _endless(first, part):
    async def answer(_, writer):
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()

    return answer


@pytest.mark.parametrize("client", CLIENTS)
def test_an_endless_answer_is_given_up(client, monkeypatch):
    """A model's answer that never ends is not collected, in whatever client."""
    monkeypatch.setattr("resilient_infe.adapters.infe.transport.LONGEST_RESPONSE", BOUND)
    monkeypatch.setattr("resilient_infe.adapters.http.response.LONGEST_ANSWER", BOUND // 4)
    monkeypatch.setattr("resilient_infe.adapters.http.response.LONGEST_OPEN", BOUND)

    async def test(url):
        with pytest.raises(TYPED) as caught:
            await CLIENTS[client](url)
        told = f"{caught.value} {caught.value.__cause__}"
        assert "over 1,048,576 bytes: reading stopped" in told

    against(_endless(head(kind="application/json"), b'{"choices": [' * 1_000), test)


@pytest.mark.parametrize("part", [b": x" * 1_000, b"data: " + b"x" * 3_000, b"data: x\n" * 400])
@pytest.mark.parametrize("client", ["infe", "openai", "aiohttp"])
def test_an_endless_event_is_given_up(client, part, monkeypatch):
    """An event that never ends is not collected, whether the first one came or not."""
    monkeypatch.setattr("resilient_infe.adapters.http.sse.LONGEST_EVENT", 500_000)
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}}]}).encode()

    async def read(url):
        if client == "infe":
            async with InfeTransport(KEY, base_url=url) as transport:
                return [each async for each in await _stack().around(transport.stream)(ASK)]
        if client == "aiohttp":
            async with aiohttp.ClientSession() as session:
                wrapped = wrap(session, _stack())
                answer = await wrapped.post(f"{url}/x", json={**ASK, "stream": True})
                return await answer.read()
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as sdk:
            wrapped = wrap(sdk, _stack())
            stream = await wrapped.chat.completions.create(**ASK, stream=True)
            return [each async for each in stream]

    async def test(url):
        with pytest.raises(TYPED) as caught:
            await read(url)
        assert "an event of the stream is over" in f"{caught.value} {caught.value.__cause__}"

    against(_endless(head() + b"data: " + chunk + b"\n\n", part), test)
