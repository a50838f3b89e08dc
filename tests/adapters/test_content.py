"""The content of a wrapped aiohttp response reads as aiohttp's own, whatever was read before."""

from __future__ import annotations

import asyncio
import copy
from functools import partial

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st
from loopback import ASK, against, at_rest, head, response
from streamers import ENDING, WHOLE, event, word

from resilient_infe import Call, Kind, errors, presets, wrap
from resilient_infe.adapters.aiohttp.content import EndedContent, OpenContent
from resilient_infe.adapters.http.stream_watch import StreamWatch
from resilient_infe.aio import current
from resilient_infe.testing import run_virtually

LINES = b"".join(b"line %d\r\n" % n for n in range(12_000))
LONG_LINES = b"".join(b"%d " % n * 200 + b"\r\n" for n in range(5_000))


async def by_read(content):
    """Read all at once."""
    return [await content.read()]


async def by_parts(content):
    """Read in parts of a thousand bytes at most."""
    parts = [part async for part in content.iter_chunked(1_000)]
    assert max(map(len, parts)) == 1_000
    return [b"".join(parts)]


async def by_lines(content):
    """Iterate over the lines."""
    return [line async for line in content]


async def by_readline(content):
    """Read line after line."""
    lines = []
    while line := await content.readline():
        lines.append(line)
    return lines


async def by_separator(content):
    """Read up to a separator of two bytes, again and again."""
    parts = []
    while part := await content.readuntil(b"\r\n"):
        parts.append(part)
    return parts


async def by_size(content):
    """Read a known number of bytes, then the rest."""
    return [await content.readexactly(10), await content.readexactly(70_000), await content.read()]


async def by_any(content):
    """Read what comes, as it comes."""
    return [b"".join([part async for part in content.iter_any()])]


async def by_readany(content):
    """Read what is there until the end."""
    parts = []
    while not content.at_eof():
        parts.append(await content.readany())
    return [b"".join(parts)]


async def by_chunks(content):
    """Iterate over the protocol's chunks."""
    return [b"".join([part async for part, _ in content.iter_chunks()])]


async def by_readchunk(content):
    """Read chunk after chunk, to the very end."""
    parts, ended = [], False
    while not ended:
        part, ends = await content.readchunk()
        parts.append(part)
        ended = not part and not ends
    return [b"".join(parts)]


async def by_nowait(content):
    """Read what is in memory, once something is."""
    await content.readexactly(1)
    return [content.read_nowait(5), await content.read()]


READERS = [by_read, by_parts, by_lines, by_readline, by_separator, by_size, by_any, by_readany,
           by_chunks, by_readchunk, by_nowait]  # fmt: skip
BODIES = {
    "json": (200, "application/json", b'"' + LINES.replace(b"\r\n", b"x\r\n") + b'"'),
    "large json": (200, "application/json", b"[" + LONG_LINES + b"]"),
    "binary": (200, "application/octet-stream", LINES),
    "error": (500, "text/plain", LINES[:50_000] + LINES[:30_000]),
    "large error": (500, "text/plain", LINES * 2),
    "short": (200, "application/json", b'{"a":\r\n [1, 2, 3]}' + b" " * 70_100),
}


def chunked(status, kind, body):
    """Return a function that sends a body in chunks of the protocol."""

    async def respond(asked, writer):
        writer.write(head(status, kind, transfer_encoding="chunked"))
        for start in range(0, len(body), 30_000):
            part = body[start : start + 30_000]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return respond


@pytest.mark.network
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_way_to_read_is_as_with_a_bare_session(body, in_chunks, caplog):
    """Each way to read gives what it gives without us, and nothing is held afterwards."""
    stack = presets.service(max_attempts=1)
    answer = chunked(*body) if in_chunks else response(body[0], body[2], body[1])

    async def test(url):
        async with aiohttp.ClientSession(read_bufsize=2**20) as bare:
            wrapped = wrap(bare, stack)
            for reader in READERS:
                found = []
                for session in bare, wrapped:
                    async with session.post(url, data=b"ask") as response:
                        found.append(await reader(response.content))
                        assert response.content.at_eof()
                assert found[0] == found[1], reader.__name__
                assert b"".join(found[1]) in body[2]
                assert at_rest(stack)

    against(answer, test)
    assert "StreamReader" not in caplog.text
    assert "chunk end" not in caplog.text


