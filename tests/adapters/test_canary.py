"""A server quotes the API key in every form and place: no artefact of ours shows it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import html
import json
import pickle
import re
import ssl
import threading
import traceback
from pathlib import Path
from urllib.parse import quote

import aiohttp
import httpx
import httpx2
import openai
import pytest
from fakes import Remember
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import (
    AttemptTimeout,
    ErrorClassifier,
    InfeTransport,
    ResilientTransport,
    Stack,
    stack_middleware,
    wrap,
)
from resilient_infe.adapters.http.masking import KeyMask
from resilient_infe.cli import main
from tests.loopback import ASK, COMPLETION, RawServer, against, head, in_turn, response

KEY = "infe_live_CANARY0123456789/abc+def"


def _b64(text):
    return base64.b64encode(text.encode()).decode()


def _each(form):
    return "".join(form.format(ord(letter)) for letter in KEY)


FORMS = {
    "plain": KEY,
    "bearer": f"Bearer {KEY}",
    "solidus": KEY.replace("/", "\\/"),
    "u002f": KEY.replace("/", "\\u002f"),
    "u005f": KEY.replace("_", "\\u005F"),
    "escapes": _each("\\u{:04x}"),
    "percent": quote(KEY, safe=""),
    "percent twice": quote(quote(KEY, safe=""), safe=""),
    "percent all": _each("%{:02X}"),
    "entities": _each("&#{};"),
    "entities twice": html.escape(_each("&#x{:x};")),
    "named entities": KEY.replace("/", "&sol;").replace("+", "&plus;").replace("_", "&lowbar;"),
    "json in json": json.dumps({"e": json.dumps({"k": KEY.replace("_", "\\u005f")})}),
    "headers": repr({b"Authorization": f"Bearer {KEY}".encode()}),
    "query": f"https://a/b?key={quote(KEY, safe='')}&x=1",
    "base64": _b64(KEY),
    "basic": _b64(f":{KEY}"),
    "user": _b64(f"user:{KEY}"),
    "first 12": KEY[:12],
    "first 16": KEY[:16],
    "capitals": KEY.upper(),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal with colons": ":".join(f"{byte:02x}" for byte in KEY.encode()),
    "hexadecimal with prefixes": " ".join(f"0x{byte:02X}" for byte in KEY.encode()),
    "base64 for URLs": base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    "base64 twice": _b64(_b64(KEY)),
    "base64 of UTF-16": base64.b64encode(KEY.encode("utf-16-le")).decode(),
    "bytes of Python": _each("\\x{:02x}"),
    "escapes of Python": _each("\\U{:08x}"),
    "escapes of JavaScript": _each("\\u{{{:x}}}"),
    "escapes of C": _each("\\{:03o}"),
    "percent and u": _each("%u{:04X}"),
    "quoted-printable": _each("={:02X}"),
    "list of bytes": str(list(KEY.encode())),
    "list of bytes in Go": str(list(KEY.encode())).replace(",", ""),
    "lines": "\n".join(re.findall(".{1,7}", KEY)),
    "folded": "\r\n ".join(re.findall(".{1,7}", KEY)),
    "escaped lines": "\\n".join(re.findall(".{1,7}", KEY)),
    "letters": " ".join(KEY),
    "zero width": "\u200b".join(KEY),
    "UTF-16": KEY.encode("utf-16-le").decode("latin-1"),
    "full width": "".join(chr(ord(letter) + 0xFEE0) for letter in KEY),
    "backwards": KEY[::-1],
    "cookie": f"session={KEY}; Path=/",
    "challenge": f'Bearer realm="{KEY}", error="invalid_token"',
}


WRAPPED = ("bearer", "json in json", "headers", "query", "user", "cookie", "challenge")
PROBES = {
    form[at : at + 12].lower()
    for name, form in FORMS.items()
    if name not in WRAPPED
    for at in range(len(form) - 11)
}
"""Twelve characters in a row of the key, in any form."""


def quoted_in(text):
    """Return what of the key a text shows."""
    text = re.sub("x{20,}", "x", text.lower())  # filling
    return sorted(PROBES.intersection(text[at : at + 12] for at in range(len(text) - 11)))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_masked(form):
    """In a text and in JSON, whatever stands around it."""
    mask = KeyMask(KEY)
    for text in (FORMS[form], f"bad key: {FORMS[form]}, check it"):
        assert "canary" not in mask.text(text).lower()
        assert KEY[:12] not in mask.text(text)
        assert mask.text(text) != text
        assert mask.json({text: [text]}) == {mask.text(text): [mask.text(text)]}


@given(st.text(max_size=80))
def test_other_text_stays(text):
    """What does not quote the key is not touched."""
    assert KeyMask(KEY).text(text) == text


@given(st.integers(0, len(KEY) - 8), st.integers(8, len(KEY)), st.text(max_size=9))
def test_any_part_of_the_key_is_masked(start, size, around):
    """Eight characters in a row are enough, wherever they stand."""
    part = KEY[start : start + size]
    if len(part) >= 8:
        assert part not in KeyMask(KEY).text(f"{around} {part} {around}")


def test_a_mask_shows_no_key():
    """It has no repr of it, and is not pickled; a short key is not looked for."""
    assert "CANARY" not in repr(KeyMask(KEY))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KeyMask(KEY))
    assert KeyMask("short").text("a short word") == "a short word"


def test_a_long_text_is_searched_in_parts_or_cut():
    """One without the key stays the same object; one that is too long to search is cut."""
    mask = KeyMask(KEY)
    for size in (10, 100_000, 1_000_000):
        text = "x" * size
        assert mask.long(text) is text
        assert not quoted_in(mask.long(text + KEY))
        assert not quoted_in(mask.long(KEY + text))
    assert mask.long("x" * 2_000_000) == "x" * 65_536


@pytest.mark.parametrize("part", ["\\", "%25", "0x", "&#", "\\u{", "\\u0000", "\\0"])
def test_a_text_of_escapes_is_searched_at_once(part):
    """Its time grows with its length, and not faster."""
    text = part * 10_000
    assert KeyMask(KEY).text(text) is text


class Odd(Exception):
    """An exception of somebody's, with fields of any kind."""

    def __init__(self, **fields):
        super().__init__(KEY, {KEY: [KEY, 5, None]}, KEY.encode(), object())
        vars(self).update(fields)


