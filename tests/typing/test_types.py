"""The public API as type checkers see it: mypy and pyright check this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, assert_type

import aiohttp
import httpx
import httpx2
import openai
import rich.progress

from resilient_infe import (
    Account,
    Call,
    Circuit,
    ConcurrencyLimiter,
    ErrorClassifier,
    Handler,
    InfeTransport,
    Keyed,
    Kind,
    Layer,
    PortableSend,
    RateLimiter,
    ResilientTransport,
    Retry,
    Send,
    Slots,
    Stack,
    Verdict,
    call_options,
    presets,
    run_batch,
    stack_middleware,
    wrap,
)
from resilient_infe.adapters.infe.stream import InfeStream
from resilient_infe.batch import BatchRun, Journal, Progress, Result, per_million


class Response:
    """A user's own response type."""

    text: str


async def transport(payload: str) -> Response:
    """A user's own transport."""
    raise NotImplementedError(payload)


async def tag_team(call: Call[Any], call_next: Handler[Any, Any]) -> Any:
    """The design's own example of a user's layer."""
    call.tags["team"] = "evals"
    return await call_next(call)


async def generic_layer(call: Call[str], call_next: Handler[str, Response]) -> Response:
    """A layer for one payload and one response."""
    return await call_next(call)


async def check_that_types_hold_end_to_end() -> None:
    """The wrapped callable returns the transport's own response type."""
    stack = Stack(tag_team, generic_layer, Retry(), ErrorClassifier())
    send = stack.around(transport)
    assert_type(send, Send[str, Response])
    assert_type(await send("hello", tokens=5, tags={"a": 1}), Response)
    assert_type(await stack.drain(5.0), int)
    await send(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def check_transports_of_our_own() -> None:
    """InfeTransport gives dicts, its stream gives streams."""
    stack = presets.batch(requests_per_minute=600)
    async with InfeTransport("sk-x") as infe:
        assert_type(stack.around(infe), Send[Mapping[str, Any], dict[str, Any]])
        stream = await stack.around(infe.stream)({"model": "infe-pulse"})
        assert_type(stream, InfeStream)
        assert_type([chunk async for chunk in stream], list[dict[str, Any]])


async def check_portable() -> None:
    """A description has the types of the transport that its function returns."""
    sends = PortableSend(partial(presets.batch, requests_per_minute=600), lambda: transport)
    assert_type(await sends("hello", tokens=4.0), Response)
    infe = PortableSend(presets.batch, partial(InfeTransport, path="/completions"))
    assert_type(await infe({}), dict[str, Any])
    assert_type(infe.stack, Stack)
    PortableSend(presets.batch(), InfeTransport)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def check_wrap_keeps_types() -> None:
    """`wrap` gives back the type that it was given."""

    async def ask(prompt: str, *, loud: bool = False) -> int:
        return len(prompt) if loud else 0

    resilient = wrap(ask, presets.service())
    assert_type(await resilient("hi", loud=True), int)
    await resilient(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def check_wrap_keeps_clients(
    sdk: openai.AsyncOpenAI,
    azure: openai.AsyncAzureOpenAI,
    client: httpx.AsyncClient,
    client2: httpx2.AsyncClient,
    session: aiohttp.ClientSession,
) -> None:
    """A client comes back as what it was, and the parts fit where their clients take them."""
    stack = presets.service(estimate=lambda body: len(str(body)) / 3)
    assert_type(wrap(sdk, stack), openai.AsyncOpenAI)
    assert_type(wrap(azure, stack), openai.AsyncAzureOpenAI)
    assert_type(wrap(client, stack), httpx.AsyncClient)
    assert_type(wrap(client2, stack), httpx2.AsyncClient)
    assert_type(wrap(session, stack), aiohttp.ClientSession)
    assert_type(wrap(sdk, stack, partition="batch"), openai.AsyncOpenAI)
    assert_type(wrap(client, stack, partition=lambda request: None), httpx.AsyncClient)
    wrap(client, stack, partition=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aiohttp.ClientSession(middlewares=(stack_middleware(stack),))
    httpx.AsyncClient(transport=ResilientTransport(httpx.AsyncHTTPTransport(), stack))


async def check_classify() -> None:
    """A rule may return a verdict, a kind or nothing."""

    async def ask(prompt: str) -> int:
        return len(prompt)

    def classify(result: Any, error: BaseException | None) -> Kind | None:
        return Kind.OVERLOADED if isinstance(error, OSError) else None

    assert_type(await wrap(ask, presets.service(), classify=classify)("hi"), int)
    wrap(ask, presets.service(), classify="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def check_priorities(send: Send[str, Response]) -> None:
    """A class is one of three names, at every door."""

    async def ask(prompt: str) -> int:
        return len(prompt)

    await send("hello", priority="interactive", tenant="a")
    Call("hello", priority="batch", tenant="a")
    await send("hello", priority="urgent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send("hello", tenant=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with call_options(priority="batch", tenant="a"):
        assert_type(await wrap(ask, presets.batch(trickle=0.2), priority="normal")("hi"), int)
    run_batch(["hello"], send, priority="normal", tenant="a")


def check_layers() -> None:
    """Our layers are layers, a policy fits where it should, and a function can be one."""
    layers: list[Layer[Any, Any]] = [
        Retry(),
        ConcurrencyLimiter(5),
        ConcurrencyLimiter(Keyed(lambda: Slots(5))),
        RateLimiter(requests_per_minute=5),
        RateLimiter(account=Account(requests_per_minute=2_000)),
        RateLimiter(account={"requests_per_minute": 2_000}),
        ErrorClassifier(lambda result, error: None),
        tag_team,
    ]
    Stack(*layers)
    ConcurrencyLimiter({"infe-titan": 4, "*": 64})
    RateLimiter(requests_per_minute={"infe-pulse": 1_200, "infe-titan": None, "*": 0.5})
    ConcurrencyLimiter({"infe-titan": 0.5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    ConcurrencyLimiter("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def check_keyed() -> None:
    """A factory takes nothing or the key, and the policies have its type."""
    assert_type(Keyed(Circuit), Keyed[Circuit])
    assert_type(Keyed(lambda: Slots(5)), Keyed[Slots])
    assert_type(Keyed(lambda model: Slots(5 if model else 1)), Keyed[Slots])
    Keyed(Slots)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def check_handler() -> None:
    """`handler` keeps both types of what it is put around."""

    async def inner(call: Call[bytes]) -> Response:
        raise NotImplementedError(call.payload)

    handler = presets.service().handler(inner)
    await assert_type(handler(Call(b"")), Coroutine[Any, Any, Response])


def check_verdicts(verdict: Verdict) -> None:
    """A verdict's fields have their types, and cannot be set."""
    assert_type(verdict.retry_after, float | None)
    verdict.status = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def a_batch_keeps_the_types_of_rows_and_values(send: Send[str, Response]) -> None:
    """A result has the row's type, and that of what `record` makes of a reply."""

    def length(reply: Response) -> int:
        return len(reply.text)

    rows = [(1, "one"), (2, "two")]
    run = run_batch(rows, send, request=lambda row: row[1], record=length)
    assert_type(run, BatchRun[tuple[int, str], int])
    async for result in run:
        assert_type(result, Result[tuple[int, str], int])
        assert_type(result.row, tuple[int, str])
        assert_type(result.value, int | None)
        assert_type(result.unwrap(), int)


async def the_value_of_a_batch_is_known_without_a_hook(
    send: Send[str, Response], kept: Journal, columns: rich.progress.Progress
) -> None:
    """It is the reply; with a journal, what JSON makes of it; with a hook, what that makes."""
    assert_type(run_batch(["one"], send), BatchRun[str, Response])
    assert_type(run_batch(["one"], send, ordered=True, progress="rich"), BatchRun[str, Response])
    assert_type(run_batch(["one"], transport, journal=None), BatchRun[str, Response])
    assert_type(run_batch(["one"], send, journal="a.db", model="m"), BatchRun[str, Any])
    assert_type(run_batch(["one"], send, record=repr, journal=kept), BatchRun[str, str])
    infe: Send[Mapping[str, Any], dict[str, Any]]
    infe = presets.batch(requests_per_minute=600).around(InfeTransport("sk-x"))
    assert_type(run_batch(["one"], infe), BatchRun[str, dict[str, Any]])
    run_batch(["one"], send, progress=columns)
    run = run_batch(["one"], send, progress=lambda progress: print(progress.done, progress.cost))
    assert_type(run.progress(), Progress)
    assert_type(run.spending.now.dollars, float | None)
    run_batch(["one"], send, max_cost=5.0, price=per_million(2.0, 8.0))
    async for result in run:
        assert_type(result.value, Response | None)
    run_batch(["one"], send, ordred=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    run_batch(["one"], send, record=len)  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
