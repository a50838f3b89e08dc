"""A server quotes the API key in every form and place: no artefact of ours shows it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import html
import json
import pickle
import threading
import traceback
from pathlib import Path
from urllib.parse import quote

import openai
import pytest
from fakes import Remember
from hypothesis import given
from hypothesis import strategies as st

from resilient_infe import ErrorClassifier, InfeTransport, Stack, wrap
from resilient_infe.adapters.http.masking import KeyMask
from resilient_infe.cli import main
from tests.loopback import ASK, COMPLETION, RawServer, against, in_turn, response

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
}


WRAPPED = ("bearer", "json in json", "headers", "query", "user")
PROBES = {
    form[at : at + 12].lower()
    for name, form in FORMS.items()
    if name not in WRAPPED
    for at in range(len(form) - 11)
}
"""Twelve characters in a row of the key, in any form."""


def quoted_in(text):
    """Return what of the key a text shows."""
    return sorted(probe for probe in PROBES if probe in text.lower())


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
        "length": f"HTTP/1.1 200 OK\r\ncontent-length: {line}\r\n\r\n".encode(),
        "encoding": reply("200 OK", ok, f"content-encoding: {line}"),
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
                await stack.around(one)(ASK)
            except Exception as error:
                told += [*_told(error), repr(vars(error)), repr(pickle.dumps(error))]


async def _through_sdk(url, told, stack):
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        for asked in (ASK, {**ASK, "stream": True}):
            try:
                answer = await wrap(client, stack).chat.completions.create(**asked)
                if "stream" in asked:
                    told += [repr(chunk) async for chunk in answer][:0]
            except Exception as error:
                told += _told(error)


@pytest.mark.network
@pytest.mark.parametrize("form", SENT)
@pytest.mark.parametrize("through", [_through_transport, _through_sdk])
def test_the_key_is_in_no_artefact(through, form, caplog):
    """Neither in what an error tells, nor in an event, nor in a log."""
    caplog.set_level("DEBUG", "resilient_infe")
    for place, raw in _places(form).items():
        told, seen = [], Remember()

        async def test(url, told=told, seen=seen):
            await through(url, told, Stack(ErrorClassifier(), listeners=[seen]))

        against(raw, test)
        text = "\n".join([*told, repr(seen.events), caplog.text])
        assert not quoted_in(text), (place, quoted_in(text)[:3])


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
        assert not quoted_in(Path(name).read_text()), name
