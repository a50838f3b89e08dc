"""Which part of an aiohttp answer is read inside the attempt, and what the caller finds of it."""

from __future__ import annotations

import gzip

import aiohttp
import pytest
from drivers import with_session
from fakes import Remember
from loopback import (
    ANSWER,
    ASK,
    COMPLETED,
    COMPLETION,
    against,
    at_rest,
    hang,
    head,
    in_turn,
    quick,
    response,
)
from streamers import WHOLE

from resilient_infe import Kind, presets, wrap

pytestmark = pytest.mark.network


def test_an_answer_can_be_read_over_and_over():
    """`json`, `text` and `read` work, in any order and more than once."""

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            assert await answer.json() == COMPLETION
            assert await answer.text() == COMPLETED.decode()
            assert await answer.read() == COMPLETED
            assert await answer.json() == COMPLETION
            assert answer.content.at_eof()
        assert answer.closed

    with_session(ANSWER, test)


def test_an_answer_that_was_released_unread_is_gone():
    """After its block an unread answer cannot be read, as with a bare session."""

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            pass
        with pytest.raises(aiohttp.ClientConnectionError, match="closed"):
            await answer.read()

    with_session(ANSWER, test)


@pytest.mark.parametrize("decompress", [True, False])
def test_an_encoded_answer(decompress):
    """A gzip-encoded answer is judged decoded; a session that leaves it packed still succeeds."""
    packed = gzip.compress(COMPLETED)
    seen = Remember()

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            raw = await answer.read()
            assert (raw if decompress else gzip.decompress(raw)) == COMPLETED

    answer = response(200, packed, content_encoding="gzip")
    stack = quick(listeners=[seen])
    with_session(answer, test, stack, auto_decompress=decompress)
    assert stack.statistics().outcomes == {Kind.OK: 1}
    assert stack.statistics().attempts == 1


def test_an_error_inside_an_encoded_answer_is_seen():
    """A gzip-encoded 200 with an error inside is tried again."""
    wrong = gzip.compress(b'{"error": {"code": "api_error"}}')

    async def test(session, url):
        async with session.post(url, json=ASK) as answer:
            assert await answer.json() == COMPLETION

    answers = in_turn(response(200, wrong, content_encoding="gzip"), ANSWER)
    assert len(with_session(answers, test).asked) == 2


@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_without_a_body_is_an_answer(method, status):
    """HEAD has no body whatever its headers say; 204 and its like have none either."""
    stack = quick()
    empty = method == "HEAD" or status in {204, 205, 304}

    async def test(session, url):
        async with session.request(method, url) as answer:
            assert answer.status == status
            assert await answer.read() == (b"" if empty else b"{}")

    answer = response(status, b"" if empty else b"{}", length=2 if method == "HEAD" else None)
    with_session(answer, test, stack)
    wanted = {404: Kind.NOT_FOUND}.get(status, Kind.OK)
    assert stack.statistics().outcomes == {wanted: 1}
    assert stack.statistics().attempts == 1


def test_a_large_answer_is_handed_over_open():
    """JSON over the bound is not buffered whole, and arrives whole all the same."""
    stack = presets.service()
    body = {"data": "x" * 6_000_000}

    async def test(url):
        async with aiohttp.ClientSession() as session, wrap(session, stack).get(url) as answer:
            assert stack.statistics().in_flight == 1
            assert await answer.json() == body
            assert at_rest(stack)

    against(response(200, body), test)


def test_a_judged_body_that_breaks_is_tried_again():
    """JSON that is cut short is the attempt's failure: another attempt is made."""
    answers = [b'{"choices"', b'{"choices": []}']

    async def respond(asked, writer):
        writer.write(head(200, "application/json", content_length="15") + answers.pop(0))
        writer.close()

    async def test(url):
        async with aiohttp.ClientSession() as session, wrap(session, quick()).get(url) as answer:
            assert await answer.json() == {"choices": []}

    assert len(against(respond, test).asked) == 2


@pytest.mark.parametrize("leave", ["release", "close", "with"])
@pytest.mark.parametrize("large", ["stream", "error", "answer"])
def test_an_open_answer_that_is_left_gives_back(leave, large):
    """Released, closed or left at the end of its block, an unread answer keeps nothing."""
    stack = presets.service(max_attempts=1)
    answers = {
        "stream": response(200, b"".join(WHOLE), "text/event-stream"),
        "error": response(500, b"x" * 3_000_000, "text/plain"),
        "answer": response(200, {"data": "x" * 6_000_000}),
    }

    async def test(session, url):
        answer = await session.post(url, json=ASK)
        assert stack.statistics().in_flight == 1
        if leave == "with":
            async with answer:
                pass
        else:
            getattr(answer, leave)()
        assert at_rest(stack)

    with_session(answers[large], test, stack)


def test_a_body_that_breaks_raises_aiohttps_own_error():
    """A body shorter than it says raises aiohttp's own error, once it is read that far."""
    stack = presets.service(max_attempts=1)

    async def respond(asked, writer):
        writer.write(head(200, "application/octet-stream", content_length="999") + b"part")
        writer.close()

    async def test(url):
        async with aiohttp.ClientSession() as session, wrap(session, stack).get(url) as answer:
            assert await answer.content.readany() == b"part"
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.readany()
            assert at_rest(stack)

    against(respond, test)
    assert stack.statistics().outcomes == {Kind.TRANSIENT: 1}


def test_a_total_timeout_while_the_body_comes_gives_back():
    """The total timeout that strikes while an open body is read leaves nothing taken."""
    stack = presets.service()

    async def respond(asked, writer):
        writer.write(head(200, "application/octet-stream", content_length="99") + b"part")
        await hang(asked, writer)

    async def test(session, url):
        timeout = aiohttp.ClientTimeout(total=0.1)
        async with session.get(url, timeout=timeout) as answer:
            with pytest.raises(TimeoutError):
                await answer.read()
            assert at_rest(stack)

    with_session(respond, test, stack)
    assert stack.statistics().outcomes == {Kind.TIMEOUT: 1}