def test_an_exception_is_masked_in_place_with_all_that_led_to_it():
    """Its arguments, its fields and its notes; those of its causes, contexts and groups too."""
    circle = {}
    circle["self"] = circle
    inner = Odd(body={"error": {"message": KEY}}, doc=KEY, deep=circle)
    inner.add_note(f"a note on {KEY}")
    inner.__cause__ = json.JSONDecodeError(f"no {KEY}", KEY, 0)
    inner.__context__ = ValueError(f"no {KEY}", inner)
    outer = ExceptionGroup("several", [inner])
    inner.__cause__.__cause__ = outer  # a circle of causes
    KeyMask(KEY).error(outer)
    told = [repr(vars(inner)), *_told(inner), repr(inner.__context__), repr(vars(inner.__cause__))]
    assert not quoted_in("\n".join(told))
    assert inner.body == {"error": {"message": "***"}}
    assert inner.args[1] == {"***": ["***", 5, None]}


MADE_UP = ["synthetic-key", "mysecretpassphrase", "examplekey"]


@pytest.mark.parametrize("key", MADE_UP)
def test_a_key_of_words_does_not_mask_its_words(key):
    """A message may contain a word of a key that a person made up; not twelve letters of it."""
    mask = KeyMask(key)
    for text in ("a synthetic failure", "an example of my secret"):
        assert (mask.text(text), mask.is_in(text)) == (text, False)
    for quoted in (key, key[:12], key.upper(), _b64(key)):
        assert quoted[:12] not in mask.text(f"bad key: {quoted}!")
        assert mask.is_in(quoted)


def _gzip(start, body, pack=gzip.compress):
    """Return a raw response with another body."""
    packed = pack(body)
    return start.replace(b"length: 0", f"length: {len(packed)}".encode()) + packed


