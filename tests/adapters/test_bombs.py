"""Bodies that unpack to far too much: every client refuses them, and asks no second time."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import aiohttp
import httpx
import httpx2
import openai
import pytest
import zstandard

from resilient_infe import ErrorClassifier, InfeTransport, Retry, Stack, errors, wrap
from tests.loopback import ASK, COMPLETION, KEY, against, quick, response

MIB = 1024 * 1024
FILLED = b'{"choices": [], "x": "%b"}' % (b"a" * 32 * MIB)

BOMBS = {
    "gzip": gzip.compress(FILLED, 1),
    "deflate": zlib.compress(FILLED, 1),
    "zstd": zstandard.compress(FILLED),
}
TYPES = ["application/json", "application/octet-stream", "text/event-stream"]


async def _infe(url):
    async with InfeTransport(KEY, base_url=url) as transport:
        return await quick().around(transport)(ASK)


async def _session(url):
    async with aiohttp.ClientSession() as session:
        answer = await wrap(session, quick()).post(f"{url}/chat/completions", json=ASK)
        return await answer.read()


async def _of_httpx(library, url):
    async with library.AsyncClient() as client:
        return await wrap(client, quick()).post(f"{url}/chat/completions", json=ASK)


async def _sdk(url):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
        return await wrap(client, quick()).chat.completions.create(**ASK)


CLIENTS = {
    "infe": (_infe, errors.MalformedResponseError),
    "aiohttp": (_session, aiohttp.ClientPayloadError),
    "httpx": (lambda url: _of_httpx(httpx, url), httpx.DecodingError),
    "httpx2": (lambda url: _of_httpx(httpx2, url), httpx2.DecodingError),
    "openai": (_sdk, (openai.InternalServerError, openai.APIConnectionError)),
}


@pytest.mark.network
@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("encoding", BOMBS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_bomb_is_refused(client, encoding, content_type, monkeypatch):
    """The error says what it is, no more than the bound is held, and it is asked for once."""
    if client in ("aiohttp", "infe") and encoding == "zstd":
        pytest.skip("aiohttp needs another package for it")
    monkeypatch.setattr("resilient_infe.adapters.http.bomb.LARGEST_UNSUSPICIOUS", MIB)
    use, expected = CLIENTS[client]

    async def test(url):
        tracemalloc.start()
        try:
            with pytest.raises(expected) as caught:
                await use(url)
            assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        finally:
            tracemalloc.stop()
        told = f"{caught.value} {getattr(caught.value, '__notes__', '')}"
        assert "decompression bomb" in told

    raw = response(200, BOMBS[encoding], content_type, content_encoding=encoding)
    assert len(against(raw, test).asked) == 1


@pytest.mark.network
def test_rows_of_ones_own_do_not_let_a_bomb_be_asked_for_again(monkeypatch):
    """They say what codes mean, and a bomb has none."""
    monkeypatch.setattr("resilient_infe.adapters.http.bomb.LARGEST_UNSUSPICIOUS", MIB)
    rows = [{"names": ["busy"], "kind": "overloaded"}]
    stack = Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(rules=rows))

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            with pytest.raises(errors.MalformedResponseError, match="decompression bomb"):
                await stack.around(transport)(ASK)

    raw = response(200, BOMBS["gzip"], content_encoding="gzip")
    assert len(against(raw, test).asked) == 1


@pytest.mark.network
@pytest.mark.parametrize("client", CLIENTS)
def test_a_well_packed_answer_is_no_bomb(client, monkeypatch):
    """An answer that packs well, and is short, is read; so is a long one that packs as usual."""
    monkeypatch.setattr("resilient_infe.adapters.http.bomb.LARGEST_UNSUSPICIOUS", MIB)
    short = gzip.compress(json.dumps(COMPLETION).encode() + b" " * 500_000)

    async def test(url):
        await CLIENTS[client][0](url)

    against(response(200, short, content_encoding="gzip"), test)
