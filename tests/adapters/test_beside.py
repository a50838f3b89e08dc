"""Hedges and fallbacks through wrapped clients: sent twice, or with another model."""

from __future__ import annotations

import json

import anyio
import httpx
import httpx2
import openai
import pytest
from loopback import KEY

from resilient_infe import (
    AttemptTimeout,
    Circuit,
    CircuitBreaker,
    ConcurrencyLimiter,
    ErrorClassifier,
    Fallback,
    Hedge,
    Keyed,
    Retry,
    Slots,
    Stack,
    errors,
    wrap,
)
from resilient_infe.testing import run_virtually

CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "a",
    "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}],
}


class Machine:
    """A server that answers late, or is overloaded for model `a`."""

    def __init__(self, library, late=(), down=()):
        self.library, self.late, self.down = library, list(late), down
        self.asked, self.cancelled = [], 0

    async def __call__(self, request):
        """Answer one request."""
        body = json.loads(request.content)
        self.asked.append((body["model"], request.headers["content-length"]))
        assert int(request.headers["content-length"]) == len(request.content)
        try:
            await anyio.sleep(self.late.pop(0) if self.late else 0.1)
        except BaseException:
            self.cancelled += 1
            raise
        if body["model"] in self.down:
            return self.library.Response(503, json={"error": {"message": "down"}})
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hi"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            content = {**CHUNK, "object": "chat.completion", "choices": choices}
            return self.library.Response(200, json={**content, "model": body["model"]})
        text = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"
        headers = {"content-type": "text/event-stream"}
        return self.library.Response(200, headers=headers, content=text.encode())


def stack_of(*layers):
    """Return the layers around an attempt."""
    return Stack(
        Retry(1),
        *layers,
        ConcurrencyLimiter(Keyed(lambda: Slots(4))),
        CircuitBreaker(Keyed(Circuit)),
        ErrorClassifier(),
        AttemptTimeout(90.0),
    )


def sdk_of(machine, stack):
    """Return a wrapped SDK client."""
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(machine))
    client = openai.AsyncOpenAI(api_key=KEY, base_url="http://t/v1", http_client=http)
    client._platform = "Linux"
    return wrap(client, stack)


MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("stream", [False, True])
def test_an_sdk_call_is_hedged(stream):
    """The SDK's result is that of the second attempt, and all is given back."""
    machine, stack = Machine(httpx2, late=[60.0]), stack_of(Hedge(1.0))

    async def main():
        client = sdk_of(machine, stack)
        with anyio.fail_after(5.0):
            answer = await client.chat.completions.create(
                model="a", messages=MESSAGES, stream=stream
            )
            if stream:
                return [each.choices[0].delta.content async for each in answer]
            return [answer.choices[0].message.content]

    assert run_virtually(main) == ["hi"]  # under trio the SDK warns of streams that end early
    assert (len(machine.asked), machine.cancelled) == (2, 1)
    now = stack.statistics()
    assert (now.in_flight, now.slots["a"].held, now.attempts) == (0, 0, 2)
    assert now.outcomes == {"ok": 1}


def test_max_retries_0_sends_once(run):
    """An SDK's `max_retries=0` asks for one attempt, and gets one."""
    machine = Machine(httpx2, late=[5.0])
    stack = stack_of(Fallback("b"), Hedge(1.0))

    async def main():
        client = sdk_of(machine, stack).with_options(max_retries=0)
        await client.chat.completions.create(model="a", messages=MESSAGES)

    run(main)
    assert len(machine.asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_sdk_call_goes_to_another_model(stream):
    """The SDK returns the answer of the other model."""
    machine, stack = Machine(httpx2, down=("a",)), stack_of(Fallback("b"))

    async def main():
        answer = await sdk_of(machine, stack).chat.completions.create(
            model="a", messages=MESSAGES, stream=stream
        )
        if stream:
            return [each.choices[0].delta.content async for each in answer]
        return [answer.choices[0].message.content]

    assert run_virtually(main) == ["hi"]  # under trio the SDK warns of streams that end early
    assert [model for model, _ in machine.asked] == ["a", "b"]
    now = stack.statistics()
    assert (now.slots["a"].held, now.slots["b"].held, now.in_flight) == (0, 0, 0)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_httpx_request_goes_to_another_model(run, library):
    """Its body names the other model, and its length is right."""
    machine = Machine(library, down=("infe-titan",))
    stack = stack_of(Fallback("b"))

    async def main():
        inner = library.AsyncClient(transport=library.MockTransport(machine), base_url="http://t")
        client = wrap(inner, stack)
        payload = {"model": "infe-titan", "messages": MESSAGES}
        return (await client.post("/v1/chat/completions", json=payload)).json()["model"]

    assert run(main) == "b"
    assert [model for model, _ in machine.asked] == ["infe-titan", "b"]


def test_a_raw_httpx_stream_is_hedged(run):
    """The winner's body is read by the caller, and its end gives the slot back."""
    machine, stack = Machine(httpx, late=[60.0]), stack_of(Hedge(1.0))

    async def main():
        inner = httpx.AsyncClient(transport=httpx.MockTransport(machine), base_url="http://t")
        client = wrap(inner, stack)
        payload = {"model": "a", "messages": MESSAGES, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=payload) as response:
            return [line async for line in response.aiter_lines() if line]

    assert run(main)[-1] == "data: [DONE]"
    now = stack.statistics()
    assert (now.in_flight, now.slots["a"].held, now.attempts) == (0, 0, 2)


def test_an_upload_is_not_sent_twice_at_once(run, tmp_path):
    """Two attempts would read one file at the same time."""
    asked = []

    async def slow(request):
        asked.append(await request.aread())
        await anyio.sleep(5.0)
        return httpx.Response(200, json={"id": "f"})

    path = tmp_path / "f"
    path.write_text("content")

    async def main():
        inner = httpx.AsyncClient(transport=httpx.MockTransport(slow), base_url="http://t")
        with path.open("rb") as file:
            await wrap(inner, stack_of(Hedge(1.0))).post("/v1/files", files={"file": file})

    run(main)
    assert len(asked) == 1


@pytest.mark.parametrize("down", [("a", "b"), ("a",)])
def test_an_sdk_raises_what_is_passed_on(run, down):
    """Of the first model, in the SDK's own class, whatever the second one did."""
    machine, stack = Machine(httpx2, down=down), stack_of(Fallback("b"))

    async def refuse(call, call_next):
        if call.partition == "b" and "b" not in down:
            raise call.refuse(errors.CircuitOpen("by hand", retry_after=1.0))
        return await call_next(call)

    stack = Stack(*stack.layers[:2], refuse, *stack.layers[2:])

    async def main():
        with pytest.raises(openai.InternalServerError) as raised:
            await sdk_of(machine, stack).chat.completions.create(model="a", messages=MESSAGES)
        assert raised.value.status_code == 503
        assert b'"a"' in raised.value.request.content
        return raised.value.__notes__

    [note] = run(main)
    assert "tried: a (overloaded), b (" in note