def _places(form):
    """Return raw responses that have a form of the key in each place."""
    text = FORMS[form]
    line = text.replace("\n", " ")
    error = {"error": {"message": f"bad key {text}!", "type": line, "code": line}}
    plain = json.dumps(error)
    tail = plain.replace("/", "\\/").replace("_", "\\u005f")
    half = len(tail) // 2
    chunks = f"{half:x}\r\n{tail[:half]}\r\n{len(tail) - half:x}\r\n{tail[half:]}\r\n0\r\n\r\n"
    ok = json.dumps(COMPLETION)

    def reply(head, body, *headers):
        kind = "content-type: application/json"
        size = f"content-length: {len(body.encode())}"
        return "\r\n".join([f"HTTP/1.1 {head}", kind, size, *headers, "", body]).encode()

    return {
        "body": reply("401 Unauthorized", plain),
        "escaped": reply("401 Unauthorized", tail),
        "200": reply("200 OK", tail),
        "list": reply("400 Bad", json.dumps([error])),
        "text": reply("502 Bad Gateway", f"<html>{text}"),
        "id": reply("400 Bad", plain, f"x-request-id: {line}"),
        "id of a success": reply("200 OK", ok, f"x-request-id: {line}"),
        "header": reply("401 Unauthorized", plain, f"{quote(line, safe='')}: {line}"),
        "bad header": reply("401 Unauthorized", plain, f"{line} : \x00{line}"),
        "status line": reply(f"401 {line}", plain),
        "bad status line": f"HTTP/1.1 {line} 401\r\n\r\n".encode(),
        "no status line": f"{line}\r\n\r\n".encode(),
        "redirect": reply("302 Found", "", f"location: http://127.0.0.1:1/?key={line}"),
        "chunks": (
            "HTTP/1.1 401 No\r\ncontent-type: application/json\r\n"
            f"transfer-encoding: chunked\r\n\r\n{chunks}"
        ).encode(),
        "chunk size": (
            f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{line}\r\nabc\r\n"
        ).encode(),
        "chunk size of a stream": (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            f"transfer-encoding: chunked\r\n\r\na\r\ndata: {{}}\n\n\r\n{line}\r\nabc\r\n"
        ).encode(),
        "long": reply("400 Bad", json.dumps({"error": {"message": f"{'x' * 70_000} {text}"}})),
        "long and late": reply("500 No", f"{text} {'x' * 200_000} {text}", f"x-a: {line}"),
        "content type": reply("200 OK", "<p>", f"x-a: {line}").replace(
            b"application/json", line.encode("ascii", "replace")),
        "length": f"HTTP/1.1 200 OK\r\ncontent-length: {line}\r\n\r\n".encode(),
        "encoding": reply("200 OK", ok, f"content-encoding: {line}"),
        "gzip": _gzip(reply("401 No", "", "content-encoding: gzip"), plain.encode()),
        "UTF-16": _gzip(reply("401 No", ""), plain.encode("utf-16"), pack=bytes),
        "plain UTF-16": _gzip(reply("401 No", "").replace(
            b"application/json", b"text/plain; charset=utf-16"), text.encode("utf-16"), pack=bytes),
        "cookie": reply("401 No", plain, f"set-cookie: {line}=a", f"set-cookie: a={line}; path=/"),
        "bad cookie": reply("401 No", plain, f'set-cookie: a(;{line}:"=/\x7f{line}'),
        "cookie of a success": reply("200 OK", ok, f"set-cookie: a({line}=1, {line}"),
        "challenge": reply("401 No", plain, f'www-authenticate: Bearer realm="{line}"'),
        "folded": reply("401 No", plain, f"x-a: {line[:5]}\r\n {line[5:]}"),
        "charset": reply("401 No", plain).replace(b"/json", f"/json; charset={line}".encode()),
        "version": f"HTTP/{line} 401 No\r\n\r\n".encode(),
        "trailer": (
            "HTTP/1.1 401 No\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
            f"trailer: x-a\r\n\r\n2;a={line}\r\n{{}}\r\n0\r\nx-a: {line}\r\n\r\n"
        ).encode(),
        "events": reply("200 OK", f": {line}\nid: {line}\nevent: {line}\nretry: {line}\n"
                        f"data: {tail}\n\nevent: error\ndata: {line}\n\n").replace(
            b"application/json", b"text/event-stream"),
        "model": reply("404 Not Found", json.dumps(
            {"error": {"message": text, "code": "model_not_found"}, "data": [{"id": text}]})),
        "event": reply("200 OK", f"data: {tail}\n\n").replace(b"application/json",
                                                              b"text/event-stream"),
    }  # fmt: skip


SENT = ["plain", "u005f", "percent twice", "entities", "json in json", "basic", "first 12"]
"""The forms that servers send in these tests; the others are masked by the same code."""


