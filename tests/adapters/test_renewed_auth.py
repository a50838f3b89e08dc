"""An ``auth=`` of httpx is asked again after the waits of the stack."""

from __future__ import annotations

import anyio
import pytest
from askers import httpx_and_httpx2
from sdk_server import steady

from resilient_infe import Kind, RateLimiter, Retry, Stack, wrap
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually

ASKED = {"model": "infe-pulse", "messages": []}


def now():
    """Return the time as a token."""
    return f"{current().now():.2f}"


def auths(library):
    """Return auths of three makes that give the time as a token."""

    class Plain(library.Auth):
        def auth_flow(self, request):
            request.headers["authorization"] = f"Bearer {now()}"
            yield request

    class Awaiting(library.Auth):
        async def async_auth_flow(self, request):
            await anyio.lowlevel.checkpoint()
            request.headers.setdefault("authorization", f"Bearer {now()}")
            yield request

    class Fetching(library.Auth):
        requires_response_body = True

        def auth_flow(self, request):
            answer = yield library.Request("POST", "http://login/token")
            request.headers["authorization"] = f"Bearer {answer.json()['token']}"
            yield request

    def function(request):
        request.headers["authorization"] = f"Bearer {now()}"
        return request

    return [Plain(), Awaiting(), Fetching(), function]


def client_of(library, asked, script, limits=()):
    """Return a client of a server that answers with a script of statuses, and gives tokens."""

    async def answer(request):
        if request.url.host == "login":
            return library.Response(200, json={"token": now()})
        asked.append((now(), dict(request.headers)))
        status = script.pop(0) if len(script) > 1 else script[0]
        return library.Response(status, json={"id": "c", "choices": [{}]})

    return library.AsyncClient(transport=library.MockTransport(answer))


def tokens_and_times(asked):
    """Return the age of each token that was sent."""
    return [float(at) - float(sent["authorization"].split()[1]) for at, sent in asked]


@httpx_and_httpx2
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("where", ["client", "request"])
def test_a_token_is_new_in_each_attempt(library, number, where, backend):
    """After a backoff and after the wait for a limit, each request has a token of that moment."""
    asked = []
    limit = RateLimiter(requests_per_minute=60, burst=1.0)
    stack = steady(limit)

    async def test():
        auth = auths(library)[number]
        client = client_of(library, asked, [503, 503, 200])
        if where == "client":
            client.auth = auth
        wrapped = wrap(client, stack)
        more = {"auth": auth} if where == "request" else {}
        for _ in range(5):
            url = "http://t/v1/chat/completions"
            answer = await wrapped.post(url, json=ASKED, headers={"x-mine": "1"}, **more)
            assert answer.status_code == 200

    run_virtually(test, backend)
    assert len(asked) == 7
    assert max(tokens_and_times(asked)) < 0.06
    assert {sent["x-mine"] for _, sent in asked} == {"1"}


@httpx_and_httpx2
def test_digest_authentication_is_renewed(library, backend):
    """A challenge is met, after failures too; the flow goes on with the last response."""
    asked = []
    challenge = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    script = [401, 503, 503, 200]

    async def answer(request):
        asked.append(request.headers.get("authorization"))
        return library.Response(script.pop(0), json={"id": "c", "choices": [{}]}, headers=challenge)

    async def test():
        client = library.AsyncClient(transport=library.MockTransport(answer))
        client.auth = library.DigestAuth("me", "secret")
        answered = await wrap(client, steady()).post("http://t/v1/chat/completions", json=ASKED)
        assert answered.status_code == 200

    run_virtually(test, backend)
    assert asked[0] is None
    assert all("Digest" in each for each in asked[1:])
    counts = {each.split("nc=")[1].split(",")[0] for each in asked[1:]}
    assert len(counts) == 3  # each attempt has a count of its own, as the standard asks


@httpx_and_httpx2
def test_a_change_of_the_address_is_made_once(library, backend):
    """An auth that adds to the query does so once in each attempt, and other headers stay."""
    asked = []

    class InQuery(library.Auth):
        def auth_flow(self, request):
            request.url = request.url.copy_add_param("key", now())
            yield request

    async def answer(request):
        asked.append(request.url.query)
        return library.Response(503 if len(asked) < 3 else 200, json={"choices": [{}]})

    async def test():
        client = library.AsyncClient(transport=library.MockTransport(answer), auth=InQuery())
        await wrap(client, steady()).post("http://t/v1/chat/completions", json=ASKED)

    run_virtually(test, backend)
    assert [query.count(b"key=") for query in asked] == [1, 1, 1]
    assert len(set(asked)) == 3


@httpx_and_httpx2
def test_a_request_that_does_not_wait_asks_once(library):
    """Without a wait and without a retry an auth is asked once."""
    given = []

    class Counting(library.Auth):
        def auth_flow(self, request):
            given.append(1)
            request.headers["authorization"] = "Bearer sk-mine"
            yield request

    stack = Stack(Retry(3), RateLimiter(requests_per_minute=6e4), *steady().layers[1:])

    async def test():
        client = client_of(library, [], [200])
        client.auth = Counting()
        for _ in range(3):
            await wrap(client, stack).post("http://t/v1/chat/completions", json=ASKED)

    run_virtually(test)
    assert len(given) == 3
    assert stack.statistics().outcomes == {Kind.OK: 3}
