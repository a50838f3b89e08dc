"""Which proxy a transport uses, and what it says of it where the server cannot be reached."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from resilient_infe import InfeTransport
from resilient_infe.adapters.infe.proxy import route_to
from resilient_infe.errors import ConfigurationError, NeverSentError

URL = "http://api.example/v1"
VARIABLES = [
    name for each in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (each, each.upper())
]  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No proxy is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, URL, None),
        ({"HTTP_PROXY": "http://p:3128"}, URL, "http://p:3128"),
        ({"http_proxy": "http://p:1", "HTTP_PROXY": "http://q:2"}, URL, "http://p:1"),
        ({"HTTP_PROXY": "p:3128"}, URL, "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": "http://u:pw@p"}, "https://api.example/v1", "http://u:pw@p"),
        ({"ALL_PROXY": "http://p:3128"}, URL, "http://p:3128"),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "api.example"}, URL, None),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "*"}, URL, None),
        ({"HTTP_PROXY": "http://p", "no_proxy": ".example"}, "http://api.example:80/v1", None),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "other"}, URL, "http://p"),
        ({"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}, URL, None),
        ({"HTTP_PROXY": ""}, URL, None),
    ],
)
def test_the_environments_proxy(environment, variables, url, proxy):
    """It is that of the URL's scheme, but for the hosts that are left out; only if it is wanted."""
    for name, value in variables.items():
        environment.setenv(name, value)
    assert route_to(url, None, trust_env=True).proxy == proxy
    assert route_to(url, None, trust_env=False).proxy is None
    assert route_to(url, "http://own:1", trust_env=True).proxy == "http://own:1"


@pytest.mark.parametrize(
    "proxy",
    ["", "p:3128", "socks5://u:secret@p:1", "http://", "http://u:secret@p:x", "http://secret p",
     "http://p\r\nsecret", "http://[secret", "ftp://u:secret@p"],
)  # fmt: skip
def test_a_proxy_that_cannot_be_is_not_quoted(environment, proxy):
    """The message says what one looks like, and has no password."""
    with pytest.raises(ConfigurationError, match="proxy must be") as raised:
        InfeTransport("sk-test", base_url=URL, proxy=proxy)
    assert "secret" not in str(raised.value)
    environment.setenv("HTTP_PROXY", "socks5://u:secret@p:1")
    with pytest.raises(ConfigurationError, match="HTTP_PROXY must begin with http"):
        InfeTransport("sk-test", base_url=URL, trust_env=True)


@pytest.mark.parametrize(
    ("options", "variables", "told"),
    [
        ({}, {}, None),
        ({}, {"HTTP_PROXY": "http://u:secret@p:1"}, "HTTP_PROXY is set and is not used"),
        ({"trust_env": True}, {"HTTP_PROXY": "http://u:secret@127.0.0.1:1"},
         "through the proxy 127.0.0.1:1, which HTTP_PROXY names"),
        ({"trust_env": True}, {"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.1"},
         "NO_PROXY leaves this server out"),
        ({"proxy": "http://u:secret@127.0.0.1:1"}, {}, "through the proxy 127.0.0.1:1"),
    ],
)  # fmt: skip
@pytest.mark.network
def test_a_server_that_cannot_be_reached(environment, options, variables, told):
    """The advice names the proxy, or the variable that was not used, and no password."""
    for name, value in variables.items():
        environment.setenv(name, value)

    async def main():
        async with InfeTransport("sk-test", base_url="http://127.0.0.1:1/v1", **options) as infe:
            with pytest.raises(NeverSentError, match="cannot be reached") as raised:
                await infe({"model": "m", "messages": []})
            return raised.value

    error = asyncio.run(main())
    assert "secret" not in f"{error!s} {error!r} {error.advice}"
    assert (told or "") in error.advice
    assert told or "proxy" not in error.advice.lower()


@pytest.mark.network
def test_a_request_goes_through_a_proxy():
    """It is asked for the whole URL, with its own credentials; the server is not looked up."""
    seen = []

    async def answer(request):
        seen.append((request.method, str(request.raw_path), dict(request.headers)))
        return web.Response(text=json.dumps({"choices": [{}]}), content_type="application/json")

    async def main():
        server = web.Server(answer)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        proxy = f"http://u:pw@127.0.0.1:{port}"
        async with InfeTransport("sk-test", base_url="http://api.invalid/v1", proxy=proxy) as infe:
            found = await infe({"model": "m", "messages": []})
        await runner.cleanup()
        return found

    assert asyncio.run(main()) == {"choices": [{}]}
    ((method, path, headers),) = seen
    assert (method, path) == ("POST", "http://api.invalid/v1/chat/completions")
    assert headers["Proxy-Authorization"].startswith("Basic ")
    assert headers["Authorization"] == "Bearer sk-test"