def _told(error):
    """Return all that an error tells: str, repr, fields, notes, traceback."""
    whole = "".join(traceback.format_exception(error))
    return [str(error), repr(error), whole, repr(getattr(error, "__notes__", ""))]


async def _through_transport(url, told, stack):
    async with InfeTransport(KEY, base_url=url) as transport:
        for one in (transport, transport.stream):
            try:
                answer = await stack.around(one)(ASK)
                if one is not transport:
                    told += [repr(chunk) async for chunk in answer][:0]
            except Exception as error:
                told += [*_told(error), repr(vars(error)), repr(pickle.dumps(error))]


UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""To load certificates takes longer than a test."""

BOTH = (ASK, {**ASK, "stream": True})
BEARER = {"authorization": f"Bearer {KEY}"}


async def _through_sdk(url, told, stack, http_client=None, **options):
    http = http_client or httpx2.AsyncClient(verify=UNUSED, follow_redirects=True)
    options = {"http_client": http, "max_retries": 0} | options
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, **options) as client:
        used = wrap(client, stack) if http_client is None else client
        for asked in BOTH:
            try:
                answer = await used.chat.completions.create(**asked)
                if "stream" in asked:
                    told += [repr(chunk) async for chunk in answer][:0]
            except Exception as error:
                told += _told(error)


async def _through_a_method(url, told, stack):
    http = httpx2.AsyncClient(verify=UNUSED, follow_redirects=True)
    options = {"api_key": KEY, "base_url": url, "http_client": http, "max_retries": 0}
    async with openai.AsyncOpenAI(**options) as client:
        try:
            await wrap(client.chat.completions.create, stack)(**ASK)
        except Exception as error:
            told += _told(error)


async def _through_sdk_over_a_client(url, told, stack):
    await _through_sdk(
        url, told, stack, wrap(httpx2.AsyncClient(verify=UNUSED, follow_redirects=True), stack)
    )


async def _through_sdk_over_a_transport(url, told, stack):
    transport = ResilientTransport(httpx2.AsyncHTTPTransport(verify=UNUSED), stack)
    http = httpx2.AsyncClient(transport=transport, verify=UNUSED, follow_redirects=True)
    await _through_sdk(url, told, stack, http)


async def _through_httpx(url, told, stack, library=httpx, **options):
    async with library.AsyncClient(headers=BEARER, verify=UNUSED, **options) as client:
        used = client if "transport" in options else wrap(client, stack)
        for asked in BOTH:
            for follow in (True, False):
                try:
                    path = f"{url}/chat/completions"
                    answer = await used.post(path, json=asked, follow_redirects=follow)
                    told.append(repr(answer))
                    answer.raise_for_status()
                    answer.json()
                except ValueError:  # of json: its text is the caller's
                    pass
                except Exception as error:
                    told += _told(error)


async def _through_httpx2(url, told, stack):
    await _through_httpx(url, told, stack, httpx2)


async def _through_a_transport(url, told, stack):
    transport = ResilientTransport(httpx2.AsyncHTTPTransport(verify=UNUSED), stack)
    await _through_httpx(url, told, stack, httpx2, transport=transport)


async def _through_aiohttp(url, told, stack, **options):
    async with aiohttp.ClientSession(headers=BEARER, **options) as session:
        used = session if "middlewares" in options else wrap(session, stack)
        for asked in BOTH:
            for more in ({}, {"allow_redirects": False}, {"raise_for_status": True}):
                try:
                    path = f"{url}/chat/completions"
                    async with used.post(path, json=asked, **more) as answer:
                        told.append(repr(answer) if answer.status >= 400 else "")
                        answer.raise_for_status()
                        await answer.json()
                except ValueError:
                    pass
                except Exception as error:
                    told += _told(error)


async def _through_a_middleware(url, told, stack):
    await _through_aiohttp(url, told, stack, middlewares=(stack_middleware(stack),))


DOORS = {
    "infe": _through_transport,
    "sdk": _through_sdk,
    "method": _through_a_method,
    "sdk over a client": _through_sdk_over_a_client,
    "sdk over a transport": _through_sdk_over_a_transport,
    "httpx": _through_httpx,
    "httpx2": _through_httpx2,
    "transport": _through_a_transport,
    "aiohttp": _through_aiohttp,
    "middleware": _through_a_middleware,
}

CASES = [
    *((door, form, False) for door in ("infe", "sdk") for form in SENT),
    *((door, "u005f", False) for door in DOORS if door not in ("infe", "sdk")),
    *((door, "entities", True) for door in DOORS if door != "infe"),
]
"""A door, a form, and whether another server redirects to the one that quotes the key.

