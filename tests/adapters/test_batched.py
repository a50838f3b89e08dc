"""Embeddings put together, over loopback: the library's own transport and the SDK."""

from __future__ import annotations

import json

import openai
import pytest
from fakes import all_at_once
from loopback import KEY, against, quick, response

from resilient_infe import Batched, InfeTransport, errors, wrap

pytestmark = pytest.mark.network


def vectors(most=1_000, bad="bad"):
    """Return a server of vectors: the length of each text."""

    async def answer(asked, writer):
        texts = json.loads(asked.body)["input"]
        if len(texts) > most:
            writer.write(response(413, {"error": {"message": "too large", "code": "too_large"}}))
        elif bad in texts:
            writer.write(
                response(400, {"error": {"message": "no", "type": "invalid_request_error"}})
            )
        else:
            data = [{"object": "embedding", "index": n, "embedding": [float(len(text))]}
                    for n, text in enumerate(texts)]  # fmt: skip
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            body = {"object": "list", "data": data, "model": "m", "usage": usage}
            writer.write(response(200, body))

    return answer


async def over_infe(url, test):
    """Run a test with the library's own transport."""
    async with InfeTransport(KEY, base_url=url, path="/embeddings") as transport:
        await test(quick().around(transport))


async def over_sdk(url, test):
    """Run a test with a wrapped client."""
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
        await test(wrap(client, quick()))


@pytest.mark.parametrize("over", [over_infe, over_sdk])
def test_texts_travel_together(over):
    """A bad one fails alone, a request that is too large is divided, and the order is kept."""
    found = []

    async def test(target):
        embed = Batched.embeddings(target, "m", max_wait=0.001, encoding_format="float")
        found.extend(await all_at_once(embed, ["a", "bb", "bad", "cccc"]))
        found.extend(await all_at_once(embed, ["x" * n for n in range(1, 20)]))

    server = against(vectors(most=8), lambda url: over(url, test))
    assert [found[n] for n in (0, 1, 3)] == [[1.0], [2.0], [4.0]]
    refused = errors.InvalidRequestError if over is over_infe else openai.BadRequestError
    assert isinstance(found[2], refused)
    assert found[4:] == [[float(n)] for n in range(1, 20)]
    assert all(each.path == "/v1/embeddings" for each in server.asked)


def test_an_item_of_another_type_is_refused():
    """A number would be read as a token id of somebody else's text."""

    async def test(target):
        embed = Batched.embeddings(target, "m", max_wait=0.001)
        first, second = await all_at_once(embed, [7, "text"])
        assert isinstance(first, errors.InvalidRequestError)
        assert second == [4.0]

    against(vectors(), lambda url: over_infe(url, test))
