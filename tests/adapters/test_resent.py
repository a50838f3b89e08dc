"""What a session sends again: bodies whole or not at all, and never more often than we say."""

from __future__ import annotations

import io

import aiohttp
import pytest
from drivers import both, given, with_either
from fakes import Remember
from loopback import ANSWER, ERROR, in_turn, lose, quick

pytestmark = pytest.mark.network


async def parts():
    """Yield the parts of a body."""
    yield b"one "
    yield b"two"


def form():
    """Return a form with a file in it."""
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(b"one two"), filename="f")
    return data


REPLAYABLE = {
    "bytes": (lambda: b"one two", b"one two"),
    "no text": (lambda: b"\xff\xfe", b"\xff\xfe"),
    "text": (lambda: "one two", b"one two"),
    "BytesIO": (lambda: io.BytesIO(b"one two"), b"one two"),
    "StringIO": (lambda: io.StringIO("one two"), b"one two"),
    "bytearray": (lambda: bytearray(b"one two"), b"one two"),
    "fields": (lambda: {"one": "two"}, b"one=two"),
    "nothing": (lambda: None, b""),
}


@both
@pytest.mark.parametrize("lost", [False, True], ids=["500", "lost"])
@pytest.mark.parametrize("body", REPLAYABLE.values(), ids=REPLAYABLE)
def test_a_body_in_memory_is_sent_again_whole(session_of, body, lost):
    """Bytes, text, files in memory and forms of fields are resent as they were."""
    make, sent = body

    async def test(session, url):
        async with session.post(url, data=make()) as answer:
            assert answer.status == 200

    answers = in_turn(lose if lost else ERROR, ERROR, ANSWER)
    asked = with_either(session_of, answers, test).asked
    assert [each.body for each in asked] == [sent] * 3


@both
def test_json_is_sent_again_whole(session_of):
    """`json=` is resent as it was, with its content type."""

    async def test(session, url):
        async with session.post(url, json={"a": [1]}) as answer:
            assert answer.status == 200

    server = with_either(session_of, in_turn(ERROR, lose, ANSWER), test)
    assert [asked.body for asked in server.asked] == [b'{"a": [1]}'] * 3
    assert {asked.headers["content-type"] for asked in server.asked} == {"application/json"}


@both
@pytest.mark.parametrize("body", [parts, form], ids=["generator", "multipart"])
@pytest.mark.parametrize("lost", [False, True], ids=["500", "lost"])
def test_a_body_that_is_gone_is_never_sent_empty(session_of, body, lost):
    """A generator is sent once; whatever is sent again is sent whole, never empty."""
    seen = Remember()

    async def test(session, url):
        if lost:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.post(url, data=body())
        else:
            async with session.post(url, data=body()) as answer:
                assert answer.status == 500

    answer = lose if lost else ERROR
    server = with_either(session_of, answer, test, quick(listeners=[seen]))
    assert all(b"one " in asked.body and b"two" in asked.body for asked in server.asked)
    if body is parts:
        assert len(server.asked) == 1
        [stopped] = seen.named("retry.stopped")
        assert "read only once" in stopped.reason


@both
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_lost_connection_is_not_doubled(session_of, method):
    """The second try that aiohttp makes by itself does not multiply ours."""

    async def test(session, url):
        if session_of is given:  # a bare middleware knows its session from the first request on
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.post(url)
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            await session.request(method, url)
        assert "3 attempts" in caught.value.__notes__[0]

    sent = len(with_either(session_of, lose, test).asked)
    assert sent == (6 if session_of is given else 3)
