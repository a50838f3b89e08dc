"""Every client that can be wrapped, as one thing: an async function that asks for a completion."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
from loopback import ASK, KEY

from resilient_infe import ResilientTransport, Stack, stack_middleware, wrap

Ask = Callable[..., Awaitable[Any]]
Asker = Callable[[str, Stack], AbstractAsyncContextManager[Ask]]
"""``async with asker(url, stack) as ask: await ask(**more_fields)``."""

BEARER = {"authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def sdk(url: str, stack: Stack, **options: Any) -> AsyncIterator[Ask]:
    """`wrap(AsyncOpenAI(...))`."""
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, **options) as client:
        yield functools.partial(wrap(client, stack).chat.completions.create, **ASK)


@asynccontextmanager
async def sdk_on_httpx(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """The SDK with an http client of the older library."""
    async with sdk(url, stack, http_client=httpx.AsyncClient()) as ask:
        yield ask


@asynccontextmanager
async def sdk_on_aiohttp(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """The SDK with its own http client over aiohttp."""
    async with sdk(url, stack, http_client=openai.DefaultAioHttpClient()) as ask:
        yield ask


@asynccontextmanager
async def azure(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """`wrap(AsyncAzureOpenAI(...))`."""
    async with openai.AsyncAzureOpenAI(api_key=KEY, base_url=url, api_version="1") as client:
        yield functools.partial(wrap(client, stack).chat.completions.create, **ASK)


@asynccontextmanager
async def sdk_on_transport(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """The SDK, its retries off, with a client whose transport is resilient."""
    http = httpx2.AsyncClient(transport=ResilientTransport(httpx2.AsyncHTTPTransport(), stack))
    options = {"http_client": http, "max_retries": 0}
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, **options) as client:
        yield functools.partial(client.chat.completions.create, **ASK)


@asynccontextmanager
async def sdk_method(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """One method of an SDK client, its retries off, wrapped as a function."""
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        yield functools.partial(wrap(client.chat.completions.create, stack), **ASK)


@asynccontextmanager
async def of_httpx(url: str, stack: Stack, library: Any = httpx) -> AsyncIterator[Ask]:
    """`wrap(httpx.AsyncClient())`."""
    async with library.AsyncClient(headers=BEARER) as client:
        wrapped = wrap(client, stack)

        async def ask(**more: Any) -> Any:
            return await wrapped.post(f"{url}/chat/completions", json=ASK | more)

        yield ask


of_httpx2 = functools.partial(of_httpx, library=httpx2)


@asynccontextmanager
async def on_transport(url: str, stack: Stack, library: Any = httpx) -> AsyncIterator[Ask]:
    """An httpx client that is given a resilient transport."""
    transport = ResilientTransport(library.AsyncHTTPTransport(), stack)
    async with library.AsyncClient(transport=transport, headers=BEARER) as client:

        async def ask(**more: Any) -> Any:
            return await client.post(f"{url}/chat/completions", json=ASK | more)

        yield ask


on_transport2 = functools.partial(on_transport, library=httpx2)


@asynccontextmanager
async def of_aiohttp(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """`wrap(ClientSession())`."""
    async with aiohttp.ClientSession(headers=BEARER) as session:
        yield functools.partial(_post, wrap(session, stack), url)


@asynccontextmanager
async def on_middleware(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """A session with the stack as a middleware."""
    options = {"middlewares": (stack_middleware(stack),), "headers": BEARER}
    async with aiohttp.ClientSession(**options) as session:
        yield functools.partial(_post, session, url)


@asynccontextmanager
async def of_function(url: str, stack: Stack) -> AsyncIterator[Ask]:
    """`wrap` of an async def of one's own, which raises what its client raises."""
    async with httpx.AsyncClient(headers=BEARER) as client:

        async def complete(body: dict[str, Any]) -> Any:
            answer = await client.post(f"{url}/chat/completions", json=body)
            return answer.raise_for_status().json()

        wrapped = wrap(complete, stack)

        async def ask(**more: Any) -> Any:
            return await wrapped(ASK | more)

        yield ask


async def _post(session: aiohttp.ClientSession, url: str, **more: Any) -> Any:
    async with session.post(f"{url}/chat/completions", json=ASK | more) as answer:
        await answer.read()
        return answer


HTTP_CLIENTS: dict[str, Asker] = {
    "sdk": sdk,
    "sdk-on-httpx": sdk_on_httpx,
    "sdk-on-aiohttp": sdk_on_aiohttp,
    "azure": azure,
    "sdk-on-transport": sdk_on_transport,
    "httpx": of_httpx,
    "httpx2": of_httpx2,
    "httpx-transport": on_transport,
    "httpx2-transport": on_transport2,
    "aiohttp": of_aiohttp,
    "aiohttp-middleware": on_middleware,
}
"""The clients of which the stack sees requests."""

FUNCTIONS: dict[str, Asker] = {"sdk-method": sdk_method, "function": of_function}
"""Those of which it sees results and exceptions."""

SDKS = (sdk, sdk_on_httpx, sdk_on_aiohttp, azure, sdk_on_transport)
"""Those that know errors of their own only."""

every_http_client = pytest.mark.parametrize("asker", HTTP_CLIENTS.values(), ids=HTTP_CLIENTS)
every_client = pytest.mark.parametrize(
    "asker", [*HTTP_CLIENTS.values(), *FUNCTIONS.values()], ids=[*HTTP_CLIENTS, *FUNCTIONS]
)
httpx_and_httpx2 = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