All forms are masked by the same code, so two doors show them all.
"""

LONG = ("long", "long and late", "chunk size of a stream")
"""Places that are tried with one form."""


@pytest.mark.network
@pytest.mark.parametrize(("door", "form", "away"), CASES)
def test_the_key_is_in_no_artefact(door, form, away, caplog):
    """Neither in what an error tells, nor in an event, nor in a log; nor after a redirect."""
    caplog.set_level("DEBUG", "resilient_infe")
    places = _places(form)
    for place in LONG if form != "u005f" else ():
        del places[place]
    if door == "transport":
        del places["redirect"]  # it cannot know whether its client follows
    shown = {}

    async def test(server, url, other):
        for place, raw in places.items():
            server.answer, told, seen = raw, [], Remember()
            stack = Stack(ErrorClassifier(), AttemptTimeout(5.0), listeners=[seen])
            await DOORS[door](other if away else url, told, stack)
            found = quoted_in("\n".join([*told, repr(seen.events), caplog.text]))
            if found:
                shown[place] = found[:3]

    asyncio.run(_with_two_servers(test))
    assert shown == {}


async def _with_two_servers(test):
    server = RawServer(b"")
    async with server.running() as url:
        away = RawServer(response(307, location=f"{url}/chat/completions"))
        async with away.running() as other:
            await test(server, url, other)


def _told_by_sdk(*answers):
    """Return what the SDK's error tells if a server gives these answers, its response included."""
    told = []

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await wrap(client, Stack(ErrorClassifier())).chat.completions.create(**ASK)
            told.extend([*_told(caught.value), caught.value.response.text])

    against(in_turn(*answers), test)
    return "\n".join(told)


@pytest.mark.network
@pytest.mark.parametrize("where", ["in the middle", "at the end"])
def test_a_long_error_shows_no_key_to_an_sdk(where):
    """One that is longer than what an attempt reads of it is cut there, and masked."""
    text = "x" * 50_000 + f" {KEY} " * (where == "in the middle") + "x" * 50_000 + f" {KEY}"
    told = _told_by_sdk(response(400, {"error": {"message": text}}))
    assert "xxx" in told
    assert not quoted_in(told)


@pytest.mark.network
def test_a_long_error_without_the_key_is_whole():
    """An SDK gets all of it, decoded: a validation error may repeat the request."""
    error = {"error": {"message": "x" * 100_000, "code": "bad"}}

    async def test(url):
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await wrap(client, Stack(ErrorClassifier())).chat.completions.create(**ASK)
            assert (caught.value.code, caught.value.response.json()) == ("bad", error)

    against(response(400, error), test)


@pytest.mark.network
def test_a_name_that_is_there_twice_shows_no_key_to_an_sdk():
    """A decoder keeps the last of two equal names; the bytes have both."""
    body = f'{{"error": {{"message": "{KEY}", "message": "no"}}}}'.encode()
    assert not quoted_in(_told_by_sdk(response(400, body)))


@pytest.mark.network
def test_a_server_that_was_redirected_to_shows_no_key_to_an_sdk():
    """It did not get the key in a header, and may know it all the same."""
    told = []

    async def test(url):
        async with (
            RawServer(response(307, location=url)).running() as other,
            openai.AsyncOpenAI(api_key=KEY, base_url=other) as client,
        ):
            with pytest.raises(openai.APIStatusError) as caught:
                await wrap(client, Stack(ErrorClassifier())).chat.completions.create(**ASK)
            told.extend([*_told(caught.value), caught.value.response.text])

    against(response(401, {"error": {"message": f"no {KEY}"}}), test)
    assert not quoted_in("\n".join(told))


