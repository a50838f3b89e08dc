"""The form of an answer is checked, and its request mended, through every client."""

from __future__ import annotations

import functools
import json
from contextlib import asynccontextmanager

import anyio.to_thread
import openai
import pytest
from askers import HTTP_CLIENTS
from loopback import ANSWER, ASK, COMPLETION, KEY, against, in_turn, response

from resilient_infe import ErrorClassifier, InfeTransport, Retry, Stack, errors, wrap

pytestmark = pytest.mark.network

[CHOICE] = COMPLETION["choices"]
FITS = {**COMPLETION, "choices": [{**CHOICE, "message": {**CHOICE["message"], "content": "{}"}}]}


def is_json(answer):
    """Complain of prose."""
    text = answer["choices"][0]["message"]["content"]
    return text.startswith("{") or f"prose: {text}"


def mend(request, refusal):
    """Say what was wrong."""
    request["messages"].append({"role": "user", "content": refusal.complaint})


def stack():
    """Return a stack that checks and mends."""
    return Stack(Retry(3, uniform=lambda: 0.0), ErrorClassifier(check=is_json, mend=mend))


@asynccontextmanager
async def infe(url, stack):
    """The library's own transport."""
    async with InfeTransport(KEY, base_url=url) as transport:
        yield functools.partial(stack.around(transport), ASK)


CLIENTS = {**HTTP_CLIENTS, "infe": infe}


@pytest.mark.parametrize("name", list(CLIENTS))
def test_the_next_request_says_what_was_wrong(name):
    """The body is made anew, with its length, and the caller gets the answer that fits."""
    found = []

    async def test(url):
        async with CLIENTS[name](url, stack()) as ask:
            found.append(await ask())

    server = against(in_turn(ANSWER, response(200, FITS)), test)
    first, second = (json.loads(each.body) for each in server.asked)
    assert first["messages"] == ASK["messages"]
    assert second == {
        **first,
        "messages": [*ASK["messages"], {"role": "user", "content": "prose: hi"}],
    }
    assert server.asked[1].headers["content-length"] == str(len(server.asked[1].body))
    assert server.asked[1].headers["content-type"].startswith("application/json")
    kept = ("authorization", "api-key")
    sent = [[each.headers.get(name) for name in kept] for each in server.asked]
    assert sent[0] == sent[1] != [None, None]


@pytest.mark.parametrize("name", list(CLIENTS))
def test_an_answer_that_never_fits_is_raised(name):
    """As the complaint, or, inside an SDK that hides exceptions, as a 502 that quotes it."""
    raised = []

    async def test(url):
        async with CLIENTS[name](url, stack()) as ask:
            try:
                await ask()
            except Exception as error:
                raised.append(error)

    server = against(ANSWER, test)
    assert len(server.asked) == 3
    [error] = raised
    assert "prose: hi" in str(error)
    if name != "sdk-on-transport":
        assert isinstance(error, errors.MalformedAnswer)
        assert error.answer["choices"] == COMPLETION["choices"]


def test_what_no_model_answers_is_not_checked():
    """A list of models has no form that was asked for."""

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            async for _ in await wrap(client, stack()).models.list():
                pass

    server = against(response(200, {"object": "list", "data": []}), test)
    assert len(server.asked) == 1


def test_a_synchronous_client_is_checked():
    """The same through `OpenAI`."""

    async def test(url):
        def ask():
            with openai.OpenAI(api_key=KEY, base_url=url) as client:
                return wrap(client, stack()).chat.completions.create(**ASK)

        found = await anyio.to_thread.run_sync(ask)
        assert found.choices[0].message.content == "{}"

    server = against(in_turn(ANSWER, response(200, FITS)), test)
    assert "prose: hi" in server.asked[1].body.decode()
