"""What an API keeps for its users: a job that failed is an answer, and is asked for once."""

from __future__ import annotations

import json

import aiohttp
import httpx
import httpx2
import openai
import pytest
from askers import httpx_and_httpx2
from loopback import ANSWER, ASK, COMPLETION, KEY, against, in_turn, quick, response

from resilient_infe import InfeTransport, Kind, errors, presets, wrap

pytestmark = pytest.mark.network

TOLD = {"code": "server_error", "message": "boom"}
JOB = {"object": "fine_tuning.job", "id": "ftjob-1", "model": "m", "created_at": 1, "seed": 1,
       "error": {"code": "invalid_training_file", "message": "bad file", "param": None},
       "status": "failed", "hyperparameters": {}, "organization_id": "o", "result_files": [],
       "training_file": "f"}  # fmt: skip
RESPONSE = {"object": "response", "id": "resp_1", "created_at": 1, "status": "failed",
            "error": TOLD, "model": "m", "output": [], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": []}  # fmt: skip
NO_ERROR = {"code": None, "message": None, "param": None}


def test_a_job_that_failed_is_what_the_sdk_returns():
    """A failed job or response comes back as without the stack, after one request, as a success."""
    stack = presets.service()

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            wrapped = wrap(client, stack)
            job = await wrapped.fine_tuning.jobs.retrieve("ftjob-1")
            assert (job.status, job.error.code) == ("failed", "invalid_training_file")
            made = await wrapped.fine_tuning.jobs.create(model="m", training_file="f")
            assert made.status == "failed"
            answer = await wrapped.responses.retrieve("resp_1")
            assert (answer.status, answer.error.message) == ("failed", "boom")
            asked = await wrapped.responses.create(model="m", input="hi")
            assert asked.status == "failed"

    jobs = response(200, JOB), response(200, JOB | {"error": NO_ERROR})
    server = against(in_turn(*jobs, *[response(200, RESPONSE)] * 2), test)
    assert len(server.asked) == 4
    assert stack.statistics().outcomes == {Kind.OK: 4}


REMOTE = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no"}}
ANSWERS = [
    RESPONSE,
    REMOTE,
    {"name": "operations/1", "done": True, "error": {"code": 5}},
    {"error": {"code": "out_of_paper"}},
    {"error": {"code": "rate_limit_exceeded", "type": "api_error"}},
    {"error": {"code": 429}, "code": 1113, "message": "m"},
    {"error": "rate_limit_exceeded"},
    {"object": "error", "message": "m", "code": 500},
    {"code": 1002, "message": "m"},
    [1],
    [{"error": {"code": 429}}],
    "text",
    {},
]


OF_OTHERS = [
    {"method": "print"},
    {"model": "T", "colour": "red"},
    {"jsonrpc": "2.0", "id": 1, "method": "complete", "params": {"model": "m", "messages": []}},
    {"messages": [{"to": "bob"}]},
    ["model", "messages"],
]
"""Bodies of requests that run no model. A car has a model too."""


@httpx_and_httpx2
@pytest.mark.parametrize("content", ANSWERS, ids=str)
def test_an_error_of_the_endpoints_own_is_an_answer(library, content):
    """Where no model is run, nothing that an answer says lets the request be sent again."""
    stack = quick()

    async def test(url):
        async with library.AsyncClient() as client:
            for body in OF_OTHERS:
                answer = await wrap(client, stack).post(f"{url}/rpc", json=body)
                assert answer.json() == content

    assert len(against(response(200, json.dumps(content).encode()), test).asked) == len(OF_OTHERS)
    assert stack.statistics().outcomes == {Kind.OK: len(OF_OTHERS)}


@pytest.mark.parametrize("content", ANSWERS, ids=str)
def test_an_error_of_the_endpoints_own_is_an_answer_to_a_session(content):
    """The same through aiohttp."""

    async def test(url):
        async with (
            wrap(aiohttp.ClientSession(), quick()) as session,
            session.post(f"{url}/rpc", json={"model": "T", "colour": "red"}) as answer,
        ):
            assert await answer.json() == content

    assert len(against(response(200, json.dumps(content).encode()), test).asked) == 1


OF_MODELS = [
    ("/v1/images/generations", {"model": "m", "prompt": "p"}, [{"url": "u"}]),
    ("/embed", {"model": "m", "inputs": ["a"]}, [[0.1, 0.2]]),
    ("/rerank", {"model": "m", "query": "q", "documents": ["d"]}, [{"index": 0, "score": 0.5}]),
    ("/api/generate", {"model": "m", "prompt": "p"}, {"response": "hi", "done": True}),
    ("/v1/chat/completions", {**ASK, "deferred": True}, {"request_id": "r"}),
    ("/v1/audio/transcriptions", {"file": "x"}, "text"),
]
"""Requests that run a model and ask for no completion, each with an answer."""


@pytest.mark.parametrize(("path", "body", "content"), OF_MODELS, ids=str)
def test_what_is_no_completion_needs_no_choices(path, body, content):
    """Its answer may be a list, a text or an id; an error in its place is one all the same."""
    stack, wrong = quick(), [{"error": {"message": "m", "code": 503}}]

    async def test(url):
        async with httpx.AsyncClient() as client:
            answer = await wrap(client, stack).post(url[:-3] + path, json=body)
            assert answer.json() == content

    right = response(200, json.dumps(content).encode())
    answers = in_turn(response(200, wrong), response(200, wrong[0]), right)
    assert len(against(answers, test).asked) == 3
    assert stack.statistics().outcomes == {Kind.OK: 1}


@pytest.mark.parametrize("body", [b"", b'{"status": "pending"}'])
def test_an_answer_that_will_come_later_is_one(body):
    """A 202 has no choices yet (NVIDIA's NVCF), and the request is not sent again."""
    stack, later = quick(), response(202, body)

    async def test(url):
        async with httpx.AsyncClient() as client, aiohttp.ClientSession() as session:
            answer = await wrap(client, stack).post(f"{url}/chat/completions", json=ASK)
            assert answer.content == body
            async with wrap(session, stack).post(f"{url}/chat/completions", json=ASK) as other:
                assert await other.read() == body

    assert len(against(later, test).asked) == 2
    assert stack.statistics().outcomes == {Kind.OK: 2}


def test_our_own_transport_says_that_an_answer_will_come_later():
    """It returns what a 202 says, or raises; the request is not sent again, nor is it an outage."""
    stack = quick()
    payload = {**ASK, "deferred": True}

    async def test(url):
        async with InfeTransport(KEY, base_url=url) as transport:
            send = stack.around(transport)
            assert await send(payload) == {"request_id": "r"}
            assert await send(ASK) == {"status": "pending"}
            with pytest.raises(errors.MalformedResponseError, match="answer later") as caught:
                await send(ASK)
            assert caught.value.request_id == "nv-1"

    answers = [
        response(200, {"request_id": "r"}),
        response(202, {"status": "pending"}),
        response(202, b"", nvcf_reqid="nv-1"),
    ]
    assert len(against(in_turn(*answers), test).asked) == 3
    assert stack.statistics().outcomes == {Kind.OK: 2, Kind.UNKNOWN: 1}


@pytest.mark.parametrize("content", [{"error": TOLD}, {"error": {"type": "api_error"}}], ids=str)
def test_an_error_with_a_known_code_is_one(content):
    """An error that stands in the answer's place and names a known code is tried again."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            answer = await wrap(client, quick()).get(f"{url}/models")
            assert answer.json() == COMPLETION

    assert len(against(in_turn(response(200, content), ANSWER), test).asked) == 2


UNKNOWN = response(200, {"error": {"message": "Provider returned error", "code": 502}})


def test_an_error_is_one_where_a_model_is_asked_unseen():
    """A model that is in the path, in a form or too far in is asked too: its errors are noticed."""
    long = {"messages": [{"role": "user", "content": "x" * 5_000_000}], "model": "m"}
    form = {"data": {"model": "m"}, "files": {"file": b"RIFF"}}
    requests = [
        ("openai/deployments/d/chat/completions?api-version=1", {"json": {"messages": []}}),
        ("openai/deployments/d/embeddings", {"json": {"input": "x"}}),
        ("v1/engines/e/completions", {"json": {"prompt": "x"}}),
        ("v1/audio/transcriptions", form),
        ("gateway/of/mine/audio/translations", form),
        ("v1/images/edits/", form),
        ("v1/chat/completions", {"json": long}),
        ("embeddings", {"json": long}),
        ("v1/responses", {"json": long}),
    ]

    async def test(url):
        async with httpx.AsyncClient() as client:
            for path, request in requests:
                answer = await wrap(client, quick()).post(f"{url[:-2]}{path}", **request)
                assert answer.json() == COMPLETION, path

    asked = against(in_turn(*[UNKNOWN, ANSWER] * len(requests)), test).asked
    assert len(asked) == 2 * len(requests)


NO_MODELS = [
    ("POST", "/upload", {"files": {"f": b"abc"}}),
    ("POST", "/v1/scans", {"content": b"\xff\xfe\x00"}),
    ("GET", "/v1/chat/completions", {}),
    ("POST", "/v1/things?next=/chat/completions", {"json": {}}),
    ("POST", "/v1/responses", {"json": {"answer": "yes"}}),
    ("POST", "/apis/deployments/web/restart", {"json": {}}),
    ("POST", "/v1/images/upload", {"json": {"x": 1}}),
    ("POST", "/v1/messages", {"json": {"to": "bob"}}),
    ("POST", "/v1/threads/1/messages", {"json": {"role": "user"}}),
]


@httpx_and_httpx2
@pytest.mark.parametrize(("method", "path", "request_"), NO_MODELS, ids=str)
def test_what_only_looks_like_asking_a_model(library, method, path, request_):
    """Forms, bytes and paths that are not a model's endpoint leave errors to the endpoint."""
    told = {"ok": False, "error": "not_authed"}

    async def test(url):
        async with library.AsyncClient() as client:
            answer = await wrap(client, quick()).request(method, url[:-3] + path, **request_)
            assert answer.json() == told

    assert len(against(response(200, told), test).asked) == 1


@pytest.mark.parametrize("form", [True, False], ids=["form", "bytes"])
def test_what_only_looks_like_asking_a_model_to_a_session(form):
    """The same through aiohttp."""
    told = {"ok": False, "error": "not_authed"}

    async def test(url):
        body = aiohttp.FormData({"f": "abc"}, default_to_multipart=True) if form else b"\xff\xfe"
        async with (
            wrap(aiohttp.ClientSession(), quick()) as session,
            session.post(f"{url}/upload", data=body) as answer,
        ):
            assert await answer.json() == told

    assert len(against(response(200, told), test).asked) == 1


def test_an_endpoint_that_is_asked_for_without_a_body():
    """A request without a body asks no model, through any client."""

    async def test(url):
        async with httpx.AsyncClient() as client:
            assert "error" in (await wrap(client, quick()).get(f"{url}/things")).json()
        async with (
            wrap(aiohttp.ClientSession(), quick()) as session,
            session.get(f"{url}/things") as answer,
        ):
            assert "error" in await answer.json()

    assert len(against(UNKNOWN, test).asked) == 2


def test_lines_of_json_are_an_answer():
    """A file of lines that is sent as JSON is read as without the stack; one that is cut is not."""
    lines = b'{"custom_id": "1"}\n{"custom_id": "2"}\n'

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            content = await wrap(client, quick()).files.content("file-1")
            assert content.text == lines.decode()

    server = against(in_turn(response(200, lines[:10]), response(200, lines)), test)
    assert len(server.asked) == 2


def test_a_response_that_failed_is_an_answer_of_our_own_transport():
    """`InfeTransport` returns what is kept, and raises for an error in an answer's place."""

    async def test(url):
        async with InfeTransport(KEY, base_url=url, path="/responses") as transport:
            assert (await quick().around(transport)(ASK))["status"] == "failed"

    server = against(in_turn(response(200, {"error": TOLD}), response(200, RESPONSE)), test)
    assert len(server.asked) == 2


def test_a_plain_function_may_return_it():
    """A dict of a plain function is read alike."""

    async def test(url):
        async with httpx2.AsyncClient() as client:

            async def retrieve(name):
                return json.loads((await client.get(f"{url}/responses/{name}")).content)

            assert (await wrap(retrieve, quick())("resp_1"))["error"] == TOLD

    assert len(against(response(200, RESPONSE), test).asked) == 1


@httpx_and_httpx2
def test_an_object_that_the_url_names_is_an_answer(library):
    """An object with the id that was asked for is stored there, though it does not say its type."""
    content = {"id": "resp_1", "error": TOLD}

    async def test(url):
        async with library.AsyncClient() as client:
            wrapped = wrap(client, quick())
            answer = await wrapped.get(f"{url}/responses/resp_1?beta=true")
            assert answer.json() == content
            await wrapped.get(f"{url}/responses/resp_2")

    assert len(against(response(200, content), test).asked) == 1 + 3