@pytest.mark.network
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_masked_response_can_be_read_in_every_way(library):
    """It has its status, its headers and its cookies, and is read whole, in parts, or raw."""
    body = {"error": {"message": f"no {KEY}"}}
    raw = response(401, body, x_a="1").replace(
        b"x-a: 1", b"set-cookie: a=1\r\nset-cookie: b=2\r\nx-a: 1"
    )

    async def test(url):
        async with library.AsyncClient(headers=BEARER, verify=UNUSED) as client:
            used = wrap(client, Stack(ErrorClassifier()))
            answer = await used.post(f"{url}/chat/completions", json=ASK)
            assert answer.json() == {"error": {"message": "no ***"}}
            assert (answer.status_code, answer.headers["x-a"]) == (401, "1")
            assert dict(client.cookies) == {"a": "1", "b": "2"}
            for read in ("aiter_raw", "aiter_bytes"):
                async with used.stream("POST", f"{url}/chat/completions", json=ASK) as answer:
                    parts = [part async for part in getattr(answer, read)()]
                    assert json.loads(b"".join(parts))["error"]["message"] == "no ***"

    against(raw, test)


@contextlib.contextmanager
def _served(*answers):
    """Serve answers in turn from a thread; yields the URL."""
    ready, addresses, over = threading.Event(), [], []

    async def serve():
        async with RawServer(in_turn(*answers)).running() as url:
            stop = asyncio.Event()
            over.append((asyncio.get_running_loop(), stop))
            addresses.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield addresses[0]
    finally:
        loop, stop = over[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.mark.network
@pytest.mark.parametrize("form", SENT)
def test_the_key_is_in_no_file_of_a_batch(form, tmp_path, monkeypatch, capfd):
    """Neither in the output, the errors, the journal, the report, nor in what is printed."""
    monkeypatch.chdir(tmp_path)
    Path("key").write_text(KEY)
    places = _places(form)
    Path("in.jsonl").write_text("".join(
        json.dumps({"custom_id": place, "prompt": "hi"}) + "\n" for place in places))  # fmt: skip
    with _served(*places.values()) as url:
        main(["run", "in.jsonl", "-o", "out.jsonl", "--base-url", url, "--model", "m",
              "--api-key-file", "key", "--max-attempts", "1", "--concurrency", "1",
              "--keep-going", "--json-log", "--requests-per-minute", "none"])  # fmt: skip
    main(["report", "out.jsonl.journal", "-o", "report.html"])
    printed = capfd.readouterr()
    assert not quoted_in(printed.out + printed.err)
    Path("key").unlink()
    names = [path.name for path in tmp_path.iterdir()]
    assert {"out.jsonl", "out.errors.jsonl", "out.jsonl.journal", "report.html"} <= set(names)
    for name in names:
        assert not quoted_in(Path(name).read_bytes().decode("utf-8", "replace")), name


@pytest.mark.network
@pytest.mark.parametrize("door", ["sdk", "sdk over a client"])
def test_an_error_event_that_is_cut_anywhere_shows_no_key(door):
    """Two parts of an event arrive apart, whichever they are; the chunks before it are whole."""
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
    chunk = {**COMPLETION, "object": "chat.completion.chunk", "choices": [choice]}
    error = json.dumps({"error": {"message": f"bad {KEY}", "code": 400}}).replace("/", "\\/")
    events = f"data: {json.dumps(chunk)}\r\n\r\n", f"data: {error}\r\n\r\n"
    told, got = [], []

    async def test(url):
        stack = Stack(ErrorClassifier(), AttemptTimeout(5.0))
        client = httpx2.AsyncClient(verify=UNUSED)
        http = wrap(client, stack) if "over" in door else client
        options = {"api_key": KEY, "base_url": url, "http_client": http, "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as bare:
            used = bare if "over" in door else wrap(bare, stack)
            stream = await used.chat.completions.create(**ASK, stream=True)
            got.append((await anext(stream)).choices[0].delta.content)
            with pytest.raises(openai.APIError) as caught:
                await anext(stream)
            told.extend([*_told(caught.value), repr(vars(caught.value))])

    for cut in range(1, len(events[1]), 7):
        parts = events[0], events[1][:cut], events[1][cut:]

        async def answer(_, writer, parts=parts):
            writer.write(head(200))
            for part in parts:
                writer.write(part.encode())
                await writer.drain()
                await asyncio.sleep(0)  # noqa: TID251  # so that they arrive apart
            writer.close()

        against(answer, test)
    assert set(got) == {"hi"}
    assert not quoted_in("\n".join(told))