class Protocol(BaseProtocol):
    """What a stream reader asks of its connection."""

    connected = True

    def pause_reading(self):
        """Do nothing."""

    def resume_reading(self, resume_parser=True):
        """Do nothing."""


def reader_of(parts, *, ended=True):
    """Return aiohttp's own reader with some parts in it, and the end."""
    loop = asyncio.get_running_loop()
    reader = aiohttp.StreamReader(Protocol(loop), 2**16, loop=loop)
    for part in parts:
        reader.feed_data(part)
    if ended:
        reader.feed_eof()
    return reader


def call_here():
    """Return a call of the running loop."""
    call = Call(None)
    call.runtime = current()
    call.started = call.runtime.now()
    return call


STEPS = st.one_of(
    st.tuples(st.just("readexactly"), st.integers(0, 12)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"\r\n", b"\r\n\r\n", b"ab"])),
)


async def held_over(body, cut, parts=1):
    """Return our content over a body of which the first bytes were read, and aiohttp's reader."""
    size = max(1, -(-len(body) // parts))
    reader = reader_of([body[start : start + size] for start in range(0, len(body), size)])
    call = call_here()
    watch = StreamWatch("application/octet-stream", expected=False)
    start = await reader.readexactly(min(cut, len(body)))
    return OpenContent(reader, call, watch, start), reader


async def carried_out(content, steps):
    """Return what each step gives, or how it fails, and then the rest."""
    found = []
    for name, *args in steps:
        try:
            found.append(await getattr(content, name)(*args))
        except asyncio.IncompleteReadError as error:
            found.append((error.partial, error.expected))
    return [*found, await content.read(), content.at_eof()]


@given(
    body=st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n"]), max_size=30).map(b"".join),
    cut=st.integers(0, 30),
    parts=st.integers(1, 5),
    steps=st.lists(STEPS, max_size=6),
)
def test_reading_goes_on_where_it_was_cut(body, cut, parts, steps):
    """Whatever part was read before, in memory, each read gives what an uncut reader gives."""

    async def main():
        held, _ = await held_over(body, cut, parts)
        assert await carried_out(held, steps) == await carried_out(reader_of([body]), steps)

    asyncio.run(main())


FATE = st.one_of(
    STEPS,
    st.tuples(st.just("read")),
    st.tuples(st.just("read"), st.integers(0, 12)),
    st.tuples(st.just("readany")),
    st.tuples(st.just("released")),
)


async def told_by(content, steps):
    """Return what each step gives or raises, and what the content says of itself after it."""
    told = []
    for name, *args in steps:
        if name == "released":
            content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
            continue
        try:
            told.append(await getattr(content, name)(*args))
        except (asyncio.IncompleteReadError, aiohttp.ClientConnectionError) as error:
            told.append(repr(error))
        told.append((content.at_eof(), repr(content.exception())))
    return told


@given(
    body=st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n"]), max_size=30).map(b"".join),
    steps=st.lists(FATE, max_size=6),
)
def test_a_body_that_came_whole_reads_as_aiohttps_own(body, steps):
    """Read in any way, once or often, before its response is released or after."""

    async def main():
        ended = EndedContent(body, current())
        assert await told_by(ended, steps) == await told_by(reader_of([body]), steps)

    asyncio.run(main())


def test_a_body_that_came_whole_has_the_rest_of_a_reader():
    """What only a reader has is a real reader's, before the body is read and after."""

    async def main():
        ended = EndedContent(b"one\ntwo", current())
        assert [line async for line in copy.copy(ended)] == [b"one\n", b"two"]
        assert await EndedContent(b"one", current()).read(None) == b""
        read = EndedContent(b"one", current())
        assert (await read.read(), read.total_bytes, await read.read()) == (b"one", 3, b"")
        assert (ended.is_eof(), ended.total_bytes) == (True, 7)
        assert [line async for line in ended] == [b"one\n", b"two"]
        with pytest.raises(AttributeError):
            _ = ended.nothing_of_that_name

    asyncio.run(main())


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.copied += len(part)
        return part


def test_reading_from_memory_is_linear():
    """Short lines, read inside the attempt, are read again, each copied twice at most."""

    async def main():
        start = Counted(LINES)
        reader, call = reader_of([]), call_here()
        watch = StreamWatch("application/octet-stream", expected=False)
        lines = await by_lines(OpenContent(reader, call, watch, start))
        assert (len(lines), b"".join(lines)) == (12_000, LINES)
        assert len(LINES) <= Counted.copied <= 2 * len(LINES)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["readline", "readexactly"])
def test_a_slow_line_is_no_silence(way):
    """A read that waits several times is bound between two bytes, and silence still ends it."""

    async def main():
        reader, call = reader_of([], ended=False), call_here()
        call.state.idle = 2.0
        watch = StreamWatch("application/octet-stream", expected=False)
        content = OpenContent(reader, call, watch, b"")
        loop = asyncio.get_running_loop()
        for second in range(1, 7):  # less than the bound between two, all of it more
            loop.call_at(second, reader.feed_data, b"ab")
        read = {"readline": content.readline, "readexactly": partial(content.readexactly, 100)}
        with pytest.raises(errors.StreamStalled):
            await read[way]()
        assert loop.time() == 8.0

    run_virtually(main, backend="asyncio")


@pytest.mark.parametrize("cut", [0, 3, 4, 6])
def test_the_longest_line_can_be_bounded(cut):
    """`readline(max_line_length=...)` and `readuntil(max_size=...)` are aiohttp's own."""

    async def main():
        for name, option in ("readline", "max_line_length"), ("readuntil", "max_size"):
            held, _ = await held_over(b"one\n" + b"x" * 30 + b"\n", cut)
            read = getattr(held, name)
            assert await read(**{option: 20}) == b"one\n"
            with pytest.raises(aiohttp.http_exceptions.LineTooLong):
                await read(**{option: 20})

    asyncio.run(main())


def test_the_rest_is_the_readers_own():
    """Attributes that are not ours are found on aiohttp's reader."""

    async def main():
        held, reader = await held_over(b"all of it", 3)
        assert (held.total_bytes, held.is_eof(), held.exception()) == (9, True, None)
        assert held.get_read_buffer_limits() == reader.get_read_buffer_limits()
        with pytest.raises(AttributeError):
            _ = held.nothing_of_that_name

    asyncio.run(main())


@pytest.mark.network
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_each_way_to_read_sees_a_stream_end_too_early(reader, whole):
    """A stream that lacks its end raises from whatever reads it last; a whole one settles."""
    stack = presets.service()
    words = [*(word(n) for n in range(3)), event({"x": "y" * 80_000})]
    body = b"\r\n".join([*words, *ENDING]) if whole else b"\r\n".join(words)

    async def test(url):
        async with aiohttp.ClientSession() as session:
            answer = await wrap(session, stack).post(url, json=ASK | {"stream": True})
            if whole:
                assert b"".join(await reader(answer.content)) in body
            else:
                with pytest.raises(aiohttp.ClientPayloadError, match="before it was complete"):
                    await reader(answer.content)
            assert at_rest(stack)
            answer.close()

    against(response(200, body, "text/event-stream"), test)
    assert stack.statistics().outcomes == {Kind.OK if whole else Kind.TRANSIENT: 1}


@pytest.mark.network
def test_a_stream_read_as_one_text_settles_too():
    """`text()` of a whole stream is its events, and the usage in it is what the call cost."""
    stack = presets.service(tokens_per_minute=60_000)

    async def test(url):
        async with aiohttp.ClientSession() as session:
            body = ASK | {"stream": True}
            async with wrap(session, stack).post(url, json=body) as answer:
                assert await answer.text() == b"".join(WHOLE).decode()
            [allowance] = stack.statistics().allowances.values()
            assert allowance.outstanding == 0
            assert allowance.tokens_left > 900

    against(response(200, b"".join(WHOLE), "text/event-stream"), test)
