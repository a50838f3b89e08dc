"""The one rule for what a partition is, at every door; and partitions that are given."""

from __future__ import annotations

import httpx
import httpx2
import pytest
from askers import httpx_and_httpx2
from fakes import FakeServer
from loopback import ANSWER, ASK, KEY, MESSAGES, against
from sdk_server import GOOD, Server

from resilient_infe import InfeTransport, call_options, errors, presets, run_batch, wrap
from resilient_infe.core.ids import model_in

ODD = "infe\npulse 2"
SAFE = "infe_pulse_2"
COMPLETED = {"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "hi"}}]}


def partitions_of(stack):
    """Return the partitions that a stack has seen."""
    seen = stack.statistics()
    assert list(seen.slots) == list(seen.allowances) == list(seen.circuits)
    return list(seen.slots)


def mocked(library):
    """Return a client of httpx or httpx2 whose server answers each request."""

    def answer(_):
        return library.Response(200, json=COMPLETED)

    return library.AsyncClient(transport=library.MockTransport(answer))


def sdk():
    """Return an SDK client whose server answers each request."""
    return Server(GOOD).client()


async def ask_sdk(client, **more):
    """Ask for a completion through an SDK client."""
    return await client.chat.completions.create(messages=MESSAGES, **more)


def test_send_belongs_to_the_model_of_its_payload(run):
    """What names none, or is no mapping, shares the partition without a name."""
    stack = presets.batch()
    send = stack.around(FakeServer())

    async def main():
        for payload in (ASK, {"model": ODD}, {"model": 5}, {"model": ""}, "text", None, [ASK]):
            await send(payload)
        await send(ASK, partition="mine")
        with call_options(partition="theirs"):
            await send(ASK)
            await send(ASK, partition="mine")

    run(main)
    assert partitions_of(stack) == ["infe-pulse", SAFE, None, "theirs", "mine"]


def test_a_batch_row_belongs_to_the_model_of_its_payload(run):
    """Also where the hook leaves it open."""
    stack = presets.batch()
    send = stack.around(FakeServer())

    async def main():
        rows = [ASK, {"model": ODD}, {"prompt": "x"}]
        for hook in (None, lambda payload: None, lambda payload: "mine"):
            async for result in run_batch(rows, send, partition=hook):
                assert result.ok

    run(main)
    assert set(partitions_of(stack)) == {"infe-pulse", SAFE, None, "mine"}


@pytest.mark.network
def test_a_call_of_infe_transport_belongs_to_its_model():
    """The one that a wrapped client would name."""
    stack = presets.batch()

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            await stack.around(transport)(ASK)

    against(ANSWER, test)
    assert partitions_of(stack) == ["infe-pulse"]


@httpx_and_httpx2
def test_two_keys_and_two_clients_share_the_limit_of_a_model(library, run):
    """Most providers limit the account, not the key."""
    stack = presets.batch(requests_per_minute=600)

    async def main():
        for key in ("Bearer a", "Bearer b"):
            client = wrap(mocked(library), stack)
            await client.post("http://t/v1/x", json=ASK, headers={"authorization": key})
        await ask_sdk(wrap(sdk(), stack), model="infe-pulse")

    run(main)
    assert partitions_of(stack) == ["infe-pulse"]


@httpx_and_httpx2
def test_a_partition_of_a_wrapped_httpx_client(library, run):
    """A text, or a function of the library's own request; `call_options` wins."""
    stack = presets.batch()

    async def main():
        for given in ("batch", lambda request: request.url.host, lambda request: None):
            client = wrap(mocked(library), stack, partition=given)
            await client.post("http://infe.example/v1/x", json=ASK)
            with call_options(partition="mine"):
                await client.post("http://infe.example/v1/x", json=ASK)

    run(main)
    assert partitions_of(stack) == ["batch", "infe.example", "infe-pulse", "mine"]


def test_a_partition_of_a_wrapped_sdk_client(run):
    """A function takes the body of the request, also through a client that is derived."""
    stack = presets.batch()

    async def main():
        for given in ("batch", lambda body: f"{body['model']}/{body['user']}", lambda body: None):
            client = wrap(sdk(), stack, partition=given)
            await ask_sdk(client, model="m", user="u")
            await ask_sdk(client.with_options(timeout=5), model="m", user="u")

    run(main)
    assert partitions_of(stack) == ["batch", "m/u", "m"]


def test_a_form_of_an_sdk_belongs_to_its_model(run):
    """A form is not JSON, but the SDK knows its fields."""
    stack = presets.batch()

    async def main():
        client = wrap(sdk(), stack)
        await client.audio.transcriptions.create(model="infe-ear", file=b"RIFF")

    run(main)
    assert partitions_of(stack) == ["infe-ear"]


@pytest.mark.network
def test_a_partition_of_a_wrapped_session():
    """A text, or a function of aiohttp's own request."""
    import aiohttp

    stack = presets.batch()

    async def test(url):
        async with aiohttp.ClientSession() as session:
            for given in ("batch", lambda request: request.url.path, lambda request: None):
                async with wrap(session, stack, partition=given).post(f"{url}/x", json=ASK):
                    pass

    against(ANSWER, test)
    assert partitions_of(stack) == ["batch", "/v1/x", "infe-pulse"]


def test_a_partition_of_a_wrapped_function(run):
    """A text, or a function of the arguments by name."""
    stack = presets.batch()

    async def ask(prompt, model="infe-pulse"):
        return prompt + model

    async def main():
        for given in ("batch", lambda arguments: arguments["prompt"], lambda arguments: None):
            await wrap(ask, stack, partition=given)("hello")

    run(main)
    assert partitions_of(stack) == ["batch", "hello", "infe-pulse"]


def test_a_function_that_fails_is_told_before_anything_is_sent(run):
    """A call in the wrong partition would be kept to a wrong limit."""
    stack, calls = presets.batch(), []

    async def ask(prompt):
        calls.append(prompt)

    async def main():
        with pytest.raises(KeyError):
            await wrap(ask, stack, partition=lambda arguments: arguments["nothing"])("hello")
        with pytest.raises(errors.ConfigurationError, match="it returned 5"):
            await wrap(ask, stack, partition=lambda arguments: 5)("hello")

    run(main)
    assert calls == []
    assert stack.statistics().in_flight == 0


@pytest.mark.parametrize("given", ["", 5, lambda: "x", KEY.encode()])
def test_a_partition_that_cannot_be_meant_is_refused(given):
    """For every kind of client."""

    async def ask():
        return None

    for target in (ask, mocked(httpx), mocked(httpx2), sdk()):
        with pytest.raises(errors.ConfigurationError, match="partition"):
            wrap(target, presets.batch(), partition=given)


class Hostile(dict):
    """A payload whose model is whatever a user made of it."""


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (Hostile(model="m"), "m"),
        ({"model": "x" * 1_000}, "x" * 128),
        ({"model": "\x1b[31m"}, "__31m"),
        ({"model": b"m"}, None),
        ({"model": None}, None),
        ({}, None),
        (None, None),
        ([("model", "m")], None),
    ],
)
def test_a_model_is_safe_to_log(body, model):
    """Whatever a payload is."""
    assert model_in(body) == model
